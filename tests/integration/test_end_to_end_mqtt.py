"""End-to-end groups over MQTT: what boards and CPNS Server say to each other goes through the tunnels of PN GWs, over a
broker that loses, holds back and repeats it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cpns import numbers as n
from message_plane.links.mqtt_topics import down, tag_of, up
from tests.integration.end_to_end_attacker import FROM_SERVER, HostileGateway
from tests.integration.end_to_end_house import SG, House, open_house, until
from tests.integration.mqtt_street import Recorder, is_datagram
from tests.integration.toy_broker import ToyBroker

HOUR = 3600.0


@pytest.fixture
async def broker() -> AsyncIterator[ToyBroker]:
    broker = await ToyBroker().start()
    yield broker
    await broker.stop()


@pytest.fixture
async def house(tmp_path: Path, broker: ToyBroker) -> AsyncIterator[House]:
    """Two homes, each with a member of the group. What must hold in every house is checked at the end."""
    async with open_house(tmp_path, broker_url=broker.url) as house:
        for pn_id in ("home", "next"):
            await house.gateway(pn_id, HostileGateway)
        house.create(open_to=["home", "next"])
        for pn_id, name in (("home", "lamp"), ("next", "door")):
            await house.member(name, house.gateways[pn_id])
        await until(lambda: house.holds_newest())
        yield house
        house.check()
    recorder = Recorder()
    for _, topic, payload in broker.published:
        recorder.see(topic, payload)
    recorder.check()


def topics(house: House, pn_id: str) -> tuple[str, str]:
    """Where the PN GW of a home hears and speaks."""
    tag = tag_of(house.gateways[pn_id].id)
    return down(tag), up(tag)


@pytest.mark.req("CPNS-GKM-76", "CPNS-GKM-81", "SEC-25")
async def test_members_in_two_homes_are_keyed_over_a_broker_that_holds_no_key(house: House, broker: ToyBroker) -> None:
    keys = {house.server.key()}
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())
    keys.add(house.server.key())
    carried = house.hostile.of(FROM_SERVER, n.S_GROUP_KEY_DELIVERY_REQUEST)
    assert carried and len(keys) == 2
    passed = b"".join(payload for _, _, payload in broker.published)
    assert not [key for key in keys if key in passed]


@pytest.mark.req("SEC-06", "SEC-25")
async def test_a_member_that_leaves_reads_nothing_more(house: House) -> None:
    before = house.server.key()
    house.server.app.expel(SG, "door")
    await until(lambda: house.holds_newest("lamp") and house.server.key() != before)
    assert house.boards["door"].key() != house.server.key()


@pytest.mark.long
@pytest.mark.req("SEC-25", "SEC-27")
async def test_a_home_that_was_cut_off_gets_the_newest_key_and_nothing_that_was_held(
    house: House, broker: ToyBroker
) -> None:
    held: list[tuple[str, bytes]] = []
    cut = topics(house, "home")
    broker.lose = lambda topic, payload: topic in cut and not held.append((topic, payload))  # type: ignore[func-returns-value]
    for _ in range(3):
        house.server.app.update_key(SG)
        await asyncio.sleep(120)
    assert house.holds_newest("door") and not house.holds_newest("lamp")
    broker.lose = lambda topic, payload: False
    await until(lambda: house.holds_newest())
    await asyncio.sleep(HOUR)
    newest = house.server.version()
    for topic, payload in [*held, *held]:
        broker.publish(topic, payload)
        await asyncio.sleep(1)
    await asyncio.sleep(60)
    assert house.boards["lamp"].version() == newest and house.holds_newest()
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())


@pytest.mark.req("SEC-25", "SEC-27")
@pytest.mark.parametrize("what", ["broker", "server", "gateway", "board"])
async def test_whatever_is_restarted_in_the_middle_of_an_update(house: House, broker: ToyBroker, what: str) -> None:
    house.server.app.update_key(SG)
    await asyncio.sleep(0.05)
    if what == "broker":
        await broker.stop()
        broker.sessions.clear()
        broker.retained.clear()
        await broker.start()
    elif what == "server":
        await house.server.restart()
    elif what == "gateway":
        await house.gateways["home"].restart()
    else:
        await house.boards["lamp"].restart()
    await until(lambda: house.holds_newest())
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())


@pytest.mark.req("SEC-25", "SEC-27")
async def test_all_that_ever_passed_is_repeated_and_nothing_comes_of_it(house: House, broker: ToyBroker) -> None:
    await asyncio.sleep(600)
    version, members = house.server.version(), house.server.app.show_group(SG).members
    for topic, payload in [(topic, payload) for _, topic, payload in broker.published if is_datagram(topic)]:
        broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert house.server.version() == version and house.holds_newest()
    assert [(each.pne_id, each.state) for each in house.server.app.show_group(SG).members] == [
        (each.pne_id, each.state) for each in members
    ]
