"""A board is given its identity on its serial port: whatever fails on the way, board and gateway agree afterwards."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from dying_medium import Dying, PowerCut

from cpns import cborlite
from device_agent import pending, provisioning, unpaired
from device_agent.key_store import KeyStore
from gateway_agent.app import GatewayApp
from gateway_agent.errors import ControlUnavailable, GatewayError
from keycast.board import board_record
from keycast.board import provisioning as host
from keycast.board.faults import BoardSilent, ProvisioningFault
from keycast.board.provisioning import WantedBoard, Wifi, provision
from keycast.board.repl import BoardAnswered
from keycast.hardware.catalogue import all_boards
from keycast.provisioning.board import trust_of
from keycast.services.steering import commands
from message_plane.errors import NameTaken
from tests.unit.board_flash import Firmware, Remembering, remains
from tests.unit.test_gateway_app import opened

PASSWORD = "a password of 27 characters"
WIFI = Wifi("house", PASSWORD)
HOWS = ("absent", "torn", "whole")


class Radio:
    """What stands for `wifi.py` of a board: the generator of random numbers is good while it is on."""

    on = False


class BoardHere:
    """A board whose programs run in this process, on a medium that may lose its power."""

    def __init__(self, octets: dict[str, bytes] | None = None) -> None:
        self.medium = Dying({} if octets is None else octets, 0, "whole")
        self.is_off = False
        self.restarts = 0
        self.printed = ""
        self.programs: list[str] = []
        self._names: dict[str, Any] = {}

    @property
    def store(self) -> KeyStore:
        return KeyStore(self.medium)

    @property
    def present(self) -> provisioning.Provisioning | None:
        octets = self.store.load(provisioning.RECORD)
        return octets and provisioning.parse(octets)

    def dies(self, at: int, how: str) -> None:
        """Cut the power at a write from now on, those of the next start included."""
        self.medium = Dying(self.medium.octets, at, how)

    def power_on(self) -> None:
        """The power is back, and stays."""
        self.is_off = False
        self.dies(0, "whole")
        self.start()

    def start(self) -> None:
        """What micropython/start.py does first."""
        Radio.on = False
        self._names = {"__name__": "__main__"}
        try:
            pending.finish(self.store)
        except PowerCut:
            self.is_off = True

    def run(self, program: str) -> str:
        if self.is_off:
            raise BoardSilent.in_repl("here")
        self.programs.append(program)
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed), on_board(self.medium):
                exec(_compiled(program), self._names)
        except PowerCut:
            self.is_off = True
            raise BoardSilent.in_repl("here") from None
        except Exception as error:  # noqa: BLE001 - as the board does
            kind = type(error).__name__.replace("ModuleNotFound", "Import")  # MicroPython has the one class
            raise BoardAnswered(f"{kind}: {error}") from None
        self.printed += printed.getvalue()
        return printed.getvalue()

    def restart(self) -> None:
        self.restarts += 1
        self.start()


@functools.cache
def _compiled(text: str) -> CodeType:
    return compile(text, "<program>", "exec")


@contextlib.contextmanager
def on_board(medium: Any) -> Iterator[None]:
    """The modules that only a board has."""

    class Station:
        def switch_on(self) -> None:
            Radio.on = True

    parts: dict[str, dict[str, Any]] = {
        "nvs_store": {"NvsStore": lambda: medium},
        "wifi": {"RECORD": "wifi", "Station": Station},
    }
    before = {name: sys.modules.pop(name, None) for name in parts}
    for name, values in parts.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(values)
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


class Door:
    """The commands of a gateway in this process. `fails`: names of commands -> what they raise, once they are done."""

    def __init__(self, app: GatewayApp) -> None:
        self._commands = commands(app, None, app.observer().snapshot)
        self.app = app
        self.fails: dict[str, Exception] = {}
        self.done: list[str] = []

    def _ask(self, do: str, *arguments: Any, **named: Any) -> Any:
        value = self._commands[f"board.{do}"](*arguments, **named)
        self.done.append(do)
        if do in self.fails:
            raise self.fails[do]
        return value

    def check(self, pne_id: str, group: str | None, replace: bool) -> None:
        self._ask("check", pne_id, group, replace)

    def standing(self, ccs: bytes) -> str:
        return str(self._ask("standing", ccs.hex()))

    def register(self, ccs: bytes, group: str | None, replace: bool) -> None:
        self._ask("register", ccs.hex(), group, replace, when_heard=True)

    def withdraw(self, ccs: bytes) -> None:
        self._ask("withdraw", ccs.hex())


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[GatewayApp]:
    app = await opened(tmp_path)
    yield app
    await app.close()


@pytest.fixture
def door(app: GatewayApp) -> Door:
    return Door(app)


@pytest.fixture(autouse=True)
def radio_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers of a board are refused while its radio is off (SEC-17)."""
    machine_random = os.urandom

    def urandom(size: int) -> bytes:
        assert Radio.on, "a random number before the radio is on"
        return machine_random(size)

    monkeypatch.setattr("os.urandom", urandom)
    monkeypatch.setattr(Radio, "on", False)


def wanted(door: Door, name: str = "lamp.porch", **how: Any) -> WantedBoard:
    return WantedBoard(**{"pne_id": name, "trust": trust_of(door.app), "wifi": WIFI, **how})


def let_in(door: Door, board: BoardHere) -> bool:
    """Whether the identity that the board has is one that the gateway would talk to."""
    present = board.present
    return present is not None and bool(door.standing(present.ccs))


def make(door: Door, board: BoardHere, name: str = "lamp.porch", **how: Any) -> host.Done:
    return provision(board, door, wanted(door, name, **how), lambda words: None)


@pytest.mark.req("SEC-17", "SEC-20")
async def test_a_new_board_has_its_identity_and_only_its_public_half_has_left_it(door: Door) -> None:
    board, told = BoardHere(), list[str]()
    done = provision(board, door, wanted(door), told.append)
    present = board.present
    assert done.new and done.former is None and board.restarts == 1
    assert present is not None and (present.pne_id, present.gateway_id) == ("lamp.porch", "gw.home")
    assert door.standing(present.ccs) == "registered"
    assert board.store.load("wifi") == cborlite.encode([1, "house", PASSWORD])
    assert board.store.load(pending.RECORD) is None
    for secret in (present.private_key, present.private_key.hex().encode(), PASSWORD.encode()):
        assert secret not in board.printed.encode()
    assert PASSWORD not in repr(wanted(door)) + "".join(told)


@pytest.mark.req("SEC-17")
def test_a_key_that_is_made_before_the_radio_is_on_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The check of these tests bites: the same program with the radio switched on at the end of `begin`."""
    lines = host._PROGRAM.read_text().splitlines()
    switch = next(line for line in lines if line.startswith("    Station().switch_on()"))
    last = next(line for line in lines if "pending.begin(store, pne_id" in line)
    changed = [line for line in lines if line != switch]
    changed.insert(changed.index(last) + 1, switch)
    late = tmp_path / "late.py"
    late.write_text("\n".join(changed))
    monkeypatch.setattr(host, "_PROGRAM", late)
    board = BoardHere()
    host._define(board)
    with pytest.raises(ProvisioningFault, match="before the radio is on"):
        host._ask(board, "begin('lamp.porch', True)")


@pytest.mark.req("SEC-17", "SEC-20")
async def test_a_label_has_the_secret_that_the_board_keeps(door: Door) -> None:
    board = BoardHere()
    assert make(door, board).secret == "" and board.store.load(unpaired.LABEL) is None
    done = make(door, board, labelled=True)  # the radio is switched on for it, too
    secret = unpaired.secret(board.store, unpaired.LABEL)
    assert len(done.secret) == 16 and unpaired.shown(secret) == done.secret
    assert done.secret not in repr(done)


def test_the_constants_of_the_program_are_those_of_the_modules() -> None:
    """The files of a board have no names for them."""
    names: dict[str, Any] = {}
    with on_board(Dying({}, 0, "whole")):
        exec(host._PROGRAM.read_text(), names)
    assert (names["PRESENT"], names["PENDING"], names["WIFI"]) == (provisioning.RECORD, pending.RECORD, host.WIFI)
    assert (names["IN_FORCE"], names["SECRET_LEN"]) == (pending.IN_FORCE, unpaired.SECRET_LEN)


@pytest.mark.req("SEC-31")
async def test_a_name_that_is_taken_is_refused_before_a_key_is_made(door: Door) -> None:
    make(door, BoardHere())
    board = BoardHere()
    with pytest.raises(NameTaken, match="--replace"):
        make(door, board)
    assert board.medium.octets == {} and board.restarts == 0


async def test_the_same_command_again_gives_new_wifi_and_keeps_the_identity(door: Door) -> None:
    board = BoardHere()
    make(door, board)
    first = board.present
    done = make(door, board, wifi=Wifi("other house", ""))
    assert board.present is not None and first is not None and board.present.private_key == first.private_key
    assert not done.new and board.store.load("wifi") == cborlite.encode([1, "other house", ""])
    done = make(door, board, wifi=None)
    assert done.found.wifi == "other house" and board.store.load("wifi") == cborlite.encode([1, "other house", ""])


@pytest.mark.req("SEC-31")
async def test_a_board_that_is_another_one_is_not_made_this_one_by_mistake(door: Door) -> None:
    board = BoardHere()
    make(door, board, "lamp.hall")
    before = dict(board.medium.octets)
    with pytest.raises(ProvisioningFault, match=r"is lamp\.hall already"):
        make(door, board)
    assert board.medium.octets == before
    door.app.registrar.retire("lamp.hall")  # which is nobody any more
    assert make(door, board).former is None


async def test_a_board_without_any_wifi_is_refused_before_anything_is_done(door: Door) -> None:
    board = BoardHere()
    with pytest.raises(ProvisioningFault, match="--wifi"):
        make(door, board, wifi=None)
    assert board.medium.octets == {} and door.done == []


@pytest.mark.parametrize(
    ("name", "password"),
    [("", ""), ("x" * 33, ""), ("house", "short"), ("house", "x" * 65), ("house", "not utf-8 \udcff")],
)
def test_what_can_be_no_wifi_is_a_sentence_without_the_password(name: str, password: str) -> None:
    with pytest.raises(ProvisioningFault) as refusal:
        Wifi(name, password)
    assert not password or password not in str(refusal.value)


Scene = Callable[[Door, str], tuple[BoardHere, dict[str, Any]]]


def first_time(door: Door, name: str) -> tuple[BoardHere, dict[str, Any]]:
    return BoardHere(), {}


def once_more(door: Door, name: str) -> tuple[BoardHere, dict[str, Any]]:
    """The board has this name already, with another key, and is to get a new one."""
    board = BoardHere()
    make(door, board, name)
    return board, {"replace": True, "wifi": Wifi("other house", PASSWORD)}


def in_the_place_of_another(door: Door, name: str) -> tuple[BoardHere, dict[str, Any]]:
    make(door, BoardHere(), name)
    return BoardHere(), {"replace": True}


def with_new_wifi(door: Door, name: str) -> tuple[BoardHere, dict[str, Any]]:
    board = BoardHere()
    make(door, board, name)
    return board, {"wifi": Wifi("other house", PASSWORD)}


SCENES = pytest.mark.parametrize("scene", [first_time, once_more, in_the_place_of_another, with_new_wifi])


@pytest.mark.req("SEC-31", "SEC-33")
@SCENES
async def test_the_power_of_the_board_fails_at_any_write(door: Door, scene: Scene) -> None:
    """Before, torn and after each: the old identity with its Wi-Fi or the new one; then the same command goes on."""
    outcomes, number = [], 0
    for how in HOWS:
        dies_at, cut = 0, True
        while cut:
            dies_at, number = dies_at + 1, number + 1
            name = f"lamp.{number}"
            board, order = scene(door, name)
            old, holder = board.present, door.app.credentials.credential(name)
            old_wifi = board.store.load("wifi")
            board.dies(dies_at, how)
            cut = False
            try:
                make(door, board, name, **order)
            except BoardSilent:
                cut = True
            board.power_on()
            is_old = board.present is None or (old is not None and board.present.private_key == old.private_key)
            outcomes.append(is_old)
            if is_old:
                assert door.app.credentials.credential(name) == holder or holder is None
            if board.present is not None:
                assert let_in(door, board)
            new_wifi = order.get("wifi", WIFI).record()
            assert board.store.load("wifi") in (
                {old_wifi} if is_old and scene is not with_new_wifi else {new_wifi, old_wifi}
            )
            make(door, board, name, **order)
            assert let_in(door, board) and board.store.load(pending.RECORD) is None
            assert board.store.load("wifi") == new_wifi
        assert dies_at > 9
    assert outcomes.count(True) > 9
    assert scene is with_new_wifi or outcomes.count(False) > 9


@pytest.mark.req("SEC-31", "SEC-33")
@SCENES
@pytest.mark.parametrize("lets", range(6))
async def test_the_gateway_ends_at_any_step_of_the_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: Scene, lets: int
) -> None:
    """It is killed before its first, between two, or before its answer; it starts anew, and so does the command."""
    app = await opened(tmp_path)
    try:
        door = Door(app)
        board, order = scene(door, "lamp.porch")
        old = board.present
        left = iter(range(lets))

        def step(of: Any, what: str) -> None:
            true = getattr(of, what)

            def cut(*arguments: Any, **named: Any) -> Any:
                if next(left, None) is None:
                    raise ControlUnavailable("Nothing answers.", "Start it: keycast gateway run")
                return true(*arguments, **named)

            monkeypatch.setattr(of, what, cut)

        for of, what in (
            (app.gateway.administration, "retire_pne"),
            (app.gateway.administration, "register_pne"),
            (app.gateway.administration, "has_signing_key"),
            (app.credentials, "unregister"),
            (app.credentials, "bind"),
            (app.credentials, "name_successor"),
        ):
            step(of, what)
        door.fails["register"] = door.fails["withdraw"] = ControlUnavailable("Nothing answers.", "Start it.")
        with pytest.raises(ControlUnavailable):
            make(door, board, **order)
        monkeypatch.undo()
        monkeypatch.setattr(Radio, "on", False)
        await app.close()
        app = await opened(tmp_path)
        door = Door(app)
        assert (board.present and board.present.ccs) == (old and old.ccs)
        assert old is None or let_in(door, board)
        board.power_on()
        make(door, board, **order)
        assert let_in(door, board)
    finally:
        await app.close()


@pytest.mark.req("SEC-33")
@SCENES
async def test_what_the_gateway_refuses_leaves_both_as_they_were(door: Door, scene: Scene) -> None:
    board, order = scene(door, "lamp.porch")
    before = {name: octets for name, octets in board.medium.octets.items() if not name.startswith("seed")}
    holder = door.app.credentials.credential("lamp.porch")
    door.fails["register"] = GatewayError("It cannot.", "")
    with pytest.raises(GatewayError, match="It cannot"):
        make(door, board, **order)
    after = {name: octets for name, octets in board.medium.octets.items() if not name.startswith("seed")}
    assert after == before and door.app.credentials.credential("lamp.porch") == holder
    assert door.app.credentials.successor(entity_id="lamp.porch") is None


@pytest.mark.req("SEC-33")
@SCENES
@pytest.mark.parametrize("stage", [pending.WHOLE, None], ids=["another one", "none"])
async def test_a_board_that_has_something_else_in_its_flash_after_the_restart_is_not_let_in(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch, stage: int | None
) -> None:
    board, order = scene(door, "lamp.porch")
    old, holder = board.present, door.app.credentials.credential("lamp.porch")
    true = board.restart
    door.done.clear()

    def changed() -> None:
        true()
        if stage is None:
            pending.drop(board.store)
        else:
            _, identity, _ = pending.load(board.store)
            pending._save(board.store, (stage, identity, {"wifi": b"of another one"}))

    monkeypatch.setattr(board, "restart", changed)
    with pytest.raises(ProvisioningFault):
        make(door, board, **order)
    assert "register" not in door.done
    assert (board.present and board.present.ccs) == (old and old.ccs)
    assert door.app.credentials.credential("lamp.porch") == holder and board.store.load(pending.RECORD) is None


@pytest.mark.req("SEC-33")
@SCENES
async def test_what_was_registered_and_never_taken_on_is_gone_on_with_or_taken_back(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cable is pulled after the registration; the next try fails otherwise, and the one after it succeeds."""
    board, order = scene(door, "lamp.porch")
    old, holder = board.present, door.app.credentials.credential("lamp.porch")
    true = board.run

    def pulled(program: str) -> str:
        if program.endswith("put_in_force()\n"):
            board.is_off = True
        return true(program)

    monkeypatch.setattr(board, "run", pulled)
    with pytest.raises(BoardSilent):
        make(door, board, **order)
    monkeypatch.setattr(board, "run", true)
    board.power_on()
    assert old is None or let_in(door, board)
    with monkeypatch.context() as patch:
        patch.setattr(WantedBoard, "packed", None)  # any fault of the program, before the registration
        with pytest.raises(TypeError):
            make(door, board, **order)
    assert door.app.credentials.credential("lamp.porch") == holder
    assert (board.present and board.present.ccs) == (old and old.ccs) and board.store.load(pending.RECORD) is None
    make(door, board, **order)
    assert let_in(door, board)


@pytest.mark.req("SEC-33")
@SCENES
async def test_a_board_without_room_at_the_last_write_leaves_both_as_they_were(
    door: Door, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, order = scene(door, "lamp.porch")
    old, holder = board.present, door.app.credentials.credential("lamp.porch")

    def full(store: KeyStore) -> None:
        raise OSError(28, "no room")

    with monkeypatch.context() as patch:
        patch.setattr(pending, "put_in_force", full)
        with pytest.raises(ProvisioningFault, match="no room"):
            make(door, board, **order)
    board.power_on()
    assert (board.present and board.present.ccs) == (old and old.ccs)
    assert door.app.credentials.credential("lamp.porch") == holder
    assert old is None or let_in(door, board)
    make(door, board, **order)
    assert let_in(door, board)


@pytest.mark.req("SEC-04")
@pytest.mark.parametrize("copies", ["0", "1", "01"])
async def test_damaged_copies_of_the_identity_are_said(door: Door, copies: str) -> None:
    board = BoardHere()
    make(door, board)
    for copy in copies:
        board.medium.octets[provisioning.RECORD + copy] = b"\xff" * 100
    found = host.look(board)
    if len(copies) == 1:
        assert found.repaired == 1 and found.damaged == () and found.present is not None
        return
    assert found.present is None and found.damaged == ("prov",)
    with pytest.raises(NameTaken, match="--replace"):
        make(door, board)
    make(door, board, replace=True)
    assert let_in(door, board)


@pytest.mark.req("CPNS-GKM-77", "SEC-19")
async def test_nothing_of_an_identity_that_was_replaced_is_in_the_flash(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key, its Wi-Fi password and the secret of its label; and nothing of the pending record is left over."""
    firmware, board = Firmware(monkeypatch), BoardHere()
    board.medium = medium = Remembering(firmware.store())  # type: ignore[assignment]
    board.start = lambda: pending.finish(board.store)  # type: ignore[method-assign, assignment]
    former = make(door, board, labelled=True)
    present, label = board.present, unpaired.secret(board.store, unpaired.LABEL)
    assert present is not None and former.new
    old = [present.private_key, PASSWORD.encode()]
    assert remains(firmware.octets, old, [])
    make(door, board, replace=True, wifi=Wifi("house", "another one that is as long"))
    assert not remains(firmware.octets, medium.values, firmware.held())
    assert not remains(firmware.octets, old, []) and label not in bytes(firmware.octets)


async def test_octets_that_are_damaged_on_the_way_are_noticed(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    board = BoardHere()
    true = board.run

    def noisy(program: str) -> str:
        return true(program.replace(PASSWORD.encode().hex(), PASSWORD.upper().encode().hex()))

    monkeypatch.setattr(board, "run", noisy)
    with pytest.raises(ProvisioningFault, match="damaged on its way"):
        make(door, board)
    assert board.present is None and not door.app.credentials.registered()


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "nothing",
        "[]",
        "7",
        "null",
        '{"present": 5}',
        "[" * 100_000,
        '{"present": ["x", 1, 2], "pending": 0, "wifi": 1}',
    ],
)
async def test_an_answer_of_another_form_is_a_sentence(door: Door, answer: str) -> None:
    class Strange(BoardHere):
        def run(self, program: str) -> str:
            return f"something printed before\n{answer}\n"

    with pytest.raises(ProvisioningFault, match="cannot be read"):
        make(door, Strange())


async def test_what_the_tools_know_of_the_board_comes_with_its_identity(door: Door) -> None:
    board = BoardHere()
    record = board_record.pack("esp32-devkitc", all_boards()["esp32-devkitc"])
    provision(board, door, wanted(door, board=record), lambda words: None)
    assert board.store.load("board") == record


async def test_a_board_with_old_files_is_told_what_to_do(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("device_agent.pending")
    monkeypatch.setitem(sys.modules, "device_agent.pending", None)
    with pytest.raises(ProvisioningFault, match="keycast board flash"):
        make(door, BoardHere())
