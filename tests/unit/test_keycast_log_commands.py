"""The newest lines of a process, its readers, and the level of each area at run time."""

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway_agent.errors import Refused
from gateway_agent.observe.log_lines import KEPT, WAITING_MAX, LogLines
from keycast.commands import log
from keycast.program import program
from keycast.services.log_commands import log_commands, set_levels
from keycast.services.log_socket import log_socket
from keycast.terminal.log_bound import LINES_MAX, BoundedLog

AREA = "message_plane.incoming"


@pytest.fixture
def lines() -> LogLines:
    return LogLines()


@pytest.fixture(autouse=True)
def levels_as_before() -> Iterator[None]:
    logging.getLogger(AREA)
    before = {name: logging.getLogger(name).level for name in ("", "message_plane", AREA)}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def say(handler: logging.Handler, text: str, *arguments: object, at: float = 0.0, **about: str) -> None:
    record = logging.LogRecord(AREA, logging.WARNING, "f", 1, text, arguments, None)
    record.created = at
    vars(record).update(about)
    handler.handle(record)


def test_the_last_lines_are_kept_with_what_they_are_about(lines: LogLines) -> None:
    for number in range(KEPT + 5):
        say(lines, "KC3008 line %d of %s", number, "lamp\n\u202e", pne_id="lamp\n", at=7.0)
    kept = lines.recent()
    assert len(kept) == KEPT and kept[0].number == 6 and lines.recent(1) == kept[-1:]
    last = kept[-1]
    assert (last.at, last.level, last.area, last.code, last.pne_id) == (7.0, "warning", AREA, "KC3008", "lamp\\n")
    assert last.text == f"line {KEPT + 4} of lamp\\n\\u202e"


async def test_a_reader_that_is_slow_loses_the_oldest_lines_and_knows_how_many(lines: LogLines) -> None:
    with lines.subscribe() as slow, lines.subscribe() as quick:
        for number in range(WAITING_MAX):
            say(lines, "line %d", number)
        await asyncio.sleep(0)
        assert (await anext(quick)).text == "line 0"
        for number in range(10):
            say(lines, "more %d", number)
        await asyncio.sleep(0)
        assert (await anext(slow)).text == "line 10" and slow.lost == 10
        assert quick.lost == 9
    say(lines, "nobody reads")


async def test_a_line_of_another_thread_wakes_a_reader(lines: LogLines) -> None:
    with lines.subscribe() as reader:
        waits = asyncio.create_task(anext(reader))
        await asyncio.to_thread(say, lines, "from a thread")
        assert (await asyncio.wait_for(waits, 20)).text == "from a thread"


async def test_the_next_lines_are_waited_for(lines: LogLines) -> None:
    after = log_commands(lines)["log.after"]
    assert await after(0, 0.01) == []
    waits = asyncio.create_task(after(0))
    await asyncio.sleep(0)
    say(lines, "first")
    (line,) = await asyncio.wait_for(waits, 20)
    say(lines, "second")
    assert [each.text for each in await after(line.number)] == ["second"]
    assert [each.text for each in await after(0)] == ["first", "second"]
    assert json.dumps([each.text for each in log_commands(lines)["log.recent"](count=1)]) == '["second"]'


def test_an_area_has_its_level_until_default_undoes_it() -> None:
    assert {"area": "message_plane", "level": "debug"} in set_levels({"message_plane": "debug"})
    assert logging.getLogger(AREA).isEnabledFor(logging.DEBUG)
    assert {"area": AREA, "level": "error"} in set_levels({AREA: "error", "all": "warning"})
    assert not logging.getLogger(AREA).isEnabledFor(logging.WARNING)
    left = set_levels({AREA: "default", "message_plane": "default"})
    assert {"area": "all", "level": "warning"} in left and AREA not in {each["area"] for each in left}


@pytest.mark.parametrize(
    ("levels", "sentence"),
    [
        ({"mesage_plane": "debug"}, r"there is no area 'mesage_plane'. Did you mean message_plane\?"),
        ({"zzzzzz": "debug"}, "Known: all, gateway_agent, http_door"),
        ({"asyncio": "debug"}, "there is no area 'asyncio'"),
        ({"message_plane": "loud"}, "'loud' is no level. Known: debug, info, warning, error, default"),
        ({"message_plane": "debug", "x": "debug"}, "there is no area 'x'"),
    ],
)
def test_an_area_or_a_level_that_is_not_known_changes_nothing(levels: dict[str, str], sentence: str) -> None:
    before = logging.getLogger("message_plane").level
    with pytest.raises(Refused, match=sentence):
        set_levels(levels)
    assert logging.getLogger("message_plane").level == before


def test_a_person_sees_the_lines_and_sets_the_level(monkeypatch: pytest.MonkeyPatch, lines: LogLines) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def answered(config: Path, state: Path | None, do: str, **arguments: Any) -> Any:
        asked.append((do, arguments))
        if do == "log.after" and len(asked) > 3:
            raise KeyboardInterrupt
        return (
            json.loads(json.dumps(log_commands(lines)[do](**arguments), default=asdict))
            if do != "log.after"
            else [asdict(line) for line in lines.recent()]
        )

    monkeypatch.setattr(log, "ask", answered)
    say(lines, "KC3008 a request of %r cannot be taken", "lamp\n", at=1.0, pne_id="lamp")
    run = CliRunner().invoke(program(["log"]), ["log", "show", "--level", "warning"], env={"COLUMNS": "400"})
    assert run.exit_code == 0 and "WARNING message_plane.incoming: KC3008 a request of 'lamp" in run.output
    assert CliRunner().invoke(program(["log"]), ["log", "show", "--level", "loud"]).exit_code == 1
    asked.clear()
    followed = CliRunner().invoke(program(["log"]), ["log", "follow", "--json"])
    each = [json.loads(text) for text in followed.stdout.splitlines() if text.startswith('{"number"')]
    assert len(each) > 1 and each[0]["code"] == "KC3008" and each[0]["at"] == "1970-01-01T00:00:01+00:00"
    run = CliRunner().invoke(program(["log"]), ["log", "level", "message_plane=debug"])
    assert "message_plane: debug" in run.output and asked[-1] == ("log.level", {"levels": {"message_plane": "debug"}})
    assert CliRunner().invoke(program(["log"]), ["log", "level", "message_plane"]).exit_code == 1


def test_a_code_that_is_caused_again_and_again_is_counted_after_so_many_lines_in_a_minute(lines: LogLines) -> None:
    guard = BoundedLog([lines])
    for _ in range(LINES_MAX + 140):
        say(guard, "KC3006 refused traffic", at=100.0)
    say(guard, "KC3007 another code", at=101.0)
    say(guard, "a line without a code", at=101.0)
    assert len(lines.recent()) == LINES_MAX + 2
    say(guard, "KC3006 refused traffic", at=161.0)
    told, again = lines.recent(2)
    assert told.code == "KC5002" and told.text.startswith("140 more lines of KC3006") and again.code == "KC3006"
    say(guard, "KC3006 refused traffic", at=50.0)  # a clock that was set back
    assert lines.recent(1)[0].at == 50.0


async def test_a_key_server_is_asked_for_its_log_by_its_folder(tmp_path: Path, lines: LogLines) -> None:
    def shown() -> tuple[int, str]:
        words = ["log", "show", "--state", str(tmp_path)]
        done = CliRunner().invoke(program(words), words)
        return done.exit_code, done.output

    async with log_socket(tmp_path, lines):
        say(lines, "KC3008 the first one serves")
        other = LogLines()
        async with log_socket(tmp_path, other):  # another process on the same database
            say(other, "KC3008 the second one serves, too")
            assert "the first one serves" in (await asyncio.to_thread(shown))[1]
        assert (await asyncio.to_thread(shown))[0] == 0
    assert (await asyncio.to_thread(shown))[0] == 1 and not list(tmp_path.iterdir())
