"""A whole gateway updates boards over their real sessions and by real broadcasts on the loopback network."""

import asyncio
import base64
import contextlib
from functools import partial

import pytest

from cpns import messages, numbers
from cpns.cborlite import decode
from cpns.errors import NotAllowed
from cpns.numbers import FRAME_UPDATE
from gateway_agent.config.load import load
from gateway_agent.core import events
from gateway_agent.updates.resource import PATH as UPDATE
from gateway_agent.updates.resource import update_resource
from keycast.free_ports import free_port
from keycast.services.home import open_home
from message_plane.errors import PeerRefused, PlaneError
from suit import frames, sealing
from suit import numbers as n
from tests.integration.plane_world import Party, Wire
from tests.unit.home_world import configured
from tests.unit.update_world import KEY, Board, image, signed
from tests.waiting import until

GROUP = "home/lights"
BROADCAST = "127.255.255.255"
IMAGE = image(20 * 1024)
FIVE = signed(5, IMAGE)


class Lamp(Party):
    """A PNE whose update is `board`. It reports when it is asked to."""

    def __init__(self, folder, pne_id):
        super().__init__(folder, pne_id, "pne")
        self.board = Board(self._ask)
        self.was_asked = asyncio.Event()
        self.resources["gateway"][UPDATE] = update_resource(self._asked)

    async def _ask(self, octets):
        return await self.endpoint.request("gw.home", octets, resource=UPDATE)

    async def _asked(self, peer, body):
        assert decode(body) == [n.ASK]
        self.was_asked.set()

    async def cpns(self, code, fields=()):
        message = messages.encode(code, {messages.PNE_ID: self.entity_id, **dict(fields)})
        answer = messages.decode(await self.ask("gw.home", message))[1]
        assert answer[messages.RESULT] == numbers.RESULT_SUCCESS


class House:
    """A gateway on the loopback network, which can be stopped and started, and lamps that have joined a group."""

    def __init__(self, folder):
        self.port = free_port()
        path = configured(folder)
        text = path.read_text().replace("interfaces = []", f'interfaces = ["lo"]\nport = {self.port}')
        path.write_text(text)
        self.folder = folder
        self.config = load(path)
        self.lamps = []
        self.wires = []
        self.heard = []

    @contextlib.asynccontextmanager
    async def running(self):
        async with open_home(self.config) as home:
            await home.start()
            if not self.lamps:
                home.server.create_group(GROUP, open_to=["home"])
            yield home

    @contextlib.asynccontextmanager
    async def lived_in(self, home, lamps=3):
        async with contextlib.AsyncExitStack() as stack:
            for at in range(lamps):
                lamp = await Lamp(self.folder, f"lamp.{at}").start()
                stack.push_async_callback(lamp.stop)
                lamp.store.register(home.app.identity.credential)
                home.app.register(lamp.credential)
                wire = await Wire.open(home.app.endpoint.places[0])
                stack.push_async_callback(wire.close)
                await lamp.endpoint.connect("gw.home", wire.place)
                await lamp.cpns(numbers.GKDK_ASSIGNMENT_REQUEST)
                await lamp.cpns(numbers.JOIN_REQUEST, {messages.SG_ID: GROUP})
                self.lamps.append(lamp)
                self.wires.append(wire)
            yield self.lamps

    @contextlib.asynccontextmanager
    async def listening(self, heard):
        """`heard(datagram)` gets all that is broadcast."""

        class Air(asyncio.DatagramProtocol):
            def datagram_received(self, data, address):
                heard(data)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Air, local_addr=(BROADCAST, self.port))
        try:
            yield
        finally:
            transport.close()


async def offer(home, file=FIVE, boards=(), groups=(), **how):
    return await home.app.updates.offer(base64.b64encode(file).decode(), boards, groups, **how)


async def test_boards_of_a_group_are_asked_and_pull_over_their_sessions(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home) as lamps:
        assert [await lamp.board.report() for lamp in lamps] == [b"", b"", b""]
        await offer(home, boards=["lamp.0"])
        await until(lamps[0].was_asked.is_set)
        assert (await lamps[1].board.report(), lamps[1].was_asked.is_set()) == (b"", False)
        await offer(home, groups=[GROUP])
        for lamp in lamps:
            await until(lamp.was_asked.is_set)
            await lamp.board.report()
        assert await asyncio.gather(*(lamp.board.finish() for lamp in lamps)) == [IMAGE] * 3
        for lamp in lamps:
            assert await lamp.board.report() == b""
        shown = [each.update for each in home.app.observer().snapshot().boards]
        assert [each and (each.agent_number, each.offered_number) for each in shown] == [(5, 0)] * 3
        told = [each.event for each in home.app.stream.recent() if isinstance(each.event, events.BoardUpdated)]
        assert {each.pne_id for each in told} == {"lamp.0", "lamp.1", "lamp.2"}
        everything = [data for wire in house.wires for data in wire.to_client + wire.to_server]
        assert not any(IMAGE[:16] in data for data in everything)  # under OSCORE


async def test_one_broadcast_reaches_all_boards_which_pull_what_they_have_missed(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home) as lamps:
        ((generation, key),) = home.app.updates._airing._frame_keys()
        count = 0

        def heard(datagram):
            nonlocal count
            if datagram[0] != FRAME_UPDATE:
                return
            count += 1
            for at, lamp in enumerate(lamps):
                if (count + at) % 7:  # one of seven is lost, for each lamp another one
                    lamp.board.hear(datagram, {generation: key})

        for lamp in lamps:
            await lamp.board.report()
        async with house.listening(heard):
            status = await offer(home, broadcast=True)
            for lamp in lamps:
                await lamp.board.report()
                assert lamp.board.wait_s > 0
            await asyncio.sleep(max(lamp.board.wait_s for lamp in lamps))
        assert status.aired_percent == 0 and count == 4 * 2 + 28
        assert home.app.updates.status()["offers"][0].aired_percent == 100
        for lamp in lamps:
            assert await lamp.board.finish() == IMAGE
            assert lamp.board.pulled <= 3


async def test_a_sealed_broadcast_is_read_by_the_members_of_a_group_only(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home, lamps=2) as (member, stranger):
        with pytest.raises(NotAllowed, match="there is no home/locks"):
            await offer(home, broadcast=True, sealed="home/locks")
        group = partial(home.app._store.inventory.group, GROUP)
        before = group().version
        await stranger.cpns(numbers.LEAVE_REQUEST, {messages.SG_ID: GROUP})
        await until(lambda: group().version > before and not group().waiting)
        ((generation, key),) = home.app.updates._airing._frame_keys()
        group_key = home.app._store.group_keys.get(GROUP, group().version)
        heard = []
        async with house.listening(heard.append):
            status = await offer(home, broadcast=True, sealed=GROUP)
            assert (status.sg_ids, status.sealed_for, status.boards_count) == ((GROUP,), GROUP, 1)
            assert [await lamp.board.report() for lamp in (member, stranger)] == [bytes.fromhex(status.update_id), b""]
            await asyncio.sleep(60)
        assert not any(IMAGE[at : at + 16] in datagram for datagram in heard for at in range(0, len(IMAGE), 1024))
        seal = sealing.Seal(group_key.key, GROUP, group_key.version, member.board.offered)
        for datagram in heard:
            member.board.hear(opened(datagram, seal), {generation: key})
        assert await member.board.finish() == IMAGE and member.board.pulled == 0


def opened(datagram, seal):
    """The frame in clear that a member has of a sealed one; others stay as they are."""
    if datagram[0] != FRAME_UPDATE or datagram[1] != n.SEALED:
        return datagram
    frame = frames.parse(datagram)
    return frames.build(n.FRAME, frame.update_id, frame.index, seal.turn(frame.index, frame.body[sealing.HEAD :]))


async def test_a_gateway_that_is_stopped_in_the_middle_goes_on(tmp_path):
    house = House(tmp_path)
    heard = []

    def hear(datagram):
        if datagram[0] == FRAME_UPDATE:
            heard.append(datagram)

    async with contextlib.AsyncExitStack() as stack:
        async with house.running() as home:
            (lamp,) = await stack.enter_async_context(house.lived_in(home, lamps=1))
            async with house.listening(hear):
                await offer(home, broadcast=True)
                await lamp.board.report()
                await until(lambda: len(heard) > 10)
            first = len(heard)
            await lamp.board.piece(n.ENVELOPE, 0)
        with pytest.raises(PlaneError):
            await lamp.endpoint.request("gw.home", b"\x80", resource=UPDATE, timeout_s=1)
        async with house.running() as home:
            async with house.listening(hear):
                await asyncio.sleep(30)
            assert 0 < first < len(heard) == 4 * 2 + 28
            assert home.app.updates.status()["offers"][0].aired_percent == 100
            await lamp.endpoint.connect("gw.home", house.wires[0].place)
            assert await lamp.board.finish() == IMAGE  # without another report


async def test_a_gateway_that_has_got_a_key_asks_the_boards_without_one(tmp_path):
    house = House(tmp_path)
    async with contextlib.AsyncExitStack() as stack:
        async with house.running() as home:
            lamps = await stack.enter_async_context(house.lived_in(home, lamps=2))
            lamps[0].board.key = b""
            for lamp in lamps:
                await lamp.board.report()
        (tmp_path / "update.pub").write_bytes(KEY.public.pem())
        with (tmp_path / "keycast.toml").open("a") as file:
            file.write('[update]\nkey = "update.pub"\n')
        house.config = load(tmp_path / "keycast.toml")
        async with house.running() as home:
            assert home.app.updates._that_lack_something() == ["lamp.0"]
            for lamp, wire in zip(lamps, house.wires, strict=True):
                await lamp.endpoint.connect("gw.home", wire.place)
            await lamps[0].board.report()
            assert lamps[0].board.key == KEY.public.octets
            await lamps[0].board.report()
            assert home.app.updates._that_lack_something() == []
            assert (await offer(home, boards=["lamp.1"])).is_verified
            assert home.app.updates._that_lack_something() == ["lamp.1"]


async def test_a_board_that_is_retired_in_the_middle_gets_nothing_more(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home, lamps=2) as (lost, kept):
        await offer(home)
        for lamp in (lost, kept):
            await lamp.board.report()
            await lamp.board.piece(n.ENVELOPE, 0)
        home.app.registrar.retire("lamp.0")
        with pytest.raises(PlaneError):
            await lost.endpoint.request("gw.home", lost.board.report_octets(), resource=UPDATE, timeout_s=1)
        await asyncio.sleep(0.1)
        assert [each.pne_id for each in home.app.updates.status()["boards"]] == ["lamp.1"]
        assert await kept.board.finish() == IMAGE


async def test_wrong_requests_are_refused_over_a_session(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home, lamps=1) as (lamp,):
        await offer(home)
        for octets in (b"", b"\xff", b"\x81\x03", bytes(1027)):
            with pytest.raises(PeerRefused):
                await lamp.endpoint.request("gw.home", octets, resource=UPDATE)
        lamp.board.offered = b"another!"
        with pytest.raises(PeerRefused, match="not offered"):
            await lamp.board.piece(n.ENVELOPE, 0)
        assert await lamp.board.report() != b""


async def test_a_board_without_a_key_gets_none_from_a_gateway_without_one(tmp_path):
    house = House(tmp_path)
    async with house.running() as home, house.lived_in(home, lamps=1) as (lamp,):
        lamp.board.key = b""
        await lamp.board.report()
        assert lamp.board.key == b""
