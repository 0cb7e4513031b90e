"""The GKDKs that this PNE was assigned: of the tree's generation, and while that changes of the one before (SEC-07)."""

from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.errors import MalformedMessage, Stale
from device_agent import tuning

RECORDS = ("gkdk0", "gkdk1")


class GkdkStore:
    """At most two GKDK records in `store`, a KeyStore. They are read when they are used and do not stay in the heap."""

    def __init__(self, store, now):
        self._store = store
        self._names = {}  # generation -> name of the record
        self._reports = {}  # generation -> (slot, report key), which each confirmation needs
        self.frame_keys = {}  # generation -> key of its adverts (SEC-10)
        for name in RECORDS:
            octets = store.load(name)
            if octets is not None:
                self._names[self._note(octets)] = name
        self.expires_at = now + tuning.OLD_GENERATION_MAX if len(self._names) > 1 else None

    @property
    def newest(self):
        """The newest generation of which a GKDK is held, 0 for none."""
        return max(self._names) if self._names else 0

    def get(self, generation):
        """Return the GkdkRecord of `generation`, or None."""
        name = self._names.get(generation)
        octets = name and self._store.load(name)
        return GkdkRecord.parse(octets) if octets else None

    def report(self, generation):
        """Return (slot, report key) of the GKDK of `generation`, or None (SEC-14)."""
        return self._reports.get(generation)

    def _note(self, octets):
        record = GkdkRecord.parse(octets)
        self._reports[record.generation] = record.slot, record.report_key()
        self.frame_keys[record.generation] = record.frame_key()
        return record.generation

    def put(self, octets, now, generation=None):
        """Store a record that the PN GW sent. The one of the generation before stays for 30 days at most.

        `generation` is the one that the message names, if any. Raises MalformedMessage if `octets` are no record or of
        another generation, Stale if that is older than the newest one held.
        """
        new = GkdkRecord.parse(octets).generation
        if generation not in (None, new):
            raise MalformedMessage("the GKDK is of another generation")
        newest = self.newest
        if new < newest:
            raise Stale("a GKDK of generation %d is held" % newest)
        name = self._names.get(newest, RECORDS[1])
        if new != newest:
            name = RECORDS[0] if name == RECORDS[1] else RECORDS[1]
        self._store.save(name, octets)
        for held in list(self._names):
            if self._names[held] == name:
                self._forget(held)
        self._names[new] = name
        self._note(octets)
        self.expires_at = now + tuning.OLD_GENERATION_MAX if len(self._names) > 1 else None

    def expire(self, now):
        """Erase the older record if its 30 days are over at `now`."""
        if self.expires_at is not None and now >= self.expires_at:
            self._store.erase(self._forget(min(self._names)))
            self.expires_at = None

    def _forget(self, generation):
        # Remove what the heap has of a generation, and return the name of its record
        del self._reports[generation], self.frame_keys[generation]
        return self._names.pop(generation)

    def clear(self):
        """Erase every record: the PNE belongs to another PN GW now."""
        for name in RECORDS:
            self._store.erase(name)
        for generation in list(self._names):
            self._forget(generation)
        self.expires_at = None
