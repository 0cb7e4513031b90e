"""Broadcasts leave by the right network card: a machine with several of them (network namespaces), each with a
listener.

The gateway runs as an ordinary user without special rights.
"""

import json
import subprocess
import sys

import pytest

from keycast.virtual_board.board import Network
from keycast.virtual_board.fleet import Fleet
from tests.system.keycast_process import GatewayProcess
from tests.system.namespaces import NETMASK, Cards, missing

WHY_NOT = missing()
ONE_NETWORK = {"eth0": ["10.77.0.5/24"], "wlan0": ["10.77.0.6/24"]}

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

# Root without any of root's rights, as far as networks go: a gateway needs none.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
SEND = """
import asyncio, json, sys
from gateway_agent.net import interfaces
from gateway_agent.radios.udp_broadcast import UdpBroadcast
watched = interfaces.WatchedInterfaces()
radio = UdpBroadcast(lambda: interfaces.matching(json.loads(sys.argv[1]), watched.now()))
async def send(datagram):
    before = radio.counters["broadcast_sent"]
    radio.air(datagram)
    return radio.counters["broadcast_sent"] - before
while line := sys.stdin.readline():
    sent = asyncio.run(send(line.strip().encode()))
    told = {f"{each.interface} {each.broadcast}": [each.sent, each.failed, each.problem] for each in radio.health()}
    print(json.dumps([sent, dict(radio.counters), told]), flush=True)
"""

HEAR = """
import socket, sys
ears = {}
for card in sys.argv[1:]:
    ears[card] = ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    ear.bind((card, 0x0800))
    ear.setblocking(False)
print("ready", flush=True)
for _ in sys.stdin:
    heard = []
    for card, ear in ears.items():
        while True:
            try:
                packet = ear.recv(2000)
            except BlockingIOError:
                break
            except OSError:  # told once when its cable is pulled
                continue
            if packet[9] == 17 and packet[22:24] == (5687).to_bytes(2, "big"):
                heard.append(f"{card} {socket.inet_ntoa(packet[16:20])} {packet[28:].decode()}")
    print(*heard, sep=",", flush=True)
"""


class Conversation:
    """A program that answers each line with a line."""

    def __init__(self, words, program, *arguments):
        command = [*words, sys.executable, "-c", program, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate(timeout=240)

    def say(self, line):
        print(line, file=self._process.stdin, flush=True)
        return self.hear()

    def hear(self):
        return self._process.stdout.readline().strip()


def listener(cards):
    ear = Conversation(cards.outside, HEAR, *cards._cards)
    assert ear.hear() == "ready"
    return ear


def sender(cards, *wanted):
    return Conversation([*cards.words, *WITHOUT_RIGHTS], SEND, json.dumps(wanted))


def heard(ear):
    """What came since the last time: (card, destination, datagram)."""
    return [tuple(each.split()) for each in ear.say("?").split(",") if each]


@pytest.mark.req("CPNS-GKM-71")
def test_two_cards_in_one_network_each_carry_their_own_datagram():
    with Cards(ONE_NETWORK) as cards, listener(cards) as ear:
        with sender(cards, "eth0", "wlan0") as radio:
            assert json.loads(radio.say("both"))[0] == 2
            assert heard(ear) == [("eth0", "10.77.0.255", "both"), ("wlan0", "10.77.0.255", "both")]
        with sender(cards, "wlan0") as radio:
            assert json.loads(radio.say("wlan"))[0] == 1
            assert heard(ear) == [("wlan0", "10.77.0.255", "wlan")]


@pytest.mark.req("CPNS-GKM-71")
def test_what_has_no_carrier_sends_nothing_and_counts_nothing_until_it_has_one_again():
    with Cards(ONE_NETWORK) as cards, listener(cards) as ear, sender(cards, "eth0", "wlan0") as radio:
        cards.disconnect("eth0")
        sent, counters, figures = json.loads(radio.say("one"))
        assert (sent, counters) == (1, {"broadcast_sent": 1, "broadcast_failed": 1})
        assert figures == {"eth0 10.77.0.255": [0, 1, "no carrier"], "wlan0 10.77.0.255": [1, 0, ""]}
        assert heard(ear) == [("wlan0", "10.77.0.255", "one")]
        cards.connect("eth0")
        assert json.loads(radio.say("two"))[2] == {"eth0 10.77.0.255": [1, 1, ""], "wlan0 10.77.0.255": [2, 0, ""]}
        assert heard(ear) == [("eth0", "10.77.0.255", "two"), ("wlan0", "10.77.0.255", "two")]


@pytest.mark.req("CPNS-GKM-71")
def test_one_datagram_for_each_network_of_a_card_however_many_addresses_it_has_there():
    addresses = ["10.77.0.5/24", "10.77.0.9/24", "10.77.0.10/24 eth0:1", "10.78.0.5/16 eth0:2", "10.79.0.5/32"]
    with Cards({"eth0": addresses}) as cards, listener(cards) as ear:
        for wanted, networks in (
            (["eth0"], ["10.77.0.255", "10.78.255.255"]),
            (["eth0:2"], ["10.78.255.255"]),
            (["eth0:1", "eth0"], ["10.77.0.255", "10.78.255.255"]),
        ):
            with sender(cards, *wanted) as radio:
                assert json.loads(radio.say("key"))[0] == len(networks)
                assert heard(ear) == [("eth0", network, "key") for network in networks]


@pytest.mark.req("CPNS-GKM-71")
def test_a_card_that_was_pulled_and_put_back_carries_the_very_next_datagram():
    with Cards({"eth0": ["10.77.0.5/24"]}) as cards, sender(cards, "eth0") as radio:
        assert json.loads(radio.say("one"))[0] == 1
        cards.pull("eth0")
        sent, _, figures = json.loads(radio.say("lost"))
        assert (sent, figures["eth0 10.77.0.255"][2]) == (0, "it has no address")
        cards.plug("eth0", ["10.77.0.5/24"])
        assert json.loads(radio.say("two"))[0] == 1
        cards.pull("eth0")  # and back before anything was sent: same name, same address, another device
        cards.plug("eth0", ["10.77.0.5/24"])
        with listener(cards) as ear:
            assert json.loads(radio.say("three"))[0] == 1
            assert heard(ear) == [("eth0", "10.77.0.255", "three")]


@pytest.mark.req("CPNS-GKM-66", "CPNS-GKM-71")
async def test_a_board_behind_one_of_two_cards_in_one_network_is_found_answered_and_asked_there(tmp_path):
    """The other one has no cable, and the routing table sends everything to it."""
    how = {"address": "0.0.0.0", "port": 5683, "interfaces": '["eth0", "wlan0"]', "method": "unicast"}
    with Cards(ONE_NETWORK) as cards:
        cards.disconnect("eth0")
        cards.give_outside("wlan0", "10.77.0.99/24")
        gateway = GatewayProcess(tmp_path, prefix=cards.words, **how)
        await gateway.start()
        try:
            assert (await gateway.ask("trust"))["address"] == "10.77.0.6:5683"
            await gateway.ask("group.create", sg_id="lights", open_to=["home"])
            network = Network("10.77.0.99", NETMASK, cards.outside)
            record = await gateway.new_board("lamp", "")
            async with Fleet(tmp_path / "boards", [record], networks=[network]) as fleet:
                await fleet.boards[0].command("join", group="lights", timeout_s=180)
                await fleet.boards[0].event("key", group="lights")
            status = await gateway.ask("status")
            assert [each["problem"] for each in status["networks"]] == ["no carrier", ""]
            assert "requests_unanswered" not in status["counters"]
        finally:
            await gateway.stop()
