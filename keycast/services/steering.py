"""The commands that a running gateway accepts over its control socket. Their answers are plain values, never a key."""

import asyncio
import time
from dataclasses import asdict
from typing import Any, NoReturn

from cpns.errors import NotAllowed
from cpns.in_words import version_text
from gateway_agent.app import GatewayApp
from gateway_agent.control import Command, attended
from gateway_agent.core.administration import GroupStatus
from gateway_agent.core.end_to_end.carried_keys import CarriedStatus
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.operator import typed_credential
from key_servers.cpns_server.values import GroupState
from key_servers.known_names import new_name, require
from keycast.services import pairing_secret
from keycast.services.server_steering import commands_elsewhere, group_commands
from message_plane import credentials
from message_plane.credentials import Credential


def commands(app: GatewayApp, server: CpnsServer | None) -> dict[str, Command]:
    """Return the commands of a gateway. Without an embedded CPNS Server those about Service Groups are refused."""
    known: dict[str, Command] = {
        "status": lambda: _status(app, server),
        "seal.boards": _no_val_client,  # a VAL client puts its own function here
        "radios": app.radios,
        "trust": app.trust,
        "gateway.roll-over": app.roll_over,
        "gateway.new-generation": app.gateway.administration.new_generation,
        "board.list": lambda: _boards_listed(app),
        "board.check": lambda pne_id, group=None, replace=False: _check(app, server, pne_id, group, replace),
        "board.standing": lambda credential: app.registrar.standing(_pne(credential)),
        "board.register": lambda credential, group=None, replace=False, when_heard=False: _register(
            app, server, credential, group, replace, when_heard
        ),
        "board.withdraw": lambda credential: app.registrar.withdraw(_pne(credential)),
        "board.retire": lambda pne_id: _retire(app, pne_id),
        "board.release": lambda pne_id: _release(app, pne_id),
        "board.pair": attended(
            lambda pne_id, secret, replace=False: app.pair(
                new_name(pne_id, "board"), pairing_secret.octets(secret), replace=replace
            )
        ),
    }
    if server is None:
        return known | commands_elsewhere()
    return known | group_commands(server, lambda: _boards(app))


def _no_val_client() -> NoReturn:
    raise NotAllowed("this gateway is no VAL client: its configuration has no section [seal], see docs/gms.md")


def _boards(app: GatewayApp) -> list[str]:
    """Return the PNE IDs of all boards that are let in."""
    return [each.entity_id for each in _credentials(app)]


def _credentials(app: GatewayApp) -> list[Credential]:
    return [each for each in app.credentials.registered() if each.role == credentials.ROLE_PNE]


def _retire(app: GatewayApp, pne_id: str) -> list[str]:
    if not app.gateway.administration.has_pne(pne_id):
        require(pne_id, _boards(app), "board")
    return app.registrar.retire(pne_id)


def _release(app: GatewayApp, pne_id: str) -> None:
    require(pne_id, _boards(app), "board")
    if not app.gateway.administration.is_held(pne_id):
        raise NotAllowed(f"{pne_id} is not held: it may join and leave")
    app.gateway.administration.release_pne(pne_id)


def _pne(credential: str) -> Credential:
    return typed_credential(credential, credentials.ROLE_PNE)


def _check(app: GatewayApp, server: CpnsServer | None, pne_id: str, group: str | None, replace: bool) -> None:
    """Refuse what `board.register` would refuse for a board that has no key yet."""
    new_name(pne_id, "board")
    app.registrar.require_free(pne_id, replace=replace)
    _require_group(app, server, group)


def _register(
    app: GatewayApp, server: CpnsServer | None, credential: str, group: str | None, replace: bool, when_heard: bool
) -> str:
    """Register a board. `when_heard`: in the place of an earlier one of its name only once it is heard."""
    parsed = _pne(credential)
    new_name(parsed.entity_id, "board")
    _require_group(app, server, group)
    (app.registrar.register_when_heard if when_heard else app.register)(parsed, group, replace=replace)
    return parsed.entity_id


def _require_group(app: GatewayApp, server: CpnsServer | None, group: str | None) -> None:
    if group is not None and server is not None:  # a CPNS Server elsewhere may know groups that the gateway does not
        known = [view.sg_id for view in server.list_groups()]
        if app.config.seal is not None:
            known += [each.sg_id for each in app.config.seal.groups]
        require(group, known, "Service Group", "Create it first: keycast group create")


def _boards_listed(app: GatewayApp) -> list[dict[str, Any]]:
    ccs_of = {each.entity_id: each.ccs.hex() for each in _credentials(app)}
    return [each | {"credential": ccs_of[each["pne_id"]]} for each in _boards_seen(app)]


def _boards_seen(app: GatewayApp) -> list[dict[str, Any]]:
    groups_of: dict[str, list[str]] = {}
    for status in app.gateway.administration.groups():
        for member in status.members:
            groups_of.setdefault(member, []).append(status.group.sg_id)
    return [
        {"pne_id": pne_id, **asdict(app.sightings.of(pne_id)), "sg_ids": groups_of.get(pne_id, [])}
        for pne_id in sorted(_boards(app))
    ]


def _carried(app: GatewayApp, group: GroupStatus) -> list[dict[str, Any]]:
    """Return what the gateway has carried to each member of an end-to-end group since its start."""
    carried = {each.pne_id: each for each in app.gateway.administration.carried(group.group.sg_id)}
    nothing = CarriedStatus(pne_id="", version=0, stage="none", tries=0, returned="", since=0)
    return [
        {
            "pne_id": pne_id,
            "version": each.version,
            "version_text": version_text(each.version),
            "state": each.stage,
            "try_count": each.tries,
            "returned": each.returned,
            "changed_at": each.since,
        }
        for pne_id in group.members
        for each in [carried.get(pne_id, nothing)]
    ]


def _brokers(app: GatewayApp) -> list[dict[str, Any]]:
    ago = time.time() - asyncio.get_running_loop().time()
    return [
        {"url": each.url, "connected": each.connected, "since": int(ago + each.since_s), "problem": each.problem}
        for each in app.brokers()
    ]


def _status(app: GatewayApp, server: CpnsServer | None) -> dict[str, Any]:
    groups = [
        {
            "sg_id": status.group.sg_id,
            "version": status.group.version,
            "version_text": version_text(status.group.version),
            "member_count": len(status.members),
            "states": [{"state": str(state), "member_count": count} for state, count in sorted(status.states.items())],
            "trust": "end-to-end" if status.group.end_to_end else "gateway",
            "carried": _carried(app, status) if status.group.end_to_end else [],
            "exposed": status.group.exposed,
            "waiting": status.group.waiting,
        }
        for status in app.gateway.administration.groups()
    ]
    return {
        "gateway_id": app.config.gateway.id,
        "pn_id": app.config.gateway.pn,
        "pn_alias": app.pn_alias,
        "uplink": app.config.uplink.kind,
        "brokers": _brokers(app),
        "addresses": app.addresses(),
        "networks": app.broadcasts(),
        "server_age_s": app.gateway.administration.server_age_s,
        "server_problem": app.gateway.administration.server_problem,
        "stopped": app.gateway.administration.stop_reason,
        "is_withholding": app.gateway.administration.withholds_keys,
        "held": [view.sg_id for view in server.list_groups() if view.state == GroupState.HELD] if server else [],
        "groups": groups,
        "devices": _boards_seen(app),
        "counters": dict(sorted(app.counters.items())),
        "alarms": [*app.gateway.administration.alarms(), *(server.alarms() if server else ())],
    }
