"""A board with all that it can be asked to hold, in a small heap, and a peer that sends what costs most to refuse."""

import pytest

from cpns.broadcast_encryption.cover import cover
from device_agent import tuning
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.gkdk import gkek
from keycast.demo.house import BLE, BOTH
from keycast.virtual_board.board import BluetoothAir
from tests.system.conftest import house_of
from tests.system.watching import events, join, keyed
from tools.bench.forger import forging

HEAP_KIB = 85  # 81 are not enough
# The modules that stand for Bluetooth take 9 of these, with the table of their names; they are native on an ESP32
HEAPS_WITH_BLE_KIB = {BLE: 104, BOTH: 104}  # with 100 they are enough in most runs; in some no advert finds a piece
HEAP_WITH_BOTH_SESSIONS_KIB = 100  # 93 are not enough
UPDATES_MAX = 15  # a machine that is busy sends so slowly at times that the board pulls first
SGS = [f"home/room{number}" for number in range(tuning.GROUPS_MAX)]


@pytest.mark.req("SEC-21")
async def test_a_full_board_shakes_hands_and_is_keyed_while_a_stranger_sends_long_forgeries(tmp_path):
    async with house_of(tmp_path, 2, delivery=DeliveryPolicy(method="broadcast")) as house:
        name, other = house.boards
        board = house.boards[name]
        await board.kill()
        board.events.clear()
        await board.start(heap_kib=HEAP_KIB)
        versions = {}
        for sg_id in SGS:
            versions[sg_id] = await join(house, sg_id, [name, other])
            house.server.update_key(sg_id)
            versions[sg_id] = await keyed(house, sg_id, [name, other], above=versions[sg_id])
        await house.boards[other].command("send", group=SGS[0], data=b"light on".hex())
        await board.event("message", data=b"light on".hex())
        seen = len(board.events)
        async with forging(house.sniffer, board):
            await house.app.endpoint.drop(name)
            for sg_id in SGS:
                await board.command("refresh", group=sg_id)
            for sg_id in SGS:
                house.server.update_key(sg_id)
            for sg_id in SGS:
                await keyed(house, sg_id, [name, other], above=versions[sg_id])
        assert [event["event"] for event in board.events[seen:]].count("session") == 1
        never_started_anew(house, name)


@pytest.mark.req("SEC-21", "SEC-25")
@pytest.mark.parametrize("ordinary", [0, 4], ids=["all end-to-end", "half of them"])
async def test_a_full_board_has_sessions_with_gateway_and_server_beside_its_groups(tmp_path, ordinary):
    """It makes both anew while it is in all its groups and a stranger sends long forgeries."""
    async with house_of(tmp_path, 2, delivery=DeliveryPolicy(method="broadcast"), elsewhere=True) as house:
        name, other = house.boards
        board = house.boards[name]
        await board.kill()
        board.events.clear()
        await board.start(heap_kib=HEAP_WITH_BOTH_SESSIONS_KIB)
        members = {sg_id: [name, other] for sg_id in SGS[1:]}
        versions = {SGS[0]: await join(house, SGS[0], [name], "gateway" if ordinary else "end-to-end")}
        await join(house, "home/else", [other])  # what is broadcast to it is what a stranger forges
        for number, sg_id in enumerate(members, 1):
            versions[sg_id] = await join(house, sg_id, members[sg_id], "gateway" if number < ordinary else "end-to-end")
        await house.boards[other].command("send", group=SGS[-1], data=b"light on".hex())
        await board.event("message", data=b"light on".hex())
        seen = len(board.events)
        async with forging(house.sniffer, board):
            await house.app.endpoint.drop(name)
            await house.server._sessions._endpoint.drop(name)
            for sg_id in SGS:
                await board.command("refresh", group=sg_id)
            for sg_id in SGS:
                house.server.update_key(sg_id)
            for sg_id in SGS:
                await keyed(house, sg_id, members.get(sg_id, [name]), above=versions[sg_id])
        peers = [set(event) & {"gateway", "server"} for event in board.events[seen:] if event["event"] == "session"]
        assert sorted(map(str, peers)) == ["{'gateway'}", "{'server'}"]
        never_started_anew(house, name)


def never_started_anew(house, name):
    printed = [event["text"] for event in events(house, name, "print")]
    assert house.boards[name].running and sum("keycast: start" in line for line in printed) == 1
    assert all(line.startswith("keycast: ") for line in printed), printed


@pytest.mark.req("CPNS-GKM-71", "SEC-10")
@pytest.mark.parametrize("radio", [BLE, BOTH])
async def test_a_full_board_with_bluetooth_decodes_long_objects_beside_its_session(tmp_path, monkeypatch, radio):
    """Of 62 adverts, as if 57 more boards, far apart in the tree, were members."""
    async with house_of(tmp_path, 2, delivery=DeliveryPolicy(method="broadcast"), radios=[radio]) as house:
        name, other = house.boards
        board = house.boards[name]
        await board.kill()
        board.events.clear()
        await board.start(heap_kib=HEAPS_WITH_BLE_KIB[radio], air=BluetoothAir(tmp_path / "air", 0.1))
        for sg_id in SGS[:-1]:
            await join(house, sg_id, [name, other])
        far = set(range(100, 1000, 16))
        monkeypatch.setattr(gkek, "cover", lambda height, profile, members: cover(height, profile, {*members, *far}))
        version = await join(house, SGS[-1], [name, other])
        for sg_id in SGS:
            await board.command("refresh", group=sg_id)  # in place of the pulls that follow a join
        decoded = 0
        for _ in range(UPDATES_MAX):
            house.adverts.adverts()
            house.server.update_key(SGS[-1])
            version = await keyed(house, SGS[-1], [name, other], above=version)
            key = await board.event("key", group=SGS[-1], version=version)
            decoded += key["broadcast"] and len(house.adverts.adverts()) >= 62
            if decoded == 2 or radio != BLE:  # with both, UDP and adverts find no kilobyte in one piece at times
                break
        assert decoded == 2 or radio != BLE
        await house.app.endpoint.drop(name)
        for sg_id in SGS:
            await board.command("refresh", group=sg_id)
        never_started_anew(house, name)
