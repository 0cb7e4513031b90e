"""Connections with PostgreSQL that never keep the caller waiting: every wait ends after `tuning.DATABASE_WAIT_S`.

The tables of the CPNS Server stand in a schema of their own, so other key servers may use the same database. No error
text shows a password or the value of a row.
"""

import logging
import traceback
from typing import Any

import psycopg
from psycopg.abc import PQGen
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8Dumper

from key_servers.cpns_server import tuning
from key_servers.errors import StoreContended, StoreFailed, StoreUnusable
from key_servers.sql.transport import with_tls

SCHEMA = "cpns_server"
RULE_BROKEN = "KC001"
"""The SQLSTATE that our own triggers raise; their texts hold no values."""

_log = logging.getLogger(__name__)

_WAIT_MS = int(tuning.DATABASE_WAIT_S * 1000)
_SECRETS = ("password", "sslpassword")
_TEXT_MAX = 200
# A statement ends in the server a little before the wait for it, so that the connection lives on. A process that stands
# still in a transaction loses it, as others wait for its locks. A commit is acknowledged when it is on the medium, and
# on that of a synchronous standby if there is one.
_SETTINGS = f"""
    SET search_path = {SCHEMA};
    SET statement_timeout = {_WAIT_MS * 9 // 10};
    SET idle_in_transaction_session_timeout = {_WAIT_MS * 2};
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
"""

# Errors after which the connection is as good as before: other processes, rules of the schema, values it refuses.
_NO_TROUBLE = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InFailedSqlTransaction,
)
_CONTENDED = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


class PatientConnection(psycopg.Connection[Any]):
    """A connection that waits for each answer of its server, but not for ever."""

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, at most `timeout` seconds, `tuning.DATABASE_WAIT_S` by default."""
        return super().wait(gen, interval, tuning.DATABASE_WAIT_S if timeout is None else timeout)


def connect(url: str) -> PatientConnection:
    """Connect to `url` (postgresql://...) for statements that each commit by themselves.

    Raises StoreUnusable, whose text does not show the password that the URL may hold.
    """
    wanted = parameters(url)
    try:
        connection = PatientConnection.connect(**wanted, autocommit=True)
        try:
            connection.adapters.register_dumper(int, Int8Dumper)
            connection.adapters.register_dumper(bool, _BoolDumper)
            connection.execute(_SETTINGS)
        except BaseException:
            connection.close()
            raise
    except psycopg.Error as error:
        _let_go(error)
        text = _without_secrets(error, wanted)
        raise StoreUnusable(f"The PostgreSQL database cannot be reached: {text}.", _step(text)) from None
    return connection


def parameters(url: str) -> dict[str, Any]:
    """Return the parameters of a connection to `url`, with our time limits. Raises StoreUnusable."""
    limits: dict[str, str | int] = {
        "connect_timeout": int(tuning.DATABASE_WAIT_S),
        "tcp_user_timeout": _WAIT_MS,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "application_name": "keycast",
    }
    try:
        if not url.startswith(("postgresql://", "postgres://")):
            raise ValueError
        wanted = conninfo_to_dict(make_conninfo(url, **limits))
    except (psycopg.Error, ValueError):  # its text may quote the password
        raise StoreUnusable(
            "The URL of the database is not postgresql://USER:PASSWORD@HOST/DATABASE.",
            "Correct it, or leave it out for SQLite.",
        ) from None
    return with_tls(wanted)


def failed(error: psycopg.Error) -> StoreFailed:
    """Return what a failure is for the rules above: StoreContended if the transaction can be run again."""
    if isinstance(error, _CONTENDED):
        return StoreContended("Another process changed the same rows.", "It is tried again.")
    if error.sqlstate == RULE_BROKEN:
        return StoreFailed(f"The PostgreSQL database refuses: {error.diag.message_primary}.")
    return StoreFailed(
        f"The PostgreSQL database cannot be used ({type(error).__name__}).", "Check that it runs and can be reached."
    )


def is_trouble(error: psycopg.Error) -> bool:
    """Return True if nothing more can be expected of the connection."""
    return error.sqlstate != RULE_BROKEN and not isinstance(error, _NO_TROUBLE)


class _BoolDumper(Dumper):
    """Truth values are 0 and 1 in the columns, as in SQLite."""

    oid = Int8Dumper.oid

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


def _let_go(error: BaseException) -> None:
    """Close what the frames of a failed attempt hold: psycopg leaves a connection that never answered to the garbage
    collection, and a server that is stuck has a place less for as long."""
    inner: BaseException | None = error
    while inner is not None:
        traceback.clear_frames(inner.__traceback__)
        inner = inner.__context__


def _step(text: str) -> str:
    """Return what a person can do about a connection that libpq could not make for the reason `text`."""
    if "does not support SSL" in text:
        return "Switch TLS on there (ssl = on in postgresql.conf), or reach it over a Unix socket."
    if "certificate" in text:
        return "Name the CA of its certificate (?sslrootcert=FILE in the URL), and the host as the certificate does."
    return "Check its URL, its password and that it runs."


def _without_secrets(error: psycopg.Error, wanted: dict[str, Any]) -> str:
    text = " ".join(str(error).split()).rstrip(".?")
    for name in _SECRETS:
        if secret := wanted.get(name):
            text = text.replace(str(secret), "...")
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]} .."
