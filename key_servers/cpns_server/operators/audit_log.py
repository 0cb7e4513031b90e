"""The audit log: each command that changes something, written down before it begins, and its result when it has ended.

There is no way to change or remove what is written (`AuditLog` has none, and no other module names its tables). A
command whose beginning cannot be stored is not carried out. Where the result could not be stored, as the process was
killed or the medium refused, the result stays `UNKNOWN`, and it is written down late if this process can.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from key_servers.cpns_server.database import ServerDatabase
from key_servers.errors import StoreFailed

_log = logging.getLogger(__name__)

TABLES = ("audit_entry", "audit_result")

DONE = "done"
UNKNOWN = "unknown-result"
"""Results of commands that were not refused: the second one may have been carried out or not."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One command of an operator. `door` is socket (a user of the Server's machine) or rest (the name of a token).

    `arguments` are as they were given, secrets left out. `result` is done, unknown-result, or the code of a refusal.
    Times are in Unix seconds, `ended_at` is 0 without a result.
    """

    entry: int
    begun_at: int
    ended_at: int
    operator: str
    door: str
    command: str
    arguments: dict[str, Any]
    result: str


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """The last command under a request key. `answer` is the JSON of its answer, "" unless it was done."""

    command: str
    arguments: str
    result: str
    answer: str


class AuditLog:
    """Writes and reads the log. All methods raise StoreFailed, except `end`."""

    def __init__(self, database: ServerDatabase) -> None:
        self._database = database
        self._owed: dict[int, tuple[int, str, str]] = {}

    def begin(
        self, operator: str, door: str, command: str, arguments: Mapping[str, Any], request_key: str, now: int
    ) -> int | EarlierRequest:
        """Write down that a command begins, and return the number of its entry. `arguments` hold no secret.

        If the operator has used `request_key` before, for what was not refused, nothing is written: returns that.
        """

        def write() -> int | EarlierRequest:
            with self._database.transaction():
                earlier = self._earlier(operator, request_key) if request_key else None
                if earlier is not None and earlier.result in (DONE, UNKNOWN):
                    return earlier
                for entry, result in self._owed.items():
                    self._write_result(entry, *result)
                ((last,),) = self._database.rows("SELECT coalesce(max(entry), 0) FROM audit_entry")
                self._database.write(
                    "INSERT INTO audit_entry (entry, begun_at, operator, door, command, arguments, request_key)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    int(last) + 1,
                    now,
                    operator,
                    door,
                    command,
                    as_text(arguments),
                    request_key,
                )
                return int(last) + 1

        begun = self._database.attempt(write)
        if isinstance(begun, int):
            self._owed.clear()
        return begun

    def end(self, entry: int, result: str, answer: str, now: int) -> None:
        """Write down the result of a command. If the medium refuses, this is done with the next command."""
        try:
            self._database.attempt(lambda: self._write_result(entry, now, result, answer))
        except StoreFailed as error:
            self._owed[entry] = (now, result, answer)
            _log.error("KC2028 the result of command %d is not in the audit log yet: %s", entry, error)

    def page(self, limit: int, before: int = 0) -> tuple[AuditEntry, ...]:
        """Return the newest `limit` entries, newest first, of those below the number `before` unless that is 0."""
        where, values = ("WHERE entry < ?", (before,)) if before else ("", ())
        rows = self._database.rows(
            "SELECT entry, begun_at, coalesce(ended_at, 0), operator, door, command, arguments, coalesce(result, ?)"
            f" FROM audit_entry LEFT JOIN audit_result USING (entry) {where} ORDER BY entry DESC LIMIT ?",
            UNKNOWN,
            *values,
            limit,
        )
        return tuple(
            AuditEntry(entry, begun_at, ended_at, operator, door, command, json.loads(arguments), result)
            for entry, begun_at, ended_at, operator, door, command, arguments, result in rows
        )

    def _earlier(self, operator: str, request_key: str) -> EarlierRequest | None:
        rows = self._database.rows(
            "SELECT command, arguments, coalesce(result, ?), coalesce(answer, '')"
            " FROM audit_entry LEFT JOIN audit_result USING (entry) WHERE operator = ? AND request_key = ?"
            " ORDER BY entry DESC LIMIT 1",
            UNKNOWN,
            operator,
            request_key,
        )
        return EarlierRequest(*rows[0]) if rows else None

    def _write_result(self, entry: int, now: int, result: str, answer: str) -> None:
        with self._database.transaction():
            self._database.write(
                "INSERT INTO audit_result (entry, ended_at, result, answer) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                entry,
                now,
                result,
                answer,
            )


def as_text(arguments: Mapping[str, Any]) -> str:
    """Return arguments as the log stores them: JSON in ASCII, the same text for the same arguments."""
    return json.dumps(arguments, sort_keys=True)
