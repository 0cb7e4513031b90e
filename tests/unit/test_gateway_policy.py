"""Unicast or broadcast: the table of docs (CPNS-GKM-11..13, -31, -67)."""

from functools import partial

import pytest

from cpns import tuning
from gateway_agent.core.delivering.policy import DeliveryPolicy, Method, choose, leisure_ms
from gateway_agent.core.ports import Cost
from gateway_agent.radios.udp_broadcast import UdpBroadcast
from tests.unit.scripted_sender import BleRadio, ScriptedSender


def wifi(sizes):
    return Cost(sum(UdpBroadcast(list).airtime_s(size) for size in sizes), UdpBroadcast.unicast_s)


def ble(sizes, frame_s=0.027):
    """What BLE costs by a sender that needs so many seconds for an advert."""
    medium = BleRadio(ScriptedSender(frame_s)).medium
    return Cost(sum(medium.airtime_s(size) for size in sizes), medium.unicast_s)


WIFI, BLE, BOTH, NONE, DBUS = (wifi,), (ble,), (wifi, ble), (), (partial(ble, frame_s=0.2),)


def choice(policy, media, with_gkdk, without_session, entries):
    """`entries`: size of the cover of each generation."""
    each = tuning.ENTRIES_PER_OBJECT
    sizes = [109 + min(count - at, each) * 18 for count in entries for at in range(0, count, each)]
    costs = [cost(sizes) for cost in media]
    return choose(policy, costs=costs, datagrams=len(sizes), with_gkdk=with_gkdk, without_session=without_session)


@pytest.mark.req("CPNS-GKM-11", "CPNS-GKM-13", "CPNS-GKM-31", "CPNS-GKM-67")
@pytest.mark.parametrize(
    ("method", "media", "with_gkdk", "without_session", "entries", "expected"),
    [
        ("auto", WIFI, 10, 0, [1], Method.BROADCAST),
        ("auto", WIFI, 2, 0, [1], Method.UNICAST),  # one or two live sessions win on Wi-Fi
        ("auto", WIFI, 2, 1, [1], Method.BROADCAST),  # but not if one must be made first
        ("auto", BLE, 1, 0, [1], Method.BROADCAST),  # a GATT connection costs a second
        ("auto", WIFI, 900, 0, [560], Method.BROADCAST),  # 8 datagrams
        ("auto", WIFI, 900, 0, [561], Method.UNICAST),
        ("auto", WIFI, 900, 0, [300, 280], Method.UNICAST),  # two generations: 5 + 4
        ("auto", BLE, 12, 0, [225], Method.BROADCAST),  # 14.9 s
        ("auto", BLE, 18, 0, [300], Method.UNICAST),  # 19.6 s
        ("auto", BLE, 20, 0, [300], Method.BROADCAST),  # 20 connections take longer
        ("auto", BLE, 900, 0, [560], Method.BROADCAST),
        ("auto", DBUS, 20, 0, [58], Method.UNICAST),  # 29 s
        ("auto", DBUS, 1024, 0, [58], Method.BROADCAST),
        ("auto", DBUS, 3, 0, [1], Method.BROADCAST),  # 3.8 s
        ("auto", BOTH, 900, 0, [300], Method.BROADCAST),
        ("auto", BOTH, 2, 0, [1], Method.UNICAST),
        ("unicast", WIFI, 900, 0, [1], Method.UNICAST),
        ("broadcast", WIFI, 1, 0, [900], Method.BROADCAST),
        ("auto", WIFI, 0, 0, [], Method.UNICAST),
    ],
)
def test_choice(method, media, with_gkdk, without_session, entries, expected):
    assert choice(DeliveryPolicy(method=method), media, with_gkdk, without_session, entries) is expected


@pytest.mark.req("CPNS-GKM-12")
@pytest.mark.parametrize("method", ["auto", "broadcast", "unicast"])
def test_no_broadcast_medium_means_unicast(method):
    assert choice(DeliveryPolicy(method=method), NONE, 9, 0, [1]) is Method.UNICAST


def test_leisure_grows_with_the_group_and_is_bounded():
    assert leisure_ms(DeliveryPolicy(leisure_ms_per_pne=5), 1000) == 5000
    assert leisure_ms(DeliveryPolicy(leisure_ms_per_pne=1000), 1000) == 60_000


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="carrier pigeon"):
        DeliveryPolicy(method="carrier pigeon")
