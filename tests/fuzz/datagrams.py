"""Fuzz targets: octets that come in datagrams, at a PNE and at the Linux ends."""

import struct

import aiocoap  # type: ignore[import-untyped]
from aiocoap import error as aiocoap_errors
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import (
    advert,
    advert_build,
    beacon,
    broadcast_object_build,
    cborlite,
    group_message,
    messages,
    numbers,
    report,
)
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.cover import cover
from cpns.errors import CpnsError
from device_agent import cose, edhoc
from device_agent.coap import message as coap
from device_agent.crypto import p256
from message_plane import credentials
from message_plane import edhoc as plane_edhoc
from message_plane.datagram import check_datagram
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from message_plane.session import parse_option
from tests.fuzz.portable_parsers import KEY, LIGHTS, PARSERS, RECORD, TREE
from tests.fuzz.target import Target

X = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
CCS = credentials.ccs_of("lamp", X)
JOIN = messages.encode(numbers.JOIN_REQUEST, {messages.PNE_ID: "lamp", messages.SG_ID: "lights"})
DELIVERY_FIELDS = {
    messages.SG_ID: "lights",
    messages.GROUP_KEY: [(KEY, None)],
    messages.VERSION: 7,
    messages.ACTIVATION: 0,
    messages.REASON: 2,
}
DELIVERY = messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, DELIVERY_FIELDS)


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


def _delete() -> bytes:
    draft = broadcast_object_build.build_delete(pn_id="home", sg_id="lights", pn_alias=1, sg_alias=1, version=7)
    return bytes(draft.finish(bytes(64)))


def _rows() -> bytes:
    signed = _delete()
    rows = advert_build.rows_of(advert_build.to_air(signed, 1))
    head = bytes((len(rows) - 1,)) + advert.identification(signed)
    return b"".join(head + bytes((index,)) + row for index, row in enumerate(rows))


def _index(data: bytes) -> None:
    subset_index.from_text(10, data.decode("latin-1"))


def _sealed() -> bytes:
    sender = group_message.Sender(LIGHTS, "lamp.2")
    sender.start(1, bytes(8))
    sender.reserved(sender.reserve())
    return bytes(sender.protect(1, KEY, b"light on"))


# what message_plane.links.opened takes as malformed; anything else that aiocoap raises would end its reader
_DECODE_ERRORS = (aiocoap_errors.Error, ValueError, IndexError, KeyError, TypeError, struct.error)


def _coap_plane(data: bytes) -> None:
    check_datagram(data)
    aiocoap.Message.decode(data)


def _edhoc_2(data: bytes) -> None:
    peer = cose.Credential.of("gw", X)
    own = cose.Credential.of("lamp", X)
    initiator = edhoc.Initiator(own, bytes(31) + b"\x05", bytes(31) + b"\x07", b"\x01", peer)
    p256.run(initiator.message_1())
    p256.run(initiator.message_3(data))


_GATEWAY = OwnIdentity("gw", "gateway", ec.derive_private_key(11, ec.SECP256R1()))
_LAMP = OwnIdentity("lamp", "pne", ec.derive_private_key(13, ec.SECP256R1()))


def _message_1() -> bytes:
    return plane_edhoc.Initiator(_LAMP, _GATEWAY.credential, b"\x01\x02").message_1


def _edhoc_1(data: bytes) -> None:
    plane_edhoc.Responder(_GATEWAY, data, b"\x01\x02\x03", by_value=True)


def _edhoc_2_plane(data: bytes) -> None:
    plane_edhoc.Initiator(_LAMP, _GATEWAY.credential, b"\x01\x02").message_3(data)


def _edhoc_3(data: bytes) -> None:
    c_r, message_3 = plane_edhoc.split_message_3(data)
    responder = plane_edhoc.Responder(_GATEWAY, _FIRST, c_r, by_value=False)
    offer = responder.offered(message_3)
    if offer.ccs is not None:
        credentials.parse(offer.ccs, "pne")
    responder.finish(_LAMP.credential, False)


_FIRST = _message_1()
_SECOND = plane_edhoc.Responder(_GATEWAY, _FIRST, b"\x01\x02\x03", by_value=True).message_2
_CARRIED = coap.Message(coap.NON, 0x44, 1, bytes(4), [(9, b"")], b"sealed").encode()
_COAP = bytes.fromhex("440280010102030493019024") + b"cpns\xff" + JOIN
_ANSWER = coap.Message(coap.CON, 0x45, 7, bytes(4), [(12, b"\x3c"), (252, b"e")], b"p").encode()
_CORE = coap.Message(coap.NON, 0x45, 7, bytes(4), [(12, b"\x28")], b'</cpns>;rt="keycast.gw"').encode()

TARGETS = (
    Target("cbor", PARSERS["cbor"], (CpnsError,), (JOIN, DELIVERY, cborlite.encode([1, "a", {1: b"x"}, None]))),
    Target("message", PARSERS["message"], (CpnsError,), (JOIN, DELIVERY)),
    Target("broadcast-object", PARSERS["broadcast-object"], (CpnsError,), (_object(), _delete())),
    Target("gkdk", PARSERS["gkdk"], (CpnsError,), (RECORD.pack(),)),
    Target("encryption-key-index", _index, (CpnsError,), (b"1.200d", b"1.0001", b"7.b002")),
    Target("group-message", PARSERS["group-message"], (CpnsError,), (_sealed(),)),
    Target("beacon", PARSERS["beacon"], (CpnsError,), (beacon.build(KEY, "lights", 1, 1, 1, 7),)),
    Target("air-form", PARSERS["air-form"], (CpnsError,), (advert_build.to_air(_object(), 1),)),
    Target("rows", PARSERS["rows"], (CpnsError,), (_rows(),)),
    Target("report", PARSERS["report"], (CpnsError,), (report.build(1, 1, 7, 5, "1", bytes(8)),)),
    Target("coap", PARSERS["coap"], (CpnsError,), (_COAP,)),
    Target(
        "coap-endpoint", PARSERS["coap-endpoint"], (), (bytes([2 * len(_ANSWER) + 1]) + _ANSWER, b"\x20" + _COAP[:16])
    ),
    Target("coap-linux", _coap_plane, (CpnsError, *_DECODE_ERRORS), (_COAP, _ANSWER)),
    Target("discovery", PARSERS["discovery"], (CpnsError,), (_CORE,)),
    Target("tunnel-answer", PARSERS["tunnel-answer"], (CpnsError,), (_CARRIED,)),
    Target("oscore", PARSERS["oscore"], (CpnsError,), (_COAP,)),
    Target("oscore-option", parse_option, (CpnsError,), (b"\x09\x05abc", b"\x0b\x01\x02\x03ab")),
    Target("edhoc-message-1", _edhoc_1, (CpnsError, PlaneError), (_FIRST,)),
    Target("edhoc-message-2", _edhoc_2, (CpnsError,), (_SECOND, b"\x58\x2a" + X + bytes(10) + b"\x01")),
    Target("edhoc-message-2-linux", _edhoc_2_plane, (CpnsError, PlaneError), (_SECOND,)),
    Target("edhoc-message-3", _edhoc_3, (CpnsError, PlaneError), (b"\x43\x01\x02\x03\x58\x20" + bytes(32),)),
    Target("cose-credential", PARSERS["cose-credential"], (CpnsError,), (CCS,)),
    Target("credential", lambda data: credentials.parse(data, "pne"), (CpnsError,), (CCS,)),
)
