"""The board of alarms in PostgreSQL. An alarm belongs to the process that raised it; the others show and dismiss it."""

from collections.abc import Sequence
from contextlib import suppress

from key_servers.cpns_server import tuning
from key_servers.cpns_server.alarm_board import AlarmBoard
from key_servers.cpns_server.alarms import AlarmKey, ServerAlarms
from key_servers.cpns_server.postgres.database import PostgresServerDatabase
from key_servers.cpns_server.values import Moment, ServerAlarm
from key_servers.errors import StoreFailed

_KEY = "kind, gateway_id, sg_id, pne_id"
_LIVING = "(SELECT holder FROM server_process WHERE expires > (extract(epoch FROM now()) * 1000)::BIGINT)"
_WHICH = "kind = ? AND (? = '' OR gateway_id = ?) AND (? = '' OR sg_id = ?)"


class PostgresAlarmBoard(AlarmBoard):
    """The rows of the table `alarm`. Those of a process that has ended are shown no more, and removed by the others."""

    def __init__(self, database: PostgresServerDatabase, name: str) -> None:
        """`name`: of this process, as in the table of living processes."""
        self._database = database
        self._name = name
        self._shown: set[AlarmKey] = set()
        self._look_at = float("-inf")

    def look(self, alarms: ServerAlarms, now: Moment) -> None:
        """As `AlarmBoard.look`; at most every `tuning.ALARMS_LOOK_S`, and some hundred at a time."""
        if now.monotonic < self._look_at or self._database.trouble:
            return
        self._look_at = now.monotonic + tuning.ALARMS_LOOK_S
        if self._shown or alarms.each():
            with suppress(StoreFailed):  # which is an alarm by itself, of this process
                there = self._database.attempt(lambda: self._dismissed(alarms))
                self._shown = self._database.attempt(lambda: self._show(alarms, there))

    def elsewhere(self) -> Sequence[ServerAlarm]:
        """As `AlarmBoard.elsewhere`."""
        try:
            rows = self._database.rows(
                "SELECT kind, gateway_id, sg_id, since, what, 1, pne_id FROM alarm"
                f" WHERE holder <> ? AND holder IN {_LIVING} ORDER BY since",
                self._name,
            )
        except StoreFailed:
            return ()
        return [ServerAlarm(*row) for row in rows]

    def dismiss(self, kind: str, gateway_id: str, sg_id: str) -> bool:
        """As `AlarmBoard.dismiss`: the process that raised them sees that they are gone."""
        which = (kind, gateway_id, gateway_id, sg_id, sg_id)

        def remove() -> bool:
            of_others = f"FROM alarm WHERE holder <> ? AND {_WHICH}"
            ((count,),) = self._database.rows(f"SELECT count(*) {of_others}", self._name, *which)
            self._database.write(f"DELETE {of_others}", self._name, *which)
            return bool(count)

        return self._database.attempt(remove)

    def _dismissed(self, alarms: ServerAlarms) -> set[AlarmKey]:
        """End what another process has dismissed, and return what is on the board of this one."""
        there = {(kind, gateway_id, sg_id, pne_id) for kind, gateway_id, sg_id, pne_id in self._own()}
        for key in self._shown - there:
            alarms.clear(*key)
        return there

    def _show(self, alarms: ServerAlarms, there: set[AlarmKey]) -> set[AlarmKey]:
        standing = alarms.each()
        for key in there - standing.keys():
            self._database.write(f"DELETE FROM alarm WHERE holder = ? AND ({_KEY}) = (?, ?, ?, ?)", self._name, *key)
        new = [key for key in standing if key not in there][: tuning.ALARMS_SHOWN_AT_ONCE]
        for key in new:
            alarm = standing[key]
            self._database.write(
                "INSERT INTO alarm (holder, kind, gateway_id, sg_id, pne_id, since, what) VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                *(self._name, *key, alarm.since, alarm.text),
            )
        self._database.write("DELETE FROM alarm WHERE holder NOT IN (SELECT holder FROM server_process)")
        return (there & standing.keys()) | set(new)

    def _own(self) -> list[AlarmKey]:
        return self._database.rows(f"SELECT {_KEY} FROM alarm WHERE holder = ?", self._name)
