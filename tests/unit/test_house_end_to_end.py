"""What a board and its CPNS Server are told of each other: credentials, and an Entity User Key that is drawn here."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import device_world
import pytest
from typer.testing import CliRunner

from cpns.errors import NotAllowed
from cpns.fingerprint import fingerprint
from device_agent import provisioning
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from gateway_agent.app import GatewayApp
from gateway_agent.uplinks.udp import UdpUplinkSection
from keycast.commands.board import end_to_end_options, provision
from keycast.program import program
from keycast.provisioning import end_to_end
from keycast.provisioning.board import flash_script, told_trust, trust_of
from keycast.services.trusted_server import trust_server
from keycast.terminal import options
from message_plane import credentials
from private_store.errors import PrivateStoreError
from tests.unit.test_gateway_app import SilentServer, config

POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
GATEWAY_POINT = bytes.fromhex("7cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978")
SERVER = credentials.of("server.local", "server", POINT)


def test_a_credential_is_typed_or_stands_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "server.credential"
    file.write_text(f"{SERVER.ccs.hex()}\n")
    assert end_to_end.server_credential(SERVER.ccs.hex()) == SERVER == end_to_end.server_credential(str(file))


@pytest.mark.parametrize("text", ["", "nothing", "0", "/dev/null", "a file\0"])
def test_other_text_is_refused_with_the_command_that_prints_one(text: str) -> None:
    with pytest.raises(NotAllowed, match="keycast server credential"):
        end_to_end.server_credential(text)


def test_a_credential_that_is_damaged_is_refused() -> None:
    with pytest.raises(NotAllowed, match="keycast server credential"):
        end_to_end.server_credential(SERVER.ccs.hex()[:-2])


@pytest.mark.req("SEC-25")
def test_an_entity_user_key_is_new_each_time_and_private(tmp_path: Path) -> None:
    first, second = (end_to_end.draw_key(tmp_path / name) for name in ("a", "b"))
    assert len(first) == len(second) == 16 and first != second
    assert end_to_end.read_key(tmp_path / "a") == first
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    key = end_to_end.draw_key(tmp_path / "a")
    with pytest.raises(PrivateStoreError, match="exists already"):
        end_to_end.draw_key(tmp_path / "a")
    assert end_to_end.read_key(tmp_path / "a") == key


@pytest.mark.parametrize("octets", [b"", b"\xff\xfe", b"00" * 15, b"00" * 17, b"x" * 32])
def test_a_file_without_such_a_key_is_refused(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(NotAllowed, match="no Entity User Key"):
        end_to_end.read_key(path)


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    end_to_end.draw_key(tmp_path / "a")
    (tmp_path / "a").chmod(0o644)
    with pytest.raises(PrivateStoreError, match="chmod 600"):
        end_to_end.read_key(tmp_path / "a")


def test_the_command_for_the_server_can_be_typed_as_it_stands() -> None:
    told = end_to_end.admission("lamp.porch", "my home", b"\x01\x02", Path("a key"))
    state = "--state keycast-server-state"
    assert told == (
        f"keycast server admit-board lamp.porch 'my home' --credential 0102 --entity-user-key 'a key' {state}"
    )
    assert end_to_end.admission("lamp", "home", b"\x01").endswith(f"home --credential 01 {state}")


async def test_a_board_learns_the_server_of_its_gateway_only_where_that_is_elsewhere(tmp_path: Path) -> None:
    embedded = await GatewayApp.open(config(tmp_path / "a"), SilentServer())
    try:
        assert "server_credential" not in embedded.trust() and trust_of(embedded).server_ccs == b""
    finally:
        await embedded.close()
    elsewhere = config(tmp_path / "b").model_copy(update={"uplink": UdpUplinkSection(host="192.0.2.1")})
    trust_server(elsewhere, SERVER)
    app = await GatewayApp.open(elsewhere, SilentServer())
    try:
        assert trust_of(app).server_ccs == SERVER.ccs
        assert told_trust(app.trust(), "").server_ccs == SERVER.ccs
    finally:
        await app.close()


async def test_no_server_is_told_of_that_the_gateway_does_not_know_yet(tmp_path: Path) -> None:
    elsewhere = config(tmp_path).model_copy(update={"uplink": UdpUplinkSection(host="192.0.2.1")})
    app = await GatewayApp.open(elsewhere, SilentServer())
    try:
        assert trust_of(app).server_ccs == b""
    finally:
        await app.close()


@pytest.mark.req("SEC-25")
def test_the_script_for_a_flash_puts_what_belongs_to_the_identity_in_force_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before it: what the former identity had is erased."""
    world = device_world.World()
    module = ModuleType("nvs_store")
    module.NvsStore = lambda: world.medium  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvs_store", module)
    identity = device_world.identity("gw")
    identity.private_key = bytes(31) + b"\x09"
    exec(flash_script({"sess": b"of the new one", provisioning.RECORD: identity.pack()}), {})
    assert KeyStore(world.medium).load("sess") == b"of the new one"


class Gateway:
    """What answers the command: a gateway that may know a CPNS Server elsewhere, and refuses boards called `taken`."""

    def __init__(self, server: bytes) -> None:
        self.registered: list[str] = []
        self._server = {"server_credential": server.hex()} if server else {}

    def ask(self, config: Path, state: Path | None, do: str, /, **arguments: Any) -> Any:
        if do == "board.list":
            return []
        if do == "trust":
            own = credentials.of("gw.home", "gateway", GATEWAY_POINT).ccs.hex()
            told = {"credential": own, "signing_key": "11" * 64, "signing_epoch": 1, "pn": "home", "address": ""}
            return told | self._server
        assert do == "board.register"
        self.registered.append(arguments["credential"])
        if "taken" in credentials.parse(bytes.fromhex(arguments["credential"]), "pne").entity_id:
            options.refuse("the name is taken", "name-taken")
        return None


def typed(monkeypatch: pytest.MonkeyPatch, gateway: Gateway, *words: str) -> Any:
    monkeypatch.setattr(provision, "ask", gateway.ask)
    return CliRunner().invoke(program(["board"]), ["board", "provision", *words], env={"COLUMNS": "300"})


@pytest.mark.req("SEC-25")
def test_a_record_that_is_made_here_ends_with_the_line_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, key_file = tmp_path / "lamp.py", tmp_path / "lamp.euk"
    words = ("lamp", "-o", str(out), "--entity-user-key", str(key_file))
    gateway = Gateway(SERVER.ccs)
    run = typed(monkeypatch, gateway, *words)
    assert run.exit_code == 0, run.output
    key = end_to_end.read_key(key_file)
    assert key.hex() not in run.output and "trusts the CPNS Server" not in run.output
    line = end_to_end.admission("lamp", "home", bytes.fromhex(gateway.registered[0]), key_file)
    assert run.output.strip().endswith(line)
    assert entity_user_keys.pack(key).hex() in out.read_text() and SERVER.ccs.hex() not in out.read_text()


@pytest.mark.req("SEC-25")
def test_a_board_may_have_both_a_server_and_a_key_until_its_first_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, key_file = tmp_path / "lamp.py", tmp_path / "lamp.euk"
    both = ("--entity-user-key", str(key_file), "--server-credential", SERVER.ccs.hex())
    run = typed(monkeypatch, Gateway(b""), "lamp", "-o", str(out), *both)
    assert fingerprint(SERVER.ccs) in run.output and str(key_file) in run.output
    assert end_to_end.read_key(key_file).hex() in out.read_text() and SERVER.ccs.hex() in out.read_text()


def test_a_server_that_is_named_counts_and_not_that_of_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "server.credential", credentials.of("server.far", "server", POINT)
    file.write_text(other.ccs.hex())
    named = ("--server-credential", str(file), "--json")
    run = typed(monkeypatch, Gateway(SERVER.ccs), "lamp", "-o", str(tmp_path / "lamp.record"), *named)
    assert json.loads(run.output)["server_fingerprint"] == fingerprint(other.ccs)
    record = provisioning.parse((tmp_path / "lamp.record").read_bytes())
    assert record.server_ccs == other.ccs and json.loads(run.output)["credential"] == record.ccs.hex()


def test_without_server_and_key_the_command_says_nothing_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = typed(monkeypatch, Gateway(b""), "lamp", "-o", str(tmp_path / "lamp.record"))
    assert run.exit_code == 0 and "admit-board" not in run.output and "Server" not in run.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("lamp", "-o", "{}/lamp.record", "--entity-user-key", "{}/new"), "ends in .py"),
        (("--csv", "{}/boards.csv", "--entity-user-key", "{}/new"), "one of its own"),
        (("lamp", "-o", "{}/lamp.py", "--server-credential", "nothing"), "keycast server credential"),
        (("lamp", "-o", "{}/lamp.py", "--entity-user-key", "{}/there"), "exists already"),
        (("taken", "-o", "{}/lamp.py", "--entity-user-key", "{}/new"), "taken"),
        (("lamp", "-o", "{}/there", "--entity-user-key", "{}/new"), "ends in .py"),
        (("lamp", "-o", "{}/there.py", "--entity-user-key", "{}/new"), "exists already"),
    ],
)
def test_a_refused_command_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    there = {"there": "what was there", "there.py": "it, too"}
    for name, text in there.items():
        (tmp_path / name).write_text(text)
    run = typed(monkeypatch, Gateway(SERVER.ccs), *(word.format(tmp_path) for word in words))
    assert run.exit_code == 1 and told in run.output, run.output
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == there


def test_a_person_is_told_if_the_board_keeps_another_server_than_that_of_the_gateway() -> None:
    other = credentials.of("server.far", "server", POINT).ccs
    (told,) = end_to_end_options.kept_lines("lamp", SERVER.ccs, other)
    assert fingerprint(other) in told and "--server-credential" in told
    for server, of_gateway in ((SERVER.ccs, SERVER.ccs), (b"", other), (SERVER.ccs, b"")):
        assert end_to_end_options.kept_lines("lamp", server, of_gateway) == []
