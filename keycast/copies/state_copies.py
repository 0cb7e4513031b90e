"""Backups of the whole state of a gateway or of a CPNS Server on its own, and restores from them.

A backup is one encrypted file: the inventories and, if wanted, the identity, that is the entity's own keys, by which
peers know it, and the peers' credentials. Without the identity it can be put back only where that still is. It holds no
Group Key, no tree master and no session (SEC-02), so a restored entity begins a new generation of device keys, a new
epoch of versions, and new sessions.
"""

import asyncio
import contextlib
import hashlib
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway_agent.config.schema import GatewayConfig
from gateway_agent.core.restore import Counted
from gateway_agent.core.restore import restore as begin_anew
from gateway_agent.errors import GatewayError
from gateway_agent.state_files import (
    IDENTITY_FILE,
    NEXT_SIGNING_FILE,
    SEAL_FOLDER,
    SERVER_FOLDER,
    SESSIONS_FILE,
    SIGNING_FILE,
    STORE_FOLDER,
    UPDATES_FOLDER,
)
from gateway_agent.store.errors import FAULTS
from gateway_agent.store.store import DATABASE_FILE, GatewayStore
from key_servers.cpns_server import databases, server_identity
from key_servers.cpns_server import sqlite_database as server_database
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.database import ServerDatabase
from key_servers.cpns_server.recovery import epochs_ahead
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import NotPossible, ServerError
from keycast.copies import backup_facts, changes
from keycast.copies.making import schemas
from message_plane.errors import IdentityError, PlaneError
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from message_plane.session_file import SessionFile
from private_store import archive, contents, files, last_backup, restoring, sealed

GMKS, GROUPS = f"{SEAL_FOLDER}/seal_gmks.sqlite3", f"{SEAL_FOLDER}/seal_groups.sqlite3"
INVENTORY = f"{STORE_FOLDER}/{DATABASE_FILE}"
SERVER = f"{SERVER_FOLDER}/{server_database.FILE_NAME}"

_IDENTITY_OF_GATEWAY = (IDENTITY_FILE, SIGNING_FILE, SESSIONS_FILE)
_IDENTITY_OF_SERVER = (server_identity.IDENTITY_FILE, databases.SESSIONS_FILE)
_OF_GATEWAY = (IDENTITY_FILE, SIGNING_FILE, SESSIONS_FILE, INVENTORY, SERVER, GMKS, GROUPS)
_OWNED_BY_GATEWAY = (
    *(contents.NAME, IDENTITY_FILE, SIGNING_FILE, NEXT_SIGNING_FILE, SESSIONS_FILE),
    *(f"{folder}/" for folder in (STORE_FOLDER, SERVER_FOLDER, SEAL_FOLDER, UPDATES_FOLDER)),
)
_OF_SERVER = (server_database.FILE_NAME, server_identity.IDENTITY_FILE, databases.SESSIONS_FILE)
_OWNED_BY_SERVER = (*_OF_SERVER, contents.NAME)


@dataclass(frozen=True)
class PutBack:
    """The result of a restore.

    `made` is the date of the backup, `held` the Service Groups whose members a person must confirm, `generation` the
    new generation of device keys, `boards` the PNE IDs, `waiting` the SG IDs of groups that wait for a new key, `since`
    what was done after the backup was made, and `unknown` the boards that must be paired again.
    """

    made: str
    held: tuple[str, ...]
    generation: int = 0
    boards: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    since: changes.DoneSince = changes.NOTHING
    unknown: tuple[str, ...] = ()


@contextmanager
def gateway_state(state: Path) -> Iterator[None]:
    """Hold the state folder of a gateway for this process alone, and finish a restore that was interrupted.

    Raise StoreInUse, StoreDamaged.
    """
    with restoring.taken(state, _OWNED_BY_GATEWAY, FAULTS):
        yield


@contextmanager
def server_state(state: Path) -> Iterator[None]:
    """Hold the state folder of a CPNS Server on its own, as `gateway_state` does that of a gateway."""
    with restoring.taken(state, _OWNED_BY_SERVER, FAULTS):
        yield


# Backups


def write_gateway_backup(
    config: GatewayConfig, path: Path, images: Mapping[str, bytes], lock: sealed.Lock, *, identity: bool
) -> None:
    """Write a gateway's backup as the new file `path`. `images` maps names of its files to their octets.

    Without `identity` it gets none of the keys and credentials. Raise StoreDamaged if the file cannot be written.
    """
    about = {"of": "gateway", "id": config.gateway.id, "pn": config.gateway.pn, "uplink": config.uplink.kind}
    about |= _identity_facts(images, IDENTITY_FILE, identity) | _counted(images)
    _write(path, about, images, () if identity else _IDENTITY_OF_GATEWAY, lock)
    last_backup.note(config.gateway.state_dir, about | backup_facts.made(), FAULTS.unusable)


def write_server_backup(
    server_id: str, path: Path, images: Mapping[str, bytes], lock: sealed.Lock, *, identity: bool
) -> None:
    """Write the backup of a CPNS Server on its own, as `write_gateway_backup` does that of a gateway."""
    facts = _identity_facts(images, server_identity.IDENTITY_FILE, identity) | _counted(images)
    left_out = () if identity else _IDENTITY_OF_SERVER
    _write(path, {"of": "server", "id": server_id} | facts, images, left_out, lock)


def stopped_gateway(state: Path) -> dict[str, bytes]:
    """Return the images of a gateway that does not run. The caller holds its state folder (`gateway_state`)."""
    if not (state / INVENTORY).exists():
        raise GatewayError(f"There is no gateway's state in {state}.", "Check state_dir; a gateway makes it.")
    images = _kept_identity(state, _IDENTITY_OF_GATEWAY)
    with closing(GatewayStore(state / STORE_FOLDER)) as store:
        images[INVENTORY] = store.image()
    if (state / SERVER).exists():
        with closing(ServerStore(SqliteServerDatabase(state / SERVER_FOLDER))) as server:
            images[SERVER] = server.image()
    if (state / GROUPS).exists():
        from gateway_agent.val_client.bridged_groups import BridgedGroups
        from gateway_agent.val_client.gmk_store import GmkStore

        with closing(GmkStore(state / GMKS)) as gmks, closing(BridgedGroups(state / GROUPS)) as groups:
            images[GMKS], images[GROUPS] = gmks.image(), groups.image()
    return images


def stopped_server(state: Path, url: str | None = None) -> tuple[str, dict[str, bytes]]:
    """Return (entity ID, images) of a CPNS Server on its own that does not run. The caller holds its state folder.

    With `url` (postgresql://...) its store is in PostgreSQL.
    """
    if url is not None:
        from key_servers.cpns_server.postgres import copies

        return copies.stopped(url)
    if not (state / server_identity.IDENTITY_FILE).exists():
        raise ServerError(f"There is no state of a CPNS Server on its own in {state}.", "Name its folder with --state.")
    images = _kept_identity(state, _IDENTITY_OF_SERVER)
    with closing(ServerStore(SqliteServerDatabase(state))) as store:
        images[server_database.FILE_NAME] = store.image()
    return OwnIdentity.load(state / server_identity.IDENTITY_FILE).entity_id, images


# Restores


def put_back_gateway(
    config: GatewayConfig,
    path: Path,
    unlock: sealed.Unlock,
    *,
    epochs: int = 1,
    older: bool = False,
    new_identity: bool = False,
) -> PutBack:
    """Put the backup `path` in place of the gateway's state, and begin anew (SEC-02, SEC-03).

    The backup must be one of the same gateway. If it has no identity that of the state folder stays; if there is none
    either, or another, only `new_identity` lets the next start make one. `epochs` is the least number of epochs by
    which the embedded Server's versions go on, and of steps by which the generation does. `older`: also if the state
    went on since the backup was made. Raise OlderBackup, StoreDamaged, ServerError and other errors with a sentence;
    the state is then what it was.
    """
    state = config.gateway.state_dir
    backup = archive.read(path, unlock, FAULTS.unusable)
    about, members, age_s = backup.about, backup.members, backup_facts.since(backup.about)
    embedded = config.uplink.kind == "embedded"
    backup_facts.require(path, about, {"of": "gateway", "id": config.gateway.id, "pn": config.gateway.pn}, GatewayError)
    wanted = {*_parts(about, _IDENTITY_OF_GATEWAY), INVENTORY, *((SERVER,) if embedded else ())}
    backup_facts.require_members(path, members, wanted, _OF_GATEWAY, GatewayError)
    if IDENTITY_FILE in members:
        theirs = OwnIdentity.from_octets(members[IDENTITY_FILE], f"{IDENTITY_FILE} in {path}")
        _require_no_other(path, state, _fingerprint(theirs), _key_of(state / IDENTITY_FILE), _peers_of(state))
    elif not new_identity:
        members |= _identity_of_gateway(path, about, state)
    done = None
    held: tuple[str, ...] = ()
    registered: set[str] = set()
    changed = changes.NOTHING
    with restoring.putting_back(state, members, _OWNED_BY_GATEWAY, FAULTS.unusable) as new:
        if IDENTITY_FILE in members:
            BroadcastSigningKey.load(new / SIGNING_FILE, OwnIdentity.load(new / IDENTITY_FILE))
            with closing(SessionFile(new / SESSIONS_FILE)) as sessions:
                registered = {credential.entity_id for credential in sessions.registered()}
        with closing(GatewayStore(new / STORE_FOLDER, restoring=True)) as store:
            known, changed = _compared_with_state(state, store)
            if SERVER in members:
                changed += _compared_servers(new / SERVER_FOLDER, partial(_file_in, state / SERVER_FOLDER))
            changed.require(older, path, state)
            counted = Counted(known=known, times=epochs, since_s=age_s)
            done = begin_anew(
                store, secrets.token_bytes, height=config.tree.height, unix=int(time.time()), counted=counted
            )
            if IDENTITY_FILE not in members:
                with store.transaction():
                    store.pn.forget_signing_keys()
        if SERVER in members:
            held = _begin_epochs(new / SERVER_FOLDER, partial(_file_in, state / SERVER_FOLDER), epochs, age_s)
        begin_epoch_of_bridged_groups(new / SEAL_FOLDER, state / SEAL_FOLDER, epochs, age_s)
    strangers = tuple(name for name in done.pnes if name not in registered)
    return PutBack(
        about.get("made", ""), held, done.generation, done.pnes, done.waiting_groups, since=changed, unknown=strangers
    )


def begin_anew_in_place(config: GatewayConfig, epochs: int = 1) -> PutBack:
    """Begin anew after a person put an older copy of the whole state folder back, for example an image of an SD card.

    `epochs` is that of `put_back_gateway`: more than 1 for an image that was put back before.
    """
    state = config.gateway.state_dir
    with closing(GatewayStore(state / STORE_FOLDER, restoring=True)) as store:
        with closing(SessionFile(state / SESSIONS_FILE)) as sessions:
            sessions.discard_contexts()
        begin_epoch_of_bridged_groups(state / SEAL_FOLDER, epochs=epochs)
        counted = Counted(times=epochs)
        done = begin_anew(store, secrets.token_bytes, height=config.tree.height, unix=int(time.time()), counted=counted)
    return PutBack("", (), done.generation, done.pnes, done.waiting_groups)


def forget_signing_keys(state: Path) -> None:
    """Note that the signing key of a gateway that does not run is lost: the next start makes one, of epoch 1."""
    with closing(GatewayStore(state / STORE_FOLDER)) as store, store.transaction():
        store.pn.forget_signing_keys()


def put_back_server(
    state: Path, path: Path, unlock: sealed.Unlock, *, epochs: int = 1, url: str | None = None, older: bool = False
) -> PutBack:
    """Put a backup in place of the state of a CPNS Server on its own, as `put_back_gateway` does for a gateway.

    With `url` (postgresql://...) the store is in PostgreSQL, and `state` only the place for what is done on the way.
    """
    backup = archive.read(path, unlock, FAULTS.unusable)
    about, members, age_s = backup.about, backup.members, backup_facts.since(backup.about)
    backup_facts.require(path, about, {"of": "server"}, GatewayError)
    wanted = {*_parts(about, _IDENTITY_OF_SERVER), server_database.FILE_NAME}
    backup_facts.require_members(path, members, wanted, _OF_SERVER, GatewayError)
    if server_identity.IDENTITY_FILE not in members:
        members |= _identity_of_server(path, about, state, url)
    else:
        name = server_identity.IDENTITY_FILE
        theirs = _fingerprint(OwnIdentity.from_octets(members[name], f"{name} in {path}"))
        if url is None:
            _require_no_other(path, state, theirs, _key_of(state / name), _peers_of(state))
        elif _key_in_database(url) not in ("", theirs):
            raise GatewayError(f"{path} has another identity than the database.", "Name another database, or empty it.")
    with _new_folder(state, members, url) as new:
        OwnIdentity.load(new / server_identity.IDENTITY_FILE)
        SessionFile(new / databases.SESSIONS_FILE).close()
        old = partial(_file_in, state) if url is None else partial(databases.open_database, state, url)
        changed = _compared_servers(new, old)
        changed.require(older, path, "the database" if url else state)
        held = _begin_epochs(new, old, epochs, age_s)
    return PutBack(about.get("made", ""), held, since=changed)


def begin_epoch_of_bridged_groups(folder: Path, old: Path | None = None, epochs: int = 1, since_s: int = 0) -> None:
    """Begin a new epoch of versions for the groups of a VAL client, whose state in `folder` is an older one (SEC-03).

    No version that was made after that state is used again. `old` is the folder that is replaced: versions that it
    knows are not used again either, if it can be read.
    """
    if not (folder / Path(GROUPS).name).exists():  # then the extra that the import needs may be missing
        return
    from gateway_agent.val_client.bridged_groups import BridgedGroups

    known = {}
    if old is not None and (old / Path(GROUPS).name).exists():
        with contextlib.suppress(GatewayError), closing(BridgedGroups(old / Path(GROUPS).name)) as newest:
            known = newest.numbers()
    with closing(BridgedGroups(folder / Path(GROUPS).name)) as groups:
        groups.begin_epoch(epochs, since_s, known)


def _write(
    path: Path, facts: Mapping[str, str], images: Mapping[str, bytes], left_out: tuple[str, ...], lock: sealed.Lock
) -> None:
    members = {name: octets for name, octets in images.items() if name not in left_out}
    about = {**facts, **backup_facts.made(), "schemas": schemas(members)}
    archive.write(path, about, members, lock, FAULTS.unusable)


def _identity_facts(images: Mapping[str, bytes], name: str, with_identity: bool) -> dict[str, str]:
    facts = {"identity": "yes" if with_identity else "no"}
    facts["key"] = _fingerprint(OwnIdentity.from_octets(images[name], name))
    if SIGNING_FILE in images:
        facts["signing_epoch"] = str(BroadcastSigningKey.from_octets(images[SIGNING_FILE], SIGNING_FILE).epoch)
    return facts


def _counted(images: Mapping[str, bytes]) -> dict[str, str]:
    """Return what a restore must not fall behind, and how much there is: numbers, and no name."""
    facts = {}
    if INVENTORY in images:
        ((facts["generation"], facts["boards"]),) = _asked(
            images[INVENTORY],
            "SELECT coalesce(max(last_generation), 0), (SELECT count(*) FROM pne WHERE retired = 0) FROM pn",
        )
    for name in {SERVER, server_database.FILE_NAME} & images.keys():
        ((facts["groups"], facts["newest_version"]),) = _asked(
            images[name], "SELECT count(*), coalesce(max(version), 0) FROM groups"
        )
    return {name: str(number) for name, number in facts.items()}


def _asked(image: bytes, statement: str) -> list[tuple[int, ...]]:
    with closing(sqlite3.connect(":memory:")) as database:
        database.deserialize(image)
        return database.execute(statement).fetchall()


def _parts(about: Mapping[str, str], identity: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files of the identity that the backup must have: backups of the former release have it always."""
    return () if about.get("identity") == "no" else identity


def _fingerprint(identity: OwnIdentity) -> str:
    return hashlib.sha256(identity.x).hexdigest()[:16]


def _key_of(path: Path) -> str:
    """Return the fingerprint of the identity in a file, empty if there is none or it cannot be used."""
    with contextlib.suppress(IdentityError):
        return _fingerprint(OwnIdentity.load(path))
    return ""


def _key_in_database(url: str) -> str:
    """Return the fingerprint of the CPNS Server whose store is in a database, empty if there is none."""
    from key_servers.cpns_server.postgres import copies

    try:
        images = copies.stopped(url)[1]
    except NotPossible:
        return ""
    return _fingerprint(OwnIdentity.from_octets(images[server_identity.IDENTITY_FILE], "The key in the database"))


def _kept_identity(state: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Return the files of an identity from the state folder; the last of `names` is that of the sessions."""
    images = {name: files.read(state / name, FAULTS.unusable) for name in names[:-1]}
    with closing(SessionFile(state / names[-1])) as sessions:
        images[names[-1]] = sessions.image()
    return images


def _identity_of_gateway(path: Path, about: Mapping[str, str], state: Path) -> dict[str, bytes]:
    if any(not (state / name).exists() for name in _IDENTITY_OF_GATEWAY):
        raise _no_identity(path, f"and {state} has none either", "--new-identity, and pair each board again")
    if _key_of(state / IDENTITY_FILE) != about.get("key"):
        raise _no_identity(path, f"and that in {state} is another one", "--new-identity, and pair each board again")
    if str(BroadcastSigningKey.load(state / SIGNING_FILE).epoch) != about.get("signing_epoch"):
        raise _no_identity(
            path, "and the signing key was rolled over since then", "--new-identity, and pair each board again"
        )
    return _kept_identity(state, _IDENTITY_OF_GATEWAY)


def _identity_of_server(path: Path, about: Mapping[str, str], state: Path, url: str | None) -> dict[str, bytes]:
    if url is not None:
        from key_servers.cpns_server.postgres import copies

        images = copies.stopped(url)[1]
        kept = {name: images[name] for name in _IDENTITY_OF_SERVER}
    else:
        if any(not (state / name).exists() for name in _IDENTITY_OF_SERVER):
            raise _no_identity(path, f"and {state} has none either")
        kept = _kept_identity(state, _IDENTITY_OF_SERVER)
    name = server_identity.IDENTITY_FILE
    if _fingerprint(OwnIdentity.from_octets(kept[name], name)) != about.get("key"):
        raise _no_identity(path, "and the Server's is another one")
    return kept


def _no_identity(path: Path, why: str, otherwise: str = "") -> GatewayError:
    return GatewayError(
        f"{path} has no identity, {why}.",
        "Put back a backup that was made --with-identity" + (f", or add {otherwise}." if otherwise else "."),
    )


def _require_no_other(path: Path, state: Path, theirs: str, own: str, peers: int) -> None:
    """Raise GatewayError if another identity is in the state folder, and has peers that only know it."""
    if own not in ("", theirs) and peers:
        raise GatewayError(
            f"{path} has another identity than {state}, which {peers} peers know.",
            "If that one is to go for good, move its folder away first.",
        )


def _peers_of(state: Path) -> int:
    with contextlib.suppress(GatewayError, PlaneError):
        if (state / SESSIONS_FILE).exists():
            with closing(SessionFile(state / SESSIONS_FILE)) as sessions:
                return len(sessions.registered())
    return 0


@contextmanager
def _new_folder(state: Path, members: Mapping[str, bytes], url: str | None) -> Iterator[Path]:
    """Yield a folder with the files of a Server, which become its state afterwards, or the content of the database."""
    if url is None:
        with restoring.putting_back(state, members, _OWNED_BY_SERVER, FAULTS.unusable) as new:
            yield new
        return
    from key_servers.cpns_server.postgres import copies

    with TemporaryDirectory(dir=state) as name:
        new = Path(name) / "new"
        new.mkdir(mode=0o700)
        for member, octets in members.items():
            files.write_new(new / member, octets, FAULTS.unusable)
        yield new
        copies.put_back(url, new)


def _compared_servers(new: Path, old: Callable[[], ServerDatabase | None]) -> changes.DoneSince:
    """Return what was done in the Server's store that `old` opens since the copy in `new`, nothing if it is lost."""
    with contextlib.suppress(ServerError):
        if (database := old()) is not None:
            with closing(ServerStore(database)) as state, closing(ServerStore(SqliteServerDatabase(new))) as copy:
                return changes.of_server(copy, state)
    return changes.NOTHING


def _begin_epochs(new: Path, old: Callable[[], ServerDatabase | None], epochs: int, since_s: int) -> tuple[str, ...]:
    """Declare the Server's store in `new` an older copy, and return the groups that are held for a person.

    Its versions go on by `epochs` epochs, or by more if the store that `old` opens can be read and is further ahead.
    """
    with contextlib.suppress(ServerError):
        if (database := old()) is not None:
            with (
                closing(ServerStore(database)) as newest,
                closing(ServerStore(SqliteServerDatabase(new))) as copy,
            ):
                epochs = max(epochs, epochs_ahead(newest, copy) + 1)

    async def declare() -> tuple[str, ...]:
        from key_servers.cpns_server.app import CpnsServer  # only here, as loading all of a Server takes long

        server = await CpnsServer.open(new, ServerConfig())
        try:
            return await server.restore(epochs, since_s)
        finally:
            await server.close()

    return asyncio.run(declare())


def _file_in(folder: Path) -> ServerDatabase | None:
    return SqliteServerDatabase(folder) if (folder / server_database.FILE_NAME).exists() else None


def _compared_with_state(state: Path, copy: GatewayStore) -> tuple[int, changes.DoneSince]:
    """Return the highest generation that the state to be replaced knows, and what was done in it since the copy.

    They are 0 and nothing if it cannot be read.
    """
    if (state / INVENTORY).exists():
        with contextlib.suppress(GatewayError), closing(GatewayStore(state / STORE_FOLDER, restoring=True)) as store:
            pn = store.pn.get()
            known = max([0 if pn is None else pn.last_generation, *store.tree_masters.generations()])
            return known, changes.of_gateway(copy, store)
    return 0, changes.NOTHING
