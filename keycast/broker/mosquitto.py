"""The text of `mosquitto.conf` and of the access list (ACL) of a Mosquitto 2 that serves keycast and nothing else.

The broker takes the name in a client's certificate (CN) as its user name and as its client ID: the tag of a PN GW, or
that of the CPNS Server.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath

from message_plane.links.mqtt_topics import EVERY_PRESENCE, database, down, presence

DATA = "data"
"""The folder beside the files in which Mosquitto keeps sessions; it does not make it by itself."""
DATAGRAM_MAX = 128 * 1024
_PACKET_MAX = DATAGRAM_MAX + 4096  # with its topic and properties
_QUEUED_MAX = 100_000  # the answers of 10,000 PN GWs, ten of each, wait for a Server that starts again
_QUEUED_OCTETS_MAX = 64 * 1024 * 1024
_EVERY_UP = "keycast/1/up/+/+"
_OWN_UP = "keycast/1/up/+/%u"


def configuration(at: PurePosixPath, port: int, has_authority: bool) -> str:
    """Return `mosquitto.conf` of a broker whose files lie in the folder `at` on its machine.

    `has_authority`: whether `broker-files` makes the certificates; if not, the text says which an operator puts there.
    """
    own = "" if has_authority else _OWN_AUTHORITY.format(at=at)
    return _CONFIGURATION.format(
        at=at,
        port=port,
        data=DATA,
        own_authority=own,
        revoked=f"crlfile {at}/revoked.crl" if has_authority else f"# crlfile {at}/revoked.crl",
        packet_max=_PACKET_MAX,
        queued_max=_QUEUED_MAX,
        queued_octets_max=_QUEUED_OCTETS_MAX,
    )


def access_list(server_tag: str, server_users: Iterable[str], denied_tags: Iterable[str]) -> str:
    """Return the ACL: one rule for all PN GWs, and one block for each user name of the CPNS Server.

    A user of `denied_tags` may do nothing, not even on a connection that is open.
    """
    blocks = [_HEAD]
    blocks += [f"user {tag}\ntopic deny #\n" for tag in denied_tags]
    blocks += ["\n".join((f"user {user}", *_server_rules(server_tag), "")) for user in server_users]
    blocks.append("\n".join((_GATEWAYS, *gateway_rules(server_tag), "")))
    return "\n".join(blocks)


def gateway_rules(server_tag: str) -> list[str]:
    """Return the lines for PN GWs, in which %u is the user name: each reads and writes its own topics only."""
    return [
        f"pattern read {down('%u')}",
        f"pattern write {_OWN_UP}",
        f"pattern write {presence('%u')}",
        f"pattern read {presence(server_tag)}",
    ]


def _server_rules(server_tag: str) -> list[str]:
    return [
        f"topic read {_EVERY_UP}",
        f"topic read {EVERY_PRESENCE}",
        f"topic write {down('+')}",
        f"topic readwrite {presence(server_tag)}",
        f"topic readwrite {database(server_tag)}",
    ]


_CONFIGURATION = """\
# Mosquitto 2 for keycast. `keycast server broker-files` wrote this file, and writes it anew unless you change it.

per_listener_settings false
listener {port}
tls_version tlsv1.2
{own_authority}cafile {at}/ca.crt
certfile {at}/broker.crt
keyfile {at}/broker.key
{revoked}

# The name in its certificate is who a client is. As its client ID, too: otherwise one gateway could throw out another
# one by taking its client ID.
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {at}/acl

# What waits for a gateway outlives a restart of the broker. A crash may lose the last minute, which the CPNS Server
# sends again. autosave_on_changes would write the whole file at each message: 280 messages a second in place of 4900.
persistence true
persistence_location {at}/{data}/
autosave_interval 60
persistent_client_expiration 14d

# Without this, answers wait for each other (Nagle's algorithm).
set_tcp_nodelay true

# A datagram of keycast has 128 KiB at most. A client that sends more is disconnected.
max_packet_size {packet_max}

# What is on the way to one client, without limit, and what waits for it: all answers to a CPNS Server that starts
# again. By default 20 are on the way and 1000 wait, and the rest is dropped.
max_inflight_messages 0
max_queued_messages {queued_max}
max_queued_bytes {queued_octets_max}

log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true
"""

_OWN_AUTHORITY = """\
# Put the files of your own authority there: its certificate, and the broker's certificate and key. The name (CN) in the
# certificate of each client is the tag that `keycast server broker-files` shows. With a list of revoked certificates
# (CRL), take away the # before crlfile.
"""

_HEAD = """\
# Who may read and write what. `keycast server broker-files` wrote this file, and writes it anew unless you change it.
# User names are tags: hex digits that stand for entity IDs, which a broker need not know.
"""

_GATEWAYS = "# Each gateway: its own topics, and whether the CPNS Server is there."
