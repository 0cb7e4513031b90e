"""The sentences of the pages, without a browser."""

import dataclasses

import pytest

from gateway_agent.web.pages import words
from gateway_agent.web.pages.settings import _shown
from tests.unit import page_world
from tests.unit.page_world import snapshot


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s ago"),
        (0, "0 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7200, "2 h ago"),
        (800000, "9 days ago"),
    ],
)
def test_an_age_in_words(seconds, text):
    assert words.ago(seconds) == text


def test_the_summary_tells_the_worst_first():
    home = snapshot()
    assert words.summary(home) == "1 alarm: something needs you"
    assert words.summary(dataclasses.replace(home, alarms=(), withholds_keys=True)) == "No keys go out now"
    assert words.summary(dataclasses.replace(home, alarms=())) == "No alarm. 2 confirmations still to come"
    assert words.summary(snapshot(4, alarmed=False)) == "No alarm. Every board has confirmed its newest keys"
    assert words.summary(snapshot(0, (), alarmed=False)) == "No alarm. No board is in a group yet"


def test_a_group_that_waits_says_why():
    group = snapshot().groups[0]
    assert words.remark(group) == ""
    assert "keycast server confirm-members home/lights" in words.remark(dataclasses.replace(group, held=True))
    assert "no member any more" in words.remark(dataclasses.replace(group, exposed=True))


@pytest.mark.parametrize("name", ["token", "password", "join_token", "secret"])
def test_a_setting_that_may_be_secret_is_not_shown(name):
    assert _shown(name, "hunter2") == "not shown"
    assert _shown("password_file", "/etc/x") == '"/etc/x"'


@pytest.mark.req("SEC-36")
def test_a_backup_that_a_clock_ahead_has_dated_does_not_look_new():
    home = snapshot()
    assert "Last backup 3 days ago." in words.ways(home)
    told = words.ways(dataclasses.replace(home, backed_up_at=home.at + 730 * 86_400))
    assert "which is yet to come" in told and "ago" not in told


def test_the_made_up_names_are_different():
    assert len({page_world.board_name(number) for number in range(1000)}) == 1000
