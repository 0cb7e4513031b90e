"""A central beside the gateway that does what it must not do to boards without Wi-Fi: keys arrive all the same."""

import asyncio
import itertools
import os
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
from bumble.core import BaseBumbleError
from bumble.device import Peer
from bumble.hci import Address, OwnAddressType

from cpns.numbers import BLE_TO_BOARD
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.bumble_controller import end
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from gateway_agent.radios.virtual_air.controller import AirController
from keycast.demo import house as demo_house
from tests.integration.virtual_air_world import controllers_on_tcp
from tests.system.conftest import house_of
from tests.system.watching import confirmed, events, join, keyed, until

SG = "kitchen"
ALL = ["lamp.hall", "lamp.kitchen", "lamp.porch"]
ATTACKER = "02:00:00:00:66:66"


async def only_holds(write):
    """It never subscribes, and says nothing."""
    await asyncio.sleep(1)


async def ends_in_a_datagram(write):
    await write(b"\0" + os.urandom(100))


async def fragments_without_end(write):
    for _ in range(40):
        await write(b"\0" + os.urandom(200))


async def garbage(write):
    for length in (0, 1, 2, 243, 244):
        await write(os.urandom(length))


async def too_long(write):
    await write(os.urandom(513))


async def comes_and_goes(write):
    """Ten times a second, as nothing is waited for."""


DEEDS = [only_holds, ends_in_a_datagram, fragments_without_end, garbage, too_long, *[comes_and_goes] * 5]


async def attack(device, boards, done):
    """Connect to these boards in turn, without end, and do one deed after the other. `done` are their names."""
    for address in itertools.cycle(boards):
        deed = DEEDS[len(done) % len(DEEDS)]
        with suppress(BaseBumbleError, TimeoutError, asyncio.InvalidStateError):
            public = Address(address, Address.PUBLIC_DEVICE_ADDRESS)
            connection = await device.connect(public, own_address_type=OwnAddressType.PUBLIC, timeout=1)
            try:
                peer = Peer(connection)
                await peer.request_mtu(247)
                await peer.discover_services()
                await peer.discover_characteristics()
                (to_board,) = peer.get_characteristics_by_uuid(BLE_TO_BOARD)
                done.append(deed.__name__)
                async with asyncio.timeout(5):
                    await deed(partial(to_board.write_value, with_response=True))
            finally:
                with suppress(BaseBumbleError):
                    await connection.disconnect()


@asynccontextmanager
async def house_beside_an_attacker(folder, monkeypatch):
    """Yield a house whose gateway has a controller of its own on an air, and an attacker's device on the same air."""
    air = VirtualAir()
    boards = BoardSocket(air, folder / "air")
    boards.open()
    device = AirController(air, ATTACKER).device()
    await device.power_on()
    try:
        async with controllers_on_tcp(air) as (adapter, _):
            section = BleSection(sender="hci", adapter=adapter, connections_max=1)  # the others can be connected to
            monkeypatch.setattr(demo_house, "BleSection", lambda **virtual: section)
            policy = DeliveryPolicy(method="broadcast")
            async with house_of(folder, len(ALL), radios=(demo_house.BLE,), delivery=policy) as house:
                yield house, device
    finally:
        await boards.close()


@pytest.mark.req("CPNS-GKM-71")
async def test_keys_arrive_and_are_confirmed_while_a_central_does_what_it_likes_to_the_boards(tmp_path, monkeypatch):
    async with house_beside_an_attacker(tmp_path, monkeypatch) as (house, device):
        await asyncio.gather(*(house.boards[name].event("session") for name in ALL))
        version = await join(house, SG, ALL)
        addresses, done = [house.boards[name].bluetooth_address for name in ALL], []
        attacking = asyncio.create_task(attack(device, addresses, done))
        while {deed.__name__ for deed in DEEDS} > set(done):
            house.server.update_key(SG)
            version = await keyed(house, SG, ALL, above=version)
            await until(lambda version=version: all(confirmed(house, SG).get(name) == version for name in ALL))
        assert not attacking.done()
        await end([attacking])
        assert all(house.boards[name].running for name in ALL)
        assert not [events(house, name, "up")[1:] for name in ALL if events(house, name, "up")[1:]]
