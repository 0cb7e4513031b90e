"""What a running gateway can be told over its control socket, and what it answers: plain values, never a key."""

import base64
import binascii
from dataclasses import asdict
from typing import Any

from cpns.errors import NotAllowed
from gateway_agent.app import GatewayApp
from gateway_agent.control import Command, attended
from key_servers.cpns_server.app import CpnsServer
from message_plane import credentials
from tools.keycast.versions import version_text

SECRET_CHARACTERS = 16


def commands(app: GatewayApp, server: CpnsServer | None) -> dict[str, Command]:
    """The commands of a gateway; those of Service Groups only where the CPNS Server is embedded."""
    known: dict[str, Command] = {
        "status": lambda: _status(app, server),
        "trust": app.trust,
        "gateway.roll-over": app.roll_over,
        "gateway.new-generation": app.gateway.new_generation,
        "device.list": lambda: _devices(app),
        "device.register": lambda credential, group=None, replace=False: _register(app, credential, group, replace),
        "device.retire": app.registrar.retire,
        "device.release": app.gateway.release_pne,
        "device.pair": attended(
            lambda pne_id, secret, replace=False: app.pair(pne_id, secret_octets(secret), replace=replace)
        ),
    }
    return known if server is None else known | group_commands(server)


def group_commands(server: CpnsServer) -> dict[str, Command]:
    """What a CPNS Server can be told, embedded or on its own."""
    return {
        "group.list": server.list_groups,
        "group.show": server.show_group,
        "group.create": server.create_group,
        "group.open": server.open_group,
        "group.permit": server.permit,
        "group.expel": server.expel,
        "group.update": server.update_key,
        "group.delete": server.delete_group,
        "alarms": server.alarms,
        "server.dismiss-alarm": server.dismiss_alarm,
        "server.admit-pne": server.admit_pne,
        "server.move-pne": server.move_pne,
        "server.restore": server.restore,
        "server.confirm-members": server.confirm_members,
    }


def server_commands(server: CpnsServer) -> dict[str, Command]:
    """The commands of a CPNS Server on its own."""
    return group_commands(server) | {
        "server.credential": lambda: server.credential().hex(),
        "server.block-gateway": server.block_gateway,
        "server.replace-gateway": lambda gateway_id, new_gateway_id, credential: server.replace_gateway(
            gateway_id, new_gateway_id, _unhex(credential)
        ),
        "server.add-gateway": lambda gateway_id, pn_id, credential, is_open, replace=False: server.register_gateway(
            gateway_id, pn_id, _unhex(credential), is_open=is_open, replace=replace
        ),
    }


def secret_octets(text: str) -> bytes:
    """The 10 octets of a pairing secret as a board shows it: 16 base32 characters. Raises NotAllowed."""
    letters = "".join(text.split()).replace("-", "").upper()
    try:
        octets = base64.b32decode(letters)
    except binascii.Error:
        octets = b""
    if len(letters) != SECRET_CHARACTERS or len(octets) != 10:
        raise NotAllowed("a pairing secret is 16 characters of A-Z and 2-7")
    return octets


def _register(app: GatewayApp, credential: str, group: str | None, replace: bool) -> str:
    parsed = credentials.parse(_unhex(credential), "pne")
    app.register(parsed, group, replace=replace)
    return parsed.entity_id


def _unhex(credential: str) -> bytes:
    try:
        return bytes.fromhex(credential)
    except ValueError:
        raise NotAllowed("a credential is the hexadecimal text of a CCS") from None


def _devices(app: GatewayApp) -> list[dict[str, Any]]:
    groups = app.gateway.groups()
    found = []
    for credential in app.credentials.registered():
        if credential.role == "pne":
            name = credential.entity_id
            found.append(
                {
                    "pne_id": name,
                    **asdict(app.sightings.of(name)),
                    "groups": [status.group.sg_id for status in groups if name in status.members],
                }
            )
    return sorted(found, key=lambda device: str(device["pne_id"]))


def _status(app: GatewayApp, server: CpnsServer | None) -> dict[str, Any]:
    groups = [
        {
            "sg_id": status.group.sg_id,
            "version": status.group.version,
            "version_text": version_text(status.group.version),
            "members": len(status.members),
            "states": status.states,
            "exposed": status.group.exposed,
            "waiting": status.group.waiting,
        }
        for status in app.gateway.groups()
    ]
    return {
        "gateway": app.config.gateway.id,
        "pn": app.config.gateway.pn,
        "pn_alias": app.pn_alias,
        "uplink": app.config.uplink.kind,
        "addresses": app.addresses(),
        "broadcast": app.networks(),
        "networks": app.broadcasts(),
        "stopped": app.gateway.stop_reason,
        "groups": groups,
        "devices": _devices(app),
        "counters": dict(sorted(app.counters.items())),
        "alarms": [*app.gateway.alarms(), *(server.alarms() if server else ())],
    }
