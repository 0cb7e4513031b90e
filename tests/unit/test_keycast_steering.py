"""A mistyped name is refused in words, with the nearest known name; so is a command that has been carried out
already."""

import inspect
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cpns import messages, numbers
from cpns.errors import CpnsError, NotAllowed, NotMember, Unknown
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection
from gateway_agent.errors import Refused
from gateway_agent.radios.broadcast_section import BroadcastSection
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.errors import StoreFailed
from key_servers.known_names import nearest
from keycast.provisioning.board import Trust, new_board
from keycast.services.home import open_home
from keycast.services.server_steering import server_commands
from keycast.services.steering import commands, server_facts
from message_plane import credentials

SG = "home/lights"


class Home:
    """A gateway with its Server, two boards that are let in, one of them a member of home/lights."""

    def __init__(self, app: GatewayApp, server: CpnsServer) -> None:
        self.app, self.server = app, server
        self._commands = commands(app, server, app.observer(partial(server_facts, server)).snapshot)
        told = app.trust()
        self._trust = Trust(
            credentials.parse(bytes.fromhex(str(told["credential"])), "gateway"),
            bytes.fromhex(str(told["signing_key"])),
            int(told["signing_epoch"]),
            "home",
            str(told["address"]),
        )

    async def ask(self, do: str, **arguments: Any) -> Any:
        value = self._commands[do](**arguments)
        return await value if inspect.isawaitable(value) else value

    async def let_in(self, pne_id: str, **how: Any) -> None:
        _, credential = new_board(pne_id, self._trust)
        await self.ask("board.register", credential=credential.ccs.hex(), **how)

    async def join(self, pne_id: str) -> None:
        fields = {messages.PNE_ID: pne_id, messages.SG_ID: SG, messages.PN_ID: "home"}
        answer = await self.server.handle("gw", messages.encode(numbers.JOIN_REQUEST, fields))
        assert messages.decode(answer)[1][messages.RESULT] == numbers.RESULT_SUCCESS


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    config = GatewayConfig(
        gateway=GatewaySection(id="gw", pn="home", state_dir=tmp_path / "state"),
        message_plane=MessagePlaneSection.model_construct(listen=["127.0.0.1"], port=0, discovery=False),
        broadcast=BroadcastSection(interfaces=[]),
    )
    async with open_home(config) as opened:
        assert opened.server is not None
        home = Home(opened.app, opened.server)
        await home.ask("group.create", sg_id=SG, open_to=["home"])
        await home.let_in("lamp.porch")
        await home.let_in("lamp.hall")
        await home.join("lamp.hall")
        yield home


@pytest.mark.parametrize(
    ("do", "arguments", "kind", "named"),
    [
        ("group.permit", {"sg_id": SG, "pne_id": "lamp.prch"}, Unknown, "'lamp.porch'"),
        ("group.permit", {"sg_id": SG, "pne_id": "fridge"}, Unknown, "keycast server admit-board"),
        ("group.permit", {"sg_id": SG, "pne_id": ""}, Unknown, "board"),
        ("group.permit", {"sg_id": SG, "pne_id": "lamp.hall"}, NotAllowed, "member of home/lights already"),
        ("group.permit", {"sg_id": "home/light", "pne_id": "lamp.porch"}, Unknown, "'home/lights'"),
        ("group.expel", {"sg_id": SG, "pne_id": "Lamp.Hall"}, NotMember, "'lamp.hall'"),
        ("group.expel", {"sg_id": SG, "pne_id": "lamp.porch"}, NotMember, "no member"),
        ("group.expel", {"sg_id": "home/lihgts", "pne_id": "lamp.hall"}, Unknown, "'home/lights'"),
        ("group.show", {"sg_id": "home/lihgts"}, Unknown, "'home/lights'"),
        ("group.update", {"sg_id": "home/lihgts"}, Unknown, "'home/lights'"),
        ("group.delete", {"sg_id": "home/lihgts"}, Unknown, "'home/lights'"),
        ("group.open", {"sg_id": "home/lihgts", "pn_id": "home"}, Unknown, "'home/lights'"),
        ("group.open", {"sg_id": SG, "pn_id": "hme"}, Unknown, "'home'"),
        ("group.create", {"sg_id": "bad name"}, NotAllowed, "without blanks"),
        ("group.create", {"sg_id": ""}, NotAllowed, "without blanks"),
        ("group.create", {"sg_id": "home/doors", "open_to": ["hme"]}, Unknown, "'home'"),
        ("group.create", {"sg_id": "home/doors", "period_s": -60}, NotAllowed, "at least 60"),
        ("group.create", {"sg_id": "home/doors", "period_s": 10**30}, NotAllowed, "at most"),
        ("group.create", {"sg_id": "home/doors", "protection": "seald"}, NotAllowed, "sealed"),
        ("group.create", {"sg_id": SG}, NotAllowed, "already"),
        ("server.dismiss-alarm", {"kind": "nonsense"}, Unknown, "'nonsense'"),
        ("server.admit-board", {"pne_id": "new", "pn_id": "hme"}, Unknown, "'home'"),
        ("server.admit-board", {"pne_id": "a lamp", "pn_id": "home"}, NotAllowed, "without blanks"),
        ("server.move-board", {"pne_id": "lamp.hal", "pn_id": "home"}, Unknown, "'lamp.hall'"),
        ("server.move-board", {"pne_id": "lamp.hall", "pn_id": "home"}, NotAllowed, "already"),
        ("server.confirm-members", {"sg_id": SG}, NotAllowed, "not held"),
        ("server.confirm-members", {"sg_id": SG, "expel": ["lamp.hal"]}, NotMember, "'lamp.hall'"),
        ("board.retire", {"pne_id": "lamp.hal"}, Unknown, "'lamp.hall'"),
        ("board.release", {"pne_id": "lamp.hal"}, Unknown, "'lamp.hall'"),
        ("board.release", {"pne_id": "lamp.hall"}, NotAllowed, "not held"),
        ("board.pair", {"pne_id": "a lamp", "secret": "A" * 16}, NotAllowed, "without blanks"),
    ],
)
async def test_a_typing_error_is_refused_and_changes_nothing(
    home: Home, do: str, arguments: dict[str, Any], kind: type[CpnsError], named: str
) -> None:
    before = home.server.list_groups(), await home.ask("board.list")
    with pytest.raises(kind) as refusal:
        await home.ask(do, **arguments)
    assert named in str(refusal.value)
    after = home.server.list_groups(), await home.ask("board.list")
    assert [view.members for view in after[0]] == [view.members for view in before[0]]
    assert [view.sg_id for view in after[0]] == [SG] and len(after[1]) == len(before[1])


async def test_a_place_near_a_group_that_does_not_exist_lets_nobody_in(home: Home) -> None:
    with pytest.raises(Unknown, match="home/lights"):
        await home.let_in("lamp.new", group="home/lihgts")
    assert [board["pne_id"] for board in await home.ask("board.list")] == ["lamp.hall", "lamp.porch"]
    await home.let_in("lamp.new", group=SG)


async def test_what_has_been_done_is_not_done_again(home: Home) -> None:
    assert await home.ask("group.expel", sg_id=SG, pne_id="lamp.hall") == "member"
    with pytest.raises(NotMember, match="already"):
        await home.ask("group.expel", sg_id=SG, pne_id="lamp.hall")
    await home.ask("group.permit", sg_id=SG, pne_id="lamp.hall")
    assert await home.ask("group.expel", sg_id=SG, pne_id="lamp.hall") == "permitted"
    await home.ask("board.retire", pne_id="lamp.porch")
    with pytest.raises(Unknown, match="no board"):
        await home.ask("board.retire", pne_id="lamp.porch")
    await home.ask("group.delete", sg_id=SG)
    with pytest.raises(Unknown, match=SG):
        await home.ask("group.delete", sg_id=SG)


async def test_a_permission_for_a_board_that_was_admitted_or_let_in_is_no_typing_error(home: Home) -> None:
    await home.ask("group.permit", sg_id=SG, pne_id="lamp.porch")
    await home.ask("server.admit-board", pne_id="lamp.cellar", pn_id="home")
    await home.ask("group.permit", sg_id=SG, pne_id="lamp.cellar")


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("how", ["retired", "replaced"])
async def test_a_name_that_comes_back_has_no_rights_left(home: Home, how: str) -> None:
    """Neither a membership, nor a permission nobody used yet, nor a group that the name owned."""
    await home.ask("group.create", sg_id="listed", open_to=["home"], policy="listed")
    await home.ask("group.permit", sg_id="listed", pne_id="lamp.hall")
    fields = {messages.PNE_ID: "lamp.hall", messages.SG_ID: "own", messages.PN_ID: "home"}
    await home.server.handle("gw", messages.encode(numbers.CREATE_SERVICE_GROUP_REQUEST, fields))
    if how == "retired":
        await home.ask("board.retire", pne_id="lamp.hall")
        await home.let_in("lamp.hall")
    else:
        await home.let_in("lamp.hall", replace=True)
    await home.app.gateway.tick()  # the Server is told
    for sg_id in (SG, "listed", "own"):
        found = {member.pne_id: member.state for member in home.server.show_group(sg_id).members}
        assert found["lamp.hall"] == "left"
    assert home.server.show_group("own").owner == ""
    for sg_id in ("listed", "own"):
        fields = {messages.PNE_ID: "lamp.hall", messages.SG_ID: sg_id, messages.PN_ID: "home"}
        answer = messages.decode(await home.server.handle("gw", messages.encode(numbers.JOIN_REQUEST, fields)))[1]
        assert (sg_id, answer[messages.RESULT]) == (sg_id, numbers.RESULT_FAIL if sg_id == "listed" else "1")
    await home.ask("group.permit", sg_id="listed", pne_id="lamp.hall")  # said anew
    fields[messages.SG_ID] = "listed"
    answer = messages.decode(await home.server.handle("gw", messages.encode(numbers.JOIN_REQUEST, fields)))[1]
    assert answer[messages.RESULT] == numbers.RESULT_SUCCESS


@pytest.mark.req("SEC-31")
async def test_a_name_of_which_only_the_key_is_left_has_no_rights_left_either(home: Home) -> None:
    """Its row was lost with the gateway's store, and a person retires it."""
    await home.ask("group.create", sg_id="listed", open_to=["home"], policy="listed")
    await home.ask("group.permit", sg_id="listed", pne_id="lamp.porch")
    with home.app._store.transaction():
        home.app._store.database.execute("DELETE FROM pne WHERE pne_id = 'lamp.porch'")
    await home.ask("board.retire", pne_id="lamp.porch")
    await home.app.gateway.tick()
    assert [member.state for member in home.server.show_group("listed").members] == ["left"]


async def test_a_group_that_waits_for_a_person_is_in_the_status(home: Home) -> None:
    assert (await home.ask("status"))["held"] == []
    await home.ask("server.restore")
    assert (await home.ask("status"))["held"] == [SG]


async def test_what_is_not_here_is_said_to_be_elsewhere(home: Home) -> None:
    away = commands(home.app, None, home.app.observer().snapshot)
    with pytest.raises(NotAllowed, match="is elsewhere"):
        away["group.show"](sg_id=SG)
    assert away.keys() == commands(home.app, home.server, home.app.observer().snapshot).keys()
    with pytest.raises(NotAllowed, match=r"\[seal\]"):
        await home.ask("seal.boards")


async def back_up(path: str) -> str:
    return path


async def test_gateways_of_a_server_of_its_own(tmp_path: Path) -> None:
    server = await CpnsServer.open(tmp_path, ServerConfig())
    try:
        known = server_commands(server, back_up)
        server.register_gateway("gw.home", "home")
        for do, arguments in (
            ("server.block-gateway", {"gateway_id": "gw.hme"}),
            ("server.replace-gateway", {"gateway_id": "gw.hme", "new_gateway_id": "gw2", "credential": ""}),
        ):
            with pytest.raises(Unknown, match=r"gw\.home"):
                await known[do](**arguments)
        for name in ("", "a gateway"):
            with pytest.raises(NotAllowed, match="without blanks"):
                await known["server.add-gateway"](gateway_id=name, pn_id="home", credential="", is_open=None)
        await known["server.block-gateway"](gateway_id="gw.home")
        with pytest.raises(NotAllowed, match="already"):
            await known["server.block-gateway"](gateway_id="gw.home")
    finally:
        await server.close()


async def test_a_full_disk_of_the_server_is_a_refusal_with_its_code(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise StoreFailed("The store failed: disk is full.", "Make room.")

    monkeypatch.setattr(home.server, "update_key", full)
    with pytest.raises(Refused, match="Make room") as refusal:
        await home.ask("group.update", sg_id=SG)
    assert refusal.value.code == "store-failed"


def test_the_nearest_name() -> None:
    known = ["lamp.porch", "lamp.hall", "Küche"]
    assert nearest("lamp.prch", known) == "Did you mean 'lamp.porch'?"
    assert nearest("LAMP.HALL", known) == "Did you mean 'lamp.hall'?"
    assert nearest("küche", known) == "Did you mean 'Küche'?"
    assert nearest("lamp.hall" * 9000, known) == ""  # whoever sends that did not mistype it
    assert nearest("fridge", known) == nearest("", known) == nearest("lamp", []) == ""


async def test_the_status_names_each_member_of_an_end_to_end_group_also_one_that_nothing_came_for(home: Home) -> None:
    members: dict[int, Any] = {messages.SG_ID: "alarm", messages.PN_ID: "home", messages.REVISION: 1}
    members |= {messages.MEMBER: ["lamp.hall", "lamp.porch"], messages.TRUST: numbers.TRUST_END_TO_END}
    await home.app.gateway.handle_server(messages.encode(numbers.INVENTORY_UPDATE_REQUEST, members))
    wrapped: dict[int, Any] = {messages.SGID: "alarm", messages.GROUP_KEY_INFO: ("lamp.hall", bytes(24))}
    wrapped |= {messages.VERSION: 65537, messages.EUK_ID: bytes(8)}
    await home.app.gateway.handle_server(messages.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, wrapped))
    groups = {group["sg_id"]: group for group in (await home.ask("status"))["groups"]}
    assert (groups["alarm"]["trust"], groups["alarm"]["version_text"]) == ("end-to-end", "1.1")
    carried = {each["pne_id"]: (each["version_text"], each["state"]) for each in groups["alarm"]["carried"]}
    assert carried == {"lamp.hall": ("1.1", "pending"), "lamp.porch": ("-", "none")}
    assert all((group["trust"], group["carried"]) == ("gateway", []) for sg, group in groups.items() if sg != "alarm")


async def test_a_status_names_the_groups_that_no_board_is_in(home: Home) -> None:
    home.server.create_group("home/empty", open_to=["home"])
    status = await home.ask("status")
    assert "home/empty" in status["empty_sg_ids"]
    assert not {each["sg_id"] for each in status["groups"]} & set(status["empty_sg_ids"])
