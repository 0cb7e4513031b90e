"""The PN GW's side of signed broadcasts: from a cover to datagrams (docs/protocol.md section 5).

The caller makes the signature: each `Draft` holds the octets to be signed and accepts their signature.
"""

from cpns import cborlite, numbers, tuning
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.wrapping import commitment, w16_wrap
from cpns.broadcast_object import CONTEXT_DELETE, CONTEXT_GROUP_KEY, FRAME_HEAD, SIGNATURE_HEAD, to_be_signed
from cpns.errors import MalformedMessage

# Frame 7, payload head 3, signature 66, and of the payload all but the entries: 1+1+5+3+3+5+5+1+17+3+3+3
_FIXED_MAX = 126


class Draft:
    """A broadcast without its signature. `to_be_signed` are the octets that the PN GW signs with ES256."""

    def __init__(self, context: str, pn_id: str, sg_id: str, items: "list[object]") -> None:
        self._payload = cborlite.encode(items)
        self.to_be_signed = to_be_signed(context, pn_id, sg_id, self._payload)

    def finish(self, signature: bytes) -> bytes:
        """Return the datagram with `signature` = r ‖ s, 64 octets. Raises ValueError for another length."""
        if len(signature) != 64:
            raise ValueError("an ES256 signature has 64 octets")
        return FRAME_HEAD + cborlite.encode(self._payload) + SIGNATURE_HEAD + signature


def build(
    *,
    pn_id: str,
    sg_id: str,
    pn_alias: int,
    sg_alias: int,
    generation: int,
    version: int,
    activation: int,
    reason: int,
    group_key: bytes,
    height: int,
    subsets: "list[subset_index.Subset]",
    key_of,
) -> "list[Draft]":
    """Return the broadcast objects that carry `group_key` to every member of `subsets` (CPNS-GKM-35, -36).

    `subsets` is a cover in canonical order; `key_of(subset)` returns its key, as `TreeKeys.subset_key` does.
    `activation` is in Unix seconds, 0 = when stored. The result is one Draft, or several, each with its first and last
    slot, if the cover has more than 70 entries (67 in trees higher than 11), or none for an empty cover. Each datagram
    has at most 1,400 octets. Raises ValueError for numbers that do not fit and for a Group Key that is not 16 octets.
    """
    if min(sg_alias, generation, version) < 1 or not numbers.REASON_CREATE <= reason <= numbers.REASON_BY_HAND:
        raise ValueError("alias, generation and version count from 1, reasons from 0 to 4")
    if min(pn_alias, activation) < 0 or max(pn_alias, version, activation) >> 32 or max(sg_alias, generation) >> 16:
        raise ValueError("a number does not fit into its field")
    commit = commitment(group_key, pn_alias, sg_alias, generation, version)
    head = [numbers.GROUP_KEY_DELIVERY_REQUEST, pn_alias, sg_alias, generation, version, activation, reason, commit]
    size = subset_index.width(height) + 16
    count = min(tuning.ENTRIES_PER_OBJECT, (tuning.BROADCAST_OBJECT_MAX - _FIXED_MAX) // size)
    drafts = []
    for at in range(0, len(subsets), count):
        part = subsets[at : at + count]
        # all keys, then all wraps: HMAC and AES, taking turns, drive each other's code out of the processor's cache
        keys = [key_of(subset) for subset in part]
        wraps = [subset_index.encode(height, subset) + w16_wrap(key, group_key) for subset, key in zip(part, keys)]
        items = head + [b"".join(wraps)]
        if len(subsets) > count:
            items.append(subset_index.smallest_slot(height, part[0]))
            items.append(max([subset_index.largest_slot(height, subset) for subset in part]))
        drafts.append(Draft(CONTEXT_GROUP_KEY, pn_id, sg_id, items))
    return drafts


def build_delete(*, pn_id: str, sg_id: str, pn_alias: int, sg_alias: int, version: int) -> Draft:
    """Return the Draft of the delete of a Service Group whose last version is `version`."""
    items = [numbers.DELETE_SERVICE_GROUP_REQUEST, pn_alias, sg_alias, version]
    return Draft(CONTEXT_DELETE, pn_id, sg_id, items)


def elements(generation: int, height: int, entries: bytes) -> "list[tuple[bytes, str]]":
    """Return the packed `entries` as the 1..n Group Key elements with Encryption Key index of CPNS-GKM-47 and -48.

    Raises MalformedMessage if they are not entries of a tree of `height`.
    """
    width = subset_index.width(height)
    if len(entries) % (width + 16):
        raise MalformedMessage("entries of a wrong length")
    out = []
    for at in range(0, len(entries), width + 16):
        index = entries[at : at + width]
        subset_index.decode(height, index)
        out.append((entries[at + width : at + width + 16], subset_index.to_text(generation, index)))
    return out


def entries(generation: int, height: int, elements: "list[tuple[bytes, str]]") -> bytes:
    """Return the packed entries of Group Key elements. Raises MalformedMessage if they are not of `generation`."""
    out = []
    for wrapped, text in elements:
        named, index = subset_index.from_text(height, text)
        if named != generation or len(wrapped) != 16:
            raise MalformedMessage("a Group Key element of another generation or length")
        out.append(index + wrapped)
    return b"".join(out)
