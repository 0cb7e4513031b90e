"""A board that is broken or lies: its answers are refused in a sentence, and nothing of them reaches a terminal raw."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keycast.board import agent_files, answers, asking, provisioning, repl, rescue, tool
from keycast.board.asking import AskedBoard, of_agent
from keycast.board.faults import BoardFault, BoardSilent, FilesNotCopied, NotRescued, ProvisioningFault
from keycast.board.ports import Port
from keycast.board.repl import BoardAnswered, Repl
from keycast.board.serial_lines import LINE_MAX, Lines
from tests.unit.fake_repl import FakeBoard

EVIL = "\x1b]0;owned\x07\x1b[2J\u202elamp\u200b\x9b31m"
_RADIOS = ',"ble":false,"board":null,"machine":"m","has_bluetooth":true}'
ANSWERS = (
    "", "nothing", "null", "0", "NaN", "1e999", "true", '"text"', "[]", "{}", "[[],[],[],[],[],[]]",
    '[[1,25,"x"],"",1,2,3,4]',
    "[[1,25,0],null,false,0,0,0]", "[[1,25,0],\"m\",false,-1,0,0]", f"[[1,25,{10**400}],\"m\",false,0,0,0]",
    "[[1,25,0],\"m\",false,1.5,0,0]", "[" * 100_000, '{"a":' * 100_000, "9" * 1_000_000,
    '{"present":[1,2,3],"pending":null,"wifi":null,"damaged":[],"repaired":0' + _RADIOS,
    '{"present":["lamp","zz",""],"pending":null,"wifi":null,"damaged":[],"repaired":0' + _RADIOS,
    '{"present":["lamp","a1",""],"pending":null,"wifi":null,"damaged":[],"repaired":0' + _RADIOS,
    '{"present":null,"pending":null,"wifi":7,"damaged":[],"repaired":0' + _RADIOS,
    '{"present":null,"pending":null,"wifi":null,"damaged":"x","repaired":[]' + _RADIOS,
    '{"starts":"3","error":"","pne_id":null,"cleared":true}', '{"starts":3,"error":[],"pne_id":null,"cleared":true}',
    '{"broken":{}}', "[1]", "[1,2,3]", '["lamp","ABCD"]', '["lamp",null]',
    "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
)  # fmt: skip


class Liar:
    """A board that answers each program with the same text."""

    port = Port("/dev/x", None, None, "x")

    def __init__(self, printed: str) -> None:
        self.printed = printed

    def run(self, program: str, timeout_s: float = 0) -> str:
        return self.printed + "\r\n"

    def restart(self) -> None:
        """It is there again."""

    def start(self) -> None:
        """It says nothing."""


ASKED: tuple[tuple[Callable[[Any], Any], type[BoardFault]], ...] = (
    (agent_files.look, FilesNotCopied),
    (lambda board: agent_files.save_record(board, "wifi", b""), FilesNotCopied),
    (agent_files.ready_to_pair, FilesNotCopied),
    (rescue.look, NotRescued),
    (rescue.erase, NotRescued),
    (provisioning.look, ProvisioningFault),
)


@pytest.mark.parametrize(("ask", "fault"), ASKED)
@pytest.mark.parametrize("printed", ANSWERS, ids=range(len(ANSWERS)))
def test_an_answer_of_another_form_is_a_sentence(
    printed: str, ask: Callable[[Any], Any], fault: type[BoardFault]
) -> None:
    try:
        ask(Liar(printed))
    except fault as told:
        assert len(str(told)) < 1000 and str(told).isprintable()
    else:
        assert (printed, ask) in (("null", agent_files.ready_to_pair), ("true", ASKED[1][0]))


def test_words_of_a_board_reach_no_terminal_raw() -> None:
    running = agent_files.look(Liar(json.dumps([[1, 25, 0], EVIL, False, 0, 0, 0])))  # type: ignore[arg-type]
    told = rescue.look(Liar(json.dumps({"starts": 1, "error": EVIL, "pne_id": EVIL, "cleared": False})))  # type: ignore[arg-type]
    broken = rescue.look(Liar(json.dumps({"broken": EVIL * 10_000})))  # type: ignore[arg-type]
    pairing = agent_files.ready_to_pair(Liar(json.dumps([EVIL, "ABCD" * 4])))  # type: ignore[arg-type]
    lines = [*Lines().take(EVIL.encode() + b"\n"), *Lines().take(b"\x1b" * 3 * LINE_MAX)]
    texts = [running.chip, told.error, told.pne_id, broken.broken, *(pairing or ()), *(line.text for line in lines)]
    assert all(text is not None and text.isprintable() and len(text) <= answers.TEXT_MAX for text in texts)
    for told in ({"pne_id": EVIL, "groups": True}, {"pne_id": "x" * 201, "groups": -1, "radio_lowest": 10**400}):
        assert of_agent(json.dumps(told).encode()) == AskedBoard("agent")


@pytest.mark.parametrize("words", [b"keycast: who {}", b"keycast: a ", b"MicroPython 1.1; with ESP32 with ESP32"])
def test_what_is_looked_for_is_bounded_wherever_it_may_begin(words: bytes) -> None:
    """A search through all that is kept costs as much as its length, not as the square of that."""
    for sign in (asking._ANSWER, asking._STATE, asking._BANNER):
        assert not re.search(rb"\][*+](?!\?)|\.[*+]|\\[dw][*+]|\*\?", sign.pattern)
        assert sign.search((words * asking._HEARD_MAX)[: asking._HEARD_MAX]) is None


def test_the_error_of_a_program_is_safe_to_show() -> None:
    with FakeBoard() as board, Repl(board.port) as found, pytest.raises(BoardAnswered) as caught:
        found.run(f"raise ValueError({EVIL * 1000!r})")
    assert str(caught.value).isprintable() and len(str(caught.value)) <= answers.TEXT_MAX


def test_words_of_a_board_in_the_lines_of_a_tool_are_safe_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        f"print({EVIL!r}); print('x' * 3_000_000); print('y\\n' * 100_000); print({EVIL!r})"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        patch.setenv("PYTHONIOENCODING", "utf-8")
        ended = tool.run("loud", [])
    assert ended.done and ended.last and ended.last.isprintable() and len(ended.text) < 10_000_000


def test_a_tool_takes_no_module_of_the_folder_that_a_person_is_in(tmp_path: Path) -> None:
    """Where programs for boards are, there may be a json.py of MicroPython."""
    (tmp_path / "argparse.py").write_text("raise SystemError\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert tool.run("json.tool", ["--help"]).done


def test_a_tool_that_waits_for_ever_is_ended(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("print('begun')\nimport threading; threading.Event().wait()")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        ended = tool.run("waits", [], silence_s=3)
    assert not ended.done


@pytest.fixture
def babbling() -> Iterator[Callable[[bytes], Port]]:
    """Start a board that says the same without end, whatever it is sent."""
    over, opened = threading.Event(), list[int]()

    def start(words: bytes) -> Port:
        board, line = os.openpty()
        tty.setraw(line)
        os.set_blocking(board, False)
        opened.extend((board, line))

        def babble() -> None:
            while not over.is_set():
                for act in (lambda: os.write(board, words), lambda: os.read(board, 4096)):
                    try:
                        act()
                    except BlockingIOError:
                        time.sleep(0.001)

        threads.append(threading.Thread(target=babble))
        threads[-1].start()
        return Port(os.ttyname(line), None, None, "liar")

    threads: list[threading.Thread] = []
    yield start
    over.set()
    for thread in threads:
        thread.join(60)
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.real_time
@pytest.mark.parametrize(
    "words",
    [
        b"A" * 999,
        b">>> ",
        b"\r\n>>> \r\n",
        b"raw REPL; CTRL-B to exit\r\n>",
        b">>> raw REPL; CTRL-B to exit\r\n>",
        b"R\x01\0\0",
        b"keycast: start: ",
    ],
)
def test_a_board_that_never_stops_is_given_up(
    words: bytes, babbling: Callable[[bytes], Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"REACH_S": 1.0, "RUN_S": 1.0, "_RAW_S": 0.5, "_ANSWER_S": 0.5, "_QUIET_S": 0.05}.items():
        monkeypatch.setattr(repl, name, seconds)
    with pytest.raises((BoardSilent, BoardAnswered)), Repl(babbling(words)) as found:
        found.run("print(1)" * 100, timeout_s=1.0)


class Line:
    """A serial line from which `words` come again and again."""

    def __init__(self, words: bytes) -> None:
        self.words, self.in_waiting, self.read_count = words, 4096, 0

    def read(self, most: int) -> bytes:
        self.read_count += most
        return (self.words * most)[:most]

    def write(self, octets: bytes) -> int:
        return len(octets)


@pytest.mark.parametrize("window", [b"R\x01\0\0", b"\0"])
def test_a_transfer_that_never_ends_is_given_up(window: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repl, "RUN_S", 0.2)
    found = Repl(Port("/dev/x", None, None, "x"))
    found._serial = Line(window)
    with pytest.raises(BoardSilent):
        found._paste(b"print(1)" * 100)


def test_what_a_program_prints_is_bounded() -> None:
    found = Repl(Port("/dev/x", None, None, "x"))
    found._serial = line = Line(b"x")
    with pytest.raises(BoardSilent):
        found._until(b"\x04", math.inf)
    assert line.read_count < 1 << 20
