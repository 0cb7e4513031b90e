"""Directed broadcast addresses from the real netmask, on every chosen interface."""

import errno
import socket
from dataclasses import replace
from typing import Any

import netifaces
import pytest

from gateway_agent.errors import NoBroadcastInterface
from gateway_agent.net import devices, interfaces
from gateway_agent.net.devices import NetworkDevice, why_no_boards
from gateway_agent.net.interfaces import (
    Interface,
    WatchedInterfaces,
    choose,
    device_towards,
    interface_from,
    ipv4_interfaces,
    left_out,
    reachable,
)
from gateway_agent.radios.udp_broadcast import UdpBroadcast

LOOPBACK = Interface("lo", "127.0.0.1", "127.255.255.255")
WIFI = Interface("wlan0", "192.168.4.7", "192.168.5.255")


def test_broadcast_address_comes_from_the_real_mask() -> None:
    assert interface_from("wlan0", {"addr": "192.168.4.7", "netmask": "255.255.254.0"}) == WIFI


def test_a_package_that_calls_the_mask_mask_serves_too() -> None:
    assert interface_from("wlan0", {"addr": "192.168.4.7", "mask": "255.255.254.0"}) == WIFI


def test_links_without_a_broadcast_address_are_left_out() -> None:
    assert interface_from("tun0", {"addr": "10.0.0.1", "netmask": "255.255.255.255", "peer": "10.0.0.2"}) is None
    assert interface_from("ppp0", {"addr": "10.0.0.1", "netmask": "255.255.255.254"}) is None
    assert interface_from("odd0", {"addr": "10.0.0.1"}) is None


def test_the_machine_itself_has_loopback() -> None:
    assert LOOPBACK in ipv4_interfaces()


def test_the_device_towards_a_board_is_that_of_the_route_to_it() -> None:
    assert device_towards("127.0.0.1") == "lo"
    assert device_towards("::1") == device_towards("") == ""


def card(index: int, name: str, kind: str = "", **other: Any) -> NetworkDevice:
    """A device that is up, has a carrier and is of Ethernet's type unless told otherwise."""
    running = devices.UP | devices.BROADCAST | devices.RUNNING | devices.CARRIER
    return NetworkDevice(index, name, kind, **{"type": devices.ETHERNET, "flags": running} | other)


HOME = [
    card(1, "lo", type=772, flags=devices.UP | devices.LOOPBACK | devices.RUNNING | devices.CARRIER),
    card(2, "eth0"),
    card(3, "wlan0", "wlan"),
    card(4, "docker0", "bridge", below=frozenset({5})),
    card(5, "veth1a2b", "veth", below=frozenset({99})),
    card(6, "br-lan", "bridge", below=frozenset({5, 7})),
    card(7, "eth0.5", "vlan", below=frozenset({2})),
    card(8, "tun0", "tun", type=65534, flags=devices.UP | devices.POINT_TO_POINT | devices.NO_ARP),
    card(9, "tap0", "tun"),
    card(10, "wg0", "wireguard", type=65534),
    card(11, "wwan0", "wwan"),
    card(12, "bond0", "bond", below=frozenset({13})),
    card(13, "eth1"),
    card(14, "dummy0", "dummy"),
    card(15, "macvlan0", "macvlan", is_above_another_world=True),
    card(16, "br-odd", "bridge", below=frozenset({17})),
    card(17, "odd.1", "vlan", below=frozenset({16})),
    card(18, "ppp0", type=512, flags=devices.UP | devices.POINT_TO_POINT),
    card(19, "lan1", "dsa", below=frozenset({2})),
    card(20, "vxlan0", "vxlan", below=frozenset({2})),
]


def test_boards_can_be_behind_a_network_card_and_what_holds_one_and_every_other_device_has_its_reason() -> None:
    found = {link.name: why_no_boards(link, {link.index: link for link in HOME}) for link in HOME}
    taken = [name for name, reason in found.items() if not reason]
    assert taken == ["eth0", "wlan0", "br-lan", "eth0.5", "bond0", "eth1", "macvlan0", "lan1"]
    assert found["docker0"] == "no network card is in it (bridge)" == found["br-odd"]
    assert "container" in found["veth1a2b"] and "VPN" in found["tun0"] and "VPN" in found["tap0"]
    assert "VPN" in found["wg0"] and "mobile" in found["wwan0"] and found["lo"] == "loopback"
    assert found["ppp0"] == "neither Ethernet nor Wi-Fi" and found["vxlan0"] == "a virtual device (vxlan)"


def test_a_device_sends_while_it_is_up_and_has_a_carrier() -> None:
    assert card(2, "eth0").standstill == ""
    assert card(2, "eth0", flags=devices.UP | devices.BROADCAST).standstill == "no carrier"
    assert card(2, "wlan0", flags=devices.UP | devices.CARRIER).standstill == "no carrier"  # not let in yet
    assert card(2, "eth0", flags=devices.BROADCAST).standstill == "switched off"


def test_the_kernel_tells_its_devices() -> None:
    found = devices.network_devices()
    assert {link.name for link in found.values()} == {name for _, name in socket.if_nameindex()}
    assert found[socket.if_nametoindex("lo")].flags & devices.LOOPBACK


DOCKER = Interface("docker0", "172.17.0.1", "172.17.255.255", "no network card is in it (bridge)")
STRANDED = Interface("eth1", "169.254.7.7", "169.254.255.255")
SECOND = Interface("wlan0:1", "192.168.4.8", "192.168.5.255")
NOWHERE = Interface("eth2", "", "")
EVERY = [LOOPBACK, DOCKER, WIFI, SECOND, STRANDED, NOWHERE]


def test_auto_takes_what_boards_can_be_behind_once_for_each_network() -> None:
    assert choose(["auto"], EVERY) == [WIFI]


def test_auto_beside_a_name_is_both() -> None:
    assert choose(["auto", "docker0"], EVERY) == choose(["docker0", "auto"], EVERY) == [DOCKER, WIFI]
    assert choose(["lo"], EVERY) == [LOOPBACK]


def test_whatever_is_left_out_has_its_reason() -> None:
    assert {each.name: reason for each, reason in left_out(["auto"], EVERY)} == {
        "lo": "loopback",
        "docker0": "no network card is in it (bridge)",
        "wlan0:1": "192.168.4.7 is in the same network",
        "eth1": "link-local: no DHCP server gave it an address",
        "eth2": "no IPv4 address",
    }
    assert dict(left_out(["docker0"], [DOCKER, WIFI])) == {WIFI: "not under [broadcast] interfaces"}
    with pytest.raises(NoBroadcastInterface, match=r"docker0: no network card is in it.*eth1: link-local"):
        choose(["auto"], [LOOPBACK, DOCKER, STRANDED])


def test_boards_are_told_the_address_of_an_interface_that_keys_go_out_on_or_none() -> None:
    assert reachable(["auto"], ["0.0.0.0"], EVERY) == [WIFI.address, SECOND.address]
    assert reachable(["auto"], [SECOND.address], EVERY) == [SECOND.address]
    assert reachable(["docker0"], ["0.0.0.0"], EVERY) == [DOCKER.address]
    assert reachable([], ["0.0.0.0"], EVERY) == [WIFI.address, SECOND.address]
    nowhere: list[str] = []
    assert reachable(["lo", "eth1"], ["0.0.0.0"], EVERY) == nowhere
    assert reachable(["auto"], ["192.168.4.99"], EVERY) == nowhere  # an address that it had once
    assert reachable(["auto"], ["0.0.0.0"], [replace(WIFI, standstill="no carrier")]) == nowhere


def test_no_interface_at_all_is_one_sentence_with_the_next_step() -> None:
    with pytest.raises(NoBroadcastInterface, match=r"No network interface can broadcast.*seen: lo.*Connect"):
        choose(["auto"], [LOOPBACK])


def test_a_wrong_name_is_told_with_the_right_ones() -> None:
    with pytest.raises(NoBroadcastInterface, match=r"'wlan1'.*lo, wlan0"):
        choose(["wlan1"], [LOOPBACK, WIFI])


def receiver(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, 0))
    sock.settimeout(60)
    return sock


def gone_out(radio: UdpBroadcast, datagram: bytes) -> bool:
    """Whether a datagram has gone out on some network."""
    return radio.air(datagram).ended.result()


@pytest.mark.req("CPNS-GKM-36", "CPNS-GKM-69")
async def test_a_datagram_reaches_everyone_on_the_network() -> None:
    with receiver("127.255.255.255") as one:
        port = one.getsockname()[1]
        radio = UdpBroadcast(lambda: [LOOPBACK], port=port)
        assert gone_out(radio, b"key")
        assert one.recvfrom(100)[0] == b"key"
        await radio.close()


@pytest.mark.req("CPNS-GKM-71")
async def test_each_network_gets_it_and_one_dead_network_never_stops_another() -> None:
    gone = Interface("wlan9", "203.0.113.9", "203.0.113.255")  # no such address on this machine
    with receiver("127.255.255.255") as first, receiver("127.0.0.9") as second:
        other = Interface("lo:2", "127.0.0.1", "127.0.0.9")
        ports = {"lo": first.getsockname()[1], "lo:2": second.getsockname()[1]}
        for name, seen in (("lo", first), ("lo:2", second)):
            radio = UdpBroadcast(lambda: [gone, LOOPBACK, other], port=ports[name])
            assert gone_out(radio, b"key")
            assert seen.recvfrom(100)[0] == b"key"
            assert radio.counters["broadcast_sent"] == 2
            assert radio.interfaces == [LOOPBACK, other]
            await radio.close()


@pytest.mark.req("CPNS-GKM-71")
async def test_a_network_that_dies_while_sending_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dying = Interface("lo:3", "127.0.0.1", "203.0.113.255")

    class Mortal(socket.socket):
        def sendto(self, *words: Any) -> int:
            if words[-1][0] == dying.broadcast:
                raise OSError(errno.ENETUNREACH, "Network is unreachable")
            return super().sendto(*words)

    with receiver("127.255.255.255") as one:
        monkeypatch.setattr(socket, "socket", Mortal)
        radio = UdpBroadcast(lambda: [dying, LOOPBACK], port=one.getsockname()[1])
        assert radio.interfaces == [dying, LOOPBACK]
        for octets in (b"key", b"next"):
            assert gone_out(radio, octets)
            assert one.recvfrom(100)[0] == octets
        assert radio.counters == {"broadcast_sent": 2, "broadcast_failed": 2}
        assert [each.problem for each in radio.health()] == ["Network is unreachable", ""]
        assert caplog.text.count("cannot broadcast on lo:3") == 1  # and not for every datagram
        await radio.close()


@pytest.mark.req("CPNS-GKM-71")
async def test_a_datagram_goes_out_under_the_address_that_the_interface_has_now() -> None:
    """After a new DHCP lease the very next datagram reaches the new network; the old address is given up."""
    old, new = Interface("lo", "127.0.0.1", "127.255.255.255"), Interface("lo", "127.0.0.8", "127.0.0.9")
    now = [old]
    with receiver("127.0.0.9") as one:
        radio = UdpBroadcast(lambda: now, port=one.getsockname()[1])
        now[:] = [new]
        assert gone_out(radio, b"key")
        assert one.recvfrom(100) == (b"key", ("127.0.0.8", radio._sockets[new].getsockname()[1]))
        assert radio.interfaces == [new]
        await radio.close()


def test_an_interface_that_vanishes_while_it_is_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    known = netifaces.interfaces()
    monkeypatch.setattr(netifaces, "interfaces", lambda: ["wlan99", *known])
    assert LOOPBACK in ipv4_interfaces()


def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[Interface]]:
    """What `ipv4_interfaces` has returned, one entry for each call."""
    calls: list[list[Interface]] = []
    monkeypatch.setattr(interfaces, "ipv4_interfaces", lambda: calls.append(ipv4_interfaces()) or calls[-1])
    return calls


def test_interfaces_are_looked_up_again_only_when_the_kernel_has_told_of_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = counted(monkeypatch)
    changes = iter([False, True, False])
    monkeypatch.setattr(devices.DeviceNews, "any_since", lambda _: next(changes))
    watched = WatchedInterfaces()
    assert all(LOOPBACK in watched.now() for _ in range(4)) and len(calls) == 2
    watched.close()


def test_a_kernel_that_does_not_tell_of_changes_is_asked_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: devices.DeviceNews) -> bool:
        raise OSError(errno.ENETDOWN, "Network is down")

    calls = counted(monkeypatch)
    monkeypatch.setattr(devices.DeviceNews, "any_since", refused)
    watched = WatchedInterfaces()
    assert all(LOOPBACK in watched.now() for _ in range(3)) and len(calls) == 3
    assert [record.getMessage()[:6] for record in caplog.records] == ["KC1103"]
    watched.close()


def test_a_kernel_that_has_no_socket_for_changes_is_asked_each_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(_: devices.DeviceNews) -> None:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    calls = counted(monkeypatch)
    monkeypatch.setattr(devices.DeviceNews, "__init__", refused)
    watched = WatchedInterfaces()
    assert all(LOOPBACK in watched.now() for _ in range(3)) and len(calls) == 3
    assert [record.getMessage()[:6] for record in caplog.records] == ["KC1103"]
    watched.close()


def test_more_changes_than_the_kernel_could_keep_are_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = [OSError(errno.ENOBUFS, "No buffer space available"), BlockingIOError()]

    class Full:
        def recv(self, octets: int) -> bytes:
            raise answers.pop(0)

    changes = devices.DeviceNews()
    changes.close()
    monkeypatch.setattr(changes, "_kernel", Full())
    assert changes.any_since() and not answers


async def test_an_interface_that_comes_back_is_used_again() -> None:
    present: list[Interface] = []
    with receiver("127.255.255.255") as one:
        radio = UdpBroadcast(lambda: present, port=one.getsockname()[1])
        assert not gone_out(radio, b"lost")
        present.append(LOOPBACK)
        assert gone_out(radio, b"key")
        await radio.close()


async def test_a_datagram_that_would_be_fragmented_is_refused() -> None:
    radio = UdpBroadcast(list, port=5687)
    with pytest.raises(ValueError, match="fragmented"):
        radio.air(bytes(1401))
