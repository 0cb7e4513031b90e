"""What of a snapshot is shown in Home Assistant: when a board counts as there, and times in steps."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from gateway_agent.home_assistant.seen import AGE_EVERY_S, HEARD_EVERY_S, SILENT_S, shown_of
from gateway_agent.home_assistant.shown import ShownUpdate
from gateway_agent.observe.snapshot import BoardView, MemberView
from gateway_agent.updates.status import BoardStatus

NOW = 1_800_000_000
MEMBER = MemberView("home/lights", "lamp", "confirmed", 7, "0.7", "wifi", 2, NOW - 100)
BOARD = BoardView("lamp", True, NOW - 30, 30.0, "udp", "192.168.1.7:5683", "1.2", False, (MEMBER,))


def shown(board=BOARD, **group):
    groups = (
        SimpleNamespace(sg_id="home/lights", version=7, version_text="0.7", members=(1, 2), confirmed=1, **group),
    )
    snapshot = SimpleNamespace(at=NOW, version="1", uplink=SimpleNamespace(up=True), alarms=(), boards=(board,))
    snapshot.groups = groups if group else ()
    return shown_of(snapshot, "1")


@pytest.mark.parametrize(
    ("changes", "available"),
    [
        ({}, True),
        ({"heard_at": NOW - SILENT_S + 1, "memberships": ()}, True),
        ({"heard_at": NOW - SILENT_S - 1, "memberships": ()}, False),
        ({"heard_at": 0}, True),  # it has confirmed a key; a killed gateway forgets when it heard a board
        ({"heard_at": 0, "memberships": ()}, True),  # it has a session
        ({"heard_at": 0, "memberships": (), "session": False}, False),
        ({"heard_at": NOW + 3600}, True),  # the clock was put back; it has confirmed a key
        ({"heard_at": NOW + 3600, "memberships": ()}, True),  # it has a session
        ({"heard_at": NOW + 3600, "memberships": (), "session": False}, False),
    ],
)
def test_when_a_board_is_available(changes, available):
    (board,) = shown(replace(BOARD, **changes)).boards
    assert board.available is available


def test_what_changes_all_the_time_is_told_in_steps():
    assert shown().boards == shown(replace(BOARD, heard_at=BOARD.heard_at + 1)).boards
    (board,) = shown().boards
    assert board.heard_at % HEARD_EVERY_S == 0 and board.confirmed_at == NOW - 100
    (group,) = shown(key_made_at=NOW - 1000).groups
    assert group.key_age_s == 1000 - 1000 % AGE_EVERY_S
    assert shown(key_made_at=NOW + 5).groups[0].key_age_s == 0
    assert shown(key_made_at=0).groups[0].key_age_s is None


def test_a_key_that_was_confirmed_while_there_was_no_date_is_shown():
    lacking = replace(MEMBER, sg_id="home/a", state="", version=0, version_text="0.0", link="", confirmed_at=0)
    undated = replace(MEMBER, confirmed_at=0)
    (board,) = shown(replace(BOARD, memberships=(lacking, undated))).boards
    assert (board.version, board.link, board.confirmed_at) == ("0.7", "wifi", 0)


def test_an_update_is_shown_without_the_pieces_that_are_missing():
    update = BoardStatus("lamp", 5, 3, 7, 7, "collecting", "collects update 7", "", 12, NOW, True)
    (board,) = shown(replace(BOARD, update=update)).boards
    assert board.update == ShownUpdate("collecting", 5, 3, 7, "")
    assert shown(replace(BOARD, update=replace(update, missing_count=11))).boards == (board,)
    assert shown().boards[0].update is None


def test_addresses_are_not_shown():
    assert "192.168" not in repr(shown())
