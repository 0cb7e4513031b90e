"""The log of a command that keeps running: a time on each line, or its priority under systemd."""

import logging
import re
from collections.abc import Iterator

import pytest

from keycast.terminal.logs import begin_log, ready

OF_BLUETOOTH = [logging.getLogger(name) for name in ("bleak", "bumble", "dbus_fast")]
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The root logger as it is in a process of its own. The levels of others are as before when the test has ended."""
    fresh = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", fresh)
    levels = [logger.level for logger in OF_BLUETOOTH]
    for logger in OF_BLUETOOTH:
        logger.setLevel(logging.NOTSET)
    yield fresh
    for logger, level in zip(OF_BLUETOOTH, levels, strict=True):
        logger.setLevel(level)


def test_each_line_has_its_time_also_the_first(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    root.handlers.clear()  # those of pytest
    begin_log()
    ready({"gateway": "gw"}, "gw serves home")
    root.info("something happened")
    root.debug("something else")
    said = capsys.readouterr()
    assert re.fullmatch(rf"{TIME} INFO keycast: gw serves home\n", said.out)
    assert re.fullmatch(rf"{TIME} INFO root: something happened\n", said.err)


def test_under_systemd_each_line_has_its_priority(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    root.handlers.clear()  # those of pytest
    begin_log(verbose=True)
    ready({"gateway": "gw"}, "gw serves home")
    root.warning("two lines,\none of them wrapped")
    root.error("broken")
    root.debug("detail")
    said = capsys.readouterr()
    assert said.out == "<6>keycast: gw serves home\n"
    assert said.err == "<4>root: two lines,\n<4>one of them wrapped\n<3>root: broken\n<7>root: detail\n"


def test_the_libraries_of_bluetooth_do_not_log_each_packet(root: logging.Logger) -> None:
    root.handlers.clear()  # those of pytest
    begin_log(verbose=True)
    for name in ("bumble.host", "bumble.controller", "bleak.backends.bluezdbus.scanner", "dbus_fast.message_bus"):
        assert logging.getLogger(name).getEffectiveLevel() == logging.WARNING, name


def test_a_library_that_was_told_to_log_less_stays_so(root: logging.Logger) -> None:
    root.handlers.clear()  # those of pytest
    logging.getLogger("bumble").setLevel(logging.CRITICAL)
    begin_log(verbose=True)
    assert logging.getLogger("bumble.host").getEffectiveLevel() == logging.CRITICAL
