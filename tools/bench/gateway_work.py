"""The PN GW's computations for one delivery: cover, subset keys, wrapping and signature, without radio and disk."""

import random
import secrets
from collections.abc import Iterator
from dataclasses import replace

from cryptography.hazmat.primitives import keywrap
from cryptography.hazmat.primitives.asymmetric import ec

from cpns.broadcast_encryption.keys import TreeKeys
from cpns.broadcast_encryption.wrapping import w16_wrap
from cpns.crypto.hmac import Hmac
from message_plane.identity import BroadcastSigningKey
from tools.bench import mls_peer, schemes
from tools.bench.octets import signed_objects
from tools.bench.processor import YARDSTICK, side_by_side_ms
from tools.bench.rows import Line, Row, Skipped, Tell, median_ms

TARGET_ONE_MS, TARGET_5_PERCENT_MS, TARGET_65536_MS = 0.25, 1.5, 100.0
_NOTE = (
    "median processor time of the quickest of five passes in turn with the peers, a new leaver and no remembered "
    f"subset key each time; yardstick_us is what one {YARDSTICK} took meanwhile"
)


class _Delivery:
    """A delivery to all members but a few, with its keys and members, which are drawn anew for each measurement."""

    def __init__(self, height: int, out: int) -> None:
        self._height = height
        self._out = out
        self._signing = BroadcastSigningKey(ec.generate_private_key(ec.SECP256R1()))
        self._master = secrets.token_bytes(32)
        self._draw = random.Random(1)
        self._member_keys = [secrets.token_bytes(16) for _ in range(1 << height)]
        self.prepare()

    def prepare(self) -> None:
        """Draw another key and other leavers, and make tree keys without cached values."""
        slots = 1 << self._height
        self.outside = frozenset(self._draw.sample(range(slots), self._out))
        self.members = set(range(slots)) - self.outside
        self.keys = TreeKeys(self._master, self._height)
        self.group_key = secrets.token_bytes(16)

    def ours(self) -> list[bytes]:
        """Wrap and sign by subset difference, as keycast does."""
        return signed_objects(self.keys, self.members, self._signing, self.group_key)

    def per_member(self) -> bytes:
        """Make one wrap (RFC 3394) for each member under its own key, and one signature."""
        wrapped = b"".join(
            keywrap.aes_key_wrap(self._member_keys[slot], self.group_key) for slot in sorted(self.members)
        )
        return self._signing.sign(wrapped)

    def complete_subtree(self) -> bytes:
        """Make one wrap for each maximal subtree of members, node keys derived from one secret, and one signature."""
        master = Hmac(self._master)
        nodes = schemes.complete_subtree_nodes(1 << self._height, self.outside)
        keys = [master.digest(node.to_bytes(4, "big"))[:16] for node in nodes]  # all keys first, as `ours` does
        return self._signing.sign(b"".join([w16_wrap(key, self.group_key) for key in keys]))


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the costs when one of 1,024 leaves, when 5 % of 1,024 and of 65,536 are out, and of one GKDK record."""
    tell("one of 1,024 leaves")
    name = "gateway work, one of 1,024 leaves"
    rows = _beside_peers(name, _Delivery(10, 1), 31, TARGET_ONE_MS)
    yield from rows
    tell("MLS removes one of 1,024")
    try:
        mls = mls_peer.remove_one(1024)
    except mls_peer.NotAvailable as why:
        yield Skipped(f"{name} beside MLS", str(why))
    else:
        yield replace(rows[0], peer="MLS commit (ts-mls)", peer_value=mls.send_ms)
    for height, rounds, target in ((10, 15, TARGET_5_PERCENT_MS), (16, 3, TARGET_65536_MS)):
        slots = 1 << height
        tell(f"5 % of {slots:,} are out")
        yield from _beside_peers(f"gateway work, 5 % of {slots:,} out", _Delivery(height, slots // 20), rounds, target)
    yield from _record(secrets.token_bytes(32))


def _beside_peers(name: str, delivery: _Delivery, rounds: int, target: float) -> list[Row]:
    works = (delivery.ours, delivery.per_member, delivery.complete_subtree)
    (ours, *theirs), yardstick = side_by_side_ms(works, rounds=rounds, prepare=delivery.prepare)
    peers = zip(("wraps (cryptography)", "complete subtree"), theirs, strict=True)
    return [Row(name, ours, "ms", peer, value, target, _NOTE, yardstick) for peer, value in peers]


def _record(master: bytes) -> Iterator[Line]:
    height = 10
    draw = random.Random(2)
    alone = median_ms(lambda: TreeKeys(master, height).record(2, 1, draw.randrange(1 << height)), rounds=101)
    yield Row("one GKDK record of 1,024 slots", alone, "ms", note="the first of its tree: nothing is remembered")
    keys = TreeKeys(master, height)
    slots = iter(range(1 << height))
    every = median_ms(lambda: keys.record(2, 1, next(slots)), rounds=1000)
    yield Row("one GKDK record among all of a tree", every, "ms", note="neighbours share most of their labels")
