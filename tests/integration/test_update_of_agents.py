"""The agent of boards, all real but the chip, is updated by a whole gateway: by broadcast, by sessions, sealed.

When an agent asks for a restart its board installs what it has collected, as at the start of a real one, and the agent
goes on as the one on trial. Time is virtual.
"""

import asyncio
import base64
import contextlib
import secrets

import pytest

from cpns.numbers import FRAME_UPDATE
from device_agent.api import Node
from device_agent.host.updates import updates
from device_agent.key_store import KeyStore
from device_agent.links.udp import UdpLink
from device_agent.update import install, key, slot_record
from gateway_agent.core import events
from gateway_agent.radios.udp_broadcast import UdpBroadcast
from keycast.provisioning.board import trust_of
from suit import numbers as n
from tests.integration.end_to_end_house import EVERYBODY, HouseBoard, open_house, until
from tests.unit.update_world import AGENT_ID, KEY, id_of, image, signed
from tests.virtual_time import BoardClock

GROUP = "home/lights"
IMAGE = image(30 * 1024)
FIVE = signed(5, IMAGE)


class UpdatableBoard(HouseBoard):
    """A board whose flash for updates is `folder`. It restarts by itself; `installed` is the image of the last one."""

    def __init__(self, name, trust, folder):
        super().__init__(name, trust)
        self.folder = folder / name
        self.restarts = 0
        self.installed = None
        self.store = KeyStore(self.storage)
        key.keep(self.store, KEY.public.octets)
        self._restarting = set()

    async def start(self):
        network = self.network
        self.updates = updates(self.store, self.folder, {AGENT_ID: "agent"}, self._reset)
        self.updates.flash.slot = self.updates.state().trial or self.updates.state().good
        link = UdpLink(network.address, EVERYBODY, port=network.port, broadcast_port=network.broadcast_port)
        self.node = Node(
            self.storage, [link], [link], BoardClock(), secrets.token_bytes, self._tell, updates=self.updates
        )
        await self.node.start()
        await asyncio.sleep(0)
        self.powered = True

    def _reset(self):
        task = asyncio.get_running_loop().create_task(self._begin_anew())
        self._restarting.add(task)
        task.add_done_callback(self._restarting.discard)

    async def _begin_anew(self):
        self.restarts += 1
        await self.stop()
        collection = install.due(self.updates)
        if collection is not None and install.run(self.updates, self.store, collection, lambda: None):
            octets = (self.folder / f"agent.{self.updates.state().trial}").read_bytes()
            self.installed = octets[: len(IMAGE)]
        await self.start()


@contextlib.asynccontextmanager
async def home(folder, members=2, strangers=0):
    """A gateway and boards, of which the first have joined a group."""
    async with open_house(folder, batching_s=0) as house:
        gateway = await house.gateway()
        house.server.app.create_group(GROUP, open_to=["home"])
        for at in range(members + strangers):
            name = f"lamp{at}"
            board = UpdatableBoard(name, trust_of(gateway.app), folder)
            gateway.app.register(board.credential)
            house.boards[name] = board
            await board.start()
            if at < members:
                await board.node.join(GROUP, 3600.0)
        yield house


async def offer(house, file=FIVE, **how):
    return await house.gateways["home"].app.updates.offer(base64.b64encode(file).decode(), **how)


def updates_of(house):
    return house.gateways["home"].app.updates


def told(house, kind):
    stream = house.gateways["home"].app.stream
    return [each.event for each in stream.recent() if isinstance(each.event, kind)]


def all_have(house, number):
    seen = updates_of(house).status()["boards"]
    return len(seen) == len(house.boards) and all(each.agent_number == number and each.state == "idle" for each in seen)


def lost(monkeypatch, share):
    """Of the datagrams of updates every `share`-th reaches no board."""
    count = 0
    send = UdpBroadcast._send_on

    def lossy(self, interface, datagram):
        nonlocal count
        if datagram[0] == FRAME_UPDATE:
            count += 1
            if not count % share:
                return True
        return send(self, interface, datagram)

    monkeypatch.setattr(UdpBroadcast, "_send_on", lossy)


async def test_agents_pull_an_update_run_it_and_say_so(tmp_path):
    async with home(tmp_path) as house:
        await until(lambda: all(each.state == "idle" for each in updates_of(house).status()["boards"]))
        await offer(house, boards=["lamp0"])
        await until(lambda: updates_of(house).of_board("lamp0", ()).agent_number == 5)
        assert updates_of(house).of_board("lamp1", ()).agent_number == 0
        await offer(house)
        await until(lambda: all_have(house, 5))
        for board in house.boards.values():
            assert (board.installed, board.restarts) == (IMAGE, 1)
        assert {each.pne_id for each in told(house, events.BoardUpdated)} == {"lamp0", "lamp1"}
        (offered,) = updates_of(house).status()["offers"]
        assert (offered.boards_count, offered.updated_count) == (2, 2)


async def test_agents_hear_an_update_and_pull_what_was_lost(tmp_path, monkeypatch):
    lost(monkeypatch, 6)
    async with home(tmp_path) as house:
        counters = house.gateways["home"].app.counters
        await offer(house, broadcast=True)
        await until(lambda: all_have(house, 5))
        assert [board.installed for board in house.boards.values()] == [IMAGE] * 2
        assert counters["update_pieces"] <= 6
        refusals = ("updates_malformed", "updates_not_offered", "updates_not_allowed", "updates_too_many")
        assert not any(counters[each] for each in refusals)


async def test_members_hear_a_sealed_update_and_no_other_board_runs_it(tmp_path):
    async with home(tmp_path, strangers=1) as house:
        stranger = house.boards["lamp2"]
        await until(lambda: updates_of(house).of_board("lamp2", ()) is not None)
        counters = house.gateways["home"].app.counters
        await offer(house, broadcast=True, sealed=GROUP)
        await until(lambda: all(house.boards[name].installed == IMAGE for name in ("lamp0", "lamp1")))
        assert counters["update_pieces"] <= 4  # all else came by broadcast, and members opened it
        await asyncio.sleep(600)
        assert stranger.installed is None and stranger.restarts == 0
        assert not any(IMAGE[at : at + 16] in each for each in house.air.datagrams for at in range(0, len(IMAGE), 1024))
        assert any(each[:2] == bytes([FRAME_UPDATE, n.SEALED]) for each in house.air.datagrams)


async def test_withdrawn_in_the_middle_no_board_runs_it(tmp_path):
    async with home(tmp_path) as house:
        await offer(house, broadcast=True)
        await until(lambda: len(house.air.datagrams) > 30)
        await updates_of(house).withdraw()
        sent = sum(each[0] == FRAME_UPDATE for each in house.air.datagrams)
        await asyncio.sleep(1200)
        assert sum(each[0] == FRAME_UPDATE for each in house.air.datagrams) <= sent + 1
        assert all((board.restarts, board.installed) == (0, None) for board in house.boards.values())
        left = {path.name for board in house.boards.values() for path in board.folder.glob("update*")}
        assert left == {slot_record.MARK}  # which says that these boards have had a record of the numbers


async def test_a_gateway_that_restarts_in_the_middle_brings_it_to_its_end(tmp_path):
    async with home(tmp_path) as house:
        await offer(house)
        await until(lambda: house.gateways["home"].app.counters["update_pieces"] > 10)
        await house.gateways["home"].restart()
        await until(lambda: all_have(house, 5), 4 * 3600)
        assert [board.installed for board in house.boards.values()] == [IMAGE] * 2


@pytest.mark.req("SEC-30")
async def test_an_update_by_another_key_changes_no_board_and_the_gateway_says_why(tmp_path):
    async with home(tmp_path) as house:
        for board in house.boards.values():
            key.keep(board.store, secrets.token_bytes(64))
            await board.restart()
        await offer(house)
        await until(lambda: len(told(house, events.BoardRefused)) == 2)
        for each in updates_of(house).status()["boards"]:
            assert (each.state, each.reason) == ("refused", "it has another update key, which only a cable replaces")
        assert all(board.restarts == 0 for board in house.boards.values())
        assert id_of(FIVE).hex() == updates_of(house).status()["offers"][0].update_id
