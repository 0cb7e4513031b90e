"""Turns: one task at a time works on a name, and live PNEs come before those that do not answer."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpns import messages, numbers
from gateway_agent.core import turns as module
from gateway_agent.core.delivering.deliveries import UNICASTS_AT_ONCE
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.housekeeping import PUSHES_AT_ONCE
from gateway_agent.core.ports import NoAnswer
from gateway_agent.core.turns import PlaceQueue, PlaceRequest, Turns, UnicastPlaces
from tests.unit.gateway_world import World


async def test_many_who_work_on_one_name_without_a_pause_let_others_work_too():
    turns, order = Turns(), []

    async def work():
        async with turns.of("light"):
            order.append("work")

    async def other():
        while order.count("work") < 100:
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(other(), *(work() for _ in range(100)))
    assert order.count("other") >= 100 and "".join(name[0] for name in order).find("www") == -1


async def test_turns_are_kept_apart_by_name_and_forgotten():
    turns, order = Turns(), []

    async def work(name, number):
        async with turns.of(name):
            order.append(("begins", name, number))
            await asyncio.sleep(0.001)
            order.append(("ends", name, number))

    waiting = asyncio.ensure_future(work("light", 9))
    tasks = [work("light", 1), work("light", 2), work("heat", 3)]
    await asyncio.sleep(0)
    cancelled = asyncio.ensure_future(work("light", 4))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.gather(waiting, *tasks)
    light = [(what, number) for what, name, number in order if name == "light"]
    assert light == [(what, number) for number in (9, 1, 2) for what in ("begins", "ends")]
    assert order.index(("begins", "heat", 3)) < order.index(("begins", "light", 1))
    assert len(turns) == 0


def come(queue, *names):
    """(the requests, which of them go at once)"""
    requests = [PlaceRequest(name) for name in names]
    return requests, [each for request in requests for each in queue.come(request)]


def test_requests_go_in_their_order_while_there_are_places():
    queue = PlaceQueue(4)
    requests, going = come(queue, *"abcdef")
    assert going == requests[:4]
    assert queue.leave(requests[1]) == [requests[4]] and queue.leave(requests[0]) == [requests[5]]
    assert [queue.leave(request) for request in requests[2:]] == [[]] * 4


def test_those_that_do_not_answer_lose_their_places_to_those_that_may():
    queue = PlaceQueue(8)
    dead, going = come(queue, *(f"dead{number}" for number in range(20)))
    assert going == dead[:8]
    (living,), going = come(queue, "living")
    assert not going
    for request in dead[:8]:
        going += queue.unanswered(request)
    assert going == dead[8:14]  # a quarter of the places is lost to them, not one more
    for request in dead[8:14]:
        going += queue.unanswered(request)
    assert going[6:12] == dead[14:20]
    for request in dead[14:20]:
        going += queue.unanswered(request)
    assert going[12:] == [living]


def test_who_is_known_to_be_silent_gets_a_quarter_of_the_places_and_waits_behind_the_others():
    queue = PlaceQueue(8)
    dead, _ = come(queue, *"abcdefgh")
    for request in dead:
        queue.unanswered(request)
    for request in dead:
        queue.leave(request)
    again, going = come(queue, *"abcdefgh")
    assert going == again[:2]
    living, going = come(queue, *"ABCDEFGH")
    assert going == living[:6]
    assert queue.leave(living[0]) == [living[6]] and queue.leave(again[0]) == [living[7]]
    assert queue.leave(living[1]) == [again[2]]


def test_who_is_heard_does_not_wait_with_the_silent():
    queue = PlaceQueue(4)
    (first,), _ = come(queue, "a")
    queue.unanswered(first)
    queue.leave(first)
    waiting, going = come(queue, "a", "a", "a")
    assert going == waiting[:1]
    assert queue.heard("b") == [] and queue.heard("a") == waiting[1:]


@given(
    st.integers(1, 40),
    st.lists(st.tuples(st.sampled_from(["come", "leave", "unanswered", "heard"]), st.integers(0, 9))),
)
def test_every_request_has_its_turn_and_silent_ones_take_no_more_than_their_share(places, moves):
    queue, waiting, going, silent = PlaceQueue(places), [], [], set()

    def go(requests):
        for request in requests:
            waiting.remove(request)
            going.append(request)

    def before(request):
        return request.pne_id in silent

    for move, number in moves:
        name = f"b{number}"
        if move == "come":
            request = PlaceRequest(name)
            waiting.append(request)
            go(queue.come(request))
        elif move == "heard":
            silent.discard(name)
            go(queue.heard(name))
        elif going:
            request = going[number % len(going)]
            if move == "leave":
                going.remove(request)
                go(queue.leave(request))
            else:
                silent.add(request.pne_id)
                go(queue.unanswered(request))
        free_for_living = places - sum(not before(request) for request in going)
        assert not (any(not before(request) for request in waiting) and free_for_living > max(1, places // 4)), (
            "one that may be there waits, and more than the share of the silent is free"
        )
    while going:
        go(queue.leave(going.pop()))
    assert not waiting


async def test_a_place_is_free_again_when_its_pne_does_not_answer(monkeypatch):
    monkeypatch.setattr(module, "SILENT_AFTER_S", 0.001)
    places, ever, done = UnicastPlaces(4), asyncio.Event(), []

    async def ask(name, answers):
        async with places.of(name):
            if not answers:
                await ever.wait()
                raise NoAnswer("switched off")
            done.append(name)

    dead = [asyncio.ensure_future(ask(f"dead{number}", False)) for number in range(12)]
    await asyncio.gather(*(ask(name, True) for name in ("lamp", "door")))
    assert done == ["lamp", "door"]
    ever.set()
    assert all(isinstance(end, NoAnswer) for end in await asyncio.gather(*dead, return_exceptions=True))


async def test_who_waits_for_a_place_can_be_cancelled():
    places, held = UnicastPlaces(1), asyncio.Event()

    async def hold():
        async with places.of("a"):
            await held.wait()

    first, second = asyncio.ensure_future(hold()), asyncio.ensure_future(hold())
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    held.set()
    await first
    async with asyncio.timeout(10), places.of("b"):
        pass


@pytest.fixture
async def house(tmp_path, monkeypatch):
    """A home in which boards that were switched off let every request wait for its time limit."""
    monkeypatch.setattr(module, "SILENT_AFTER_S", 0.001)
    world = World(tmp_path / "gw", policy=DeliveryPolicy(method="unicast"))
    world.off, world.asked = set(), Counter()
    answer = world.request

    async def request(pne_id, message):
        world.asked[messages.decode(message)[0]] += 1
        if pne_id in world.off:
            await asyncio.Event().wait()
        return await answer(pne_id, message)

    world.request = request
    yield world
    await world.close()


async def test_a_key_reaches_a_living_board_while_more_boards_are_off_than_there_are_places(house):
    names = [f"b{number:02}" for number in range(UNICASTS_AT_ONCE + 8)]
    for name in names:
        await house.board(name, "light")
    lamp = await house.board("zz", "light")
    await house.start()
    house.off.update(names)
    version = await house.server.rekey("light")
    await house.until(lambda: lamp.version("light") == version)
    assert not any(house.boards[name].version("light") == version for name in names)


async def test_a_gkdk_reaches_a_living_board_while_more_boards_are_off_than_there_are_places(house):
    names = [f"b{number:02}" for number in range(PUSHES_AT_ONCE + 4)]
    for name in names:
        await house.board(name, "light")
    lamp = await house.board("zz", "light")
    await house.start()
    house.off.update(names)
    assert house.gateway.administration.new_generation() == 2
    await house.until(lambda: lamp.records[-1].generation == 2)
    assert house.asked[numbers.GENERATION_REQUEST] > PUSHES_AT_ONCE
