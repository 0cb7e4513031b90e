"""A CPNS Server or a broker is killed at any moment: each home has the newest key in the end, none took an older one,
and no nonce was used twice."""

import asyncio
import random
from pathlib import Path

import pytest

from tests.integration.mqtt_street import a_street, brokers, node
from tests.unit.mosquitto_broker import Mosquitto

__all__ = ["brokers", "node"]

pytestmark = pytest.mark.real_time

LIVES = 4


@pytest.mark.req("SEC-22", "SEC-27")
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_server_that_is_killed_at_any_moment(
    tmp_path: Path, brokers: list[Mosquitto], database: str, request: pytest.FixtureRequest
) -> None:
    chance = random.Random(1813)
    url = request.getfixturevalue("node").url if database == "postgresql" else None
    async with a_street(tmp_path, brokers[:1], url) as street:
        for _ in range(LIVES):
            newest = await street.keyed()
            updates = [asyncio.create_task(street.server.update()) for _ in range(3)]
            await asyncio.sleep(chance.uniform(0, 0.1))  # any moment will do
            await street.server.kill()
            made = [each for each in await asyncio.gather(*updates, return_exceptions=True) if isinstance(each, int)]
            await street.server.start()
            await street.keyed(max([newest, *made]))


@pytest.mark.req("SEC-27")
async def test_the_only_broker_is_killed(tmp_path: Path, brokers: list[Mosquitto]) -> None:
    async with a_street(tmp_path, brokers[:1]) as street:
        for away_s in (0, 2):
            version = await street.server.update()
            brokers[0].kill()
            await asyncio.sleep(away_s)
            brokers[0].start()
            await street.keyed(version)


@pytest.mark.req("SEC-27")
async def test_one_of_two_brokers_is_killed(tmp_path: Path, brokers: list[Mosquitto]) -> None:
    async with a_street(tmp_path, brokers) as street:
        for broker in brokers:
            version = await street.server.update()
            broker.kill()
            await street.keyed(version)
            await street.keyed(await street.server.update())
            broker.start()
        await street.keyed(await street.server.update())
