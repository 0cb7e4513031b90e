"""A CPNS Server that does not answer version lists is an alarm, and by policy no key is given out then (SEC-28)."""

import asyncio

import pytest

from cpns import messages, numbers
from cpns.errors import NotAllowed
from gateway_agent.core import alarms, events
from gateway_agent.core.delivering.policy import STALE_MIN_S, DeliveryPolicy
from gateway_agent.core.server_silence import ALARM_AFTER_S
from tests.unit.gateway_world import BROADCAST_ALWAYS, World

STALE_AFTER_S = 7200
STRICT = BROADCAST_ALWAYS.model_copy(update={"stale_after_s": STALE_AFTER_S})
SG = "light"


async def home(folder, **how):
    """A home whose CPNS Server is elsewhere, at its first tick. The test calls the others."""
    world = World(folder / "gw", **{"server_is_elsewhere": True, **how})
    await world.gateway.tick()
    return world


@pytest.fixture
async def world(tmp_path):
    world = await home(tmp_path)
    yield world
    await world.close()


@pytest.fixture
async def strict(tmp_path):
    world = await home(tmp_path, policy=STRICT)
    yield world
    await world.close()


async def silent_for(world, seconds):
    """The Server says nothing for so long."""
    world.server.up = False
    world.clock.ahead += seconds
    await world.gateway.tick()  # looks at the silence, and asks in vain
    await world.gateway.tick()


async def heard(world):
    world.server.up = True
    await world.gateway.tick()


def raised(world):
    return [alarm.text for alarm in world.gateway.administration.alarms() if alarm.kind == alarms.SERVER]


@pytest.mark.req("SEC-28")
async def test_half_an_hour_without_an_answer_is_an_alarm_that_ends_with_the_next_one(world):
    await silent_for(world, ALARM_AFTER_S - 5)
    assert not raised(world)
    await silent_for(world, 5)
    (text,) = raised(world)
    assert "30 minutes" in text and "the uplink is down" in text and "See whether it runs" in text
    assert "a board that was removed may still get keys" in text
    await heard(world)
    assert not raised(world)


@pytest.mark.req("SEC-28")
async def test_a_server_that_was_never_heard_is_an_alarm_half_an_hour_after_the_start(tmp_path):
    world = World(tmp_path / "gw", server_is_elsewhere=True)
    await silent_for(world, ALARM_AFTER_S)
    assert raised(world) and world.gateway.administration.server_age_s is None
    await heard(world)
    world.clock.ahead += 60
    assert not raised(world) and 60 <= world.gateway.administration.server_age_s < 120
    await world.close()


@pytest.mark.req("SEC-28")
async def test_a_server_that_answers_other_messages_only_is_an_alarm(world):
    answer = world.server.answer

    async def withholding(pn_id, message):
        if messages.decode(message, 1 << 20)[0] == numbers.VERSION_LIST_REQUEST:
            return messages.failure(numbers.VERSION_LIST_REQUEST, NotAllowed("not now"))
        return await answer(pn_id, message)

    world.server.answer = withholding
    for _ in range(4):
        world.clock.ahead += ALARM_AFTER_S / 4
        await world.board("lamp", SG)
        await world.gateway.tick()
    await world.gateway.tick()
    assert len(raised(world)) == 1 and "not now" in raised(world)[0]


@pytest.mark.req("SEC-28")
async def test_a_server_that_answers_is_none_however_long_it_takes(world):
    for _ in range(200):
        world.clock.ahead += 60
        await world.gateway.tick()
        assert not raised(world)


@pytest.mark.req("SEC-28")
async def test_a_server_in_this_process_is_never_one(tmp_path):
    world = await home(tmp_path, server_is_elsewhere=False, policy=STRICT)
    await world.board("lamp", SG)
    version = await world.server.rekey(SG)
    await silent_for(world, 10 * STALE_AFTER_S)
    assert not raised(world)
    assert (await world.boards["lamp"].pull(SG))[messages.VERSION] == version
    await world.close()


@pytest.mark.req("SEC-28", "SEC-02")
async def test_a_gateway_that_is_stopped_as_an_old_copy_does_not_ask_and_does_not_complain(world):
    await world.board("lamp", SG)
    await world.server.rekey(SG)
    world.server.group(SG).accepted[world.pn_id] += 5
    world.clock.ahead += 900
    await world.gateway.tick()
    assert world.gateway.administration.stop_reason
    await silent_for(world, 10 * ALARM_AFTER_S)
    assert not raised(world)


@pytest.mark.req("SEC-28")
async def test_without_the_policy_keys_are_given_out_all_the_time(world):
    lamp = await world.board("lamp", SG)
    lamp.deaf, lamp.reachable = True, False
    version = await world.server.rekey(SG)
    await silent_for(world, 100 * STALE_AFTER_S)
    assert raised(world) and not world.gateway.administration.withholds_keys
    answer = await lamp.pull(SG)
    assert answer[messages.VERSION] == version and messages.GROUP_KEY in answer


@pytest.mark.req("SEC-28")
async def test_with_the_policy_no_board_is_given_a_key_until_the_server_answers(strict):
    lamp = await strict.board("lamp", SG)
    lamp.deaf, lamp.reachable = True, False
    version = await strict.server.rekey(SG)
    await silent_for(strict, STALE_AFTER_S - 5)
    assert messages.GROUP_KEY in await lamp.pull(SG)
    await silent_for(strict, 5)
    assert strict.gateway.administration.withholds_keys
    assert "no key is given out until it answers" in raised(strict)[0]
    lamp.keys.clear()
    answer = await lamp.pull(SG)
    assert (answer[messages.RESULT], answer[messages.ERROR]) == (numbers.RESULT_FAIL, numbers.ERROR_STALE)
    assert not lamp.keys
    await heard(strict)
    assert not strict.gateway.administration.withholds_keys and not raised(strict)
    assert messages.GROUP_KEY in await lamp.pull(SG)
    assert lamp.version(SG) == version
    withheld = [event for event in strict.told if isinstance(event, events.KeysWithheld | events.KeysResumed)]
    assert [type(event) for event in withheld] == [events.KeysWithheld, events.KeysResumed]


@pytest.mark.req("SEC-28")
async def test_with_the_policy_a_delivery_rests_and_goes_on_when_the_server_answers(strict):
    lamp = await strict.board("lamp", SG, gkdk=False)
    lamp.reachable = False
    strict.gateway._deliveries._pacing = strict.gateway._deliveries._pacing.__class__(
        confirmation_cost_s=0.001, unicast_retry_s=0.01, failures_max=1000
    )
    version = await strict.server.rekey(SG)
    await strict.until(lambda: strict.gateway.counters["unicast_failed"] >= 2)
    await silent_for(strict, STALE_AFTER_S)
    lamp.reachable = True
    assert strict.store.deliveries.get(SG, version).phase == "running"
    assert strict.gateway.administration.delivery(SG) == (0, {})  # nothing of it runs
    assert not lamp.heard_unicast
    await heard(strict)
    await strict.until(lambda: lamp.version(SG) == version)


@pytest.mark.req("SEC-28")
async def test_with_the_policy_a_key_that_comes_makes_the_gateway_ask_first(strict):
    await strict.board("lamp", SG)
    await strict.server.rekey(SG)
    await silent_for(strict, STALE_AFTER_S)
    answer = await strict.server.send_key(SG)  # the version list has no answer still
    assert answer[messages.RESULT] == numbers.RESULT_FAIL and strict.gateway.administration.withholds_keys
    strict.server.up = True
    version = await strict.server.rekey(SG)
    assert not strict.gateway.administration.withholds_keys
    await strict.until(lambda: strict.boards["lamp"].version(SG) == version)


@pytest.mark.req("SEC-28", "SEC-26")
async def test_with_the_policy_nothing_is_carried(strict):
    group = strict.server.group(SG)
    group.end_to_end = True
    lamp = await strict.board("lamp", SG)
    await strict.server.inventory(SG)
    lamp.reachable = False
    group.version, group.key = 65537, bytes(range(16))
    await strict.server.wrap(SG, "lamp")
    await strict.until(lambda: strict.gateway.counters["carried_unanswered"] >= strict.pacing.failures_max)
    await silent_for(strict, STALE_AFTER_S)
    lamp.reachable = True
    sent = strict.gateway.counters["carried"]
    await lamp.get_gkdk()  # it is heard, and asked again
    for _ in range(50):  # turns of the loop, in which the key would have been sent
        await asyncio.sleep(0)
    assert strict.gateway.counters["carried"] == sent and not lamp.heard_unicast
    await heard(strict)
    await lamp.get_gkdk()
    await strict.until(lambda: lamp.version(SG) == 65537)


@pytest.mark.parametrize("seconds", [1, 60, STALE_MIN_S - 1])
def test_the_policy_cannot_be_shorter_than_two_version_lists(seconds):
    with pytest.raises(ValueError, match="at least 1800 s"):
        DeliveryPolicy(stale_after_s=seconds)


def test_the_policy_is_off_by_default():
    assert DeliveryPolicy().stale_after_s == 0
    assert DeliveryPolicy(stale_after_s=STALE_MIN_S).stale_after_s == STALE_MIN_S
