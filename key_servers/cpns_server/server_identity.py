"""The Server's own key, by which PN GWs and boards know it: a file, or a row that all processes on a database share."""

from pathlib import Path

from key_servers.cpns_server.sqlite_database import RESTORE_BACKUP
from key_servers.cpns_server.store import ServerStore
from key_servers.errors import ServerError
from message_plane.identity import OwnIdentity

IDENTITY_FILE = "identity.json"


def kept(store: ServerStore, state_dir: Path, entity_id: str) -> OwnIdentity:
    """Return the Server's key, and make it if it never existed.

    In PostgreSQL it is a row of the database; a file in `state_dir` that is there already becomes that row. Raises
    ServerError if the key has another name, IdentityError, StoreFailed.
    """
    path = state_dir / IDENTITY_FILE

    def first() -> bytes:
        return (OwnIdentity.load(path) if path.exists() else OwnIdentity.new(entity_id, "server")).octets()

    octets = store.identity(first)
    place = str(path) if octets is None else "The key of this CPNS Server in the database"
    if octets is None:
        identity = OwnIdentity.kept(path, entity_id, "server", RESTORE_BACKUP)
    else:
        identity = OwnIdentity.from_octets(octets, place)
    if identity.entity_id != entity_id:
        raise ServerError(
            f"{place} belongs to {identity.entity_id}, the configuration says {entity_id}.",
            "Put the old name back: PN GWs know this key by it.",
        )
    return identity
