"""A home network: gateway and boards on machines (network namespaces) of their own, on a bridge.

The boards know no address, or a wrong one: they find the gateway by a question to the whole network (CoAP discovery to
the directed broadcast address), and the gateway finds them because they spoke to it.
"""

import asyncio
import contextlib
import itertools

import pytest

from device_agent.key_store import KeyStore
from keycast.virtual_board.board import BoardError
from keycast.virtual_board.fleet import Fleet
from tests.system.keycast_process import GatewayProcess
from tests.system.namespaces import HomeNetwork, missing
from tests.waiting import PATIENCE_S

SG = "home/lights"
BOARDS = 4  # more than are reached by unicast, and few: with loss a story is as slow as the slowest of them
GATEWAY = "10.77.0.1"
HINTS = ("", "10.77.0.250", "10.77.0.3", GATEWAY)  # none, nobody's any more, that of another board by now, right
HINTS_WITH_LOSS = ("", GATEWAY, GATEWAY, GATEWAY)  # a question to everybody that is lost costs 5, 10, 20, ... s
WHY_NOT = missing()

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


@contextlib.asynccontextmanager
async def home(folder, *, loss=0.0, network_loss=0.0, hints=HINTS):
    """A gateway on machine 1 and boards on machines 2..5 of a network of its own -> (gateway, boards, network)."""
    with HomeNetwork(1 + BOARDS, network_loss) as network:
        gateway = GatewayProcess(
            folder, address="0.0.0.0", port=5683, interfaces='["eth0"]', discovery=True, prefix=network.words(1)
        )
        await gateway.start()
        try:
            records = [await gateway.new_board(f"lamp.{n}", hint) for n, hint in enumerate(hints)]
            networks = [network.board(2 + n) for n in range(BOARDS)]
            async with Fleet(folder / "boards", records, networks=networks, loss=loss, seed=5) as fleet:
                yield gateway, fleet.boards, network
        finally:
            await gateway.stop()


async def join(board, loss):
    """Join, and try again where the air ate it all: an application's own patience, or that of a person."""
    for seed in itertools.count(100):
        try:
            await board.command("join", group=SG, timeout_s=120)
            return
        except BoardError:
            pass
        except TimeoutError:  # it asks where the gateway is, more and more seldom: a person switches it off and on
            await board.restart(loss=loss, seed=seed)


async def keyed(gateway, boards, timeout_s=PATIENCE_S):
    """Wait until `boards`, and no others, are members, hold the newest key and are known to do so."""
    async with asyncio.timeout(timeout_s):
        while True:
            view = await gateway.ask("group.show", sg_id=SG)
            known = [member["confirmed"] for member in view["members"] if member["state"] == "member"]
            held = [(await board.command("status"))["groups"].get(SG, 0) for board in boards]
            if set(known + held) == {view["version"]} and len(known) == len(boards) and not view["update_pending"]:
                return view["version"]
            await asyncio.sleep(0.1)


async def story(gateway, boards, loss=0.0):
    """Join, update, expel: the members are keyed each time, the expelled board is not."""
    await gateway.ask("group.create", sg_id=SG, open_to=["home"])
    await asyncio.gather(*(join(board, loss) for board in boards))
    joined = await keyed(gateway, boards)
    updated = await gateway.ask("group.update", sg_id=SG)
    assert await keyed(gateway, boards) == updated > joined
    *staying, expelled = boards
    await gateway.ask("group.expel", sg_id=SG, pne_id=f"lamp.{BOARDS - 1}")
    async with asyncio.timeout(PATIENCE_S):
        while not (await gateway.ask("group.show", sg_id=SG))["version"] > updated:
            await asyncio.sleep(0.1)
    assert await keyed(gateway, staying) == updated + 1
    await expelled.event("expelled", group=SG)
    assert (await expelled.command("status"))["groups"] == {}


@pytest.mark.req("CPNS-GKM-18", "CPNS-GKM-36", "CPNS-GKM-66", "CPNS-GKM-69", "CPNS-GKM-75")
async def test_boards_find_the_gateway_on_their_network_and_are_keyed_by_directed_broadcast(tmp_path):
    async with home(tmp_path) as (gateway, boards, _):
        networks = (await gateway.ask("status"))["networks"]
        assert [(each["interface"], each["broadcast"]) for each in networks] == [("eth0", "10.77.0.255")]
        assert (await gateway.ask("status"))["addresses"] == [GATEWAY]
        await story(gateway, boards)
        keys = [event for board in boards for event in board.events if event["event"] == "key"]
        assert any(event["broadcast"] for event in keys)
        places = {KeyStore(board.nvs.snapshot()).load("addr") for board in boards}
        assert places == {GATEWAY.encode()}  # there they look next time
        assert (await gateway.ask("status"))["counters"]["broadcast_sent"] >= 2


@pytest.mark.req("CPNS-GKM-63", "CPNS-GKM-75")
async def test_everybody_is_keyed_although_each_board_loses_every_fifth_datagram(tmp_path):
    async with home(tmp_path, loss=0.2, hints=HINTS_WITH_LOSS) as (gateway, boards, _):
        await story(gateway, boards, 0.2)
        air = [(await board.command("status"))["air"] for board in boards]
        sent_or_heard = sum(each["sent"] + each["received"] + each["lost"] for each in air)
        assert 0.1 < sum(each["lost"] for each in air) / sent_or_heard < 0.3
