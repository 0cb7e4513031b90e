"""What `keycast board list` says of the ports of this computer: what runs there, without ending or resetting it."""

import os
import pty
import threading
import tty
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from serial.tools import list_ports
from typer.testing import CliRunner

from gateway_agent.errors import ControlUnavailable
from keycast.board import asking, ports, survey
from keycast.board.asking import AskedBoard
from keycast.board.faults import PortForbidden
from keycast.board.ports import Port
from keycast.board.survey import Seen
from keycast.commands.board import list_boards
from keycast.hardware.catalogue import VIRTUAL, all_boards, virtual_board
from keycast.program import program

BOARDS = {**all_boards(), VIRTUAL: virtual_board()}
BRIDGE = Port("/dev/ttyUSB0", "10c4:ea60", "0001", "/dev/ttyUSB0", "1-1.2")
S3 = Port("/dev/ttyACM0", "303a:4001", "aabb", "/dev/ttyACM0", "1-1.3")
ROM = Port("/dev/ttyACM1", "303a:1001", "AA:BB", "/dev/ttyACM1", "1-1.5")
MOUSE = Port("/dev/ttyACM9", "1546:01a7", None, "/dev/ttyACM9", "1-1.4")
AGENT = AskedBoard(
    *("agent", "1.25.0", "", "0.1.0", "running", "lamp.hall", "gw.home", 2, 12000, True, ("wifi", "ble")),
    *("8c81-42e9-fcd2-fa17", "1b02-0c13-7d7d-90aa", 7, 2, 3, 0, 1),
)
WHO = (
    b'keycast: who {"agent": "0.1.0", "micropython": "1.25.0", "board": "", "pne_id": "lamp.hall", "cleared": true, '
    b'"gateway_id": "gw.home", "server": "8c81-42e9-fcd2-fa17", "credential": "1b02-0c13-7d7d-90aa", '
    b'"groups": 2, "radio_lowest": 12000, "update": 7, "slot": 2, "cut": 3, "dropped": 0, "empty": 1, '
    b'"state": "running", "radios": ["ble", "wifi", "lora"]}\r\n'
)
BANNER = b"\r\nMicroPython v1.26.1 on 2025-09-11; Generic ESP32C3 module with ESP32C3\r\nType help\r\n>>> "


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Boards that say nothing are not waited for."""
    monkeypatch.setattr(asking, "_ANSWER_S", 0.5)
    monkeypatch.setattr(asking, "_START_S", 0.5)


class Board:
    """A pseudo-terminal on which `answers` are given: what a tool must have sent -> what comes then, in this order."""

    def __init__(self, *answers: tuple[bytes, bytes]) -> None:
        self._front, back = pty.openpty()
        tty.setraw(back)
        self.device = os.ttyname(back)
        self._back = back
        self.sent = b""
        self._answers = answers
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        rest = list(self._answers)
        seen = b""
        while True:
            try:
                octets = os.read(self._front, 4096)
            except OSError:
                return
            self.sent += octets
            seen += octets
            while rest and rest[0][0] in seen:
                asked, answer = rest.pop(0)
                seen = seen.partition(asked)[2]
                os.write(self._front, answer)

    def close(self) -> None:
        os.close(self._back)
        self._thread.join(10)
        os.close(self._front)


@pytest.fixture
def board() -> Iterator[Callable[..., Board]]:
    made: list[Board] = []

    def make(*answers: tuple[bytes, bytes]) -> Board:
        made.append(Board(*answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


QUESTION = b"keycast: who\n"


def test_a_running_agent_answers_with_what_it_is(board: Any) -> None:
    lamp = board((QUESTION, WHO))
    assert asking.ask(lamp.device) == AGENT
    assert lamp.sent == QUESTION  # nothing that would end it


def test_an_agent_that_waits_is_started_again_and_tells_why(board: Any) -> None:
    waits = b"keycast: waiting for a tool\r\n>>> eycast: who"
    begun = (
        b"keycast: start: any key within 2 s for the REPL\r\nkeycast: pairing-secret board-1 NSDU-ETP2-DSBG-XSGK\r\n"
        b"keycast: update fell-back 7 1\r\nkeycast: unprovisioned it has no gateway and no Wi-Fi name\r\n"
    )
    lamp = board((QUESTION, waits), (b"\x03", b"\r\n>>> "), (b"\x04", begun))
    assert asking.ask(lamp.device) == AskedBoard("waiting agent", state="unprovisioned")


def test_a_board_that_opening_its_port_has_reset_is_asked_when_it_runs_again(board: Any) -> None:
    """As a circuit on the lines DTR and RTS may do; then the question comes too early."""
    reset = b"rst:0x1 (POWERON_RESET)\r\nkeycast: start: any key within 2 s for the REPL\r\n"
    begun = b"keycast: waiting for a tool\r\n>>> \r\nkeycast: connecting it looks for its gateway\r\n"
    lamp = board((QUESTION, reset), (b"\x03", b"\r\n>>> "), (b"\x04", begun), (QUESTION, WHO))
    assert asking.ask(lamp.device) == AGENT


@pytest.mark.parametrize(
    ("has_files", "found"),
    [(b"False", AskedBoard("micropython", "1.26.1", "esp32c3")),
     (b"True", AskedBoard("waiting agent", "1.26.1", "esp32c3", state="in-repl"))],
)  # fmt: skip
def test_micropython_at_its_prompt(board: Any, has_files: bytes, found: AskedBoard) -> None:
    answers = (QUESTION, b"keycast: who"), (b"\x03\x02", BANNER), (b"\r", b"\r\n" + has_files + b" files\r\n>>> ")
    assert asking.ask(board(*answers).device) == found


@pytest.mark.parametrize(
    ("printed", "runs"),
    [
        (b"rst:0x10 (RTCWDT_RTC_RESET)\r\ninvalid header: 0xffffffff\r\n", "nothing"),
        (b"rst:0x1 (POWERON_RESET)\r\nwaiting for download\r\n", "boot loader"),
        (b"Tasmota 14.0\r\n", "other"),
        (b"keycast: who is that?\r\n", "other"),
        (b"\0\0\r\n", "silent"),
        (b"", "silent"),
    ],
)
def test_what_else_may_run(board: Any, printed: bytes, runs: str) -> None:
    assert asking.ask(board((QUESTION, printed)).device).runs == runs


@pytest.mark.parametrize(
    "told",
    [b"{", b"{}", b"{]}", b'{"pne_id": 5, "groups": "x", "cleared": 1, "radio_lowest": true, "state": null}',
     b'{"pne_id": "\\u001b[2J", "agent": []}', b'{"radios": 1}'],
)  # fmt: skip
def test_an_answer_that_is_none_is_not_believed(board: Any, told: bytes) -> None:
    found = asking.ask(board((QUESTION, b"keycast: who " + told + b"}\r\n")).device)
    assert found in (AskedBoard("agent"), AskedBoard("other"))


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[Port]:
    """The ports of this computer; `opened` counts those that were asked."""
    there: list[Port] = []
    monkeypatch.setattr(survey, "ports", lambda: there)
    monkeypatch.setattr(survey, "users", lambda port: [])
    monkeypatch.setattr(ports, "LOCKS", tmp_path / "locks")
    monkeypatch.setattr(ports, "require_free", lambda port: None)
    monkeypatch.setattr(survey, "ask", lambda device: AGENT)
    return there


def seen(port: Port, ask_all: bool = False) -> Seen:
    return next(each for each in survey.survey(BOARDS, ask_all) if each.port == port)


def test_no_port_that_opening_could_reset_is_opened_unless_that_is_wanted(plugged: list[Port]) -> None:
    lamp = Port("/dev/pts/9", None, None, "lamp")
    plugged += [BRIDGE, ROM, S3, MOUSE, lamp]
    asked = {port.name for port in plugged if seen(port).answer}
    assert asked == {S3.name, "lamp"}
    assert {port.name for port in plugged if seen(port, ask_all=True).answer} == asked | {BRIDGE.name, ROM.name}


def test_a_port_that_another_program_has_open_is_never_opened(
    plugged: list[Port], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugged += [BRIDGE, S3]
    monkeypatch.setattr(survey, "users", lambda port: [(77, "minicom")])
    for port in plugged:
        found = seen(port, ask_all=True)
        assert (found.users, found.answer, survey.next_step(found, BOARDS)) == (((77, "minicom"),), None, "")


def test_a_port_that_may_not_be_opened_has_its_next_step(plugged: list[Port], monkeypatch: pytest.MonkeyPatch) -> None:
    plugged += [S3]

    def forbidden(port: Port) -> None:
        raise PortForbidden.of(port.device, "dialout", is_member=False)

    monkeypatch.setattr(ports, "require_free", forbidden)
    assert "usermod -aG dialout" in survey.next_step(seen(S3), BOARDS)


def test_a_port_that_goes_away_while_it_is_asked(plugged: list[Port], monkeypatch: pytest.MonkeyPatch) -> None:
    plugged += [S3]

    def gone(device: str) -> AskedBoard:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(survey, "ask", gone)
    assert seen(S3).answer == AskedBoard("silent")


def test_what_a_usb_id_says() -> None:
    def state(port: Port) -> tuple[str, tuple[str, ...]]:
        found = survey.without_asking(port, BOARDS)
        return found.state, found.names

    assert state(BRIDGE)[0] == "bridge" and "esp32-devkitc" in state(BRIDGE)[1]
    assert state(S3) == ("micropython", ("esp32-s3-devkitc-1",))
    assert state(ROM)[0] == "native"
    assert state(MOUSE) == ("", ())
    assert state(Port("/dev/pts/9", None, None, "lamp")) == ("virtual", (VIRTUAL,))


@pytest.mark.parametrize(
    ("port", "answer", "step"),
    [
        (BRIDGE, None, "keycast board list --ask"),
        (MOUSE, None, ""),
        (S3, AGENT, ""),
        (S3, AGENT._replace(state="wrong-password"), "keycast board provision NAME --wifi WIFI --port /dev/ttyACM0"),
        (S3, AskedBoard("waiting agent", state="unprovisioned"), "keycast board provision NAME --port /dev/ttyACM0"),
        (S3, AskedBoard("waiting agent", state="safe-mode"), "keycast board rescue --port /dev/ttyACM0"),
        (S3, AskedBoard("waiting agent", state="in-repl"), "press its reset button"),
        (S3, AskedBoard("micropython"), "keycast board flash --files-only --port /dev/ttyACM0"),
        (S3, AskedBoard("nothing"), "keycast board flash ESP32_GENERIC_S3-SPIRAM_OCT-*.bin --port /dev/ttyACM0"),
        (BRIDGE, AskedBoard("other"), "keycast board flash IMAGE --port /dev/ttyUSB0"),
        (S3, AskedBoard("silent"), "press its reset button; then: keycast board monitor --port /dev/ttyACM0"),
    ],
)
def test_the_next_step_is_a_command_to_type(port: Port, answer: AskedBoard | None, step: str) -> None:
    assert survey.next_step(survey.without_asking(port, BOARDS)._replace(answer=answer), BOARDS) == step


def test_each_command_of_a_next_step_is_one() -> None:
    commands = program(["board", "list"])
    for state, words in survey.BY_STATE.items():
        run = CliRunner().invoke(commands, ["board", words.split()[0], "--help"])
        assert run.exit_code == 0, state


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Type `keycast board list` on a computer with the ports `there`, where a gateway runs if it has `boards`."""

    def type_it(there: list[Seen], boards: list[Any] | None, *words: str) -> Any:
        def asked(*_: object) -> list[Any]:
            if boards is None:
                raise ControlUnavailable("No gateway answers.", "Start it: keycast gateway run")
            return boards

        monkeypatch.setattr(list_boards, "asked", asked)
        monkeypatch.setattr(list_boards, "_here", lambda _: [(each, "the next step") for each in there])
        return CliRunner().invoke(program(["board"]), ["board", "list", *words], env={"COLUMNS": "300"})

    return type_it


def test_no_board_and_no_gateway_are_remarks_and_no_errors(typed: Any) -> None:
    run = typed([], None)
    assert run.exit_code == 0 and run.stderr == ""
    assert "No board is on this computer" in run.stdout and "Start it: keycast gateway run" in run.stdout
    assert '"ports": []' in typed([], None, "--json").stdout


def test_a_person_sees_identity_groups_and_the_least_memory_of_the_radio(typed: Any) -> None:
    found = survey.without_asking(S3, BOARDS)._replace(answer=AGENT)
    shown = typed([found, found._replace(answer=AGENT._replace(cleared=False))], []).stdout
    assert (
        "lamp.hall of gw.home: agent 0.1.0 (update 7, slot 2) on MicroPython 1.25.0, running, 2 Service Groups" in shown
    )
    assert "trusts the CPNS Server 8c81-42e9-fcd2-fa17, which must know it as 1b02-0c13-7d7d-90aa;" in shown
    assert "the radio had 12000 octets at least" in shown and "the next step" in shown
    assert shown.count("erased keys can be read in its flash") == 1
    assert "datagrams that found no room in its heap: 3; empty datagrams: 1" in shown
    assert "its network did not take" not in shown


def test_a_person_sees_who_has_a_port(typed: Any) -> None:
    found = survey.without_asking(BRIDGE, BOARDS)._replace(users=((77, "minicom"),))
    assert "in use by minicom (process 77)" in typed([found], []).stdout


def test_the_ports_of_pyserial_are_those_that_are_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    info = SimpleNamespace(device="/dev/ttyUSB0", vid=0x10C4, pid=0xEA60, serial_number="0001", location="1-1.2:1.0")
    uart = SimpleNamespace(device="/dev/ttyS0", vid=None, pid=None, serial_number=None, location=None)
    monkeypatch.setattr(list_ports, "comports", lambda: [uart, info])
    monkeypatch.setattr(ports, "VIRTUAL_BOARDS", tmp_path)
    monkeypatch.setattr(ports, "_PROC", tmp_path)
    run = CliRunner().invoke(
        program(["board"]), ["board", "list", "-c", str(tmp_path / "none")], env={"COLUMNS": "300"}
    )
    assert run.exit_code == 0 and "/dev/ttyUSB0" in run.stdout and "not asked" in run.stdout
    assert "/dev/ttyS0" not in run.stdout


def test_a_person_sees_by_which_radio_a_board_was_heard(typed: Any) -> None:
    places = {"lamp.hall": "192.168.1.7:5683", "lamp.porch": "gatt:02:00:00:00:00:03", "lamp.attic": ""}
    heard = {"session": True, "age_s": 3, "software": "0.1.0", "sg_ids": []}
    shown = typed([], [{"pne_id": name, "address": place, **heard} for name, place in places.items()]).stdout
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert "  192.168.1.7  " in lines["lamp.hall"] and "  Bluetooth 02:00:00:00:00:03  " in lines["lamp.porch"]
