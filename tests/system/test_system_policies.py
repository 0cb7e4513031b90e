"""How the PN GW chooses between unicast and broadcast, seen on the air and at boards that run MicroPython."""

import pytest

from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.broadcast_section import BroadcastSection
from key_servers.cpns_server import tuning
from tests.system.conftest import house_of
from tests.system.watching import confirmed, events, join, keyed, newest, objects, until


async def update(house, members):
    """One update by hand among `members`; the objects on the air, and whether each board got it by broadcast."""
    before = await join(house, "lights", members)
    house.sniffer.frames()
    version = house.server.update_key("lights")
    await keyed(house, "lights", members, above=before)
    await until(lambda: {confirmed(house, "lights")[name] for name in members} == {version})
    paths = {events(house, name, "key", version=version)[0]["broadcast"] for name in members}
    return len(objects(house.sniffer.frames())), paths


@pytest.mark.req("CPNS-GKM-11", "CPNS-GKM-14", "CPNS-GKM-15", "CPNS-GKM-16", "CPNS-GKM-33", "CPNS-GKM-64")
@pytest.mark.req("CPNS-GKM-65", "CPNS-GKM-67", "CPNS-GKM-31")
async def test_by_policy_every_member_gets_its_key_over_its_own_session(tmp_path):
    async with house_of(tmp_path, 4, delivery=DeliveryPolicy(method="unicast")) as house:
        assert await update(house, list(house.boards)) == (0, {False})


@pytest.mark.req("CPNS-GKM-12", "CPNS-GKM-14", "CPNS-GKM-65")
async def test_a_gateway_without_broadcast_network_delivers_by_unicast(tmp_path):
    async with house_of(tmp_path, 3, broadcast=BroadcastSection(interfaces=[])) as house:
        assert await update(house, list(house.boards)) == (0, {False})


@pytest.mark.req("CPNS-GKM-13", "CPNS-GKM-31", "CPNS-GKM-67", "CPNS-GKM-64", "CPNS-GKM-66")
async def test_left_to_itself_the_gateway_counts_the_members(tmp_path):
    async with house_of(tmp_path, 3) as house:
        names = list(house.boards)
        assert await update(house, names[:2]) == (0, {False})
        assert await update(house, names) == (1, {True})


@pytest.mark.req("CPNS-GKM-61")
async def test_keys_change_by_the_clock_without_anybody_asking(tmp_path, monkeypatch):
    """The shortest period that is allowed is a minute: here a minute has two seconds."""
    monkeypatch.setattr(tuning, "PERIOD_MIN_S", 2)
    async with house_of(tmp_path, 3) as house:
        house.server.create_group("ticking", open_to=["home"], period_s=2)
        first = await join(house, "ticking", list(house.boards))
        await until(lambda: newest(house, "ticking") > first + 1, timeout_s=180)
        await keyed(house, "ticking", list(house.boards), above=first)
