"""The log of a command that keeps running: a time on each line, or its priority under systemd."""

import json
import logging
import re
from collections.abc import Iterator

import pytest

from keycast.terminal import logs
from keycast.terminal.logs import LogForm, begin_log, ready
from message_plane.errors import PeerRefused

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
    assert said.err == "<4>root: two lines,\n<4>  one of them wrapped\n<3>root: broken\n<7>root: detail\n"


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


HOSTILE = "x\n2026-01-01T00:00:00 INFO all is well\x1b[2J\x9b2J\u202eabc\u2028d"


@pytest.mark.parametrize("journal", [False, True])
def test_a_text_of_a_peer_looks_like_no_line_and_moves_no_terminal(
    journal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    if journal:
        monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    record = logging.LogRecord("keycast", logging.INFO, __file__, 0, "it said: %s", (HOSTILE,), None)
    shown = logs._formatter().format(record)
    first, second = shown.split("\n")
    assert first.isprintable() and second.isprintable() and re.match("(<6>)?  2026.*all is well", second)
    plain = logging.LogRecord("keycast", logging.INFO, __file__, 0, "Grüße an %s", ("lamp",), None)
    assert logs._formatter().format(plain).endswith("keycast: Grüße an lamp")


def test_the_reason_of_a_peer_that_refuses_prints() -> None:
    refused = PeerRefused("4.03", HOSTILE)
    assert str(refused).isprintable() and refused.reason.isprintable() and "all is well" in refused.reason


def test_each_line_is_one_object_if_that_is_asked_for(
    root: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    root.handlers.clear()  # those of pytest
    lines = begin_log(LogForm.JSON)
    ready({"gateway": "gw"}, "gw serves home")
    record = logging.LogRecord("gateway_agent.net", logging.WARNING, __file__, 0, "KC1102 %s", (HOSTILE,), None)
    record.pne_id = "lamp"
    root.handle(record)
    said = capsys.readouterr()
    assert json.loads(said.out)["text"] == "gw serves home"
    (line,) = said.err.splitlines()
    told = json.loads(line)
    assert told.pop("at").endswith("+00:00") and told == {
        "level": "warning", "area": "gateway_agent.net", "code": "KC1102", "text": HOSTILE, "pne_id": "lamp"
    }  # fmt: skip
    assert [each.code for each in lines.recent()] == ["KC1102"]
