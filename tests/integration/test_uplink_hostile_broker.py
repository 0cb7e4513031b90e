"""A broker that doubles, reorders, holds back for a day and makes things up: members have the newest key in the end, no
PN GW takes an older one, and no nonce is used twice."""

import asyncio
import random
from collections import Counter

import pytest

from gateway_agent.state_files import SESSIONS_FILE
from message_plane.links.mqtt_topics import down, tag_of, up
from tests.integration.mqtt_street import is_datagram
from tests.integration.mqtt_uplink_world import SG
from tests.integration.mqtt_village import DAY_S, Village, forget_sessions, village

__all__ = ["village"]


@pytest.mark.long
@pytest.mark.req("SEC-27")
async def test_what_was_held_for_a_day_is_taken_by_nobody(village: Village) -> None:
    home = village.homes[0]
    village.hold(down(tag_of(home.gateway_id)), up(tag_of(home.gateway_id)))
    for _ in range(5):
        village.update()
        await asyncio.sleep(60)
    assert home.version() < village.version and village.held
    village.hand_on()
    newest = village.update()
    await village.keyed()
    await asyncio.sleep(DAY_S)
    late, brought = [*village.held, *village.held], len(village.recorder.brought[home.gateway_id])
    random.Random(1).shuffle(late)
    for topic, payload in late:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert home.version() == village.version == newest
    older = village.recorder.brought[home.gateway_id][brought:]
    assert len(older) == len([topic for topic, _ in village.held if "/dn/" in topic]) > 1, "each is read once"
    assert home.home.app.counters["server_refused"] == len(older)
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
async def test_each_message_that_ever_passed_is_repeated_and_nothing_comes_of_it(village: Village) -> None:
    for _ in range(3):
        village.update()
        await village.keyed()
    await asyncio.sleep(600)  # no end remembers what CoAP would take for a copy
    members, made, handled = village.members(), village.handshakes(), village.handled()
    for topic, payload in [(topic, payload) for _, topic, payload in village.broker.published if is_datagram(topic)]:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert (village.members(), village.handshakes(), village.handled()) == (members, made, handled)
    assert {home.version() for home in village.homes} == {village.version}
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
@pytest.mark.parametrize("who", ["gateway", "server"])
async def test_the_session_is_made_anew_while_messages_are_on_their_way(village: Village, who: str) -> None:
    home = village.homes[0]
    village.hold(down(tag_of(home.gateway_id)), up(tag_of(home.gateway_id)))
    village.update()
    await asyncio.sleep(90)
    if who == "gateway":
        await village.stop(home)
        forget_sessions(home.config.gateway.state_dir / SESSIONS_FILE)
        village.hand_on()
        await village.start(home)
    else:
        await village.stop_server()
        forget_sessions(village.operator.folder / "sessions.sqlite3")
        village.hand_on()
        await village.start_server()
        await asyncio.sleep(1)
    queued = Counter(village.held)
    for topic, payload in queued:  # what the broker had for the ends comes before anything new
        village.broker.publish(topic, payload)
    await village.keyed()
    assert village.handshakes() <= (3 if who == "gateway" else 2)
    newest = village.update()
    await village.keyed()
    for topic, payload in queued:
        village.broker.publish(topic, payload)
        await asyncio.sleep(1)
    assert home.version() == newest
    village.update()
    await village.keyed()


@pytest.mark.req("SEC-27")
async def test_a_presence_that_is_made_up_is_only_a_hint(village: Village) -> None:
    home = village.homes[0]
    presence = f"keycast/1/st/{tag_of(home.gateway_id)}"
    village.broker.publish(presence, b"0", retain=True)  # the broker says that it is gone, and it is not
    await asyncio.sleep(1)
    newest = village.update()
    await village.keyed()
    await village.stop(home)
    village.broker.publish(presence, b"1", retain=True)  # and the other way round
    for _ in range(3):
        newest = village.update()
        await asyncio.sleep(600)
    await village.start(home)
    await village.keyed()
    assert home.version() == newest


@pytest.mark.req("SEC-03")
async def test_after_a_restore_of_the_server_each_gateway_comes_by_itself(village: Village) -> None:
    await asyncio.sleep(1000)  # the next version list is minutes away
    made, before = village.handshakes(), village.version
    await village.operator.server.restore()
    await asyncio.sleep(60)
    assert village.handshakes() == made + len(village.homes)
    assert {home.version() for home in village.homes} == {before}
    village.operator.server.confirm_members(SG)
    await village.keyed()
