"""Records that survive a power cut at any write: each has two copies in a Storage that promises nothing.

A copy is `generation u32 ‖ check (8) ‖ octets`, check = first 8 octets of SHA-256(name of copy ‖ generation ‖ octets).
`save` writes first the copy without the newest state, then the other one, with a commit after each: at any time one
copy is whole. When `save` has returned, BOTH copies hold the new state. A ceiling of sender numbers may therefore be
used as soon as its `save` has returned, whichever copy is damaged later (SEC-22).

If `load` returns None, the record was lost or never stored. The caller must treat it as lost, never as "version 0"
(SEC-04). The check finds damage, not malice: a person who can write the flash can also read the keys in it.
"""

import hashlib

_HEAD = 12
_LONGEST = 1984 - _HEAD  # octets that every Storage accepts


class KeyStore:
    """Records under names of at most 14 characters in `storage`, a `ports.Storage`. OSError if the medium fails."""

    def __init__(self, storage):
        self.storage = storage
        self.repaired = 0  # number of copies that were found damaged or older since the start

    def load(self, name):
        """Return the newest whole state of record `name`, or None. A damaged or older copy is repaired before."""
        generation, octets, copies = self._newest(name)
        if octets is None:
            return None
        for copy in (0, 1):
            if copies[copy] != generation:
                self.repaired += 1
                self._write(name, copy, generation, octets)
        return octets

    def save(self, name, octets):
        """Store `octets` (at most 1,972): on return both copies hold them. Equal octets cause no write (wear)."""
        if len(octets) > _LONGEST:
            raise OSError(27)  # EFBIG, which not every errno module has
        generation, old, copies = self._newest(name)
        if octets == old and copies[0] == copies[1]:
            return
        first = 1 if copies[0] == generation else 0
        for copy in (first, 1 - first):
            self._write(name, copy, generation + 1, octets)

    def erase(self, name):
        """Delete both copies, so that no deleted key stays, as far as the medium allows."""
        for copy in (0, 1):
            self.storage.delete(name + "01"[copy])
        self.storage.commit()

    def _newest(self, name):
        # Return (generation, octets or None, [generation of copy 0, of copy 1]); a copy that is not whole has -1
        best, newest, copies = 0, None, [-1, -1]
        for copy in (0, 1):
            key = name + "01"[copy]
            raw = self.storage.get(key)
            if raw is None or len(raw) < _HEAD:
                continue
            view = memoryview(raw)  # records are large for a board, so no needless copies
            if view[4:_HEAD] == _check(key, view[:4], view[_HEAD:]):
                copies[copy] = generation = int.from_bytes(view[:4], "big")
                if newest is None or generation > best:
                    best, newest = generation, bytes(view[_HEAD:])
            raw = view = None  # frees the copy before the next one is read
        return best, newest, copies

    def _write(self, name, copy, generation, octets):
        key = name + "01"[copy]
        head = generation.to_bytes(4, "big")
        self.storage.set(key, head + _check(key, head, octets) + octets)
        self.storage.commit()


def _check(key, head, octets):
    digest = hashlib.sha256(key.encode())
    digest.update(head)
    digest.update(octets)
    return digest.digest()[:8]
