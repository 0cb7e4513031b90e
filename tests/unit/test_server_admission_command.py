"""What a person types at a CPNS Server about a board of end-to-end groups: its credential, its key, its end."""

import inspect
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cpns.errors import CpnsError, NotAllowed, Unknown
from cpns.fingerprint import fingerprint
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.commands import server as server_command
from keycast.program import program
from keycast.provisioning import end_to_end
from keycast.services.server_steering import server_commands
from message_plane.identity import OwnIdentity
from tests.unit.test_keycast_steering import back_up

CCS = "a2026573657276"
ADMIT = "server admit-board lamp home"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the running Server was asked to do."""
    questions: list[tuple[str, dict[str, Any]]] = []

    def ask(config: object, state: object, do: str, /, **arguments: Any) -> str:
        questions.append((do, arguments))
        return CCS

    monkeypatch.setattr(server_command, "ask", ask)
    return questions


def typed(*words: str) -> Result:
    return CliRunner().invoke(program(list(words)), list(words))


def test_the_credential_alone_is_on_standard_output_and_its_fingerprint_beside(asked: list[Any]) -> None:
    run = typed("server", "credential")
    assert run.stdout == f"{CCS}\n" and fingerprint(bytes.fromhex(CCS)) in run.stderr
    run = typed("server", "credential", "--json")
    told = {"credential": CCS, "server_fingerprint": fingerprint(bytes.fromhex(CCS))}
    assert json.loads(run.stdout) == told and run.stderr == ""


def test_a_board_is_admitted_with_what_its_provisioning_printed(asked: list[Any], tmp_path: Path) -> None:
    key = end_to_end.draw_key(tmp_path / "lamp key")
    usual = {"pne_id": "lamp", "pn_id": "home", "credential": "", "entity_user_key": "", "replace": False}
    plain = typed(*ADMIT.split())
    assert plain.output == "lamp belongs to home.\n"
    words = [*ADMIT.split(), "--credential", CCS, "--entity-user-key", str(tmp_path / "lamp key"), "--replace"]
    run = typed(*words)
    assert run.exit_code == 0 and fingerprint(bytes.fromhex(CCS)) in run.output
    assert f"shred -u '{tmp_path}/lamp key'" in run.output and key.hex() not in run.output
    more = {"credential": CCS, "entity_user_key": key.hex(), "replace": True}
    assert asked == [("server.admit-board", usual), ("server.admit-board", usual | more)]


@pytest.mark.req("SEC-17", "SEC-25")
@pytest.mark.parametrize("content", [b"", b"00" * 15, b"00" * 17, b"no key", b"\xff" * 16, None])
def test_a_file_without_a_key_and_one_that_others_can_read_is_refused_before_anything_is_asked(
    asked: list[Any], tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"00" * 16 if content is None else content)
    file.chmod(0o644 if content is None else 0o600)
    run = typed(*ADMIT.split(), "--entity-user-key", str(file))
    assert run.exit_code == 1 and str(file) in run.stderr and asked == []
    run = typed(*ADMIT.split(), "--entity-user-key", str(tmp_path / "none"))
    assert run.exit_code == 1 and asked == []


# At the Server


class Desk:
    """A Server on its own that serves the PN home through gw.home, and its commands."""

    def __init__(self, server: CpnsServer, folder: Path) -> None:
        self.server = server
        self._commands = server_commands(server, back_up)
        self._folder = folder

    async def ask(self, do: str, **arguments: Any) -> Any:
        value = self._commands[do](**arguments)
        return await value if inspect.isawaitable(value) else value

    def credential(self, name: str, role: str = "pne") -> str:
        return OwnIdentity.create(self._folder / f"{name}.{role}.key", name, role).credential.ccs.hex()


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    config = ServerConfig(id="cpns.example", listen=["127.0.0.1"], port=0)
    server = await CpnsServer.open(tmp_path / "server", config)
    desk = Desk(server, tmp_path)
    await desk.ask(
        "server.add-gateway", gateway_id="gw.home", pn_id="home", credential=desk.credential("gw.home", "gateway")
    )
    yield desk
    await server.close()


@pytest.mark.parametrize(("words", "form"), [("", None), ("--form xml", "xml"), ("--form cbor", "cbor")])
def test_the_form_of_messages_to_a_gateway_is_named_or_left_to_the_server(
    asked: list[Any], words: str, form: str | None
) -> None:
    run = typed("server", "add-gateway", "gw.home", "home", CCS, *words.split())
    assert run.exit_code == 0 and asked[0][1]["form"] == form
    assert typed("server", "add-gateway", "gw.home", "home", CCS, "--form", "json").exit_code == 2


async def test_a_new_gateway_is_sent_xml_and_one_that_is_known_keeps_its_form(desk: Desk) -> None:
    attic = {"gateway_id": "gw.attic", "pn_id": "attic", "credential": desk.credential("gw.attic", "gateway")}

    async def form_after(**more: Any) -> str:
        await desk.ask("server.add-gateway", **attic, **more)
        return next(each.form for each in desk.server.gateways() if each.gateway_id == "gw.attic")

    assert await form_after() == "xml"
    assert await form_after(form="cbor") == "cbor"
    assert await form_after(is_open=True) == "cbor"
    with pytest.raises(NotAllowed, match="cbor or xml"):
        await form_after(form="json")


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize(
    ("more", "kind", "named"),
    [
        ({"credential": "xyz"}, NotAllowed, "copy the whole line"),
        ({"credential": "0"}, NotAllowed, "copy the whole line"),
        ({"credential": "ff"}, NotAllowed, "copy the whole line"),
        ({"credential": "of door"}, NotAllowed, "that of door"),
        ({"entity_user_key": "xyz"}, NotAllowed, "hexadecimal"),
        ({"entity_user_key": "00" * 15}, NotAllowed, "16 octets"),
        ({"entity_user_key": "00" * 17}, NotAllowed, "16 octets"),
        ({"pn_id": "hme", "entity_user_key": "00" * 16}, Unknown, "'home'"),
        ({"pne_id": "a lamp", "entity_user_key": "00" * 16}, NotAllowed, "without blanks"),
        ({"pne_id": "gw.home", "entity_user_key": "00" * 16}, NotAllowed, "name of a PN GW"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_changes_nothing(
    desk: Desk, more: dict[str, str], kind: type[CpnsError], named: str
) -> None:
    if more.get("credential") == "of door":
        more = {"credential": desk.credential("door")}
    with pytest.raises(kind) as refusal:
        await desk.ask("server.admit-board", **{"pne_id": "lamp", "pn_id": "home"} | more)
    assert named in str(refusal.value)
    assert desk.server.pnes() == {} and desk.server._entity_user_keys.of("lamp") is None


async def test_a_board_is_admitted_in_steps_and_retired_by_its_name(desk: Desk) -> None:
    lamp: dict[str, Any] = {"pne_id": "lamp", "pn_id": "home"}
    await desk.ask("server.admit-board", **lamp)
    await desk.ask("server.admit-board", **lamp, credential=desk.credential("lamp"))
    await desk.ask("server.admit-board", **lamp, entity_user_key="01" * 16)
    with pytest.raises(NotAllowed, match="--replace"):
        await desk.ask("server.admit-board", **lamp, entity_user_key="02" * 16)
    await desk.ask("server.admit-board", **lamp, entity_user_key="02" * 16, replace=True)
    assert desk.server._entity_user_keys.of("lamp").current == b"\2" * 16  # type: ignore[union-attr]
    with pytest.raises(Unknown, match="'lamp'"):
        await desk.ask("server.retire-board", pne_id="lmp")
    await desk.ask("server.retire-board", pne_id="lamp")
    assert desk.server._entity_user_keys.of("lamp") is None and desk.server.pnes() == {"lamp": "home"}
