"""The Entity User Keys (EUK) of a PNE: the present one, and until it was used the one before it (SEC-25)."""

from cpns import cborlite
from cpns.errors import MalformedMessage

RECORD = "euk"
EUK_LEN = 16
EXPORTER_LABEL = 32769


def pack(current, previous=b""):
    """Return the record of the EUK `current` and the one before it, of 16 octets each, or b"" for none."""
    return cborlite.encode([current, previous])


def parse(octets):
    """Return (current, previous) of which `pack` made `octets`. Raises MalformedMessage."""
    keys = cborlite.decode(octets)
    if (
        not isinstance(keys, list)
        or [isinstance(key, bytes) and len(key) in (0, EUK_LEN) for key in keys] != [True] * 2
    ):
        raise MalformedMessage("no record of Entity User Keys")
    return tuple(keys)
