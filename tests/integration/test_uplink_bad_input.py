"""What a PN GW, its clock, or a broker may bring that is wrong: one answer with its reason, a counter, nothing changed.

What an access list and certificates keep out is in test_broker_mosquitto.py, foreign credentials and topics in
test_uplink_hostile_gateways.py, two Servers with one identity in test_server_claim.py, newer schemas in
test_server_store.py and test_server_postgres.py.
"""

import asyncio
from collections import Counter
from typing import Any

import pytest

from cpns import messages as m
from cpns import numbers as n
from message_plane.cpns_resource import PATH
from message_plane.errors import PeerRefused
from message_plane.links.mqtt_topics import down, presence, tag_of, up
from tests.integration.mqtt_uplink_world import SERVER_ID, SG, MqttHome
from tests.integration.mqtt_village import Village, village
from tests.waiting import until

__all__ = ["village"]

MIB = 1 << 20
YEAR_S = 366 * 86_400

BOMB = b"""<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;">]>
<JoinRequest xmlns="urn:x"><PNEID>&d;</PNEID><SGID>street/lights</SGID></JoinRequest>"""


def all_that_counts(village: Village) -> Any:
    """What bad input must not change."""
    server = village.operator.server
    return server.list_groups(), server.pnes(), server.gateways(), [home.version() for home in village.homes]


async def works(village: Village) -> None:
    """All goes on as before."""
    village.update()
    await village.keyed()


# Messages in a session


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(BOMB, id="XML bomb"),
        pytest.param(b"<a>" * 40_000, id="XML that nests deeply"),
        pytest.param(b"\x9f" * 60_000, id="CBOR that nests deeply"),
        pytest.param(b"\xff\xfe no message", id="octets"),
        pytest.param(b"{}", id="JSON"),
    ],
)
async def test_what_is_no_message_is_refused_with_a_reason(village: Village, message: bytes) -> None:
    before, counters = all_that_counts(village), Counter(village.operator.server.counters())
    with pytest.raises(PeerRefused) as refused:
        await village.homes[0].home.app.endpoint.request(SERVER_ID, message, resource=PATH)
    assert refused.value.code == "4.00" and len(str(refused.value)) > 20
    counted = Counter(village.operator.server.counters()) - counters
    assert counted["messages_malformed"] == 1
    assert all_that_counts(village) == before
    await works(village)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({m.PNE_ID: "lamp.x", m.SG_ID: "no/such/group"}, id="unknown group"),
        pytest.param({m.PNE_ID: "lamp.pn.next", m.SG_ID: SG}, id="PNE of another PN"),
        pytest.param({m.PNE_ID: "lamp.pn.home", m.SG_ID: SG, m.PN_ID: "pn.next"}, id="another PN"),
    ],
)
async def test_a_request_about_what_is_not_there_is_refused_with_a_code_and_a_sentence(
    village: Village, fields: dict[int, str]
) -> None:
    before = all_that_counts(village)
    answer = await _ask(village.homes[0], n.JOIN_REQUEST, fields)
    assert answer is None or (answer[m.RESULT] == n.RESULT_FAIL and answer[m.ERROR] and answer[m.ERROR_TEXT])
    assert all_that_counts(village) == before
    await works(village)


async def _ask(home: MqttHome, code: int, fields: dict[int, Any]) -> dict[int, Any] | None:
    """The fields of the answer, None if the request itself was refused as one that this PN GW may not send."""
    try:
        answer = await home.home.app.endpoint.request(SERVER_ID, bytes(m.encode(code, fields)), resource=PATH)
    except PeerRefused as refused:
        assert refused.code == "4.03" and len(str(refused)) > 20
        return None
    return dict(m.decode(answer, 131072)[1])


# What a broker hands on


async def test_what_a_broker_has_kept_or_makes_too_long_is_counted_at_either_end(village: Village) -> None:
    home = village.homes[0]
    tag = tag_of(home.gateway_id)
    before = all_that_counts(village)
    for payload, counter in ((b"\x50\x02\0\1", "mqtt_retained"), (bytes(MIB), "mqtt_oversize")):
        for topic, counters in (
            (up(tag), lambda: village.operator.server.counters()),
            (down(tag), lambda: home.home.app.counters),
        ):
            village.broker.publish(topic, payload, retain=counter == "mqtt_retained")
            await until(lambda counters=counters, counter=counter: counters().get(counter, 0) == 1)
    assert all_that_counts(village) == before
    await works(village)


@pytest.mark.parametrize("payload", [b"", b"2", b"\xff" * 1000])
async def test_a_presence_that_is_none_is_counted(village: Village, payload: bytes) -> None:
    before = all_that_counts(village)
    village.broker.publish(presence(tag_of(village.homes[0].gateway_id)), payload)
    await until(lambda: village.operator.server.counters().get("mqtt_foreign", 0) == 1)
    assert all_that_counts(village) == before
    await works(village)


# Clocks


@pytest.mark.parametrize("years", [-1, 1])
@pytest.mark.parametrize("whose", ["gateway_agent.clock.time", "key_servers.cpns_server.app.time"])
async def test_a_clock_that_is_a_year_off_keeps_nobody_from_a_key(
    village: Village, monkeypatch: pytest.MonkeyPatch, years: int, whose: str
) -> None:
    class Clock:
        """The module `time` of one end."""

        @staticmethod
        def time() -> float:
            import time

            return time.time() + years * YEAR_S

    monkeypatch.setattr(whose, Clock)
    gone, stays = village.homes
    await works(village)
    before = village.version
    assert await gone.leave("lamp.pn.home") == n.RESULT_SUCCESS
    await until(lambda: village.version > before)
    await village.keyed(stays)
    await asyncio.sleep(60)
    assert not village.operator.server.alarms()
