"""Backups of a KMS, GMS or CMS whose store is in SQLite, and restores from them.

A backup is one encrypted file with users, groups, GMKs and, if wanted, the identity of a KMS: its master secrets, which
open and sign everything, and its TLS files. A restored server goes on with higher numbers than it handed out since the
backup. The person who restores is told what to look at, as the server cannot know what else changed. A store in
PostgreSQL is copied by pg_dump.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from key_servers.cms.operator import STORE_FILE as CMS_STORE
from key_servers.errors import FAULTS, ServerError
from key_servers.gms.operator import STORE_FILE as GMS_STORE
from key_servers.kms import master_secrets
from key_servers.kms.config import MASTER_SECRETS_FILE, TLS_CERTIFICATE_FILE, TLS_KEY_FILE
from key_servers.kms.config import STORE_FILE as KMS_STORE
from key_servers.sql import Transaction, migrate
from key_servers.sql.sqlite import SqliteDatabase
from keycast.copies import backup_facts, changes
from keycast.copies.making import schemas
from keycast.services.server_config import require_whole
from private_store import archive, contents, files, folders, restoring, sealed

NUMBER_STEP = 1_000_000
"""Numbers that a restored server skips: more changes than are made between two backups."""

GoOn = Callable[[Transaction, list[tuple[Any, ...]], int], Awaitable[None]]
"""Raises the numbers of a restored store: gets its transaction, the rows that the old store knew, and the step."""


@dataclass(frozen=True)
class KeyServer:
    """One kind of server: its word, its store, what a person must do after a restore, and the files beside the store.

    `rights` is a query of what users may do, one text a row. `known` is the query whose rows, from the store that is
    replaced, `go_on` gets. The identity is the files `needed` and, if they are there, those `perhaps`.
    """

    kind: str
    store: str
    next_step: str
    rights: str
    go_on: GoOn | None = None
    known: str = ""
    needed: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """The names of all files that may be part of the identity."""
        return (*self.needed, *self.perhaps)

    @property
    def owned(self) -> tuple[str, ...]:
        """The names in the state folder that a restore replaces."""
        return (contents.NAME, self.store, *self.identity)


@contextlib.contextmanager
def state_of(server: KeyServer, state: Path, database: str | None) -> Iterator[None]:
    """Hold the state folder for this process alone, if the store is in SQLite. Raise StoreInUse, StoreUnusable."""
    # With PostgreSQL several processes may serve; and there is no folder to hold before `init` has made it.
    if database is not None or (server.needed and not state.exists()):
        require_whole(state)
        yield
        return
    with restoring.taken(state, server.owned, FAULTS):
        yield


def back_up(
    server: KeyServer, state: Path, path: Path, database: str | None, lock: sealed.Lock, *, identity: bool
) -> None:
    """Write a backup as the new file `path`, while the server runs or not. Raise ServerError if that is impossible."""
    _require_sqlite(server, database)
    folders.check(state, FAULTS.unusable)  # a backup makes nothing
    require_whole(state)
    if server.needed:
        master_secrets.load(state / MASTER_SECRETS_FILE)  # its error says how master secrets are made
    members = _identity_in(server, state) if identity else {}
    if (state / server.store).exists() or server.store in contents.made(state, FAULTS.unusable):
        members[server.store] = asyncio.run(_image(state / server.store))
    if not members:
        raise ServerError(f"There is no state of a {server.kind.upper()} in {state}.", "Name its folder with --state.")
    about = {"of": server.kind} | _name_of(server, state)
    if server.needed:
        about["identity"] = "yes" if identity else "no"
    about |= backup_facts.made() | {"schemas": schemas(members)}
    archive.write(path, about, members, lock, FAULTS.unusable)


def put_back(
    server: KeyServer, state: Path, path: Path, database: str | None, unlock: sealed.Unlock, *, older: bool = False
) -> tuple[str, changes.DoneSince]:
    """Put the backup `path` in place of the state of a server that is stopped.

    Return the date it was made, ISO 8601, and what was done since then. `older`: also if anything was. A backup without
    identity leaves that of the state folder. Raise OlderBackup, and ServerError if it cannot be used; the state is then
    what it was.
    """
    _require_sqlite(server, database)
    backup = archive.read(path, unlock, FAULTS.unusable)
    about, members, changed = backup.about, backup.members, changes.NOTHING
    known = (server.store, *server.identity)
    with restoring.taken(state, server.owned, FAULTS):
        backup_facts.require(path, about, {"of": server.kind} | _name_of(server, state), ServerError)
        is_partial = about.get("identity") == "no"
        wanted = set(server.needed or known) - (set(server.needed) if is_partial else set())
        backup_facts.require_members(path, members, wanted, known, ServerError)
        if is_partial:
            if not all((state / name).exists() for name in server.needed):
                raise ServerError(
                    f"{path} has no identity, and {state} has none either.",
                    "Put back a backup that was made --with-identity.",
                )
            members |= _identity_in(server, state)
        with restoring.putting_back(state, members, server.owned, FAULTS.unusable) as new:
            if server.needed:
                master_secrets.load(new / MASTER_SECRETS_FILE)
            if server.store in members:
                changed = asyncio.run(_changed(server, new, state))
                changed.require(older, path, state)
                asyncio.run(_go_on(server, new, state, NUMBER_STEP + backup_facts.since(about)))
    return about.get("made", ""), changed


def _require_sqlite(server: KeyServer, database: str | None) -> None:
    if database is not None:
        beside = f" Keep a copy of {MASTER_SECRETS_FILE} too: it never changes." * (
            MASTER_SECRETS_FILE in server.needed
        )
        raise ServerError(
            f"The store of this {server.kind.upper()} is in PostgreSQL.",
            f"Copy it with pg_dump, and pg_restore.{beside}",
        )


def _name_of(server: KeyServer, state: Path) -> dict[str, str]:
    """Return the `id` of the state's owner as a fact of a backup: the name of a KMS; other servers have none."""
    if MASTER_SECRETS_FILE not in server.needed:
        return {}
    with contextlib.suppress(ServerError):
        return {"id": master_secrets.load(state / MASTER_SECRETS_FILE).kms_uri}
    return {}


def _identity_in(server: KeyServer, state: Path) -> dict[str, bytes]:
    names = {*server.needed, *(name for name in server.perhaps if (state / name).exists())}
    return {name: files.read(state / name, FAULTS.unusable) for name in sorted(names)}


async def _changed(server: KeyServer, new: Path, old: Path) -> changes.DoneSince:
    """Return what was done in the state since the copy in `new`, nothing if the state is lost."""
    if not (old / server.store).exists():
        return changes.NOTHING
    with contextlib.suppress(ServerError):
        now = [row[0] for row in await _rows(old / server.store, server.rights)]
        copy = SqliteDatabase(new / server.store)
        try:
            await migrate(copy, f"key_servers.{server.kind}.migrations")
        finally:
            await copy.close()
        return changes.between([row[0] for row in await _rows(new / server.store, server.rights)], now)
    return changes.NOTHING


async def _image(path: Path) -> bytes:
    database = SqliteDatabase(path)
    try:
        return database.image()
    finally:
        await database.close()


async def _go_on(server: KeyServer, new: Path, old: Path, step: int) -> None:
    known: list[tuple[Any, ...]] = []
    if server.known and (old / server.store).exists():
        with contextlib.suppress(ServerError):  # the old store is damaged, so what it knew is lost
            known = await _rows(old / server.store, server.known)
    copy = SqliteDatabase(new / server.store)
    try:
        await migrate(copy, f"key_servers.{server.kind}.migrations")
        if server.go_on is not None:
            async with copy.transaction() as sql:
                await server.go_on(sql, known, step)
    finally:
        await copy.close()


async def _rows(path: Path, statement: str) -> list[tuple[Any, ...]]:
    database = SqliteDatabase(path)
    try:
        async with database.transaction() as sql:
            return list(await sql.rows(statement))
    finally:
        await database.close()


async def _go_on_as_kms(sql: Transaction, revoked: list[tuple[Any, ...]], step: int) -> None:
    """Raise the number of the certificate list, as users ask for newer ones only; keep revoked users revoked."""
    await sql.rows("UPDATE kms_cache_number SET newest = newest + $1", step)
    for user in revoked:
        await sql.rows(
            "INSERT INTO kms_users VALUES ($1, $2, $3, $4) ON CONFLICT (user_uri) DO UPDATE SET revoked_at = $4", *user
        )


async def _go_on_as_cms(sql: Transaction, newest: list[tuple[Any, ...]], step: int) -> None:
    """Raise all revisions, as clients refuse a profile that is older than the one they have."""
    highest = max((row[0] or 0 for row in newest), default=0)
    await sql.rows("UPDATE cms_users SET revision = max(revision + $1, $2)", step, highest + 1)


KMS = KeyServer(
    "kms",
    KMS_STORE,
    "A user that was revoked since then may get keys again. Look: keycast kms show; revoke: keycast kms user revoke",
    "SELECT 'user ' || user_uri FROM kms_users WHERE revoked_at IS NULL",
    _go_on_as_kms,
    known="SELECT user_uri, role, added_at, revoked_at FROM kms_users WHERE revoked_at IS NOT NULL",
    needed=(MASTER_SECRETS_FILE,),
    perhaps=(TLS_CERTIFICATE_FILE, TLS_KEY_FILE),
)
GMS = KeyServer(
    "gms",
    GMS_STORE,
    "A user that was removed since then is on the lists again. Look: keycast gms group show; then make new keys: "
    "keycast gms key make",
    "SELECT 'user ' || user_uri FROM gms_users UNION SELECT 'group ' || group_uri FROM gms_groups "
    "UNION SELECT 'member ' || user_uri || ' of ' || group_uri FROM gms_members "
    "UNION SELECT 'key ' || key_id FROM gms_keys WHERE state = 'live'",
)
CMS = KeyServer(
    "cms",
    CMS_STORE,
    "A user that was removed from a group since then has it in its profile again. Look: keycast cms show; remove: "
    "keycast cms remove",
    "SELECT 'user ' || user_uri FROM cms_users UNION SELECT 'group ' || group_uri || ' of ' || user_uri "
    "FROM cms_memberships",
    _go_on_as_cms,
    known="SELECT max(revision) FROM cms_users",
)
SERVERS = {server.kind: server for server in (KMS, GMS, CMS)}
