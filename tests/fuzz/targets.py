"""One fuzz target for each parser of octets or text that come from outside.

A target takes any octets and ends normally or with an error that its callers expect; anything else is a finding.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpns import beacon, broadcast_object, broadcast_object_build, cborlite, group_message, messages, numbers, xml_form
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.errors import CpnsError
from cpns.key_ring import KeyRing
from device_agent import cose, provisioning
from device_agent.coap import message as coap
from device_agent.edhoc import Initiator
from device_agent.oscore import Context
from gateway_agent.config import load
from gateway_agent.errors import ConfigError
from message_plane import credentials
from mikey_sakke import key_parameters, kms_xml
from mikey_sakke import message as mikey
from mikey_sakke.errors import MikeyError
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_values import ErrorReport, Request, Response

VECTORS = Path(__file__).parents[1] / "vectors"
TREE = TreeKeys(bytes(range(32)), 10)
RECORD = TREE.record(2, 1, 5)
KEY = bytes(range(16))


@dataclass(frozen=True)
class Target:
    """`parse` takes octets; `errors` are what it may raise; `seeds` are good or nearly good inputs."""

    name: str
    parse: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _broadcast(data: bytes) -> None:
    received = broadcast_object.parse(data)
    if isinstance(received, broadcast_object.ReceivedDelete):
        received.check(1, 1, 0, "home", "lights")
    elif received.check(1, 1, RECORD, 0):
        received.open("home", "lights")


def _gkdk(data: bytes) -> None:
    record = GkdkRecord.parse(data)
    record.own_entry(b"\x20\x0d" + bytes(16))


def _group_message(data: bytes) -> None:
    group = group_message.Group("lights", 1, 1, numbers.PROTECTION_SEALED)
    group_message.Receiver(group, "lamp").open(group_message.parse(data), {1: KEY}, 0)


def _edhoc(data: bytes) -> None:
    peer = cose.Credential.of("gw", _X)
    initiator = Initiator(cose.Credential.of("lamp", _X), bytes(31) + b"\x05", bytes(31) + b"\x07", b"\x01", peer)
    for _ in initiator.message_1():
        pass
    for _ in initiator.message_3(data):
        pass


def _oscore(data: bytes) -> None:
    message = coap.decode(data)
    context = Context(KEY, KEY[:8], b"\x01", b"abc", 64, lambda: 64, True)
    context.unprotect_request(message.options, message.payload)


def _index(data: bytes) -> None:
    subset_index.from_text(10, data.decode("latin-1"))


def _object() -> bytes:
    members = [slot for slot in range(1024) if slot != 9]
    draft = broadcast_object_build.build(
        pn_id="home",
        sg_id="lights",
        pn_alias=1,
        sg_alias=1,
        generation=1,
        version=7,
        activation=0,
        reason=2,
        group_key=KEY,
        height=10,
        subsets=cover(10, 2, members),
        key_of=TREE.subset_key,
    )[0]
    return bytes(draft.finish(bytes(64)))


_X = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
_PUBLIC = json.loads((VECTORS / "mikey_sakke_public.json").read_text())["payload_tests"][0]
_JOIN = messages.encode(numbers.JOIN_REQUEST, {messages.PNE_ID: "lamp", messages.SG_ID: "lights"})
_DELIVERY_FIELDS = {
    messages.SG_ID: "lights",
    messages.GROUP_KEY: [(KEY, None)],
    messages.VERSION: 7,
    messages.ACTIVATION: 0,
    messages.REASON: 2,
}
_DELIVERY = messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, _DELIVERY_FIELDS)
_XML = xml_form.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, _DELIVERY_FIELDS)
_CCS = credentials.ccs_of("lamp", _X)
_RING = KeyRing(numbers.PROTECTION_SEALED, 3)
_PROVISIONING = provisioning.Provisioning("lamp", bytes(31) + b"\x05", _CCS).pack()
_PARAMETERS = bytes.fromhex("00000000000068d7eafa00ffffffff00000020017b001c") + b"sip:group@gms-psi.example.or"
_COAP = bytes.fromhex("440280010102030493019024cpns".replace("cpns", "63706e73")) + b"\xff" + _JOIN
_KMS_REQUEST = Request("sip:a@example.org", "kms.example.org", 1_700_000_000, "https://kms.example.org/", "client")
_KMS_RESPONSE = Response("sip:a@b", "kms", 1_700_000_000, "https://kms/", error=ErrorReport(7, "no"))

TARGETS = (
    Target("cbor", cborlite.decode, (CpnsError,), (_JOIN, _DELIVERY, cborlite.encode([1, "a", {1: b"x"}, None]))),
    Target("message", messages.decode, (CpnsError,), (_JOIN, _DELIVERY)),
    Target("xml", xml_form.decode, (CpnsError,), (_XML, b"<a/>")),
    Target("broadcast-object", _broadcast, (CpnsError,), (_object(),)),
    Target("gkdk", _gkdk, (CpnsError,), (RECORD.pack(),)),
    Target("encryption-key-index", _index, (CpnsError,), (b"1.200d", b"1.0001", b"7.b002")),
    Target("group-message", _group_message, (CpnsError,), (b"G\x02" + bytes(4) + b"\x00\x01" + bytes(40),)),
    Target("beacon", beacon.parse, (CpnsError,), (beacon.build(KEY, "lights", 1, 1, 1, 7),)),
    Target("provisioning", provisioning.parse, (CpnsError,), (_PROVISIONING,)),
    Target("key-ring", lambda data: KeyRing.load(data, 0), (CpnsError,), (_RING.dump(0),)),
    Target("coap", coap.decode, (CpnsError,), (_COAP,)),
    Target("oscore", _oscore, (CpnsError,), (_COAP,)),
    Target("edhoc-message-2", _edhoc, (CpnsError,), (b"\x58\x2a" + _X + bytes(10) + b"\x01",)),
    Target("cose-credential", cose.Credential.parse, (CpnsError,), (_CCS,)),
    Target("credential", lambda data: credentials.parse(data, "pne"), (CpnsError,), (_CCS,)),
    Target("configuration", load.parse, (ConfigError,), (b'[gateway]\nid = "g"\npn = "p"\nstate_dir = "s"\n',)),
    Target("mikey", mikey.parse, (MikeyError,), (bytes.fromhex(_PUBLIC["i_message_hex"]),)),
    Target("key-parameters", key_parameters.decode, (MikeyError,), (_PARAMETERS,)),
    Target("kms-request", lambda data: kms_xml.decode(data, Request), (KmsFault,), (kms_xml.encode(_KMS_REQUEST),)),
    Target("kms-response", lambda data: kms_xml.decode(data, Response), (KmsFault,), (kms_xml.encode(_KMS_RESPONSE),)),
)


def run(target: Target, data: bytes) -> None:
    """Give `data` to the target; whatever is not one of its errors comes out."""
    try:
        target.parse(data)
    except target.errors:
        return
