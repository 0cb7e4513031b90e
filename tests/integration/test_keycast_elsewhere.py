"""`--at`: commands of groups and Servers go to a Server elsewhere over REST, with the same answers and refusals."""

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.control import ControlSocket
from gateway_agent.control_client import SOCKET_FILE
from http_door.tls import make_self_signed
from keycast.free_ports import free_port
from keycast.services.server_steering import server_commands
from keycast.terminal.elsewhere import AT_VARIABLE, CA_VARIABLE, TOKEN_VARIABLE
from tests.integration.rest_world import SG, RestWorld, rest_world
from tests.typed_command import keycast
from tests.unit.test_keycast_steering import back_up


class Elsewhere:
    """A Server that is reached over TLS, and over the control socket of its folder as well."""

    def __init__(self, world: RestWorld, folder: Path, certificate: Path) -> None:
        self.world = world
        self.folder = folder
        self.token_file = folder / "token"
        self.token_file.touch(mode=0o600)
        self.hold("admin")
        self.options = ("--at", world.rest.urls[0], "--token-file", str(self.token_file), "--ca", str(certificate))

    def hold(self, scope: str) -> None:
        self.token_file.write_text(self.world.token[scope] + "\n")

    async def typed(self, *words: str) -> Any:
        """The JSON that the command prints; an answer comes with exit code 0, alarms apart."""
        run = await asyncio.to_thread(keycast, *words, *self.options, "--json")
        assert run.stderr == ""
        return json.loads(run.stdout)

    async def refused(self, *words: str) -> str:
        told = await self.typed(*words)
        return str(told["code"])


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Elsewhere]:
    certificate, key = tmp_path / "tls_certificate.pem", tmp_path / "tls_key.pem"
    make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    async with rest_world(tmp_path, tls_certificate=certificate, tls_key=key) as world:
        control = ControlSocket(tmp_path / SOCKET_FILE, server_commands(world.server, back_up))
        await control.open()
        yield Elsewhere(world, tmp_path, certificate)
        await control.close()


async def test_a_group_from_its_making_to_its_end(elsewhere: Elsewhere) -> None:
    view = await elsewhere.typed("group", "create", "home/doors", "--open-to", "home", "--period", "3600")
    assert (view["sg_id"], view["open_to"], view["period_s"]) == ("home/doors", ["home"], 3600)
    policy = await elsewhere.typed("group", "policy", "home/doors", "--batching", "1", "--no-rekey-on-join")
    assert policy == {"sg_id": "home/doors", "period_s": 3600, "rekey_on_join": False, "batching_s": 1.0}
    assert (await elsewhere.typed("group", "update", "home/doors"))["version"] == 2
    assert [each["sg_id"] for each in await elsewhere.typed("group", "list")] == ["home/doors", SG]
    await elsewhere.typed("group", "delete", "home/doors")
    assert await elsewhere.refused("group", "delete", "home/doors") == "unknown"


async def test_gateways_boards_and_the_log(elsewhere: Elsewhere) -> None:
    credential = elsewhere.world.credential("gw.cabin", "gateway")
    await elsewhere.typed("server", "add-gateway", "gw.cabin", "cabin", credential)
    await elsewhere.typed("server", "admit-board", "door", "cabin")
    await elsewhere.typed("group", "permit", SG, "door")
    assert (await elsewhere.typed("group", "expel", SG, "door"))["was"] == "permitted"
    await elsewhere.typed("server", "block-gateway", "gw.cabin")
    assert await elsewhere.typed("server", "alarms") == []
    assert (await elsewhere.typed("server", "credential"))["credential"]
    entries = await elsewhere.typed("server", "audit", "--limit", "2")
    assert [each["command"] for each in entries] == ["server.block-gateway", "group.expel"]
    assert {each["operator"] for each in entries} == {"admin.operator"}


async def test_the_same_commands_over_the_socket_are_of_the_user_of_this_machine(elsewhere: Elsewhere) -> None:
    import getpass

    state = ("--state", str(elsewhere.folder))
    await asyncio.to_thread(keycast, "group", "update", SG, *state)
    shown = await asyncio.to_thread(keycast, "server", "audit", *state)
    assert shown.returncode == 0 and f"group.update sg_id={SG}" in shown.stdout
    (entry,) = elsewhere.world.server.audit.page(10)
    assert (entry.operator, entry.door, entry.result) == (getpass.getuser(), "socket", "done")


async def test_tokens_are_made_on_the_machine_of_the_server(elsewhere: Elsewhere) -> None:
    state = ("--state", str(elsewhere.folder), "--json")
    made = await asyncio.to_thread(keycast, "server", "token", "add", "bob", "--scope", "read", *state)
    elsewhere.token_file.write_text(json.loads(made.stdout)["token"])
    assert [each["sg_id"] for each in await elsewhere.typed("group", "list")] == [SG]
    assert await elsewhere.refused("group", "update", SG) == "not-permitted"
    listed = await asyncio.to_thread(keycast, "server", "token", "list", *state)
    assert "bob" in {each["operator"] for each in json.loads(listed.stdout)}
    await asyncio.to_thread(keycast, "server", "token", "revoke", "bob", *state)
    assert await elsewhere.refused("group", "list") == "not-authorised"


async def test_what_only_the_machine_itself_can_do_is_refused(elsewhere: Elsewhere) -> None:
    assert await elsewhere.refused("server", "restore", "server.backup") == "not-allowed"
    assert await elsewhere.refused("group", "list", "--state", str(elsewhere.folder)) == "not-allowed"


async def test_a_server_that_cannot_be_trusted_or_is_not_there(elsewhere: Elsewhere) -> None:
    at, url, *rest = elsewhere.options
    run = await asyncio.to_thread(keycast, "group", "list", at, url, *rest[:2])
    assert run.returncode == 1 and "--ca" in run.stderr
    run = await asyncio.to_thread(keycast, "group", "list", at, url.replace("https", "http"), *rest)
    assert run.returncode == 1 and "Nothing answers" in run.stderr
    run = await asyncio.to_thread(keycast, "group", "list", at, "http://192.0.2.1", *rest)
    assert run.returncode == 1 and "https" in run.stderr
    elsewhere.token_file.chmod(0o644)
    run = await asyncio.to_thread(keycast, "group", "list", *elsewhere.options)
    assert run.returncode == 1 and "chmod 600" in run.stderr


async def test_a_request_whose_answer_is_lost_is_carried_out_once(
    elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keycast.services import rest_client

    exchange, lost = rest_client._exchange, []

    def losing(*what: Any) -> tuple[int, bytes]:
        answer = exchange(*what)
        if not lost:
            lost.append(answer)
            raise ConnectionResetError
        return answer

    monkeypatch.setattr(rest_client, "_exchange", losing)
    server = rest_client.ServerElsewhere(
        elsewhere.options[1], elsewhere.token_file, elsewhere.folder / "tls_certificate.pem"
    )
    version = await asyncio.to_thread(rest_client.ask, server, "group.update", {"sg_id": SG})
    assert lost and version == elsewhere.world.server.show_group(SG).version == 2


async def test_the_environment_names_the_server_unless_a_person_names_another(
    elsewhere: Elsewhere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip((AT_VARIABLE, TOKEN_VARIABLE, CA_VARIABLE), elsewhere.options[1::2], strict=True):
        monkeypatch.setenv(name, value)
    run = await asyncio.to_thread(keycast, "group", "list", "--json")
    assert [each["sg_id"] for each in json.loads(run.stdout)] == [SG]
    run = await asyncio.to_thread(keycast, "group", "list", "--state", tmp_path / "none")
    assert run.returncode == 1 and str(tmp_path / "none") in run.stderr
    monkeypatch.delenv(TOKEN_VARIABLE)
    run = await asyncio.to_thread(keycast, "group", "list")
    assert run.returncode == 1 and "--token-file" in run.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rest", "8445"), "0.0.0.0:8445"),
        (("--rest", "localhost:8445"), "IP addresses"),
        (("--rest", "127.0.0.1:99999"), "port"),
        (("--rest", "0.0.0.0:0"), "which only loopback can do without"),
        (("--rest", "127.0.0.1:0", "--rest-files", "nowhere"), "nowhere"),
    ],
)
def test_an_address_for_rest_that_cannot_be_meant(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    where = ("--state", tmp_path / "state", "--listen", "127.0.0.1", "--port", free_port())
    run = keycast("server", "run", *where, *options, folder=tmp_path)
    assert run.returncode == (1 if said == "nowhere" else 78) and said in run.stderr and "Traceback" not in run.stderr
