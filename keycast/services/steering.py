"""The commands that a running gateway accepts over its control socket. Their answers are plain values, never a key."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, NoReturn

from cpns.errors import MalformedMessage, NotAllowed
from gateway_agent import pairing_secret
from gateway_agent.app import GatewayApp
from gateway_agent.control import Command, attended
from gateway_agent.observe.observer import ServerFacts
from gateway_agent.observe.snapshot import AlarmView, BoardView, ServiceGroupView, Snapshot
from gateway_agent.updates.status import OfferStatus
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.operator import typed_credential
from key_servers.known_names import new_name, require
from keycast.services.server_steering import commands_elsewhere, group_commands
from message_plane import credentials
from message_plane.credentials import Credential


def commands(app: GatewayApp, server: CpnsServer | None, snapshot: Callable[[], Snapshot]) -> dict[str, Command]:
    """Return the commands of a gateway, whose state is that of `snapshot`.

    Without an embedded CPNS Server those about Service Groups are refused.
    """
    known: dict[str, Command] = {
        "status": lambda: _status(snapshot(), () if server is None else server.sg_ids()),
        "health": lambda: _health(app),
        "seal.boards": _no_val_client,  # a VAL client puts its own function here
        "radios": app.radios,
        "trust": app.trust,
        "gateway.roll-over": app.roll_over,
        "gateway.new-generation": app.gateway.administration.new_generation,
        "board.list": lambda: _boards_listed(app, snapshot),
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
    known |= {
        "update.offer": lambda file, boards=(), groups=(), broadcast=False, sealed="": _offer(
            app, server, file, boards, groups, broadcast, sealed
        ),
        "update.status": app.updates.status,
        "update.withdraw": app.updates.withdraw,
    }
    if server is None:
        return known | commands_elsewhere()
    return known | group_commands(server, app.boards)


def server_facts(server: CpnsServer | None) -> ServerFacts:
    """Return what `server`, a CPNS Server in this process, tells of itself; nothing without one."""
    if server is None:
        return ServerFacts()
    return ServerFacts(server.held_groups(), tuple(AlarmView(**asdict(each)) for each in server.alarms()))


def _no_val_client() -> NoReturn:
    raise NotAllowed("this gateway is no VAL client: its configuration has no section [seal], see docs/gms.md")


def _credentials(app: GatewayApp) -> list[Credential]:
    return [each for each in app.credentials.registered() if each.role == credentials.ROLE_PNE]


def _retire(app: GatewayApp, pne_id: str) -> list[str]:
    if not app.gateway.administration.has_pne(pne_id):
        require(pne_id, app.boards(), "board")
    return app.registrar.retire(pne_id)


def _release(app: GatewayApp, pne_id: str) -> None:
    require(pne_id, app.boards(), "board")
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


async def _offer(
    app: GatewayApp,
    server: CpnsServer | None,
    file: str,
    boards: list[str],
    groups: list[str],
    broadcast: bool,
    sealed: str,
) -> OfferStatus:
    names = [sealed, *boards, *groups] if isinstance(boards, list | tuple) and isinstance(groups, list | tuple) else [0]
    if not isinstance(broadcast, bool) or not all(isinstance(each, str) for each in names):
        raise MalformedMessage("boards and groups are lists of names, sealed is a name, and broadcast is true or false")
    for pne_id in boards:
        require(pne_id, app.boards(), "board")
    known = [each.group.sg_id for each in app.gateway.administration.groups()]
    known += [] if server is None else [view.sg_id for view in server.list_groups()]
    for sg_id in (*groups, *([sealed] if sealed else [])):
        require(sg_id, known, "Service Group")
    return await app.updates.offer(file, boards, groups, broadcast=broadcast, sealed=sealed)


def _boards_listed(app: GatewayApp, snapshot: Callable[[], Snapshot]) -> list[dict[str, Any]]:
    ccs_of = {each.entity_id: each.ccs.hex() for each in _credentials(app)}
    return [_board(each) | {"credential": ccs_of[each.pne_id]} for each in snapshot().boards]


def _board(board: BoardView) -> dict[str, Any]:
    told = {name: value for name, value in asdict(board).items() if name not in ("memberships", "held", "update")}
    return told | {
        "is_held": board.held,
        "sg_ids": [each.sg_id for each in board.memberships],
        "evidence": [
            {"sg_id": each.sg_id, "version_text": each.version_text, "link": each.link, "try_count": each.tries}
            | {"confirmed_at": each.confirmed_at}
            for each in board.memberships
            if each.version
        ],
    }


def _group(group: ServiceGroupView) -> dict[str, Any]:
    return {
        "sg_id": group.sg_id,
        "version": group.version,
        "version_text": group.version_text,
        "member_count": len(group.members),
        "states": [{"state": state, "member_count": count} for state, count in group.states],
        "trust": group.trust,
        "carried": [asdict(each) for each in group.carried],
        "exposed": group.exposed,
        "waiting": group.waiting,
        "key_made_at": group.key_made_at,
        "confirmed_count": group.confirmed,
    }


def _health(app: GatewayApp) -> dict[str, Any]:
    health = app.health.view()
    reasons = [*health.not_live, *health.not_ready]
    return {"live": health.live, "ready": health.ready, "reasons": reasons}


def _status(seen: Snapshot, sg_ids: Iterable[str]) -> dict[str, Any]:
    """Return the status. `sg_ids`: all groups of a CPNS Server in this process, with and without boards."""
    return {
        "release": seen.version,
        "started_at": seen.started_at,
        "backed_up_at": seen.backed_up_at,
        "gateway_id": seen.gateway_id,
        "pn_id": seen.pn_id,
        "pn_alias": seen.pn_alias,
        "uplink": seen.uplink.kind,
        "brokers": [asdict(each) for each in seen.brokers],
        "addresses": list(seen.addresses),
        "networks": [asdict(each) for each in seen.networks],
        "server_age_s": seen.uplink.age_s,
        "server_problem": seen.uplink.problem,
        "stopped": seen.stopped or None,
        "is_withholding": seen.withholds_keys,
        "held": list(seen.held),
        "groups": [_group(each) for each in seen.groups],
        "empty_sg_ids": [each for each in sg_ids if seen.group(each) is None],
        "devices": [_board(each) for each in seen.boards],
        "counters": dict(seen.counters),
        "alarms": [asdict(each) for each in seen.alarms],
    }
