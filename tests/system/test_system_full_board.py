"""A board with all that it can be asked to hold, in a small heap, and a peer that sends what costs most to refuse."""

import pytest

from device_agent import tuning
from gateway_agent.core.delivering.policy import DeliveryPolicy
from tests.system.conftest import house_of
from tests.system.watching import events, join, keyed
from tools.bench.forger import forging

HEAP_KIB = 84  # 4 KiB above what `make bench` finds to be the least
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
        printed = [event["text"] for event in events(house, name, "print")]
        assert board.running and sum("keycast: start" in line for line in printed) == 1  # it never had to start anew
        assert all(line.startswith("keycast: ") for line in printed), printed
