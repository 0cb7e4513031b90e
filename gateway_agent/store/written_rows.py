"""Which groups and PNEs the store has written about, so that a look at the whole home reads only these anew.

SQLite itself tells of each row that is written, by triggers that belong to the connection, so no statement can be
forgotten. A row costs about 2 µs more.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from private_store.sqlite_file import SqliteFile

T = TypeVar("T")

FEW = 16
"""Up to so many keys are read one by one; of more than that all are read, which is cheaper then."""

_KEYS = {"service_group": "sg_id", "member": "sg_id", "delivery": "sg_id", "recipient": "sg_id", "pne": "pne_id"}
"""The tables whose rows are told, and the column that says whom a row is about."""


class WrittenRows:
    """What was written on one connection, also if it was undone later."""

    def __init__(self, file: SqliteFile) -> None:
        """Follow the writes of this open file. Raises StoreFailed."""
        self._number = 0
        self._last: dict[str, dict[str, int]] = {"sg_id": {}, "pne_id": {}}  # the number of the last write about a key
        for column in self._last:
            file.connection.create_function(f"written_{column}", 1, self._follower(column))
        for table, column in _KEYS.items():
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
                file.run(
                    f"CREATE TEMP TRIGGER {table}_{event.lower()} AFTER {event} ON main.{table} "
                    f"BEGIN SELECT written_{column}({row}.{column}); END"
                )

    @property
    def number(self) -> int:
        """How many rows were written so far. It only grows."""
        return self._number

    def groups_after(self, number: int) -> set[str]:
        """Return the SG IDs of groups about which something was written after the write of this number."""
        return self._after("sg_id", number)

    def pnes_after(self, number: int) -> set[str]:
        """Return the PNE IDs about which something was written after the write of this number."""
        return self._after("pne_id", number)

    def undone(self, number: int) -> None:
        """Note that what was written after this number was undone: whoever has read it reads it again."""
        for last in self._last.values():
            for key in [key for key, written in last.items() if written > number]:
                self._number += 1
                last[key] = self._number

    def _after(self, column: str, number: int) -> set[str]:
        return {key for key, written in self._last[column].items() if written > number}

    def _follower(self, column: str) -> Callable[[str], None]:
        last = self._last[column]

        def note(key: str) -> None:
            self._number += 1
            last[key] = self._number

        return note


class UntilWritten(Generic[T]):
    """What `read` has returned, by SG ID or PNE ID in ascending order, read anew for those of which rows were written.

    `read` gets the keys to read, None for all, and returns what it finds. Calling raises StoreFailed.
    """

    def __init__(
        self,
        written: WrittenRows,
        written_after: Callable[[int], Collection[str]],
        read: Callable[[Collection[str] | None], Mapping[str, T]],
    ) -> None:
        """`written_after`: `groups_after` or `pnes_after` of these rows."""
        self._written = written
        self._written_after = written_after
        self._read = read
        self._number = 0
        self._kept: Mapping[str, T] | None = None

    def __call__(self) -> Mapping[str, T]:
        """Return the same mapping as before if nothing was written."""
        number = self._written.number
        anew = self._written_after(self._number) if number != self._number else ()
        if self._kept is None or len(anew) > FEW:
            self._kept = self._read(None)
        elif anew:
            found = {key: of for key, of in self._kept.items() if key not in anew}
            found.update(self._read(anew))
            self._kept = dict(sorted(found.items()))
        self._number = number
        return self._kept
