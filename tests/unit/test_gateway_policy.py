"""Unicast or broadcast: the table of docs (CPNS-GKM-11..13, -31, -67)."""

import pytest

from gateway_agent.core.delivering.policy import DeliveryPolicy, Method, choose, leisure_ms

WIFI, BLE, BOTH, NONE = {"wifi"}, {"ble"}, {"wifi", "ble"}, set()


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
        ("auto", BLE, 900, 0, [300], Method.BROADCAST),  # 12.6 s
        ("auto", BLE, 900, 0, [400], Method.UNICAST),
        ("auto", BOTH, 2, 0, [1], Method.UNICAST),
        ("unicast", WIFI, 900, 0, [1], Method.UNICAST),
        ("broadcast", WIFI, 1, 0, [900], Method.BROADCAST),
        ("auto", WIFI, 0, 0, [], Method.UNICAST),
    ],
)
def test_choice(method, media, with_gkdk, without_session, entries, expected):
    policy = DeliveryPolicy(method=method)
    choice = choose(policy, media=media, with_gkdk=with_gkdk, without_session=without_session, entries=entries)
    assert choice is expected


@pytest.mark.req("CPNS-GKM-12")
@pytest.mark.parametrize("method", ["auto", "broadcast", "unicast"])
def test_no_broadcast_medium_means_unicast(method):
    policy = DeliveryPolicy(method=method)
    assert choose(policy, media=NONE, with_gkdk=9, without_session=0, entries=[1]) is Method.UNICAST


def test_leisure_grows_with_the_group_and_is_bounded():
    assert leisure_ms(DeliveryPolicy(leisure_ms_per_pne=5), 1000) == 5000
    assert leisure_ms(DeliveryPolicy(leisure_ms_per_pne=1000), 1000) == 60_000


def test_a_policy_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="carrier pigeon"):
        DeliveryPolicy(method="carrier pigeon")
