"""A delivery report says of each PNE on which link the key came, after how many tries and when (Q-08)."""

from dataclasses import replace

import pytest

from cpns import delivery_report, messages, numbers, tuning, xml_form
from cpns import report as short
from gateway_agent.core import events
from gateway_agent.core.delivering.delivery_reports import LISTS_ONLY_S, NAMES_PER_REPORT
from gateway_agent.core.ports import NotUnderstood
from gateway_agent.store.delivery_table import DeliveryOutcome
from tests.unit.gateway_world import FAST, World

PATIENT = replace(FAST, answer_s=3600.0)  # a broadcast is waited for


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw", pacing=PATIENT).start()
    yield world
    await world.close()


def told(world):
    """What the newest report says of each PNE: link, tries, time."""
    return {pne_id: tuple(rest) for pne_id, *rest in world.server.reports[-1][messages.DELIVERY]}


def in_advert(world, name):
    """The report of a board without session, as the 21 octets of an advert."""
    group, board = world.server.group("light"), world.boards[name]
    fields = board.response("light", group.version, board.records[-1], group.key)
    labels = (messages.GENERATION, messages.VERSION, messages.SLOT, messages.RESULT)
    alias = world.store.inventory.group("light").alias
    return short.build(alias, *(fields[label] for label in labels), fields[messages.PROOF])


@pytest.mark.req("Q-08")
async def test_broadcast_and_unicast_are_told_apart(world):
    for i in range(4):
        await world.board(f"b{i}", "light")
    await world.board("plain", "light", gkdk=False)
    await world.server.rekey("light")
    await world.delivered("light")
    at = world.clock.unix_time
    by_broadcast = {f"b{i}": (delivery_report.WIFI, 1, at) for i in range(4)}
    assert told(world) == {**by_broadcast, "plain": (delivery_report.UNICAST, 1, at)}


@pytest.mark.req("Q-08")
async def test_tries_are_the_airings_and_the_unicasts_to_one_pne(tmp_path):
    world = await World(tmp_path / "gw").start()
    boards = [await world.board(f"b{i}", "light") for i in range(6)]
    boards[0].deaf = True
    silent = await world.board("ghost", "light", gkdk=False)
    silent.reachable = False
    await world.server.rekey("light")
    await world.delivered("light")
    assert told(world)["b0"] == (delivery_report.UNICAST, len(world.air) + 1, world.clock.unix_time)
    assert told(world)["ghost"] == (None, world.pacing.failures_max, None)
    assert world.server.reports[-1][messages.UNREACHABLE] == ["ghost"]
    await world.close()


@pytest.mark.req("Q-08", "SEC-14")
async def test_a_confirmation_by_advert_is_told_as_such(world):
    for i in range(4):
        board = await world.board(f"b{i}", "light")
        board.deaf, board.reachable = True, False
    await world.server.rekey("light")
    await world.until(lambda: world.air)
    for name in world.boards:
        world.medium.heard(in_advert(world, name))
    await world.delivered("light")
    assert {link for link, _, _ in told(world).values()} == {delivery_report.BLE}


@pytest.mark.req("Q-08")
async def test_a_broadcast_confirmed_over_a_connection_by_bluetooth_came_by_bluetooth(world):
    world.gateway._deliveries._is_on_bluetooth = lambda pne_id: pne_id == "b0"
    for i in range(4):
        await world.board(f"b{i}", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    links = {pne_id: link for pne_id, (link, _, _) in told(world).items()}
    assert links == {"b0": delivery_report.BLE} | dict.fromkeys(("b1", "b2", "b3"), delivery_report.WIFI)


@pytest.mark.req("Q-08")
async def test_a_key_that_was_pulled_counts_the_pull_as_a_try(tmp_path):
    world = await World(tmp_path / "gw", broadcast=False).start()
    board = await world.board("lamp", "light")
    board.reachable = False
    version = await world.server.rekey("light")
    await world.until(lambda: world.gateway.counters["unicast_failed"])
    await board.pull("light")
    await board.pull("light")  # which says that it holds the key
    await world.delivered("light")
    assert board.version("light") == version
    assert world.server.reports[-1][messages.CONFIRMED] == ["lamp"]
    link, tries, _ = told(world)["lamp"]
    assert link == delivery_report.UNICAST and tries >= 2
    await world.close()


@pytest.mark.req("Q-08")
async def test_a_member_that_joined_after_the_delivery_and_pulled_its_key_is_evidence_too(world):
    await world.board("lamp", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    late, stranger = await world.board("late", "light"), await world.board("stranger", "light")
    with world.store.transaction():  # a Server that makes no new key for a newcomer lets it read this one
        world.store.inventory.lower_floor("light", "late", version - 1)

    def outcomes():
        return world.store.deliveries.outcomes("light", version)

    await late.pull("light")
    await late.pull("light", version=0)  # the answer was lost
    assert late.version("light") == version and outcomes().keys() == {"lamp"}
    await late.pull("light")  # which says that it holds the key
    await stranger.pull("light", version=version)  # which it cannot know
    await world.until(lambda: "late" in outcomes())
    assert outcomes().keys() == {"lamp", "late"}
    assert outcomes()["late"] == DeliveryOutcome("confirmed", delivery_report.UNICAST, 2, world.clock.unix_time)
    assert world.store.deliveries.get("light", version).phase == "finished"
    await world.until(lambda: "late" in told(world))
    assert told(world)["late"] == (delivery_report.UNICAST, 2, world.clock.unix_time)
    assert events.KeyConfirmed("late", "light", version, delivery_report.UNICAST, 2) in world.told


@pytest.mark.req("Q-08")
async def test_what_was_not_told_yet_is_told_after_a_restart(world):
    await world.board("lamp", "light")
    await world.server.rekey("light")
    world.server.up = False
    at = world.clock.unix_time
    await world.until(lambda: world.gateway.administration.delivery("light")[1] == {"confirmed": 1})
    world.clock.unix_time += 1000
    world.server.reports.clear()
    world.server.up = True
    await world.restart()
    await world.until(lambda: world.server.reports)
    assert told(world) == {"lamp": (delivery_report.WIFI, 1, at)}


async def test_a_clock_that_is_not_synchronised_is_an_unknown_time(world):
    world.clock.unix_time = 0
    await world.board("lamp", "light", gkdk=False)
    await world.server.rekey("light")
    await world.delivered("light")
    assert told(world) == {"lamp": (delivery_report.UNICAST, 1, 0)}


@pytest.mark.req("SEC-26", "Q-08")
async def test_a_carried_key_is_told_as_end_to_end(world):
    world.server.group("light").end_to_end = True
    board = await world.board("lamp", "light")
    world.server.group("light").version, world.server.group("light").key = 65537, bytes(range(16))
    board.reachable = False
    await world.server.wrap("light", "lamp")
    await world.until(lambda: world.server.reports)
    assert told(world) == {"lamp": (None, world.pacing.failures_max, None)}
    board.reachable = True
    await board.pull("light")
    await world.until(lambda: world.gateway.counters["carried_responses"])
    await world.gateway.tick()
    expected = (delivery_report.END_TO_END, world.pacing.failures_max + 1, world.clock.unix_time)
    assert told(world) == {"lamp": expected}


async def test_a_server_of_an_earlier_release_gets_the_lists_and_is_tried_again_a_day_later(world):
    answer, asked = world.server.answer, []

    async def of_before(pn_id, message):
        code, fields = messages.decode(message, 1 << 20)
        if code == numbers.DELIVERY_REPORT_REQUEST:
            asked.append(messages.DELIVERY in fields and bool(fields[messages.DELIVERY]))
            if asked[-1]:
                raise NotUnderstood("4.00")
        return await answer(pn_id, message)

    world.server.answer = of_before
    await world.board("lamp", "light")
    for _ in range(2):
        await world.server.rekey("light")
        await world.delivered("light")
        assert world.server.reports[-1][messages.CONFIRMED] == ["lamp"]
        assert world.server.reports[-1][messages.DELIVERY] == []
    assert asked[0] and not any(asked[1:])
    world.clock.ahead += LISTS_ONLY_S
    world.server.answer = answer
    await world.server.rekey("light")
    await world.delivered("light")
    assert told(world)["lamp"][1] == 1


def test_a_report_of_the_longest_names_fits_into_a_message():
    names = [f"{i:064d}" for i in range(NAMES_PER_REPORT)]
    fields = {messages.SG_ID: "s" * 64, messages.VERSION: 1, messages.UNREACHABLE: names}
    fields[messages.DELIVERY] = [(name, "x" * 16, 0xFFFFFFFF, 0xFFFFFFFF) for name in names]
    for form in (messages, xml_form):
        assert len(form.encode(numbers.DELIVERY_REPORT_REQUEST, fields)) <= tuning.UPLINK_MESSAGE_MAX


async def test_a_pne_that_is_excluded_keeps_what_it_confirmed(world):
    await world.board("lamp", "light")
    version = await world.server.rekey("light")
    await world.delivered("light")
    before = world.store.deliveries.outcomes("light", version)["lamp"]
    assert before.state == "confirmed"
    await world.server.expel("light", "lamp")
    assert world.store.deliveries.outcomes("light", version)["lamp"] == replace(before, state="excluded")
    assert before == DeliveryOutcome("confirmed", before.link, 1, world.clock.unix_time)
