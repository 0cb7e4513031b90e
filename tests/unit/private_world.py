"""Everything that the product keeps in private files: the functions that make, open and read each of them."""

import contextlib
import datetime
import resource
import secrets

from gateway_agent.errors import GatewayError
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.tree_masters import TreeMasters
from gateway_agent.val_client.bridged_groups import BridgedGroups
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import KeyMaterial
from http_door import tls
from http_door.errors import DoorError
from key_servers.cpns_server.sqlite_database import SqliteServerDatabase
from key_servers.errors import ServerError
from key_servers.kms import master_secrets
from key_servers.sql.sqlite import SqliteDatabase
from message_plane.errors import PlaneError
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from message_plane.session_file import SessionFile
from private_store import files
from private_store.errors import PrivateStoreError
from private_store.sqlite_file import SqliteFile
from tests.unit.kms_world import master_secrets as kms_secrets

ERRORS = (DoorError, GatewayError, ServerError, PlaneError, PrivateStoreError)


def closed(store):
    """Close it; the servers' databases are closed by their loop."""
    (store._file if isinstance(store, SqliteDatabase) else store).close()


# What is kept: the file in `folder`, and what opens or makes it.
STORES = {
    "gateway.db": GatewayStore,
    "sessions.db": lambda folder: SessionFile(folder / "sessions.db"),
    "cpns_server.sqlite3": SqliteServerDatabase,
    "kms.sqlite3": lambda folder: SqliteDatabase(folder / "kms.sqlite3"),
    "seal_keys.sqlite3": lambda folder: KeyMaterial(folder / "seal_keys.sqlite3"),
    "seal_gmks.sqlite3": lambda folder: GmkStore(folder / "seal_gmks.sqlite3"),
    "seal_groups.sqlite3": lambda folder: BridgedGroups(folder / "seal_groups.sqlite3"),
}


def tls_pair(folder):
    now = datetime.datetime.now(datetime.UTC)
    tls.make_self_signed(folder / "tls_certificate.pem", folder / "tls_key.pem", ["localhost"], now)


# What makes each key file, and what reads it.
KEY_FILES = {
    "identity.key": (
        lambda folder: OwnIdentity.create(folder / "identity.key", "gw", "gateway"),
        lambda folder: OwnIdentity.load(folder / "identity.key"),
    ),
    "signing.key": (
        lambda folder: BroadcastSigningKey.create(folder / "signing.key"),
        lambda folder: BroadcastSigningKey.load(folder / "signing.key"),
    ),
    "1": (  # a tree master
        lambda folder: TreeMasters(folder).create(1, secrets.token_bytes(32)),
        lambda folder: TreeMasters(folder).load(1),
    ),
    "master_secrets.json": (
        lambda folder: master_secrets.create(folder / "master_secrets.json", kms_secrets()),
        lambda folder: master_secrets.load(folder / "master_secrets.json"),
    ),
    "tls_key.pem": (
        tls_pair,
        lambda folder: tls.server_context(folder / "tls_certificate.pem", folder / "tls_key.pem"),
    ),
    "alice.token": (
        lambda folder: files.write_new(folder / "alice.token", b"token"),
        lambda folder: files.read(folder / "alice.token"),
    ),
}


def sqlite_file(store) -> SqliteFile:
    inner = store.database if isinstance(store, GatewayStore) else store
    found = inner._file
    assert isinstance(found, SqliteFile)
    return found


@contextlib.contextmanager
def full_disk():
    """No file of this process can grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def beside(path, suffix):
    return path.with_name(path.name + suffix)
