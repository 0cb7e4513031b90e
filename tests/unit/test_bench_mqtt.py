"""The benches of the uplink over MQTT measure what they say, with a few PN GWs; no test here depends on a time."""

import pytest

from cpns import messages, numbers
from device_agent import oscore
from device_agent.coap.message import NON, Message, decode
from tools.bench import __main__ as bench
from tools.bench import fleet, mqtt, mqtt_moonshot, mqtt_processes, mqtt_returns
from tools.bench.pn_gateways import BARE, Expect, PnGateways
from tools.bench.rows import Skipped

FEW, MORE = 3, 5

pytestmark = [pytest.mark.real_time, pytest.mark.long]


def rows(measure):
    lines = list(measure(lambda step: None))
    for line in lines:
        if isinstance(line, Skipped):
            pytest.skip(line.reason)
    assert all(line.value > 0 for line in lines)
    return {line.name: line for line in lines}


def test_updates_over_mqtt_are_measured_in_both_forms_beside_bare_aiomqtt_and_with_many_gateways(monkeypatch):
    monkeypatch.setattr(mqtt, "SIZE", FEW)
    monkeypatch.setattr(mqtt, "MANY", MORE)
    monkeypatch.setattr(mqtt, "ROUNDS", 1)
    monkeypatch.setattr(mqtt, "ROUNDS_OF_MANY", 1)
    found = rows(mqtt.measure)
    for form in ("CBOR", "XML"):
        what = f"one update in {form}, {FEW} PN GWs over MQTT and TLS"
        beside = found[f"{what}: all have answered"]
        assert beside.peer == "echoes to aiomqtt"
        assert beside.target == 2 * beside.peer_value
        assert found[f"{what}: the Server's processor time for one"].target == 0.25
        assert found[f"{what}: for one core of the Server"].target == 4000
    assert found[f"one update, {MORE} PN GWs over MQTT: all have it"].target == 10
    assert found[f"memory of the Server for one of {MORE} PN GWs that rest"].target == 12


def test_gateways_come_back_after_a_restart_of_the_broker_and_of_the_server(monkeypatch):
    monkeypatch.setattr(mqtt_returns, "SIZE", FEW)
    monkeypatch.setattr(mqtt_returns, "ROUNDS", 1)
    monkeypatch.setattr(mqtt_returns, "STABLE_S", 0.1)
    restart, handshakes, by_core = rows(mqtt_returns.measure).values()
    assert restart.target == 2 * restart.peer_value
    assert handshakes.is_rate
    assert handshakes.target == 0.5 * handshakes.peer_value
    assert by_core.peer_value == handshakes.peer_value


def test_two_processes_share_the_gateways_beside_one(monkeypatch):
    monkeypatch.setattr(mqtt_processes, "SIZE", MORE)
    monkeypatch.setattr(mqtt_processes, "ROUNDS", 1)
    found = rows(mqtt_processes.measure)
    larger = found["two processes of a CPNS Server on one PostgreSQL: the larger share"]
    assert 50 <= larger.value <= larger.target == 60
    assert larger.note == "of 64 shards: 32 and 32"


def test_the_moonshot_is_measured_only_if_it_is_named_and_not_judged(monkeypatch):
    assert "mqtt_moonshot" in bench.EVERY
    assert "mqtt_moonshot" not in bench.SUBJECTS
    monkeypatch.setattr(mqtt_moonshot, "MANY", FEW)
    monkeypatch.setattr(mqtt_moonshot, "RESTING", MORE)
    monkeypatch.setattr(mqtt_moonshot, "ROUNDS", 1)
    monkeypatch.setattr(mqtt_moonshot, "SETTLE_S", 0.1)
    assert all(row.held is None for row in rows(mqtt_moonshot.measure).values())


def test_a_simulated_gateway_answers_and_reports_once_that_all_have_a_version():
    keys, _ = fleet.draw(2)
    gateways = PnGateways(keys)
    servers = [
        oscore.Context(each.secret, each.salt, each.recipient_id, each.sender_id, 0, lambda _: None, fresh=True)
        for each in keys
    ]
    gateways.expect(Expect("fleet/2", 7, 2))

    def deliver(number, version):
        fields = {
            messages.SG_ID: "fleet/2",
            messages.GROUP_KEY: [(bytes(16), None)],
            messages.VERSION: version,
            messages.ACTIVATION: 0,
            messages.REASON: numbers.REASON_BY_HAND,
            messages.TIME: 1,
            messages.REVISION: 1,
        }
        payload = messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, fields)
        code, options, payload, request = servers[number].protect_request(0x02, [], payload)
        datagram = Message(NON, code, version, b"t", options, payload).encode()
        answer = decode(gateways.take(number, datagram))
        _, _, said = servers[number].unprotect_response(request, answer.options, answer.payload)
        assert messages.decode(said)[1][messages.RESULT] == numbers.RESULT_SUCCESS
        return len(datagram)

    deliver(0, 7)
    assert gateways.reached() is None
    deliver(1, 6)
    assert gateways.reached() is None
    octets = deliver(1, 7)
    assert gateways.reached().octets == octets
    assert gateways.reached() is None


def test_a_simulated_gateway_echoes_what_a_peer_sends():
    gateways = PnGateways(fleet.draw(1)[0])
    assert gateways.take(0, BARE + b"as it is") == BARE + b"as it is"
