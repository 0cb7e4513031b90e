"""The Entity User Keys of PNEs, under which Group Keys are wrapped past the PN GWs (SEC-25).

A key comes from the handshake of a session between PNE and CPNS Server, or from an operator who has provisioned the
PNE with it. A new one does not end the one before until the PNE has opened a Group Key under it, as messages under the
old one may be on their way. It lives as long as the PNE has its name: no PN GW knows it, so a PNE keeps it behind
another PN GW. What is forgotten or replaced is overwritten on the medium (SEC-29).
"""

import secrets
from collections.abc import Callable

from cpns import entity_user_key
from cpns.crypto.compare import equal
from cpns.errors import NotAllowed
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import StoredEntityUserKey

EXPORTER_LABEL = 32769
EUK_LEN = 16  # octets


class EntityUserKeys:
    """The Entity User Keys (EUK) of all PNEs, by PNE ID. All methods raise StoreFailed."""

    def __init__(self, store: ServerStore, changed: Callable[[str], None]) -> None:
        """`changed` is called with the ID of a PNE that has got another key, when that is on the medium."""
        self._store = store
        self._changed = changed

    def has(self, pne_id: str) -> bool:
        """Return True if there is an Entity User Key of the PNE. Raises StoreFailed."""
        return self.of(pne_id) is not None

    def of(self, pne_id: str) -> StoredEntityUserKey | None:
        """Return the keys of a PNE, None if it has none."""
        return self._store.entity_user_key(pne_id)

    def learnt(self, pne_id: str, euk: bytes) -> None:
        """Take the key of a session on which a request of the PNE has verified. A repeated call changes nothing.

        The key before is kept as `previous`. If that was never used either, the one before it is kept, as the PNE may
        have lost every answer since.
        """
        known = self.of(pne_id)
        if known is not None and equal(known.current, euk):
            return
        previous = None if known is None else known.previous or known.current
        self._put(pne_id, StoredEntityUserKey(euk, previous, provisioned=False))

    def would_replace(self, pne_id: str, euk: bytes, *, replace: bool) -> bool:
        """Return True if a PNE has another key than `euk`, which is to take its place.

        Raises NotAllowed if `euk` is no key (16 octets), or if the PNE has another one and `replace` is False.
        """
        if len(euk) != EUK_LEN:
            raise NotAllowed(f"an Entity User Key has {EUK_LEN} octets, not {len(euk)}")
        known = self.of(pne_id)
        if known is None or any(each is not None and equal(each, euk) for each in (known.current, known.previous)):
            return False
        if not replace:
            raise NotAllowed(f"board {pne_id} has another Entity User Key; to erase that one: add --replace")
        return True

    def provisioned(self, pne_id: str, euk: bytes) -> None:
        """Take the key that an operator has provisioned the PNE with. A repeated call changes nothing.

        Raises NotAllowed as `would_replace`: another key is forgotten before.
        """
        self.would_replace(pne_id, euk, replace=False)
        if self.of(pne_id) is None:
            self._put(pne_id, StoredEntityUserKey(euk, None, provisioned=True))

    def used(self, pne_id: str, key_id: bytes) -> None:
        """Note that the PNE has proved to use the key with this EUK ID. The one before the newest is erased then."""
        known = self.of(pne_id)
        if known is not None and known.previous is not None and equal(entity_user_key.key_id(known.current), key_id):
            with self._store.transaction():
                self._store.put_entity_user_key(
                    pne_id, StoredEntityUserKey(known.current, None, provisioned=known.provisioned)
                )

    def forget(self, pne_id: str) -> None:
        """Erase the keys of a PNE: its name has been retired, or belongs to another key now (SEC-31)."""
        if self.of(pne_id) is not None:
            with self._store.transaction():
                self._store.forget_entity_user_key(pne_id)

    def disown_learnt(self) -> None:
        """Put a key that nobody has in place of each that a session made: the store is an older copy, its sessions end.

        The copy may be in other hands. A PNE that gets a Group Key under a key that it does not know makes a new
        session, and that makes a new key. A PNE with a provisioned key cannot do so, and keeps it.
        """
        with self._store.transaction():
            for pne_id in self._store.learnt_entity_user_keys():
                self._put(pne_id, StoredEntityUserKey(secrets.token_bytes(EUK_LEN), None, provisioned=False))

    def _put(self, pne_id: str, keys: StoredEntityUserKey) -> None:
        with self._store.transaction():
            self._store.put_entity_user_key(pne_id, keys)
            self._store.after_commit(lambda: self._changed(pne_id))
