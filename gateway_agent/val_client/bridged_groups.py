"""Service Groups of the PN whose keys come from GMKs: their versions, members and deliveries, kept in a private file.

Group Key = HKDF(GMK, "keycast/gmk/1" ‖ full SG ID ‖ version). It is never the GMK itself, and a new version is an
unrelated key even from the same GMK, so a PNE that leaves can be excluded without the GMS. Versions are
epoch u16 ‖ counter u16 and only grow. They are counted here, because such a Service Group belongs to this PN alone.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from cpns.crypto.hkdf import hkdf
from cpns.errors import TooMany
from gateway_agent.store.errors import FAULTS, RESTORE_BACKUP
from private_store.sqlite_file import SqliteFile

KEY_CONTEXT = b"keycast/gmk/1"
GROUP_KEY_LEN = 16
VERSION_MAX = 0xFFFFFFFF
_SINCE_UNIT_S = 4
_TABLES = """
CREATE TABLE service_group (
    sg_id TEXT PRIMARY KEY, version INTEGER NOT NULL, key_id BLOB NOT NULL, reason INTEGER NOT NULL,
    revision INTEGER NOT NULL, acknowledged INTEGER NOT NULL, told INTEGER NOT NULL
);
CREATE TABLE member (sg_id TEXT NOT NULL, pne_id TEXT NOT NULL, PRIMARY KEY (sg_id, pne_id));
"""


def group_key(gmk: bytes, sg_id: str, version: int) -> bytes:
    """Return the Group Key (16 octets) of `version` of a Service Group, from a GMK (SEC-12, SEC-01)."""
    return bytes(hkdf(gmk, KEY_CONTEXT + sg_id.encode() + version.to_bytes(4, "big"), GROUP_KEY_LEN))


def following(version: int) -> int:
    """Return the version after `version`, as no version is used twice (SEC-03). Raises TooMany after the last one."""
    if version >= VERSION_MAX:
        raise TooMany("the Service Group has used up its versions; map the group to another SG ID")
    return version + 1


@dataclass(frozen=True, slots=True)
class BridgedGroup:
    """One Service Group whose keys come from GMKs.

    `key_id`: GMK-ID of the GMK that `version` was made from, empty if the keys are deleted; `reason`: one of
    `numbers.REASON_*`; `revision`: counts changes of the membership; `acknowledged`: the highest version that the PN GW
    has stored; `told`: the revision of the membership that was sent to it.
    """

    sg_id: str
    version: int = 0
    key_id: bytes = b""
    reason: int = 0
    revision: int = 0
    acknowledged: int = 0
    told: int = 0

    @property
    def settled(self) -> bool:
        """True if the PN GW has the version and the membership."""
        return self.acknowledged == self.version and self.told == self.revision


class BridgedGroups:
    """The file with the groups. It holds no keys, which are derived when used. Its methods are synchronous."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. Raises StoreDamaged."""
        self._file = SqliteFile(
            path, [_TABLES], holds="Service Groups", remedy=RESTORE_BACKUP, faults=FAULTS, erase_always=True
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def image(self) -> bytes:
        """Return the octets of a copy of the file, for a backup."""
        return self._file.image()

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context whose writes are all stored at its end, or none of them. Raises StoreFailed."""
        return self._file.transaction()

    def get(self, sg_id: str) -> BridgedGroup:
        """Return a Service Group; one that is not stored has version 0."""
        rows = self._file.rows(
            "SELECT version, key_id, reason, revision, acknowledged, told FROM service_group WHERE sg_id = ?", sg_id
        )
        return BridgedGroup(sg_id, *rows[0]) if rows else BridgedGroup(sg_id)

    def put(self, group: BridgedGroup) -> None:
        """Store a Service Group. Raises ValueError for a version or revision below the stored one."""
        known = self.get(group.sg_id)
        if group.version < known.version or group.revision < known.revision:
            raise ValueError("versions and revisions only grow")
        self._file.rows(
            "INSERT OR REPLACE INTO service_group VALUES (?, ?, ?, ?, ?, ?, ?)",
            *(group.sg_id, group.version, group.key_id, group.reason),
            *(group.revision, group.acknowledged, group.told),
        )

    def members(self, sg_id: str) -> list[str]:
        """Return the PNE IDs of the members, ascending."""
        rows = self._file.rows("SELECT pne_id FROM member WHERE sg_id = ? ORDER BY pne_id", sg_id)
        return [pne_id for (pne_id,) in rows]

    def add_member(self, sg_id: str, pne_id: str) -> None:
        """Add a member. Does nothing if it is one."""
        self._file.rows("INSERT OR IGNORE INTO member VALUES (?, ?)", sg_id, pne_id)

    def remove_member(self, sg_id: str, pne_id: str) -> None:
        """Remove a member. Does nothing if it is none."""
        self._file.rows("DELETE FROM member WHERE sg_id = ? AND pne_id = ?", sg_id, pne_id)

    def remove_members(self, sg_id: str) -> None:
        """Remove all members of a group."""
        self._file.rows("DELETE FROM member WHERE sg_id = ?", sg_id)

    def numbers(self) -> dict[str, tuple[int, int]]:
        """Return (version, revision) of each Service Group, by its ID."""
        rows = self._file.rows("SELECT sg_id, version, revision FROM service_group")
        return {sg_id: (version, revision) for sg_id, version, revision in rows}

    def begin_epoch(
        self, epochs: int = 1, since_s: int = 0, newer: Mapping[str, tuple[int, int]] = MappingProxyType({})
    ) -> None:
        """Raise all versions and revisions after a restore, above those issued since the copy was made (SEC-03).

        The new numbers are `epochs` epochs later, plus one for each 4 s of `since_s`, the time since the copy was made,
        as the CPNS Server counts after its own restore. `newer`: `numbers` of a newer state, which may have further
        groups. Raises TooMany.
        """
        with self.transaction():
            own = self.numbers()
            for sg_id in sorted(own.keys() | newer.keys()):
                counted = zip(own.get(sg_id, (0, 0)), newer.get(sg_id, (0, 0)), strict=True)
                version, revision = (_restored(max(each), epochs, since_s) for each in counted)
                begun = replace(self.get(sg_id), version=version, revision=revision, key_id=b"")
                self.put(replace(begun, acknowledged=0, told=0))


def _restored(number: int, epochs: int, since_s: int) -> int:
    number = ((number >> 16) + epochs << 16) + max(0, since_s) // _SINCE_UNIT_S
    if number > VERSION_MAX:
        raise TooMany("the epochs of a Service Group are used up; map the group to another SG ID")
    return number
