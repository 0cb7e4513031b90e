"""How a board starts and ends: its window for tools, the start that fails, the state that it tells, its console, its
light.

Everything here runs in the MicroPython VM with the files that go to a board.
"""

import json
import random
import shutil
from pathlib import Path

import pytest

from cpns import cborlite
from device_agent import provisioning
from device_agent.key_store import KeyStore
from keycast.micropython_vm import compile
from keycast.micropython_vm.board_files import BUNDLES
from keycast.provisioning.board import new_board, trust_of
from keycast.virtual_board import board
from keycast.virtual_board.board import BluetoothAir, VirtualBoard
from tests.system.conftest import house_of
from tests.system.test_board_application import give
from tests.system.test_virtual_board import record
from tests.system.watching import events, join, until
from tests.waiting import PATIENCE_S

FIRST_NUMBER = 12_400  # 127.0.113.x: nobody else's in this project
SG = "home/lights"
WINDOW = {"BOARD_WINDOW_MS": "2000"}
OPENS = "keycast: start: any key within 2 s for the REPL"
WAITS = "keycast: waiting for a tool"
HARD_RESET, WATCHDOG_RESET = {"BOARD_RESET_CAUSE": "2"}, {"BOARD_RESET_CAUSE": "3"}
BUTTON, LIGHT = 9, 8
NOISE = random.Random(1).randbytes(50_000).replace(b"\3", b"")
FAILS = """
    import asyncio
    async def main(node):
        asyncio.core._io_queue.poller = None  # the loop cannot go on
"""


@pytest.fixture(scope="module", autouse=True)
def built():
    board.build()


@pytest.fixture
async def one(tmp_path):
    made = VirtualBoard.create(tmp_path / "board", FIRST_NUMBER, record("lamp"))
    yield made
    await made.kill()


def printed(one: VirtualBoard) -> list[str]:
    return [str(event["text"]) for event in one.events if event["event"] == "print"]


def started(one: VirtualBoard) -> bool:
    return any(event["event"] == "up" for event in one.events)


async def in_the_repl(one: VirtualBoard) -> None:
    """main.py has come to its end, which on a board is followed by the REPL."""
    await one.event("print", text=WAITS)
    assert await one.ended() == 0


# The window


@pytest.mark.parametrize("octets", [b"\r", b"x", b"\x01", b"\x03", b"\0\0\xff"], ids=bytes.hex)
async def test_an_octet_in_the_window_leads_to_the_repl_and_no_agent_starts(one, octets):
    await one.start(up=False, more=WINDOW)
    await one.event("print", text=OPENS)
    one.type(octets)
    await in_the_repl(one)
    assert not started(one)


async def test_zeros_are_no_tool_and_the_agent_starts_after_the_window(one):
    await one.start(up=False, more=WINDOW)
    await one.event("print", text=OPENS)
    one.type(b"\0\0\0")
    await one.event("up")
    assert WAITS not in printed(one)


@pytest.fixture
def button(one, tmp_path):
    """The file that is the level of the button's pin."""
    KeyStore(one.nvs).save("board", cborlite.encode([1, "some board", -1, "plain", BUTTON, []]))
    return tmp_path / str(BUTTON)


async def test_the_button_that_is_held_behind_the_window_and_let_go_leads_to_the_repl(one, button):
    button.write_text("0")
    await one.start(up=False, more={"BOARD_PINS": str(button.parent)})
    await one.event("print", text="keycast: let go of the button for the REPL")
    button.write_text("1")
    await in_the_repl(one)


@pytest.mark.parametrize("level", ["0", "1"], ids=["stuck", "not pressed"])
async def test_a_button_that_is_stuck_or_not_pressed_does_nothing(one, button, level):
    button.write_text(level)
    await one.start(more={"BOARD_PINS": str(button.parent)})


def broken(one: VirtualBoard, folder: Path, name: str, octets: int | None) -> None:
    """Let the board have only the first octets of the file `name`, or no such file."""
    shutil.copytree(compile.BOARD_TREE, folder)
    file = folder / name
    whole = file.read_bytes()
    file.unlink()
    if octets is not None:
        file.write_bytes(whole[:octets])
    one.rom = folder.with_suffix(".romfs")
    compile.write_image(folder, one.rom)


OPTIONAL = "pne_ble", "pne_end_to_end"  # for boards with Bluetooth, and for those with an end-to-end group
JOINED = [name for name in BUNDLES if name not in OPTIONAL]
NEEDED = ["start", "board", "status", "strikes", "console", "board_record", "light", *JOINED]


@pytest.mark.parametrize("octets", [None, 0, 3], ids=["no file", "empty", "head"])
@pytest.mark.parametrize("name", NEEDED)
async def test_with_files_that_can_not_be_imported_the_board_comes_to_the_repl(one, tmp_path, name, octets):
    broken(one, tmp_path / "files", f"{name}.mpy", octets)
    await one.start(up=False)
    await in_the_repl(one)
    said = printed(one)
    assert said[0] == OPENS and said[-2].startswith("keycast: safe-mode the files of this board do not run")
    assert any("Traceback" in text for text in said) and not started(one)


@pytest.mark.parametrize("name", ["ble", *OPTIONAL])
async def test_a_board_without_bluetooth_and_such_groups_reads_no_file_that_is_for_them(one, tmp_path, name):
    broken(one, tmp_path / "files", f"{name}.mpy", None)
    await one.start()
    assert (await asked(one))["radios"] == ["wifi"]


@pytest.mark.parametrize("wifi", [True, False])
async def test_a_board_whose_bluetooth_does_not_work_says_so_or_uses_its_wifi(one, wifi):
    store = KeyStore(one.nvs)
    store.save("ble", cborlite.encode([1, 0xFFFF]))
    if not wifi:
        store.erase("wifi")
    await one.start()  # on no air
    await one.line("keycast: connecting " if wifi else "keycast: no-bluetooth ")
    assert (await asked(one))["radios"] == ["wifi"]


async def test_a_board_with_bluetooth_only_leaves_wifi_off(one, tmp_path):
    store = KeyStore(one.nvs)
    store.save("ble", cborlite.encode([1, 0xFFFF]))
    store.erase("wifi")
    await one.start(air=BluetoothAir(tmp_path / "nobody hosts it"))
    await one.line("keycast: connecting ")
    assert (await asked(one))["radios"] == ["ble"]


@pytest.mark.parametrize("name", ["start", "board", *JOINED])
async def test_the_window_needs_no_other_file_also_if_the_import_of_one_never_ends(one, tmp_path, name):
    """MicroPython reads without end in a file that ends in the midst of its code."""
    half = (compile.BOARD_TREE / f"{name}.mpy").stat().st_size // 2
    broken(one, tmp_path / "files", f"{name}.mpy", half)
    await one.start(up=False, more=WINDOW)
    await one.event("print", text=OPENS)
    one.type(b"\r")
    await in_the_repl(one)
    assert not any("Traceback" in text for text in printed(one))


# The start that fails


async def test_after_three_starts_that_failed_the_agent_is_not_started_and_the_error_is_told(one, tmp_path):
    give(one, tmp_path / "app", FAILS)
    for cause in ({}, HARD_RESET, WATCHDOG_RESET):
        await one.start(up=False, more=cause)
        assert await one.ended() == board.RESET_CODE
    seen = len(one.events)
    await one.start(up=False, more=HARD_RESET)
    told = await one.line("keycast: safe-mode ", since=seen)
    assert told.startswith("three starts in a row ended within 60 s") and told.endswith("AttributeError")
    assert "; board " in told  # the places in our files
    one.type(b"\r")
    await in_the_repl(one)


async def test_a_power_cycle_ends_safe_mode(one):
    KeyStore(one.nvs).save("last", cborlite.encode([1, 3, "some error"]))
    await one.start(up=False, more=HARD_RESET)
    assert (await one.line("keycast: safe-mode ")).endswith("; the last error: some error")
    await one.kill()
    await one.start()


# The states


def lose(one: VirtualBoard, *records: str) -> None:
    for name in records:
        KeyStore(one.nvs).erase(name)


def damage(one: VirtualBoard, *copies: str) -> None:
    for copy in copies:
        one.nvs.set(copy, b"damaged")


def half(one: VirtualBoard) -> None:
    lose(one, "prov", "wifi")
    KeyStore(one.nvs).save(provisioning.PENDING, cborlite.encode([1, 0, b"", {}]))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda one: lose(one, "prov", "wifi"), "unprovisioned"),
        (half, "half-provisioned"),
        (lambda one: damage(one, "prov0", "prov1"), "damaged"),
        (lambda one: KeyStore(one.nvs).save("prov", b"\x80"), "damaged"),
    ],
    ids=["empty", "half", "both copies", "another form"],
)
async def test_a_board_without_an_identity_that_can_be_used_says_so_and_waits_for_a_tool(one, change, code):
    change(one)
    await one.start(up=False)
    await one.line(f"keycast: {code} ")
    assert not one.nvs.get("last0")  # this is no start that failed
    one.type(b"\0")
    one.type(b"\r")
    await in_the_repl(one)


async def test_a_board_whose_flash_is_full_says_so_and_waits_for_a_tool(one):
    lose(one, "seed")
    with pytest.raises(OSError):
        for number in range(1000):
            one.nvs.set(f"more{number}", bytes(32))
    await one.start(up=False)
    assert "NOT_ENOUGH_SPACE" in await one.line("keycast: no-storage ")
    one.type(b"\r")
    await in_the_repl(one)


async def test_one_damaged_copy_of_the_identity_is_none(one):
    damage(one, "prov1")
    await one.start()
    assert KeyStore(one.nvs).load("prov") == KeyStore(one.nvs).load("prov")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"BOARD_OUT_OF_RANGE": "1"}, "no-access-point"),
        ({"BOARD_REFUSED": "202"}, "wrong-password"),
        ({"BOARD_REFUSED": "15"}, "wrong-password"),
        ({}, "no-gateway"),
    ],
    ids=["no access point", "wrong password", "handshake", "no gateway"],
)
async def test_a_board_says_why_it_reaches_no_gateway(one, more, code):
    await one.start(more=more)
    await one.line("keycast: connecting ")
    await one.line(f"keycast: {code} ", timeout_s=PATIENCE_S)


async def test_a_board_without_a_wifi_name_says_so(one):
    lose(one, "wifi")
    await one.start()
    await one.line("keycast: no-wifi-name ")


async def test_a_board_says_whether_its_gateway_lets_it_in(tmp_path):
    async with house_of(tmp_path, 1) as house:
        [one] = house.boards.values()
        await one.line("keycast: running ")
        identity, _ = new_board("a board that nobody has let in", trust_of(house.app))
        other = VirtualBoard.create(tmp_path / "other", one.number + 1, identity)
        await other.start()
        try:
            await other.line("keycast: refused ")
        finally:
            await other.kill()


# The console


async def asked(one: VirtualBoard) -> dict:
    seen = len(one.events)
    one.type(b"keycast: who\n")
    return json.loads(await one.line("keycast: who ", since=seen))


async def test_a_tool_asks_who_the_board_is(one):
    await one.start()
    told = await asked(one)
    state = told.pop("state")
    assert state in ("connecting", "no-gateway")
    assert told.pop("agent") and told.pop("micropython").count(".") == 2
    assert told == {
        "board": "virtual",
        "pne_id": "lamp",
        "gateway_id": "gateway",
        "credential": "",
        "server": "",
        "groups": 0,
        "radios": ["wifi"],
        "radio_lowest": None,
        "cleared": told["cleared"],
        "update": 0,
        "slot": 0,
        "cut": 0,
        "dropped": 0,
        "empty": 0,
    }


@pytest.mark.parametrize("line", [b"keycast: end\n", b"keycast: end\r\n", b"\rkeycast: end\r", b"\x03"], ids=repr)
async def test_a_tool_asks_for_the_end_and_the_board_starts_anew(one, line):
    await one.start()
    one.type(line)
    await one.event("print", text="keycast: ended")
    assert await one.ended() == board.RESET_CODE


async def test_after_ctrl_c_the_next_start_leads_to_the_repl_and_the_one_after_it_to_the_agent(one):
    await one.start()
    one.type(b"\x03")
    assert await one.ended() == board.RESET_CODE
    one.events.clear()
    await one.start(up=False, more=HARD_RESET)
    await in_the_repl(one)
    assert not started(one)
    await one.start(more=HARD_RESET)
    one.type(b"keycast: end\n")
    assert await one.ended() == board.RESET_CODE
    await one.start(more=HARD_RESET)


TWICE = """
    import board
    def restart(to_repl):
        raise KeyboardInterrupt
    async def main(node):
        board.restart = restart
        raise KeyboardInterrupt
"""


async def test_ctrl_c_twice_does_not_lead_into_a_repl_with_a_watchdog(one, tmp_path):
    """Tools send it twice."""
    give(one, tmp_path / "app", TWICE)
    await one.start(up=False)
    await one.event("print", text="keycast: ended")
    assert await one.ended() == board.RESET_CODE
    assert WAITS not in printed(one)


async def test_starts_that_a_tool_ends_are_no_failures(one):
    for _ in range(5):
        await one.start(more=HARD_RESET)
        one.type(b"keycast: end\n")
        assert await one.ended() == board.RESET_CODE
    assert cborlite.decode(KeyStore(one.nvs).load("last"))[1] == 0


@pytest.mark.parametrize(
    "noise", [b"keycast: ending\n", b"keycast:\n", b"x" * 100_000 + b"\n", b"\xff\0\x80\n", b"{}" * 40, NOISE], ids=len
)
async def test_other_lines_are_for_the_application_or_for_nobody(one, tmp_path, noise):
    give(one, tmp_path / "app", "async def main(node):\n    print('app runs')\n")
    await one.start(up=False)
    await one.event("print", text="app runs")
    one.type(noise + b"\n")
    assert (await asked(one))["pne_id"] == "lamp"


async def test_nothing_is_lost_when_a_board_ends_in_order(tmp_path):
    async with house_of(tmp_path, 2) as house:
        lamp, other = house.boards
        version = await join(house, SG, [lamp, other])
        one = house.boards[lamp]
        await one.command("send", group=SG, data=b"one".hex())
        await house.boards[other].event("message", data=b"one".hex())
        one.type(b"keycast: end\n")
        assert await one.ended() == board.RESET_CODE
        seen = len(one.events)
        await one.start(more=HARD_RESET)
        assert (await one.command("status"))["groups"] == {SG: version}
        await one.line("keycast: running ", since=seen)
        await one.command("send", group=SG, data=b"two".hex())
        told = await house.boards[other].event("message", data=b"two".hex())
        assert told["sender"] == lamp and not told["replayable"]
        assert len(events(house, lamp, "session")) == 1  # it goes on with the session that it had


# The light


async def levels(folder: Path, wanted: str) -> None:
    """Wait until the light has been switched in this way."""
    file = folder / str(LIGHT)
    await until(lambda: file.exists() and wanted in file.read_text())


@pytest.mark.parametrize(
    ("kind", "wanted"), [("plain", "10001000"), ("inverted", "01110111"), ("rgb", "10001000")], ids=lambda each: each
)
async def test_the_light_shows_the_state_while_the_board_waits(one, tmp_path, kind, wanted):
    KeyStore(one.nvs).save("board", cborlite.encode([1, "some board", LIGHT, kind, -1, []]))
    lose(one, "prov", "wifi")
    await one.start(up=False, more={"BOARD_PINS": str(tmp_path)})
    await levels(tmp_path, wanted)


async def test_the_light_shows_the_state_of_a_running_agent(one, tmp_path):
    KeyStore(one.nvs).save("board", cborlite.encode([1, "some board", LIGHT, "plain", -1, []]))
    await one.start(more={"BOARD_PINS": str(tmp_path)}, in_range=False)
    await levels(tmp_path, "10100")
