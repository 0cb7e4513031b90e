"""Thousands of PN GWs that a CPNS Server knows, for measurements: what joins and first deliveries would have left.

Their sessions need no handshake: the OSCORE contexts are drawn at random and put into the Server's store, as in `home`.
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpns import numbers
from key_servers.cpns_server.database import ServerDatabase
from key_servers.cpns_server.databases import SESSIONS_FILE
from key_servers.cpns_server.delivery_queue import Position
from key_servers.cpns_server.server_identity import IDENTITY_FILE
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupState, JoinPolicy, MemberState, StoredGateway, StoredGroup, StoredKey
from message_plane.credentials import Credential
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile
from message_plane.session_store import AddContext, StoredContext

SERVER_ID = "cpns.bench"
_VERSION = 65537
_NUMBERS_USED = 64


@dataclass(frozen=True, repr=False)
class GatewayKeys:
    """One PN GW: its key file's octets, and its session's secrets as it has them."""

    gateway_id: str
    identity: bytes
    secret: bytes
    salt: bytes
    sender_id: bytes
    recipient_id: bytes


def gateway_id(number: int) -> str:
    """Return the entity ID of PN GW `number`."""
    return f"gw.{number}"


def pn_id(number: int) -> str:
    """Return the ID of the PN of PN GW `number`."""
    return f"pn.{number}"


def draw(count: int) -> tuple[list[GatewayKeys], list[Credential]]:
    """Return the keys of PN GWs 0 to `count` - 1, and their credentials."""
    keys, known = [], []
    for number in range(count):
        identity = OwnIdentity.new(gateway_id(number), "gateway")
        keys.append(
            GatewayKeys(
                identity.entity_id,
                identity.octets(),
                secrets.token_bytes(16),
                secrets.token_bytes(8),
                number.to_bytes(3, "big"),
                number.to_bytes(2, "big") if number < 1 << 16 else number.to_bytes(3, "big"),
            )
        )
        known.append(identity.credential)
    return keys, known


def put_sessions(
    folder: Path, keys: Sequence[GatewayKeys], known: Sequence[Credential], place_of: Callable[[int], str]
) -> Credential:
    """Put the Server's key and its sessions with the PN GWs into its state folder; return its credential.

    `place_of` returns the place of a PN GW by its number. Without `keys` the credentials are put there, and no session.
    """
    identity = OwnIdentity.create(folder / IDENTITY_FILE, SERVER_ID, "server")
    sessions = SessionFile(folder / SESSIONS_FILE)
    for credential in known:
        sessions.register(credential)
    lease = sessions.acquire(identity.x)
    contexts = [AddContext(_stored(each, place_of(number)), known[number]) for number, each in enumerate(keys)]
    sessions.commit({lease: contexts})
    sessions.release(lease)
    sessions.close()
    return identity.credential


def discard_sessions(folder: Path) -> None:
    """Delete all sessions in a state folder whose Server does not run; the credentials stay."""
    sessions = SessionFile(folder / SESSIONS_FILE)
    sessions.discard_contexts()
    sessions.close()


def put_groups(database: ServerDatabase, count: int, sizes: Mapping[str, int]) -> None:
    """Put `count` PN GWs with one PNE each into the store of a Server, and close it.

    `sizes`: by SG ID, how many of the PN GWs have a member in it, the first ones; all of them have its newest key.
    """
    store = ServerStore(database)
    now = int(time.time())
    with store.transaction():
        for number in range(count):
            store.put_gateway(StoredGateway(gateway_id(number), pn_id(number), "cbor", False, True))
            store.bind_pne(_pne_id(number), pn_id(number))
        for sg_id, size in sizes.items():
            store.put_group(
                StoredGroup(
                    sg_id=sg_id,
                    owner="",
                    state=GroupState.ACTIVE,
                    policy=JoinPolicy.OPEN,
                    protection=numbers.PROTECTION_SEALED,
                    rekey_on_join=False,
                    period_s=0,
                    version=_VERSION,
                    pending=None,
                    key_made_at=now,
                )
            )
            store.add_key(StoredKey(sg_id, _VERSION, secrets.token_bytes(16), 0, numbers.REASON_CREATE))
            for number in range(size):
                store.set_member(sg_id, _pne_id(number), MemberState.MEMBER, now)
                store.set_revision(sg_id, pn_id(number), 1)
                store.set_accepted(sg_id, pn_id(number), Position(1, _VERSION))
    store.close()


def _pne_id(number: int) -> str:
    return f"lamp.{number}"


def _stored(keys: GatewayKeys, place: str) -> StoredContext:
    """Return the Server's side of a session, as its store keeps it."""
    return StoredContext(
        recipient_id=keys.sender_id,
        sender_id=keys.recipient_id,
        entity_id=keys.gateway_id,
        master_secret=keys.secret,
        master_salt=keys.salt,
        established=int(time.time()),
        sender_ceiling=_NUMBERS_USED,
        place=place,
    )
