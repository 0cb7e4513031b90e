"""Group Keys over Bluetooth LE, the whole way: CPNS Server, PN GW, the virtual air, and boards that run MicroPython."""

import asyncio

import pytest

from gateway_agent import pairing_secret
from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.demo.house import BLE, BOTH, COMPANY_ID
from keycast.virtual_board.board import RESET_CODE, BluetoothAir, Network, VirtualBoard
from keycast.virtual_board.loopback import free_numbers
from message_plane import tuning
from tests.system.conftest import house_of
from tests.system.watching import confirmed, events, held, join, keyed, until

SG = "kitchen"
HALL, KITCHEN, PORCH = "lamp.hall", "lamp.kitchen", "lamp.porch"
ALL = [HALL, KITCHEN, PORCH]
BROADCAST = DeliveryPolicy(method="broadcast")


def house_on_air(folder, radio, loss=0.0):
    """A house of three boards with this radio, in which keys go by broadcast to all who can take part in one."""
    return house_of(folder, len(ALL), radios=(radio,), delivery=BROADCAST, loss=loss)


def keys(house, name, version):
    """How often a board has told that it has got this version, and whether it was by broadcast."""
    return [event["broadcast"] for event in events(house, name, "key", group=SG, version=version)]


async def all_confirmed(house, names, version):
    await until(lambda: all(confirmed(house, SG).get(name) == version for name in names))


@pytest.mark.req("CPNS-GKM-71", "CPNS-GKM-75", "SEC-10")
@pytest.mark.parametrize("loss", [0.0, 0.3])
async def test_boards_without_wifi_are_full_members(tmp_path, loss):
    """EDHOC and GKDK by GATT, Group Keys by advert; who was removed gets no more keys."""
    async with house_on_air(tmp_path, BLE, loss) as house:
        await asyncio.gather(*(house.boards[name].event("session") for name in ALL))
        version = await join(house, SG, ALL)
        await all_confirmed(house, ALL, version)

        adverts = house.app.counters["ble_adverts_sent"]
        house.server.update_key(SG)
        version = await keyed(house, SG, ALL, above=version)
        await all_confirmed(house, ALL, version)
        assert house.app.counters["ble_adverts_sent"] > adverts
        assert [keys(house, name, version) for name in ALL] == [[True]] * len(ALL)

        house.server.expel(SG, PORCH)
        staying = [HALL, KITCHEN]
        version = await keyed(house, SG, staying, above=version)
        await all_confirmed(house, staying, version)
        assert [keys(house, name, version) for name in staying] == [[True]] * len(staying)
        assert held(house, PORCH, SG) < version and not keys(house, PORCH, version)


@pytest.mark.req("CPNS-GKM-71")
async def test_a_board_with_both_radios_gets_a_key_once_and_confirms_it_once(tmp_path):
    async with house_on_air(tmp_path, BOTH) as house:
        await asyncio.gather(*(house.boards[name].event("session") for name in ALL))
        version = await join(house, SG, ALL)
        await all_confirmed(house, ALL, version)
        before = dict(house.app.counters)
        house.server.update_key(SG)
        version = await keyed(house, SG, ALL, above=version)
        await all_confirmed(house, ALL, version)
        adverts = house.app.counters["ble_adverts_sent"]
        await until(lambda: house.app.counters["ble_adverts_sent"] >= adverts)
        counted = {name: count - before.get(name, 0) for name, count in house.app.counters.items()}
        assert counted["ble_adverts_sent"] and counted["broadcast_sent"], "it went out by both"
        assert [keys(house, name, version) for name in ALL] == [[True]] * len(ALL)
        assert counted["confirmations"] == len(ALL)


@pytest.mark.req("SEC-14", "CPNS-GKM-71")
async def test_boards_that_are_not_connected_confirm_by_advert(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "GATT_IDLE_S", 0.5)
    async with house_on_air(tmp_path, BLE) as house:
        await asyncio.gather(*(house.boards[name].event("session") for name in ALL))
        version = await join(house, SG, ALL)
        await all_confirmed(house, ALL, version)
        (link,) = house.app._air.links
        for _ in range(5):  # on a busy machine a board may be so late that the gateway connects to it
            await until(lambda: not link._choice.holds)
            before = dict(house.app.counters)
            house.server.update_key(SG)
            version = await keyed(house, SG, ALL, above=version)
            await all_confirmed(house, ALL, version)
            counted = {name: count - before.get(name, 0) for name, count in house.app.counters.items()}
            if not counted["gatt_connected"]:
                break
        assert [keys(house, name, version) for name in ALL] == [[True]] * len(ALL)
        assert not counted["gatt_connected"] and counted["confirmations"] == len(ALL)
        await until(lambda: house.app.counters["ble_reports_repeated"])


@pytest.mark.req("SEC-20", "SEC-31")
async def test_a_new_board_without_wifi_is_paired_and_keyed(tmp_path):
    """Its first handshake, with credentials by value, and the pairing go by GATT, before it knows any gateway."""
    async with house_on_air(tmp_path, BLE) as house:
        number = free_numbers(1)
        network = Network.loopback(number)
        board = VirtualBoard.create(tmp_path / "new", number, b"", network, wifi=False, company_id=COMPANY_ID)
        air = BluetoothAir(tmp_path / "air")
        try:
            await board.start(up=False, air=air)
            assert await board.ended() == RESET_CODE, "it has made its identity"
            await board.start(up=False, air=air)
            shown = (await board.line("keycast: pairing-secret ")).split()[-1]
            assert await house.app.pair("lamp.new", pairing_secret.octets(shown)) == "lamp.new"
            await board.line("paired: lamp.new ")
            house.boards["lamp.new"] = board
            names = [*ALL, "lamp.new"]
            version = await join(house, SG, names)
            await all_confirmed(house, names, version)
            assert house.app.endpoint.last_heard("lamp.new").place == f"gatt:{board.bluetooth_address}"
        finally:
            await board.stop()
