"""What boards say about updates: octets that are anything else are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns.cborlite import decode, encode
from cpns.errors import MalformedMessage
from gateway_agent.updates import reports
from gateway_agent.updates.reports import UpdateReport
from suit import numbers as n

CLASS, KEY, UPDATE = b"c" * 16, b"k" * 8, b"u" * 8
REPORT = [n.REPORT, [CLASS], KEY, 4, 1, n.COLLECTING, 5, 12]


def test_a_report_and_a_piece_are_read() -> None:
    assert reports.request(encode(REPORT)) == UpdateReport((CLASS,), KEY, 4, 1, n.COLLECTING, 5, 12)
    assert reports.request(encode([n.PIECE, UPDATE, n.FRAME, 300])) == (UPDATE, n.FRAME, 300)


def test_the_highest_numbers_are_read() -> None:
    most = n.NUMBER_MAX
    assert reports.request(encode([*REPORT[:3], most, most, most, most, 0xFFFF])) == UpdateReport(
        (CLASS,), KEY, most, most, most, most, 0xFFFF
    )


def test_a_board_without_a_key_gets_one() -> None:
    found = reports.request(encode([*REPORT[:2], b"", *REPORT[3:]]))
    assert isinstance(found, UpdateReport) and found.key_id == b""
    assert decode(reports.answer(UPDATE, 5, b"x" * 64, 30)) == [UPDATE, 5, b"x" * 64, 30]


@pytest.mark.parametrize(
    "value",
    [
        0,
        [],
        {n.REPORT: 1},
        [n.ASK],
        REPORT[:-1],
        [*REPORT, 0],
        [n.REPORT, CLASS, *REPORT[2:]],
        [n.REPORT, [CLASS[:15]], *REPORT[2:]],
        [n.REPORT, [CLASS] * 9, *REPORT[2:]],
        [n.REPORT, ["c" * 16], *REPORT[2:]],
        [*REPORT[:2], KEY[:7], *REPORT[3:]],
        [*REPORT[:3], -1, *REPORT[4:]],
        [*REPORT[:3], True, *REPORT[4:]],
        *([*REPORT[:at], n.NUMBER_MAX + 1, *REPORT[at + 1 :]] for at in range(3, 7)),
        [*REPORT[:7], 0x10000],
        [*REPORT[:7], True],
        [*REPORT[:3], b"4", *REPORT[4:]],
        [n.PIECE, UPDATE, n.FRAME],
        [n.PIECE, UPDATE[:7], n.FRAME, 0],
        [n.PIECE, UPDATE, n.FRAME, -1],
        [n.PIECE, UPDATE, n.FRAME, 0, 0],
    ],
)
def test_everything_else_is_refused(value: object) -> None:
    with pytest.raises(MalformedMessage):
        reports.request(encode(value))


@given(st.binary(max_size=120))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        found = reports.request(octets)
    except MalformedMessage:
        return
    assert isinstance(found, UpdateReport | tuple)


@pytest.mark.parametrize("state", [*range(7)])
@pytest.mark.parametrize("detail", [0, n.NOT_CONFIRMED, n.NO_ROOM, 99])
def test_every_state_and_reason_has_words(state: int, detail: int) -> None:
    report = UpdateReport((CLASS,), KEY, 4, 1, state, 5, detail)
    assert reports.in_words(report, True) and reports.in_words(report, False)
    assert bool(reports.reason_in_words(report)) == (state in (n.FELL_BACK, n.REFUSED))


def test_what_a_board_does_is_said_in_words_that_stand_alone() -> None:
    said = {
        reports.in_words(UpdateReport((), b"", 4, 0, state, 5, detail), is_offered)
        for state, detail, is_offered in (
            (n.IDLE, 0, False),
            (n.IDLE, 0, True),
            (n.COLLECTING, n.NO_FLOOR, True),
            (n.WAITING, 0, True),
            (n.TRIAL, 0, True),
            (n.FELL_BACK, n.NO_FLOOR, True),
            (n.REFUSED, n.NO_ROOM, True),
            (n.REFUSED, n.NO_FLOOR, True),
        )
    }
    assert said == {
        "wants no update",
        "is offered an update",
        "collects update 5",
        "has update 5 and is about to restart",
        "runs update 5 on trial",
        "went back from update 5",
        "refused update 5",
        "takes no update",
    }


def test_a_board_accepts_eight_classes_at_most() -> None:
    def octets(count: int) -> bytes:
        return encode([n.REPORT, [bytes([of] * 16) for of in range(count)], b"", 0, 0, n.IDLE, 0, 0])

    report = reports.request(octets(reports.CLASSES_MAX))
    assert isinstance(report, UpdateReport) and len(report.class_ids) == reports.CLASSES_MAX
    with pytest.raises(MalformedMessage, match="class IDs"):
        reports.request(octets(reports.CLASSES_MAX + 1))


def test_every_reason_of_a_board_has_words() -> None:
    known = {value for name, value in vars(n).items() if name in _REASON_NAMES}
    assert known == reports.REASONS.keys()


_REASON_NAMES = {"NOT_CONFIRMED", "NOT_WHOLE", "BOOT_LOADER", "OTHER_KEY", "NO_KEY", "OTHER_CLASS", "OLD_NUMBER"}
_REASON_NAMES |= {"TRIED_BEFORE", "NOT_UNDERSTOOD", "NO_ROOM", "FLASH_FAILED", "NO_HEAP"}
_REASON_NAMES |= {"CRASHED", "NO_AGENT", "NO_FLOOR", "NO_SLOT"}
