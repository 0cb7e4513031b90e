"""The record that a board gets at provisioning: its identity, and the gateway that it belongs to.

CBOR array `[1, PNE ID, private key (32), own CCS, gateway ID, gateway CCS, signing key (64), signing epoch, PN ID,
gateway address hint]`, and then the CCS of the CPNS Server if it is to be pinned (section 11). A board that is still to
be paired (docs/protocol.md section 9) has empty values from the gateway ID on. The key store keeps it under `RECORD`;
tools on the host call `pack`, the board calls `parse`.
"""

from cpns import cborlite, tuning
from cpns.errors import CpnsError, MalformedMessage
from device_agent.cose import Credential

RECORD = "prov"
PENDING = "pend"  # the record of an identity that is not in force yet (`pending.py`)
IN_FORCE = 2  # its stage while it is put in force
FORMAT = 1


def _id(value, what):
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= tuning.ENTITY_ID_MAX:
        raise MalformedMessage(what + " is no text, empty or too long")


def _credential(ccs, entity_id):
    credential = Credential.parse(ccs)
    if credential.entity_id != entity_id:
        raise MalformedMessage(f"the credential is not that of {entity_id}")
    return credential


class Provisioning:
    """The identity and the gateway of one board, with the fields of the record as attributes. `repr` shows no key."""

    def __init__(
        self,
        pne_id,
        private_key,
        ccs,
        gateway_id="",
        gateway_ccs=b"",
        signing_key=b"",
        signing_epoch=0,
        pn_id="",
        address="",
        server_ccs=b"",
    ):
        self.pne_id = pne_id
        self.private_key = private_key
        self.ccs = ccs
        self.gateway_id = gateway_id
        self.gateway_ccs = gateway_ccs
        self.signing_key = signing_key
        self.signing_epoch = signing_epoch
        self.pn_id = pn_id
        self.address = address
        self.server_ccs = server_ccs
        self._check()

    def _check(self):
        _id(self.pne_id, "PNE ID")
        if len(self.private_key) != 32:
            raise MalformedMessage("the private key has not 32 octets")
        _credential(self.ccs, self.pne_id)
        if self.paired:
            _id(self.gateway_id, "gateway ID")
            x = _credential(self.gateway_ccs, self.gateway_id).x
            if len(self.signing_key) != 64:
                raise MalformedMessage("the signing key has not 64 octets")
            if self.signing_key[:32] == x:
                raise MalformedMessage("one key for two jobs: the signing key is the gateway's EDHOC key")  # SEC-17
            if self.pn_id:
                _id(self.pn_id, "PN ID")
            if self.server_ccs and Credential.parse(self.server_ccs).x == x:
                raise MalformedMessage("one key for two ends: the CPNS Server's is the gateway's")  # SEC-25

    @property
    def paired(self):
        """True if the board knows its gateway."""
        return bool(self.gateway_id)

    def pack(self):
        """Return the record as octets, for `parse`."""
        record = [
            FORMAT,
            self.pne_id,
            self.private_key,
            self.ccs,
            self.gateway_id,
            self.gateway_ccs,
            self.signing_key,
            self.signing_epoch,
            self.pn_id,
            self.address,
        ]
        if self.server_ccs:
            record.append(self.server_ccs)
        return cborlite.encode(record)

    def change(self, store, **fields):
        """Set attributes and store the record in `store`, a KeyStore. If that raises, nothing has changed."""
        old = {name: getattr(self, name) for name in fields}
        try:
            for name, value in fields.items():
                setattr(self, name, value)
            self._check()
            store.save(RECORD, self.pack())
        except (CpnsError, OSError):
            for name, value in old.items():
                setattr(self, name, value)
            raise

    def __repr__(self):
        return f"<Provisioning {self.pne_id} of gateway {self.gateway_id or None}>"


_TYPES = (int, str, bytes, bytes, str, bytes, bytes, int, str, str, bytes)


def parse(octets):
    """Return the Provisioning in a record. Raises MalformedMessage if any part of it is wrong."""
    value = cborlite.decode(octets)
    if not isinstance(value, list) or len(value) not in (len(_TYPES) - 1, len(_TYPES)) or value[0] != FORMAT:
        raise MalformedMessage("not a provisioning record of this format")
    for item, kind in zip(value, _TYPES):
        if not isinstance(item, kind):
            raise MalformedMessage("a provisioning field has the wrong type")
    return Provisioning(*value[1:])
