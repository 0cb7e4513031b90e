"""Backups of the whole state of a gateway or of a CPNS Server on its own, and restores from them.

A backup is one file with all that is needed: the inventories, the entity's own keys by which peers know it, and the
peers' credentials. It holds no Group Key, no tree master and no session (SEC-02), so a restored entity begins a new
generation of device keys, a new epoch of versions, and new sessions.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway_agent.app import (
    IDENTITY_FILE,
    NEXT_SIGNING_FILE,
    SEAL_FOLDER,
    SERVER_FOLDER,
    SESSIONS_FILE,
    SIGNING_FILE,
    STORE_FOLDER,
)
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.core.restore import Counted
from gateway_agent.core.restore import restore as begin_anew
from gateway_agent.errors import GatewayError
from gateway_agent.store.errors import FAULTS
from gateway_agent.store.store import DATABASE_FILE, GatewayStore
from key_servers.cpns_server import databases, server_identity
from key_servers.cpns_server import sqlite_database as server_database
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.database import ServerDatabase
from key_servers.cpns_server.recovery import epochs_ahead
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import ServerError
from keycast.copies import backup_facts
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from message_plane.session_file import SessionFile
from private_store import archive, contents, files, restoring

GMKS, GROUPS = f"{SEAL_FOLDER}/seal_gmks.sqlite3", f"{SEAL_FOLDER}/seal_groups.sqlite3"
INVENTORY = f"{STORE_FOLDER}/{DATABASE_FILE}"
SERVER = f"{SERVER_FOLDER}/{server_database.FILE_NAME}"

_OF_GATEWAY = (IDENTITY_FILE, SIGNING_FILE, SESSIONS_FILE, INVENTORY, SERVER, GMKS, GROUPS)
_OWNED_BY_GATEWAY = (
    *(contents.NAME, IDENTITY_FILE, SIGNING_FILE, NEXT_SIGNING_FILE, SESSIONS_FILE),
    *(f"{folder}/" for folder in (STORE_FOLDER, SERVER_FOLDER, SEAL_FOLDER)),
)
_OF_SERVER = (server_database.FILE_NAME, server_identity.IDENTITY_FILE, databases.SESSIONS_FILE)
_OWNED_BY_SERVER = (*_OF_SERVER, contents.NAME)


@dataclass(frozen=True)
class PutBack:
    """The result of a restore.

    `made` is the date of the backup, `held` the Service Groups whose members a person must confirm, `generation` the
    new generation of device keys, `boards` the PNE IDs, and `waiting` the SG IDs of groups that wait for a new key.
    """

    made: str
    held: tuple[str, ...]
    generation: int = 0
    boards: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


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


def write_gateway_backup(config: GatewayConfig, path: Path, images: Mapping[str, bytes]) -> None:
    """Write a gateway's backup as the new file `path`. `images` maps names of its files to their octets.

    Raise StoreDamaged if the file cannot be written.
    """
    about = {"of": "gateway", "id": config.gateway.id, "pn": config.gateway.pn, "uplink": config.uplink.kind}
    archive.write(path, about | backup_facts.made(), images, FAULTS.unusable)


def write_server_backup(server_id: str, path: Path, images: Mapping[str, bytes]) -> None:
    """Write the backup of a CPNS Server on its own, as `write_gateway_backup` does that of a gateway."""
    archive.write(path, {"of": "server", "id": server_id} | backup_facts.made(), images, FAULTS.unusable)


def stopped_gateway(state: Path) -> dict[str, bytes]:
    """Return the images of a gateway that does not run. The caller holds its state folder (`gateway_state`)."""
    if not (state / INVENTORY).exists():
        raise GatewayError(f"There is no gateway's state in {state}.", "Check state_dir; a gateway makes it.")
    images = {name: files.read(state / name, FAULTS.unusable) for name in (IDENTITY_FILE, SIGNING_FILE)}
    with closing(SessionFile(state / SESSIONS_FILE)) as sessions:
        images[SESSIONS_FILE] = sessions.image()
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
    images = {server_identity.IDENTITY_FILE: files.read(state / server_identity.IDENTITY_FILE, FAULTS.unusable)}
    with (
        closing(ServerStore(SqliteServerDatabase(state))) as store,
        closing(SessionFile(state / databases.SESSIONS_FILE)) as sessions,
    ):
        images[server_database.FILE_NAME], images[databases.SESSIONS_FILE] = store.image(), sessions.image()
    return OwnIdentity.load(state / server_identity.IDENTITY_FILE).entity_id, images


# Restores


def put_back_gateway(config: GatewayConfig, path: Path, epochs: int = 1) -> PutBack:
    """Put the backup `path` in place of the gateway's state, and begin anew (SEC-02, SEC-03).

    The backup must be one of the same gateway. `epochs` is the least number of epochs by which the embedded Server's
    versions go on, and of steps by which the generation does. Raise StoreDamaged, ServerError and other errors with a
    sentence; the state is then what it was.
    """
    state = config.gateway.state_dir
    about, members = archive.read(path, FAULTS.unusable)
    embedded = config.uplink.kind == "embedded"
    backup_facts.require(path, about, {"of": "gateway", "id": config.gateway.id, "pn": config.gateway.pn}, GatewayError)
    wanted = {IDENTITY_FILE, SIGNING_FILE, SESSIONS_FILE, INVENTORY, *((SERVER,) if embedded else ())}
    backup_facts.require_members(path, members, wanted, _OF_GATEWAY, GatewayError)
    done = None
    held: tuple[str, ...] = ()
    with restoring.putting_back(state, members, _OWNED_BY_GATEWAY, FAULTS.unusable) as new:
        BroadcastSigningKey.load(new / SIGNING_FILE, OwnIdentity.load(new / IDENTITY_FILE))
        SessionFile(new / SESSIONS_FILE).close()
        with closing(GatewayStore(new / STORE_FOLDER, restoring=True)) as store:
            counted = Counted(known=_known_generation(state), times=epochs, since_s=backup_facts.since(about))
            done = begin_anew(
                store, secrets.token_bytes, height=config.tree.height, unix=int(time.time()), counted=counted
            )
        if SERVER in members:
            old = partial(_file_in, state / SERVER_FOLDER)
            held = _begin_epochs(new / SERVER_FOLDER, old, epochs, backup_facts.since(about))
        begin_epoch_of_bridged_groups(new / SEAL_FOLDER, state / SEAL_FOLDER, epochs, backup_facts.since(about))
    return PutBack(about.get("made", ""), held, done.generation, done.pnes, done.waiting_groups)


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


def put_back_server(state: Path, path: Path, epochs: int = 1, url: str | None = None) -> PutBack:
    """Put a backup in place of the state of a CPNS Server on its own, as `put_back_gateway` does for a gateway.

    With `url` (postgresql://...) the store is in PostgreSQL, and `state` only the place for what is done on the way.
    """
    about, members = archive.read(path, FAULTS.unusable)
    backup_facts.require(path, about, {"of": "server"}, GatewayError)
    backup_facts.require_members(path, members, set(_OF_SERVER), _OF_SERVER, GatewayError)
    if url is not None:
        return PutBack(
            about.get("made", ""), _put_back_in_postgres(state, members, url, epochs, backup_facts.since(about))
        )
    with restoring.putting_back(state, members, _OWNED_BY_SERVER, FAULTS.unusable) as new:
        OwnIdentity.load(new / server_identity.IDENTITY_FILE)
        SessionFile(new / databases.SESSIONS_FILE).close()
        held = _begin_epochs(new, partial(_file_in, state), epochs, backup_facts.since(about))
    return PutBack(about.get("made", ""), held)


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


def _put_back_in_postgres(
    state: Path, members: Mapping[str, bytes], url: str, epochs: int, since_s: int
) -> tuple[str, ...]:
    from key_servers.cpns_server.postgres import copies

    with TemporaryDirectory(dir=state) as name:
        new = Path(name) / "new"
        new.mkdir(mode=0o700)
        for member, octets in members.items():
            files.write_new(new / member, octets, FAULTS.unusable)
        held = _begin_epochs(new, lambda: databases.open_database(state, url), epochs, since_s)
        copies.put_back(url, new)
    return held


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
        server = await CpnsServer.open(new, ServerConfig())
        try:
            return await server.restore(epochs, since_s)
        finally:
            await server.close()

    return asyncio.run(declare())


def _file_in(folder: Path) -> ServerDatabase | None:
    return SqliteServerDatabase(folder) if (folder / server_database.FILE_NAME).exists() else None


def _known_generation(state: Path) -> int:
    """Return the highest generation that the state to be replaced knows, 0 if it cannot be read."""
    known = 0
    if (state / INVENTORY).exists():
        with contextlib.suppress(GatewayError), closing(GatewayStore(state / STORE_FOLDER, restoring=True)) as store:
            pn = store.pn.get()
            known = max([0 if pn is None else pn.last_generation, *store.tree_masters.generations()])
    return known
