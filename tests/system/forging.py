"""Key deliveries as an attacker makes them, with more or fewer of the keys that a true one needs."""

import secrets
from collections.abc import Callable

from cpns import numbers
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.wrapping import commitment, w16_wrap
from cpns.broadcast_object import CONTEXT_GROUP_KEY, Received
from cpns.broadcast_object_build import Draft
from cpns.errors import NotAddressed
from device_agent.key_store import KeyStore
from keycast.demo.house import PN_ID
from keycast.virtual_board.board import VirtualBoard

Sign = Callable[[bytes], bytes]


def gkdk_of(board: VirtualBoard) -> GkdkRecord:
    """The newest GKDK in a board's flash."""
    store = KeyStore(board.nvs.snapshot())
    records = [GkdkRecord.parse(octets) for octets in (store.load("gkdk0"), store.load("gkdk1")) if octets]
    return max(records, key=lambda record: int(record.generation))


def by_an_outsider(genuine: Received, sg_id: str, version: int) -> bytes:
    """He has heard a genuine object and has no key at all: the wrapped key, COMMIT and signature are noise."""
    step = len(genuine.entries) // _count(genuine)
    entry = genuine.entries[: step - 16] + secrets.token_bytes(16)
    return _datagram(genuine, sg_id, version, secrets.token_bytes(16), entry, _noise)


def by_a_member(genuine: Received, record: GkdkRecord, sg_id: str, version: int, sign: Sign | None = None) -> bytes:
    """He shares a subset key with others: for them everything is right but the signature, or even that."""
    step = len(genuine.entries) // _count(genuine)
    for at in range(0, len(genuine.entries), step):
        entry = genuine.entries[at : at + step]
        try:
            index, _ = record.own_entry(entry)
        except NotAddressed:
            continue
        key = secrets.token_bytes(16)
        names = genuine.pn_alias, genuine.sg_alias, genuine.generation, version
        wrapped = w16_wrap(record.subset_key(index), key)
        return _datagram(genuine, sg_id, version, commitment(key, *names), entry[:-16] + wrapped, sign or _noise)
    raise NotAddressed("the object is not for this member")


def _count(genuine: Received) -> int:
    return len(genuine.entries) // (subset_index.width(10) + 16)


def _noise(signed: bytes) -> bytes:
    return b"\x01" + secrets.token_bytes(31) + b"\x01" + secrets.token_bytes(31)


def _datagram(genuine: Received, sg_id: str, version: int, commit: bytes, entries: bytes, sign: Sign) -> bytes:
    head = [numbers.GROUP_KEY_DELIVERY_REQUEST, genuine.pn_alias, genuine.sg_alias, genuine.generation, version]
    draft = Draft(CONTEXT_GROUP_KEY, PN_ID, sg_id, [*head, 0, numbers.REASON_LEAVE, commit, entries])
    return bytes(draft.finish(sign(draft.to_be_signed)))
