"""The update key: the P-256 key whose owner signs updates. A board keeps its public part, x ‖ y, in the record `upkey`.

It comes with the provisioning, or once from the PN GW. A board that has one never takes another over the network, nor
does one that has had one, of which both copies are damaged now.
"""

from hashlib import sha256

from cpns.errors import MalformedMessage
from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.update import slot_record
from device_agent.update.lost import lost

RECORD = "upkey"


def load(store, identity):
    """Return the update key of a board, 64 octets, or None. Raises MalformedMessage if it has two jobs, or is lost."""
    octets = store.load(RECORD)
    if octets is not None:
        _check(octets, identity)
    elif lost(store, RECORD):
        raise MalformedMessage("both copies of the update key are damaged: only a cable replaces it")
    return octets


def take(store, identity, octets):
    """Keep the first update key, which the PN GW has named. Raises MalformedMessage for what is no key of its own."""
    _check(octets, identity)
    next(p256.table(octets[:32], octets[32:]))  # whose first step looks whether it is a point of the curve
    keep(store, octets)


def keep(store, octets):
    """Store an update key, which was checked or came by cable."""
    slot_record.begin_floors(store)
    store.save(RECORD, octets)


def key_id(octets):
    """Return the 8 octets by which an update key is named, b"" for None."""
    return sha256(octets).digest()[:8] if octets else b""


def _check(octets, identity):
    if len(octets) != 64:
        raise MalformedMessage("the update key has not 64 octets")
    others = [identity.signing_key[:32]]
    for ccs in (identity.ccs, identity.gateway_ccs, identity.server_ccs):
        if ccs:
            others.append(Credential.parse(ccs).x)
    if octets[:32] in others:  # SEC-17
        raise MalformedMessage("one key for two jobs: the update key is another key of this board or its gateway")
