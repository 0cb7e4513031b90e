"""A wire that doubles and delays, a gateway and a database that are away: each home has the newest key in the end, none
took an older one, and no nonce was used twice."""

import asyncio
import random
from pathlib import Path

import pytest

from gateway_agent.errors import Refused
from tests.integration.mqtt_street import a_street, brokers, is_datagram, node
from tests.unit.mosquitto_broker import Mosquitto
from tests.unit.postgres_server import PostgresNode
from tests.waiting import PATIENCE_S

__all__ = ["brokers", "node"]

pytestmark = pytest.mark.real_time

UPDATES_MISSED = 50
CUT_S = 16.0  # longer than a shard is leased


@pytest.mark.req("SEC-27")
async def test_a_gateway_that_was_away_for_many_updates_is_brought_one_key(
    tmp_path: Path, brokers: list[Mosquitto]
) -> None:
    async with a_street(tmp_path, brokers[:1]) as street:
        absent = street.homes[0]
        await street.leave(absent)
        for number in range(UPDATES_MISSED):
            version = await street.server.update()
            if number == UPDATES_MISSED // 2:
                await street.server.kill()
                await street.server.start()
        await street.keyed(version)
        brought = street.recorder.brought[absent.gateway_id]
        before = len(brought)
        await street.enter(absent)
        await street.keyed(version)
        assert brought[before:] == [version]


@pytest.mark.req("SEC-27")
async def test_a_wire_that_doubles_messages_and_lets_them_overtake_each_other(
    tmp_path: Path, brokers: list[Mosquitto]
) -> None:
    chance = random.Random(1972)
    plans = [(0.0,), (0.0, 0.0), (0.0, 0.3), (0.2,), (0.0, 0.1, 0.4), (0.5,)]
    async with a_street(tmp_path, brokers[:1]) as street:
        street.taps[0].plan = lambda topic: chance.choice(plans) if is_datagram(topic) else (0.0,)
        for _ in range(20):
            version = await street.server.update()
            await asyncio.sleep(chance.uniform(0, 0.2))
        await street.keyed(version)
        counters = [home.home.app.counters for home in street.homes]
        async with asyncio.timeout(PATIENCE_S):  # by chance a home may have been sent a few messages, and none twice
            while not all(each["requests_repeated"] + each["requests_replayed"] for each in counters):
                await street.keyed(await street.server.update())


@pytest.mark.req("SEC-03", "SEC-27")
async def test_the_database_is_cut_off_for_a_while(
    tmp_path: Path, brokers: list[Mosquitto], node: PostgresNode
) -> None:
    async with a_street(tmp_path, brokers[:1], node.url) as street:
        version = await street.server.update()
        node.suspend()
        try:
            with pytest.raises(Refused):
                await street.server.update()
            await asyncio.sleep(CUT_S)
        finally:
            node.resume()
        await street.keyed(version)
        await street.keyed(await street.server.updated_again())
