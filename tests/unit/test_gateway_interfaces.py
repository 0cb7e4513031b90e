"""Directed broadcast addresses from the real netmask, on every chosen interface."""

import socket

import netifaces
import pytest

from gateway_agent.errors import NoBroadcastInterface
from gateway_agent.net.interfaces import Interface, choose, interface_from, ipv4_interfaces
from gateway_agent.radios.all_media import AllMedia
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


def test_auto_takes_all_but_loopback() -> None:
    assert choose(["auto"], [LOOPBACK, WIFI]) == [WIFI]


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
    sock.settimeout(5)
    return sock


@pytest.mark.req("CPNS-GKM-36", "CPNS-GKM-69")
def test_a_datagram_reaches_everyone_on_the_network() -> None:
    with receiver("127.255.255.255") as one:
        port = one.getsockname()[1]
        radio = UdpBroadcast(lambda: [LOOPBACK], port=port)
        assert radio.send(b"key") == 1
        assert one.recvfrom(100)[0] == b"key"
        radio.close()


@pytest.mark.req("CPNS-GKM-71")
def test_each_network_gets_it_and_one_dead_network_never_stops_another() -> None:
    gone = Interface("wlan9", "203.0.113.9", "203.0.113.255")  # no such address on this machine
    with receiver("127.255.255.255") as first, receiver("127.0.0.9") as second:
        other = Interface("lo2", "127.0.0.1", "127.0.0.9")
        ports = {"lo": first.getsockname()[1], "lo2": second.getsockname()[1]}
        for name, seen in (("lo", first), ("lo2", second)):
            radio = UdpBroadcast(lambda: [gone, LOOPBACK, other], port=ports[name])
            assert radio.send(b"key") == 2
            assert seen.recvfrom(100)[0] == b"key"
            assert radio.interfaces == [LOOPBACK, other]
            radio.close()


@pytest.mark.req("CPNS-GKM-71")
def test_a_network_that_dies_while_sending_stops_no_other() -> None:
    dying = Interface("lo3", "127.0.0.1", "203.0.113.255")  # from loopback there is no way to that network
    with receiver("127.255.255.255") as one:
        radio = UdpBroadcast(lambda: [dying, LOOPBACK], port=one.getsockname()[1])
        assert radio.interfaces == [dying, LOOPBACK]
        for octets in (b"key", b"next"):
            assert radio.send(octets) == 1
            assert one.recvfrom(100)[0] == octets
        assert radio.counters["broadcast_failed"] >= 1
        radio.close()


@pytest.mark.req("CPNS-GKM-71")
def test_a_datagram_goes_out_under_the_address_that_the_interface_has_now() -> None:
    """After a new DHCP lease the very next datagram reaches the new network; the old address is given up."""
    old, new = Interface("lo", "127.0.0.1", "127.255.255.255"), Interface("lo", "127.0.0.8", "127.0.0.9")
    now = [old]
    with receiver("127.0.0.9") as one:
        radio = UdpBroadcast(lambda: now, port=one.getsockname()[1])
        now[:] = [new]
        assert radio.send(b"key") == 1
        assert one.recvfrom(100) == (b"key", ("127.0.0.8", radio._sockets[new].getsockname()[1]))
        assert radio.interfaces == [new]
        radio.close()


def test_an_interface_that_vanishes_while_it_is_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    known = netifaces.interfaces()
    monkeypatch.setattr(netifaces, "interfaces", lambda: ["wlan99", *known])
    assert LOOPBACK in ipv4_interfaces()


class Recorder:
    """A broadcast medium that keeps what it was to send, on `reached` networks."""

    def __init__(self, name: str, reached: int) -> None:
        self.name = name
        self.sent: list[bytes] = []
        self._reached = reached

    def send(self, datagram: bytes) -> int:
        self.sent.append(datagram)
        return self._reached

    def networks(self) -> list[str]:
        return [self.name] * self._reached

    def close(self) -> None: ...


@pytest.mark.req("CPNS-GKM-71")
def test_each_medium_gets_it_also_after_one_that_is_down() -> None:
    down, wifi, ble = Recorder("down", 0), Recorder("wifi", 2), Recorder("ble", 1)
    air = AllMedia([down, wifi, ble])
    assert air.send(b"key") == 3
    assert down.sent == wifi.sent == ble.sent == [b"key"]
    assert air.networks() == ["wifi", "wifi", "ble"]


def test_an_interface_that_comes_back_is_used_again() -> None:
    present: list[Interface] = []
    with receiver("127.255.255.255") as one:
        radio = UdpBroadcast(lambda: present, port=one.getsockname()[1])
        assert radio.send(b"lost") == 0
        present.append(LOOPBACK)
        radio.send(b"opens")
        assert radio.send(b"key") == 1
        radio.close()


def test_a_datagram_that_would_be_fragmented_is_refused() -> None:
    radio = UdpBroadcast(list, port=5687)
    with pytest.raises(ValueError, match="fragmented"):
        radio.send(bytes(1401))
