"""The state folder of a PN GW: the names of what is in it, and the two keys that are the gateway itself.

It holds `identity.key` (EDHOC), `signing.key` (broadcasts), `sessions.db` (credentials, OSCORE contexts), `store/`
(inventory, keys, tree masters), `updates/` (signed files for boards) and `control.sock`. All of it is private to the
user that the gateway runs as. Commands need these without the gateway that runs (`app.py`), which takes longer to load.
"""

from gateway_agent.config.schema import GatewayConfig
from gateway_agent.store.errors import StoreDamaged
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from private_store import folders, restoring

IDENTITY_FILE = "identity.key"
SIGNING_FILE = "signing.key"
NEXT_SIGNING_FILE = "signing.key.next"  # while the signing key rolls over
SESSIONS_FILE = "sessions.db"
STORE_FOLDER = "store"
UPDATES_FOLDER = "updates"
SERVER_FOLDER = "server"  # of an embedded CPNS Server
SEAL_FOLDER = "seal"  # of a gateway that is a VAL client


def own_keys(config: GatewayConfig) -> tuple[OwnIdentity, BroadcastSigningKey]:
    """Return the gateway's two keys; at the first start they are made. Raises IdentityError, StoreDamaged."""
    folder = config.gateway.state_dir
    folders.make(folder, StoreDamaged)
    if restoring.unfinished(folder):
        raise StoreDamaged(
            f"A restore of {folder} was cut short.", "Start the gateway, which finishes it, or restore again."
        )
    identity = OwnIdentity.kept(folder / IDENTITY_FILE, config.gateway.id, "gateway", way_back(IDENTITY_FILE))
    return identity, BroadcastSigningKey.kept(folder / SIGNING_FILE, way_back(SIGNING_FILE), identity)


def way_back(name: str) -> str:
    """Return the sentences that tell a person what to do if the file `name` of the state folder is gone."""
    return (
        "Put back a backup: keycast gateway restore FILE. Without one, and with every board paired anew: "
        f"keycast gateway lost {name}"
    )
