"""The parsers of a board, as functions of octets: on CPython for the fuzzer, inside the MicroPython VM for comparison.

Run as a program it reads lines of a parser's name and octets in hexadecimal, and answers each with the verdict.
"""

import sys

from cpns import advert, beacon, broadcast_object, cborlite, group_message, messages, numbers, report, tuning
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.errors import MalformedMessage
from cpns.key_ring import KeyRing
from device_agent import cose, oscore, provisioning
from device_agent.coap import message as coap
from device_agent.coap.endpoint import Endpoint
from device_agent.discovery import Discovery
from device_agent.end_to_end import entity_user_keys
from device_agent.end_to_end.tunnel import TunnelDriver
from mikey_sakke import key_parameters
from mikey_sakke import message as mikey
from suit import envelope as suit_envelope
from suit import manifest as suit_manifest

KEY = bytes(range(16))
ROW = 23
TREE = TreeKeys(bytes(range(32)), 10)
RECORD = TREE.record(2, 1, 5)
LIGHTS = group_message.Group("lights", 1, 1, numbers.PROTECTION_SEALED)


def broadcast(data):
    """As `broadcast_receiver` takes it, but for the signature."""
    received = broadcast_object.parse(data)
    if isinstance(received, broadcast_object.ReceivedDelete):
        received.check(1, 1, 0, "home", "lights")
    elif received.check(1, 1, RECORD, 0):
        received.open("home", "lights")


def rows(data):
    """Rows of adverts one after another; the first object that they make."""
    reassembly = advert.Reassembly()
    for at in range(0, len(data) - ROW + 1, ROW):
        if data[at] < tuning.ADVERT_ROWS_MAX:
            whole = reassembly.take(data[at : at + ROW], at)
            if whole:
                for _ in reassembly.finish(whole, 1):
                    pass
                return
    raise MalformedMessage("no object")


def gkdk(data):
    """A record, and a search in it."""
    GkdkRecord.parse(data).own_entry(b"\x20\x0d" + bytes(16))


def sealed(data):
    """A group message, opened."""
    group_message.Receiver(LIGHTS, "lamp").open(group_message.parse(data), {1: KEY}, 0)


def coap_endpoint(data):
    """Datagrams one after another: the first octet of each says how long it is and who sends it."""
    endpoint = Endpoint(bytes)
    endpoint.request(1, 1, [(11, b"x")], b"", 0)
    now = 0
    while data:
        end = 1 + (data[0] >> 1)
        piece, data = data[:end], data[end:]
        now += 1000
        for action in endpoint.datagram(1 + (piece[0] & 1), piece[1:], now) + endpoint.tick(now):
            if action[0] == "request":
                endpoint.reply(action[1], 0x44, [], b"yes", now)


class Nothing:
    """A store without records, on a link without addresses."""

    def load(self, name):
        return None

    def address(self, text):
        raise ValueError


def discovery(data):
    """Two answers to the question to everybody."""
    flow = Discovery(Nothing(), Nothing(), "").next()
    next(flow)
    answer = coap.decode(data)
    try:
        flow.send([("a", answer), ("b", answer)])
    except StopIteration:
        return


def oscore_request(data):
    """A request under OSCORE."""
    message = coap.decode(data)
    context = oscore.Context(KEY, KEY[:8], b"\x01", b"abc", 64, lambda ceiling: None, True)
    context.unprotect_request(message.options, message.payload)


def tunnel_answer(data):
    """What the PN GW carries back from the CPNS Server; the token of the request is four zeros."""

    def carry(code, fields):
        return {messages.DATAGRAM: data}
        yield

    def asks():
        return (yield ("server", 2, [], b"x", 1000))

    driver = TunnelDriver(carry, bytes)
    for _ in driver.run(asks()):
        pass
    if driver.refused:
        raise MalformedMessage("no answer")


PARSERS = {
    "cbor": cborlite.decode,
    "message": messages.decode,
    "broadcast-object": broadcast,
    "gkdk": gkdk,
    "group-message": sealed,
    "beacon": beacon.parse,
    "air-form": lambda data: advert.from_air(data, 1),
    "rows": rows,
    "report": report.parse,
    "coap": coap.decode,
    "coap-endpoint": coap_endpoint,
    "discovery": discovery,
    "oscore": oscore_request,
    "cose-credential": cose.Credential.parse,
    "provisioning": provisioning.parse,
    "entity-user-keys": entity_user_keys.parse,
    "tunnel-answer": tunnel_answer,
    "key-ring": lambda data: KeyRing.load(data, 0),
    "mikey": mikey.parse,
    "key-parameters": key_parameters.decode,
    "suit-envelope": suit_envelope.parse,
    "suit-manifest": suit_manifest.read,
}


def verdict(name, data):
    """ "taken", or the name of the exception."""
    try:
        PARSERS[name](data)
    except Exception as error:  # noqa: BLE001 - whichever it is, it is the verdict
        return type(error).__name__
    return "taken"


def main():
    """Answer line by line until there are no more."""
    while True:
        line = sys.stdin.readline().split()
        if not line:
            return
        print(verdict(line[0], bytes.fromhex(line[1]) if line[1:] else b""))


if __name__ == "__main__":
    main()
