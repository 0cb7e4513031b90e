"""Routine change of the broadcast signing key (protocol.md section 10, SEC-18).

A change is announced over the session of each PNE and signed by the old key. The announcements are stored, so that the
old private key can be destroyed at once and a PNE that was away gets them later, in order. A PNE that has not accepted
the new key yet is reached by unicast. This does not help against a stolen key; `keycast gateway replace` does.
"""

from cpns import cborlite, messages, numbers
from cpns.errors import NotAllowed
from gateway_agent.core.ports import Signer, Unicast
from gateway_agent.store.store import GatewayStore

CONTEXT = "keycast/rollover/1"
_ES256_PROTECTED = b"\xa1\x01\x26"


def to_be_signed(pn_id: str, epoch: int, public_key: bytes) -> bytes:
    """Return the octets that the old key signs for a new key with this epoch and 64 octets of public key.

    They are CBOR ["Signature1", h'a10126', CBOR [context, PN ID], CBOR [epoch, key]].
    """
    aad = cborlite.encode([CONTEXT, pn_id])
    return bytes(cborlite.encode(["Signature1", _ES256_PROTECTED, aad, cborlite.encode([epoch, public_key])]))


def announce(store: GatewayStore, old: Signer, new_public_key: bytes) -> int:
    """Store the announcement of a new signing key and return its epoch. Afterwards the caller must sign with this key.

    Raises NotAllowed if the new key is the old one.
    """
    pn = store.pn.get()
    if pn is None:
        raise AssertionError("no PN yet")
    if new_public_key == old.public_key:
        raise NotAllowed("the new signing key is the old one")
    epoch = pn.signing_epoch + 1
    message = messages.encode(
        numbers.ROLL_OVER_REQUEST,
        {
            messages.SIGNING_KEY: new_public_key,
            messages.SIGNING_EPOCH: epoch,
            messages.SIGNATURE: old.sign(to_be_signed(pn.pn_id, epoch, new_public_key)),
        },
    )
    with store.transaction():
        store.pn.add_roll_over(epoch, message)
        store.pn.set_signing_epoch(epoch)
    return epoch


async def push(store: GatewayStore, unicast: Unicast, pne_id: str) -> bool:
    """Send a PNE all announcements that it lacks, in order. Return True if it trusts the present key afterwards.

    Raises NoAnswer, MalformedMessage.
    """
    pne = store.pn.pne(pne_id)
    if pne is None:
        return False
    for epoch, message in store.pn.roll_overs_after(pne.signing_epoch):
        answer = await unicast.request(pne_id, message)
        if answer is None:
            return False
        code, fields = messages.decode(answer)
        if code != numbers.ROLL_OVER_RESPONSE or fields[messages.RESULT] != numbers.RESULT_SUCCESS:
            return False
        with store.transaction():
            store.pn.set_trusted_epoch(pne_id, epoch)
    return True
