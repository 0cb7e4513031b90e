"""An identity on its way into a board: made there, confirmed after a restart, put in force by one write.

It stands in the record PENDING beside the present identity, which is in use until then: CBOR array `[1, stage,
provisioning record, {name: octets of a record that comes with it, or none if that is to be erased}]`. `put_in_force`
writes the stage IN_FORCE, and then all records. A power cut before that write leaves the old identity with all its
state. After it the new one holds, as `finish` goes on with the rest at the next start. Version floors outlive
identities (SEC-04).
"""

from hashlib import sha256

from cpns import cborlite
from cpns.errors import MalformedMessage, NotAuthentic, Unknown
from cpns.key_ring import KeyRing
from device_agent import membership, provisioning, unpaired
from device_agent.cose import Credential
from device_agent.crypto import p256

RECORD = provisioning.PENDING
FORMAT = 1
_UPDATE_KEY = "upkey"  # update.key.RECORD
KEY, WHOLE, IN_FORCE = 0, 1, provisioning.IN_FORCE  # there is a key but no gateway; all is there; it is put in force


def load(store):
    """Return (stage, Provisioning, further records) of `store`, a KeyStore, or None. Raises MalformedMessage."""
    octets = store.load(RECORD)
    if octets is None:
        return None
    value = cborlite.decode(octets)
    if not isinstance(value, list) or len(value) != 4 or value[0] != FORMAT or not isinstance(value[3], dict):
        raise MalformedMessage("not a pending identity of this format")
    return value[1], provisioning.parse(value[2]), value[3]


def begin(store, pne_id, random):
    """Return the CCS of a new identity called `pne_id`, whose private key is made here and stays here.

    An identity of this name that was begun and is not in force yet is gone on with. `random(n)` must be good: a radio
    is on (SEC-17). Raises MalformedMessage for a name that is no PNE ID.
    """
    begun = load(store)
    if begun is None or begun[0] == IN_FORCE or begun[1].pne_id != pne_id:
        key = p256.private_key(random)
        ccs = Credential.of(pne_id, p256.run(p256.public_key(key))[:32]).ccs
        begun = KEY, provisioning.Provisioning(pne_id, key, ccs), {}
        _save(store, begun)
    return begun[1].ccs


def begin_again(store):
    """Return the CCS of the present identity, which is to get another gateway or other records. Raises Unknown."""
    octets = store.load(provisioning.RECORD)
    if octets is None:
        raise Unknown("there is no identity in the store")
    _save(store, (KEY, provisioning.parse(octets), {}))
    return provisioning.parse(octets).ccs


def complete(store, octets, label=None):
    """Add the gateway and further records to the identity that was begun; return the digest of the whole.

    `octets`: CBOR array `[gateway ID, gateway CCS, signing key, signing epoch, PN ID, address hint, {name: octets}]`,
    or the same with the CCS of a CPNS Server before the records.
    `label`: the pairing secret that is printed on a label of the board, if it gets one. Raises Unknown if no identity
    was begun, MalformedMessage.
    """
    begun = load(store)
    if begun is None:
        raise Unknown("no identity was begun")
    identity = begun[1]
    *gateway, records = cborlite.decode(octets)
    if label:
        records[unpaired.LABEL] = cborlite.encode([unpaired.FORMAT, label])
    whole = provisioning.Provisioning(identity.pne_id, identity.private_key, identity.ccs, *gateway)
    return _save(store, (WHOLE, whole, records))


def confirm(store):
    """Return the digest of the pending identity that is in the flash, after a check of its key. Raises CpnsError."""
    found = load(store)
    if found is None or found[0] != WHOLE:
        raise Unknown("there is no whole pending identity in the store")
    identity = found[1]
    public = p256.run(p256.public_key(identity.private_key))
    if Credential.of(identity.pne_id, public[:32]).ccs != identity.ccs:
        raise NotAuthentic("the private key is not that of the credential")
    return sha256(store.load(RECORD)).digest()


def put_in_force(store):
    """Make the whole pending identity that of the board, and end the one before. Raises Unknown if there is none."""
    found = load(store)
    if found is None or found[0] == KEY:
        raise Unknown("there is no whole pending identity in the store")
    _save(store, (IN_FORCE, found[1], found[2]))
    finish(store)


def finish(store):
    """Go on with putting an identity in force if a power cut has interrupted that; return whether it had."""
    found = load(store)
    if found is None or found[0] != IN_FORCE:
        return False
    _, identity, records = found
    present = _present(store)
    if present is None or (present.private_key, present.gateway_ccs) != (identity.private_key, identity.gateway_ccs):
        _end_former(store)
    elif present.server_ccs != identity.server_ccs:
        for name in unpaired.OF_SERVER:
            store.erase(name)
    for name, octets in records.items():
        if octets and name == _UPDATE_KEY:
            from device_agent.update import key

            key.keep(store, octets)
        elif octets:
            store.save(name, octets)
        else:
            store.erase(name)
    store.save(provisioning.RECORD, identity.pack())
    store.erase(RECORD)
    return True


def install(store, octets, records):
    """Put an identity that was made elsewhere in force: a provisioning record, and further records by name."""
    _save(store, (IN_FORCE, provisioning.parse(octets), records))
    finish(store)


def drop(store):
    """Erase a pending identity that is not in force, with its key."""
    store.erase(RECORD)


def _save(store, pending):
    stage, identity, records = pending
    octets = cborlite.encode([FORMAT, stage, identity.pack(), records])
    store.save(RECORD, octets)
    return sha256(octets).digest()


def _present(store):
    # Of the same key at the same gateway, session and keys may be used on
    try:
        return provisioning.parse(store.load(provisioning.RECORD) or b"")
    except MalformedMessage:
        return None


def _end_former(store):
    # Erase what is of no use to the next identity. Of its Service Groups the floors stay, not the keys (SEC-04)
    directory = store.load(membership.RECORD)
    for sg_id in cborlite.decode(directory)[1] if directory else ():
        name = membership.record_name("g", sg_id)
        octets = store.load(name)
        if octets is not None:
            found, _, _, leisure, dump, *_ = cborlite.decode(octets)
            ring = KeyRing.load(dump, 0)
            ring.wipe()
            store.save(name, cborlite.encode([found, False, None, leisure, ring.dump(0), b""]))
    for name in unpaired.OF_FORMER + (unpaired.RECORD, unpaired.LABEL):
        store.erase(name)
