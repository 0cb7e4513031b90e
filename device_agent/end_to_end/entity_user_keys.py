"""The Entity User Keys (EUK) of a PNE: the present one, and until it was used the one before it (SEC-25).

That of a new handshake is a candidate, in RAM only, until the CPNS Server has shown that it has it too.
"""

from cpns import cborlite
from cpns.entity_user_key import key_id
from cpns.errors import MalformedMessage, Unknown

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


class OwnEntityUserKeys:
    """The EUKs in `store`, a KeyStore. `candidate` is that of the newest handshake, or b""."""

    def __init__(self, store):
        self._store = store
        self.candidate = b""
        octets = store.load(RECORD)
        self._current, self._previous = parse(octets) if octets else (b"", b"")

    @property
    def held(self):
        """True if there is an EUK."""
        return bool(self._current)

    def of(self, wanted):
        """Return the EUK with this EUK ID (8 octets). Raises Unknown."""
        for euk in (self._current, self.candidate, self._previous):
            if euk and key_id(euk) == wanted:
                return euk
        raise Unknown("no Entity User Key of this ID")

    def keep(self):
        """Make the candidate, if there is one, the present EUK. Raises OSError; then nothing has changed."""
        if self.candidate:
            self._put(self.candidate, self._current)
            self.candidate = b""

    def opened(self, euk):
        """Note that a Group Key opened under `euk`, and so the Server has it: a candidate becomes the present one."""
        if euk == self.candidate:
            self.keep()

    def used(self, euk):
        """Note that a Group Key under `euk` is stored: if that is the present one, the one before it is erased."""
        if euk == self._current and self._previous:
            self._put(euk, b"")

    def forget(self):
        """Erase all, as another CPNS Server takes over."""
        self._store.erase(RECORD)
        self._current = self._previous = self.candidate = b""

    def _put(self, current, previous):
        self._store.save(RECORD, pack(current, previous))
        self._current, self._previous = current, previous
