"""What a board has before it belongs to a gateway, made on the board itself: an identity, and a pairing secret.

The identity is a provisioning record without gateway, under a name that the board makes of its serial number; a person
gives it another name while pairing (SEC-31). The record `pair` of the key store is CBOR `[1, pairing secret (10)]`. It
stays the same, so that it can be printed on a label, until the board is paired (SEC-20). The record `label` is one like
it, of a board that has a gateway and a label (`pending.py`): it shows that secret if it is to be paired with another.
"""

from cpns import cborlite
from cpns.errors import MalformedMessage, Unknown
from device_agent import provisioning

RECORD = "pair"
LABEL = "label"
FORMAT = 1
SECRET_LEN = 10
OF_SERVER = ("ssess", "euk")  # records about a CPNS Server that are of no use with the next one
OF_FORMER = ("sess", "groups", "addr", "gkdk0", "gkdk1", "upkey") + OF_SERVER  # those of an identity
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def prepare(storage, store, random, name):
    """Make what is missing in `store`, the KeyStore on `storage`, and return the Provisioning of the board.

    A board that has a gateway only loses its old secret. `random(n)` returns n octets and is first called when a radio
    is on (SEC-17). `name` is the PNE ID of a new identity. Each write may be cut, and the next call goes on. Raises
    OSError, MalformedMessage for a record that is not ours, and Unknown if there is an identity that cannot be read:
    such a board never starts as a new one (SEC-04).
    """
    record = store.load(provisioning.RECORD)
    if record is None:
        if storage.get(provisioning.RECORD + "0") and storage.get(provisioning.RECORD + "1"):  # no torn first write
            raise Unknown("the identity in the store is damaged: provision this board anew")
        identity = _new_identity(store, random, name)
    else:
        identity = provisioning.parse(record)
    if identity.paired:
        store.erase(RECORD)
    elif secret(store) is None:
        store.save(RECORD, cborlite.encode([FORMAT, random(SECRET_LEN)]))
    return identity


def secret(store, name=RECORD):
    """Return the pairing secret in the record `name`, 10 octets, or None. Raises MalformedMessage."""
    record = store.load(name)
    if record is None:
        return None
    value = cborlite.decode(record)
    if not isinstance(value, list) or len(value) != 2 or value[0] != FORMAT or not isinstance(value[1], bytes):
        raise MalformedMessage("not a pairing secret of this format")
    if len(value[1]) != SECRET_LEN:
        raise MalformedMessage("the pairing secret has another length")
    return value[1]


def shown(secret):
    """Return the 16 characters to show to a person for a secret of 10 octets (base32, RFC 4648 section 6)."""
    number = int.from_bytes(secret, "big")
    return "".join([_BASE32[number >> shift & 31] for shift in range(75, -5, -5)])


def _new_identity(store, random, name):
    from device_agent.cose import Credential
    from device_agent.crypto import p256

    for former in OF_FORMER:
        store.erase(former)
    key = p256.private_key(random)
    ccs = Credential.of(name, p256.run(p256.public_key(key))[:32]).ccs
    identity = provisioning.Provisioning(name, key, ccs)
    store.save(provisioning.RECORD, identity.pack())
    return identity
