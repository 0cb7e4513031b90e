"""The octets that it takes to bring a new Group Key to the members who stay, beside other ways to do it.

Ours is the whole signed datagram. The counted schemes get the same signed frame around their key material, so that
only the scheme differs. Unicast is counted as our own message plane sends it, with OSCORE and CoAP.
"""

import random
import secrets
from collections.abc import Callable, Iterator
from math import ceil

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers, proof, tuning
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_object_build import build
from device_agent import oscore
from device_agent.coap.message import ACK, CON, Message
from message_plane.identity import BroadcastSigningKey
from tools.bench import mls_peer, schemes
from tools.bench.rows import Line, Row, Skipped, Tell

PN_ID, SG_ID = "home", "home/lights"
PN_ALIAS, SG_ALIAS = 0xC0FFEE42, 300
VERSION = 1 << 16 | 7
TARGET_ONE_OF_1024 = 130
_URI_PATH, _CONTENT_FORMAT = 11, 12
_CPNS = [(_URI_PATH, b"cpns"), (_CONTENT_FORMAT, bytes([numbers.CONTENT_CBOR]))]


def signed_objects(
    keys: TreeKeys, members: set[int], signing: BroadcastSigningKey, group_key: bytes, version: int = VERSION
) -> list[bytes]:
    """Return the datagrams of one delivery to `members`, as a PN GW makes them after a leave."""
    drafts = build(
        pn_id=PN_ID,
        sg_id=SG_ID,
        pn_alias=PN_ALIAS,
        sg_alias=SG_ALIAS,
        generation=1,
        version=version,
        activation=0,
        reason=numbers.REASON_LEAVE,
        group_key=group_key,
        height=keys.height,
        subsets=cover(keys.height, 2, members),
        key_of=keys.subset_key,
    )
    return [draft.finish(signing.sign(draft.to_be_signed)) for draft in drafts]


def framed(wraps: int, frame: int) -> int:
    """Return the octets of `wraps` keys with their indexes, in as many signed frames of `frame` octets as needed."""
    return ceil(wraps / tuning.ENTRIES_PER_OBJECT) * frame + schemes.octets(wraps)


def unicast_exchange(ask: bytes, answer: bytes) -> int:
    """Return the octets of UDP payload of one exchange of PN GW and PNE: request and piggybacked response, OSCORE."""
    secret, salt, gateway_id, pne_id = secrets.token_bytes(16), secrets.token_bytes(8), b"\x01\x02\x03", b"\x04\x05"
    asking, answering = (
        oscore.Context(secret, salt, own, other, 100, lambda ceiling: None, fresh=True)
        for own, other in ((gateway_id, pne_id), (pne_id, gateway_id))
    )
    token = secrets.token_bytes(4)
    code, options, payload, _ = asking.protect_request(0x02, _CPNS, ask)
    request = Message(CON, code, 1, token, options, payload).encode()
    _, _, _, question = answering.unprotect_request(options, payload)
    code, options, payload = answering.protect_response(question, 0x44, _CPNS[1:] if answer else [], answer)
    return len(request) + len(Message(ACK, code, 1, token, options, payload).encode())


def key_and_confirmation() -> tuple[bytes, bytes]:
    """Return a GroupKeyDeliveryRequest for one PNE, and the GroupKeyDeliveryResponse of a PNE with a GKDK."""
    key = secrets.token_bytes(16)
    request = {
        messages.SG_ID: SG_ID,
        messages.GROUP_KEY: [(key, None)],
        messages.VERSION: VERSION,
        messages.ACTIVATION: 0,
        messages.REASON: numbers.REASON_LEAVE,
        messages.TIME: 1_800_000_000,
    }
    ok = numbers.RESULT_SUCCESS
    response = {
        messages.RESULT: ok,
        messages.SG_ID: SG_ID,
        messages.VERSION: VERSION,
        messages.GENERATION: 1,
        messages.SLOT: 700,
        messages.PROOF: proof.confirmation(secrets.token_bytes(16), 1, 700, VERSION, ok, PN_ID, SG_ID, key),
    }
    return (
        messages.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, request),
        messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, response),
    )


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the octets when one of 32, 256 and 1,024 leaves, when 5 % of 1,024 leave, and of all confirmations."""
    signing = BroadcastSigningKey(ec.generate_private_key(ec.SECP256R1()))
    draw = random.Random(1)
    ask, answer = key_and_confirmation()
    by_unicast, confirmed = unicast_exchange(ask, answer), unicast_exchange(answer, b"")
    for height in (5, 8, 10):
        slots = 1 << height
        keys = TreeKeys(secrets.token_bytes(32), height)
        leaver = draw.randrange(slots)
        objects = signed_objects(keys, set(range(slots)) - {leaver}, signing, secrets.token_bytes(16))
        ours = sum(map(len, objects))
        frame = ours - schemes.octets(1)
        name = f"one of {slots:,} leaves, signed object"
        target = TARGET_ONE_OF_1024 if slots == 1024 else None

        def row(peer: str, octets: float, ours: int = ours, name: str = name, target: int | None = target) -> Row:
            return Row(name, ours, "octets", peer, octets, target, "as sent; counted peers in the same signed frame")

        yield row("LKH", framed(schemes.logical_key_hierarchy(slots), frame))
        yield row("complete subtree", framed(schemes.complete_subtree(slots, frozenset([leaver])), frame))
        yield row("list of wraps", framed(schemes.per_member_list(slots), frame))
        yield row("unicast, OSCORE", by_unicast * (slots - 1))
        tell(f"MLS removes one of {slots:,}")
        try:
            yield row("MLS commit (ts-mls)", mls_peer.remove_one(slots).octets)
        except mls_peer.NotAvailable as why:
            yield Skipped(f"{name} beside MLS", str(why))
    yield from _five_percent(keys, signing, frame, draw.sample)
    yield Row(
        "one of 1,024 leaves, object and 1,023 confirmations",
        ours + 1023 * confirmed,
        "octets",
        "unicast, OSCORE",
        by_unicast * 1023,
        note="a confirmation is an exchange of its own: broadcast saves the keys, not the answers",
    )


def _five_percent(
    keys: TreeKeys, signing: BroadcastSigningKey, frame: int, sample: Callable[[range, int], list[int]]
) -> Iterator[Line]:
    slots = 1 << keys.height
    out = frozenset(sample(range(slots), slots // 20))
    ours = sum(map(len, signed_objects(keys, set(range(slots)) - out, signing, secrets.token_bytes(16))))
    name, note = f"{len(out)} of {slots:,} excluded (5 %), signed objects", "random slots"
    for peer, wraps in (
        ("complete subtree", schemes.complete_subtree(slots, out)),
        ("list of wraps", slots - len(out)),
    ):
        yield Row(name, ours, "octets", peer, framed(wraps, frame), note=note)
