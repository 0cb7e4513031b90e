"""A radio that airs for seconds: it is stopped in time (SEC-06, SEC-38), waited for, and used when it comes back."""

import asyncio
from dataclasses import replace

import pytest

from cpns import broadcast_object, messages, numbers
from gateway_agent.app import GatewayApp
from gateway_agent.config.load import parse
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from gateway_agent.radios import by_kind
from gateway_agent.radios.medium import Step
from gateway_agent.radios.recovery import WAIT_MAX_S
from gateway_agent.store.errors import StoreFailed
from keycast.free_ports import free_port
from tests.unit import toy_medium
from tests.unit.gateway_world import FAST, PN, Server, Signer, World, _Uplink
from tests.unit.scripted_medium import ScriptedMedium
from tests.unit.toy_medium import BEATS, Drum

SLOW = replace(FAST, answer_s=1.0, unicast_retry_s=5.0)


@pytest.fixture
async def world(tmp_path):
    """Six boards; none of them hears the first key, and none can be reached by unicast."""
    world = await World(tmp_path / "gw", medium=Drum(), pacing=SLOW).start()
    for i in range(6):
        board = await world.board(f"b{i}", "light")
        board.deaf, board.reachable = True, False
    yield world
    await world.close()


async def air_for(world, seconds):
    """A key is on the air for so long; the datagram that it is on the air with."""
    await world.server.rekey("light")
    await world.until(lambda: world.gateway.administration.delivery("light")[1].get("sent"))
    await asyncio.sleep(seconds)
    (datagram,) = {datagram for _, datagram in world.medium.beats}
    assert len(world.medium.beats) == int(seconds / 3.0 * BEATS)
    return datagram


async def expelled(world):
    await world.server.expel("light", "b0")


async def left(world):
    assert (await world.boards["b0"].leave("light"))[messages.RESULT] == numbers.RESULT_SUCCESS


async def retired(world):
    world.gateway.administration.retire_pne("b0", Cause.LOST)


@pytest.mark.req("SEC-06", "SEC-38")
@pytest.mark.parametrize("removed", [expelled, left, retired])
@pytest.mark.parametrize("seconds", [0.4, 2.8])
async def test_nothing_of_the_old_object_leaves_after_a_removal_and_the_others_get_another(world, removed, seconds):
    old = await air_for(world, seconds)
    leaver = world.boards["b0"]
    assert leaver.opens(old, "light") is not None
    beats = len(world.medium.beats)
    await removed(world)
    assert len(world.medium.beats) == beats
    for name in ("b1", "b2", "b3", "b4", "b5"):
        world.boards[name].deaf = False
    await world.delivered("light")
    later = {datagram for _, datagram in world.medium.beats[beats:]}
    assert later and old not in later
    assert all(leaver.opens(datagram, "light") is None for datagram in later)
    assert all(world.boards[f"b{i}"].version("light") == world.server.group("light").version for i in range(1, 6))


@pytest.mark.req("SEC-38")
@pytest.mark.parametrize("how", ["newer key", "deleted", "a change is missing", "closed"])
async def test_nothing_of_the_old_object_leaves_after_it_is_superseded(world, how):
    old = await air_for(world, 0.4)
    beats = len(world.medium.beats)
    group = world.server.group("light")
    if how == "newer key":
        await world.server.rekey("light")
    elif how == "deleted":
        fields = {messages.SG_ID: "light", messages.VERSION: group.version}
        await world.server.tell(PN, numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
    elif how == "a change is missing":
        group.revision[PN] += 1
        await world.board("late", "light")
    else:
        await world.gateway.close()
    await asyncio.sleep(60)
    later = {datagram for _, datagram in world.medium.beats[beats:]}
    assert old not in later
    kinds = {type(broadcast_object.parse(each)) for each in later if each[0] != numbers.FRAME_BEACON}
    expected = {"newer key": {broadcast_object.Received}, "deleted": {broadcast_object.ReceivedDelete}}
    assert kinds == expected.get(how, set())


@pytest.mark.req("SEC-06", "SEC-38")
async def test_a_removal_that_the_store_refuses_leaves_everybody_a_member_and_may_be_repeated(world):
    old = await air_for(world, 1.0)
    with world.full_disk():
        beats = len(world.medium.beats)
        with pytest.raises(StoreFailed):
            await retired(world)
        assert len(world.medium.beats) == beats
        await asyncio.sleep(0.5)
    assert world.gateway.administration.delivery("light")[1] == {"sent": 6}
    beats = len(world.medium.beats)
    await retired(world)
    for name in ("b1", "b2", "b3", "b4", "b5"):
        world.boards[name].deaf = False
    await world.delivered("light")
    later = {datagram for _, datagram in world.medium.beats[beats:]}
    assert later and old not in later
    assert all(world.boards["b0"].opens(datagram, "light") is None for datagram in later)


async def test_a_key_that_the_store_refuses_does_not_end_the_delivery_of_the_one_before(world):
    await air_for(world, 1.0)
    version = world.server.group("light").version
    with world.full_disk():
        await world.server.rekey("light")
        await asyncio.sleep(0.5)
    for board in world.boards.values():
        board.deaf = False
    await world.until(lambda: world.gateway.administration.delivery("light") == (version, {"confirmed": 6}))
    await world.server.send_key("light")
    await world.delivered("light")
    assert {board.version("light") for board in world.boards.values()} == {version + 1}


async def test_confirmations_are_waited_for_from_the_end_of_the_airing(world):
    for board in world.boards.values():
        board.deaf = False
    await world.server.rekey("light")
    await world.delivered("light")
    assert len(world.medium.beats) == BEATS and not any(board.heard_unicast for board in world.boards.values())


async def test_a_medium_that_comes_back_airs_what_is_owed_also_to_boards_that_were_given_up(world):
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    assert world.gateway.administration.delivery("light")[1] == {"unreachable": 6} and not world.medium.beats
    await asyncio.sleep(3600)
    for board in world.boards.values():
        board.deaf = False
    world.medium.up = True
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 6})
    assert len(world.medium.beats) == BEATS
    await world.until(lambda: world.server.reports[-1].get(messages.CONFIRMED) == sorted(world.boards))
    world.medium.up = False
    world.medium.up = True
    await asyncio.sleep(60)
    assert len(world.medium.beats) == BEATS, "nothing is owed any more"


@pytest.mark.req("SEC-18")
async def test_what_is_aired_after_the_signing_key_changed_is_signed_with_the_new_one(world):
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    world.medium.up = True
    await asyncio.sleep(10)
    assert len(world.air) == 1
    for board in world.boards.values():
        board.deaf, board.reachable = False, True
    world.signer = world.trusted_signer = Signer()
    world.gateway.administration.roll_over(world.signer)
    await world.until(lambda: not world.store.pn.behind_signing_epoch())
    world.medium.up = False
    world.medium.up = True
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 6})
    assert len(world.air) == 2


async def test_boards_that_unicast_did_not_reach_are_broadcast_to_however_few_they_are(tmp_path):
    """They have sessions, and two are reached by unicast else; but the network was down for both ways."""
    world = await World(tmp_path / "gw", policy=DeliveryPolicy(), medium=ScriptedMedium(), pacing=SLOW).start()
    for name in ("a", "b"):
        await world.board(name, "light")
    world.medium.up = False
    request, world.request = world.request, no_answer
    await world.server.rekey("light")
    await world.delivered("light")
    assert world.gateway.administration.delivery("light")[1] == {"unreachable": 2}
    world.medium.up, world.request = True, request
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 2})
    assert len(world.air) == 1
    await world.close()


async def test_a_medium_that_refused_for_hours_airs_what_is_owed_when_it_works(tmp_path):
    medium = ScriptedMedium()
    medium.steps = (Step("open it anew", lambda: None),)
    world = await World(tmp_path / "gw", medium=medium, pacing=SLOW).start()
    for i in range(6):
        (await world.board(f"b{i}", "light")).reachable = False
    medium.refuses = True
    await world.server.rekey("light")
    await world.delivered("light")
    await asyncio.sleep(5 * 3600)
    medium.refuses = False
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 6}, WAIT_MAX_S + 60)
    assert len(world.air) == 1
    await world.close()


async def test_a_medium_that_comes_back_while_the_store_cannot_be_read_is_used_later(world, monkeypatch):
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    for board in world.boards.values():
        board.deaf = False
    with monkeypatch.context() as patch:
        patch.setattr(world.store.inventory, "members", fails)
        world.medium.up = True
        await asyncio.sleep(1)
        assert not world.medium.beats
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 6})


def fails(*_):
    raise StoreFailed("The store failed: disk I/O error.", "Check the medium.")


async def test_what_a_missing_change_of_members_stopped_is_aired_when_a_medium_comes_back(world):
    """Also to boards that were given up, after the delivery to all others has ended."""
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    world.medium.up = True
    await asyncio.sleep(1)
    beats = len(world.medium.beats)
    world.server.group("light").revision[PN] += 1
    await world.board("late", "light")
    await asyncio.sleep(60)
    assert len(world.medium.beats) == beats
    await world.server.inventory("light")
    for board in world.boards.values():
        board.deaf = False
    world.medium.up = False
    world.medium.up = True
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 6})


async def no_answer(pne_id, message):
    raise NoAnswer("the network is down")


async def test_a_broadcast_that_cannot_be_made_is_no_end_of_the_delivery(world, monkeypatch, caplog):
    def fails(*_):
        raise OSError("the card with the signing key is gone")

    for board in world.boards.values():
        board.reachable = True
    monkeypatch.setattr(world.signer, "sign", fails)
    await world.server.rekey("light")
    await world.delivered("light")
    assert world.gateway.administration.delivery("light")[1] == {"confirmed": 6}
    assert "no broadcast can be made" in caplog.text and not world.medium.beats


async def test_a_medium_that_goes_down_while_it_airs_airs_the_whole_object_when_it_comes_back(world):
    for board in world.boards.values():
        board.deaf, board.reachable = False, False
    await air_for(world, 1.5)
    world.medium.up = False
    beats = len(world.medium.beats)
    await asyncio.sleep(1)
    assert len(world.medium.beats) == beats
    world.medium.up = True
    await world.delivered("light")
    assert len(world.medium.beats) == beats + BEATS
    assert world.server.reports[-1][messages.CONFIRMED] == sorted(world.boards)


@pytest.mark.req("SEC-02")
async def test_a_medium_that_comes_back_airs_nothing_before_the_servers_word(world):
    world.medium.up = False
    await world.server.rekey("light")
    await world.delivered("light")
    world.server.up = False
    await world.restart()
    board = world.boards["b0"]
    version, key = world.server.group("light").version, world.server.group("light").key
    board.store("light", version, key)
    await board.confirm("light", version, board.records[-1])  # the delivery is known to this process
    world.medium.up = True
    await asyncio.sleep(3)
    assert not world.medium.beats


CONFIG = """
[gateway]
id = "gw"
pn = "pn.home"
state_dir = "{folder}/state"

[message_plane]
listen = ["127.0.0.1"]
port = {port}
discovery = false

[broadcast]
interfaces = []

[drum]
beat_s = 0.3
"""


class HomeOfApp(World):
    """A home whose PN GW is the whole product, as a configuration makes it; boards reach its core, not its port."""

    def open(self):
        self.store, self.gateway = self.app._store, self.app.gateway

    @classmethod
    async def of(cls, folder, text):
        home = cls.__new__(cls)
        home.server = Server()
        home.app = await GatewayApp.open(parse(text.encode()), _Uplink(home))
        World.__init__(home, folder, server=home.server, medium=toy_medium.made.pop())
        home.signer.key = home.app.signing_key._key
        await home.app.start()
        return home


@pytest.mark.req("CPNS-GKM-71")
async def test_a_kind_of_medium_is_one_file_and_one_line_and_delivers_keys(tmp_path, monkeypatch):
    """It airs for three seconds, is taken away in the middle of it, and put back."""
    monkeypatch.setitem(by_kind.KINDS, "drum", "tests.unit.toy_medium")
    home = await HomeOfApp.of(tmp_path, CONFIG.format(folder=tmp_path, port=free_port()))
    try:
        assert home.app.networks() == ["drum"] and not home.app.no_network()
        boards = [await home.board(f"b{i}", "light") for i in range(4)]
        version = await home.server.rekey("light")
        await home.until(lambda: home.medium.beats)
        home.medium.up = False
        assert "drum: it was taken away" in home.app.no_network()
        await asyncio.sleep(1)
        home.medium.up = True
        await home.until(lambda: home.gateway.administration.delivery("light")[1] == {"confirmed": 4})
        assert {board.version("light") for board in boards} == {version}
    finally:
        await home.app.close()
    assert not home.faults
