"""The PN GW's core and the real CPNS Server in one process: their parts of the protocol fit together."""

import pytest

from cpns import messages, numbers
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import InProcessGateways
from tests.unit.gateway_world import PN, World


class RealServer:
    """Stands where the double of `gateway_world` stands."""

    def __init__(self, cpns_server: CpnsServer) -> None:
        self.real = cpns_server
        self.homes: dict[str, World] = {}
        self.up = True

    async def answer(self, pn_id: str, message: bytes) -> bytes:
        if not self.up:
            raise NoAnswer("the uplink is down")
        return await self.real.handle("gw", message)


@pytest.fixture
async def world(tmp_path):
    async def receive(message):
        return await world.gateway.handle_server(message)

    gateways = InProcessGateways({"gw": receive})
    server = await CpnsServer.open(tmp_path / "server", ServerConfig(batching_s=0.02), gateways=gateways)
    server.register_gateway("gw", PN, is_open=True)
    world = World(tmp_path / "gw", server=RealServer(server))
    server.start()
    await world.start()
    yield world
    await server.close()
    await world.close()


def keyed(world, sg_id, *names):
    version = world.server.real.show_group(sg_id).version
    stored = world.store.inventory.group(sg_id)
    return (
        stored is not None
        and stored.version == version
        and all(world.boards[name].version(sg_id) == version for name in names)
    )


@pytest.mark.req("CPNS-GKM-63", "Q-08", "Q-10")
async def test_create_join_leave_expel_and_retire_each_end_with_a_key_for_the_members_only(world):
    owner = await world.board("owner")
    assert (await owner.join("light", numbers.CREATE_SERVICE_GROUP_REQUEST))[messages.RESULT] == "1"
    await world.until(lambda: keyed(world, "light", "owner"))
    for name in ("a", "b", "c", "d"):
        await world.board(name, "light")
    await world.until(lambda: keyed(world, "light", "owner", "a", "b", "c", "d"))
    left = world.boards["a"].version("light")
    await world.boards["a"].leave("light")
    await world.until(lambda: world.server.real.show_group("light").version > left)
    await world.until(lambda: keyed(world, "light", "owner", "b", "c", "d"))
    assert world.boards["a"].version("light") == left
    left = world.boards["b"].version("light")
    world.server.real.expel("light", "b")
    await world.until(lambda: world.server.real.show_group("light").version > left)
    await world.until(lambda: keyed(world, "light", "owner", "c", "d"))
    left = world.boards["c"].version("light")
    world.gateway.administration.retire_pne("c", Cause.LOST)
    await world.until(lambda: world.server.real.show_group("light").version > left)
    await world.until(lambda: keyed(world, "light", "owner", "d"))
    gone = [world.boards[name] for name in "abc"]
    coalition = [record for board in gone for record in board.records]
    assert gone[0].opens(world.air[-1], "light", coalition) is None
    status = world.gateway.administration.groups()[0]
    assert status.members == ("d", "owner") and not status.group.exposed
    await world.until(
        lambda: all(
            member.confirmed == world.server.real.show_group("light").version
            and member.report == "confirmed"
            and member.link in ("wifi", "unicast")
            and member.tries
            for member in world.server.real.show_group("light").members
            if member.pne_id in ("d", "owner")
        )
    )


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("cut", ["", "uplink", "restart"])
@pytest.mark.parametrize("first", ["join", "delete"])
async def test_a_name_that_comes_back_finds_no_right_of_who_had_it_before(world, cut, first):
    """Of a permission not used yet, and of groups that it owns, only the Server knows: it hears of the end first."""

    async def is_refused(what):
        answer = await (
            lamp.join("listed") if what == "join" else lamp.ask(numbers.DELETE_SERVICE_GROUP_REQUEST, delete)
        )
        return answer[messages.RESULT] == numbers.RESULT_FAIL

    server = world.server.real
    lamp = await world.board("lamp")
    await lamp.join("own", numbers.CREATE_SERVICE_GROUP_REQUEST)
    server.create_group("listed", open_to=[PN], policy="listed")
    server.permit("listed", "lamp")
    world.server.up = not cut
    world.gateway.administration.retire_pne("lamp", Cause.LOST)
    world.gateway.administration.register_pne("lamp")  # another board
    delete = {messages.PNE_ID: "lamp", messages.SG_ID: "own", messages.VERSION: server.show_group("own").version}
    if cut:
        assert await is_refused(first)
        world.server.up = True
        if cut == "restart":
            await world.restart()
    assert await is_refused(first)
    assert await is_refused("join") and await is_refused("delete")
    assert server.show_group("own").owner == ""
    assert [member.state for member in server.show_group("listed").members] == ["left"]
    server.permit("listed", "lamp")  # said of this one
    assert (await lamp.join("listed"))[messages.RESULT] == numbers.RESULT_SUCCESS
    await world.until(lambda: keyed(world, "listed", "lamp"))
    await world.gateway.tick()  # nothing is owed any more
    assert world.store.inventory.is_member("listed", "lamp")


async def test_deleted_by_its_owner_it_is_gone_at_both_ends(world):
    owner = await world.board("owner")
    await owner.join("light", numbers.CREATE_SERVICE_GROUP_REQUEST)
    await world.until(lambda: keyed(world, "light", "owner"))
    fields = {messages.PNE_ID: "owner", messages.SG_ID: "light", messages.VERSION: owner.version("light")}
    assert (await owner.ask(numbers.DELETE_SERVICE_GROUP_REQUEST, fields))[messages.RESULT] == "1"
    await world.until(lambda: world.store.inventory.group("light") is None)
    assert world.store.group_keys.newest("light") is None


@pytest.mark.req("SEC-02")
async def test_after_restore_the_server_tells_members_and_a_new_key(world):
    import os

    from gateway_agent.core.restore import restore
    from gateway_agent.store.store import GatewayStore

    owner = await world.board("owner")
    await owner.join("light", numbers.CREATE_SERVICE_GROUP_REQUEST)
    await world.board("a", "light")
    await world.until(lambda: keyed(world, "light", "owner", "a"))
    before = world.server.real.show_group("light").version
    await world.close()
    store = GatewayStore(world.folder, restoring=True)
    restore(store, os.urandom, height=6, unix=0)
    store.close()
    world.open()
    await world.start()
    for board in world.boards.values():
        await board.get_gkdk()
    await world.until(lambda: world.server.real.show_group("light").version > before)
    await world.until(lambda: keyed(world, "light", "owner", "a"))
    assert world.gateway.administration.stop_reason is None


@pytest.fixture
async def world_of_end_to_end(tmp_path):
    """The CPNS Server listens, as only such a one has end-to-end groups, and reaches the PN GW by a call."""

    async def receive(message):
        return await world.gateway.handle_server(message)

    config = ServerConfig(batching_s=0.02, listen=["127.0.0.1"], port=0)
    server = await CpnsServer.open(tmp_path / "server", config, gateways=InProcessGateways({"gw": receive}))
    server.register_gateway("gw", PN, is_open=True)
    server.create_group("alarm", open_to=[PN], trust="end-to-end")
    world = World(tmp_path / "gw", server=RealServer(server))
    server.start()
    await world.start()
    yield world
    await server.close()
    await world.close()


async def wrapped_for(world, *names):
    """Return when each of these boards has proved that it has the newest key, and no other is a member."""

    def are_done():
        members = world.server.real.show_group("alarm").members
        version = world.server.real.show_group("alarm").version
        joined = {member.pne_id: member.confirmed for member in members if member.state == "member"}
        return joined == dict.fromkeys(names, version) == {name: world.boards[name].version("alarm") for name in names}

    await world.until(are_done)


@pytest.mark.req("CPNS-GKM-81", "CPNS-GKM-82", "CPNS-GKM-92", "SEC-02", "SEC-06", "SEC-26")
@pytest.mark.parametrize("how", ["restored", "old image"])
async def test_wrapped_keys_reach_the_members_also_of_a_gateway_that_has_forgotten_them(world_of_end_to_end, how):
    import os
    import shutil

    from gateway_agent.core.restore import restore
    from gateway_agent.store.store import GatewayStore

    world, server = world_of_end_to_end, world_of_end_to_end.server.real

    def knows_members():
        return [member.pne_id for member in world.store.inventory.members("alarm")] == ["a", "c"]

    for name in ("a", "b"):
        board = await world.board(name)
        server.admit_pne(name, PN, entity_user_key=board.euk)
        await board.join("alarm")
    await wrapped_for(world, "a", "b")
    await world.close()
    shutil.copytree(world.folder, world.folder.with_name("image"))
    world.open()
    await world.start()
    board = await world.board("c")
    server.admit_pne("c", PN, entity_user_key=board.euk)
    await board.join("alarm")
    await wrapped_for(world, "a", "b", "c")
    server.expel("alarm", "b")
    await wrapped_for(world, "a", "c")
    await world.until(knows_members)
    left = world.boards["b"].version("alarm")
    await world.close()
    if how == "restored":
        store = GatewayStore(world.folder, restoring=True)
        restore(store, os.urandom, height=6, unix=0)
        store.close()
    else:
        shutil.rmtree(world.folder)
        shutil.copytree(world.folder.with_name("image"), world.folder)
    world.open()
    await world.start()
    await world.until(knows_members)
    assert world.store.inventory.group("alarm").end_to_end and not world.store.inventory.group("alarm").waiting
    server.update_key("alarm")
    await wrapped_for(world, "a", "c")
    assert world.boards["b"].version("alarm") == left and not world.store.group_keys.newest("alarm")


@pytest.mark.req("SEC-02")
async def test_an_old_image_is_stopped_by_what_the_server_remembers(world, tmp_path):
    import shutil

    owner = await world.board("owner")
    await owner.join("light", numbers.CREATE_SERVICE_GROUP_REQUEST)
    await world.until(lambda: keyed(world, "light", "owner"))
    await world.close()
    shutil.copytree(world.folder, tmp_path / "image")
    world.open()
    await world.start()
    await world.board("a", "light")
    await world.until(lambda: keyed(world, "light", "owner", "a"))
    await world.close()
    shutil.rmtree(world.folder)
    shutil.copytree(tmp_path / "image", world.folder)
    world.open()
    await world.start()
    await world.until(lambda: world.gateway.administration.stop_reason is not None)
