"""The table of the commands of operators. The control socket and the REST interface carry out the same ones.

A command over the control socket is its name and the arguments of its method (`Operator`). Over REST it is a method and
a path; what stands in braces there, the body and the query are the arguments. Commands without a path are given on the
Server's own machine only.
"""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from key_servers.cpns_server.operators import bodies
from key_servers.cpns_server.operators.access import OperatorToken, Scope
from key_servers.cpns_server.operators.audit_log import AuditEntry
from key_servers.cpns_server.values import (
    GroupDeliveries,
    GroupView,
    PnePlace,
    ServerAlarm,
    ServerStatus,
    StoredGateway,
    StoredMember,
)

READ, OPERATE, ADMIN = Scope
_GROUP, _MEMBER = "groups/{sg_id}", "groups/{sg_id}/members/{pne_id}"


@dataclass(frozen=True, slots=True)
class OperatorCommand:
    """One command: `name` over the control socket, `verb` and `path` over REST, `method` of `Operator`.

    `answer` is the type of what it returns, None for nothing. An answer that is no object of its own stands under
    `answer_key` in one. `secrets` are arguments that the audit log leaves out. `embedded`: a Server that is embedded in
    a PN GW has it too.
    """

    name: str
    method: str
    verb: str
    path: str
    scope: Scope
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: Any = None
    answer_key: str = ""
    creates: bool = False
    secrets: tuple[str, ...] = ()
    embedded: bool = True

    @property
    def changes(self) -> bool:
        """True if it changes something, and is therefore written into the audit log."""
        return self.verb != "GET"

    @property
    def in_path(self) -> tuple[str, ...]:
        """The arguments that stand in the path."""
        return tuple(re.findall(r"{(\w+)}", self.path))


_Command = OperatorCommand
COMMANDS: tuple[OperatorCommand, ...] = (
    _Command("group.list", "list_groups", "GET", "groups", READ, answer=tuple[GroupView, ...], answer_key="groups"),
    _Command("group.create", "create", "POST", "groups", OPERATE, bodies.NewGroup, answer=GroupView, creates=True),
    _Command("group.show", "show", "GET", _GROUP, READ, answer=GroupView),
    _Command("group.policy", "set_policy", "PATCH", _GROUP, OPERATE, bodies.NewPolicy, answer=GroupView),
    _Command("group.delete", "delete", "DELETE", _GROUP, OPERATE),
    _Command("group.update", "update", "POST", f"{_GROUP}/update", OPERATE, answer=int, answer_key="version"),
    _Command("group.open", "open_to", "PUT", f"{_GROUP}/open-to/{{pn_id}}", OPERATE),
    _Command(
        "group.members",
        "members",
        "GET",
        f"{_GROUP}/members",
        READ,
        answer=tuple[StoredMember, ...],
        answer_key="members",
    ),
    _Command("group.permit", "permit", "PUT", _MEMBER, OPERATE),
    _Command("group.expel", "expel", "DELETE", _MEMBER, OPERATE, answer=str, answer_key="was"),
    _Command("group.deliveries", "deliveries", "GET", f"{_GROUP}/deliveries", READ, answer=GroupDeliveries),
    _Command(
        "server.confirm-members",
        "confirm_members",
        "POST",
        f"{_GROUP}/confirm-members",
        ADMIN,
        bodies.ConfirmedMembers,
        answer=int,
        answer_key="version",
    ),
    _Command(
        "server.gateways",
        "gateways",
        "GET",
        "gateways",
        READ,
        answer=tuple[StoredGateway, ...],
        answer_key="gateways",
        embedded=False,
    ),
    _Command(
        "server.add-gateway",
        "add_gateway",
        "POST",
        "gateways",
        ADMIN,
        bodies.NewGateway,
        creates=True,
        embedded=False,
    ),
    _Command("server.block-gateway", "block_gateway", "POST", "gateways/{gateway_id}/block", ADMIN, embedded=False),
    _Command(
        "server.replace-gateway",
        "replace_gateway",
        "POST",
        "gateways/{gateway_id}/replace",
        ADMIN,
        bodies.Successor,
        embedded=False,
    ),
    _Command("server.pnes", "pnes", "GET", "pnes", READ, answer=tuple[PnePlace, ...], answer_key="pnes"),
    _Command(
        "server.admit-board",
        "admit_board",
        "POST",
        "pnes",
        ADMIN,
        bodies.NewPne,
        creates=True,
        secrets=("entity_user_key",),
    ),
    _Command("server.move-board", "move_board", "POST", "pnes/{pne_id}/move", ADMIN, bodies.NewPlace),
    _Command("server.retire-board", "retire_board", "DELETE", "pnes/{pne_id}", ADMIN, embedded=False),
    _Command("alarms", "alarms", "GET", "alarms", READ, answer=tuple[ServerAlarm, ...], answer_key="alarms"),
    _Command("server.dismiss-alarm", "dismiss_alarm", "POST", "alarms/dismiss", OPERATE, bodies.KindOfAlarm),
    _Command(
        "server.restore",
        "restore",
        "POST",
        "restore",
        ADMIN,
        bodies.OlderCopy,
        answer=tuple[str, ...],
        answer_key="held",
    ),
    _Command("server.status", "status", "GET", "status", READ, answer=ServerStatus, embedded=False),
    _Command(
        "server.credential",
        "credential",
        "GET",
        "credential",
        READ,
        answer=str,
        answer_key="credential",
        embedded=False,
    ),
    _Command(
        "server.audit",
        "audit",
        "GET",
        "audit",
        ADMIN,
        query=bodies.Page,
        answer=tuple[AuditEntry, ...],
        answer_key="entries",
    ),
    # on the Server's machine only
    _Command("server.backup", "back_up", "POST", "", ADMIN, answer=str, secrets=("lock",), embedded=False),
    _Command("server.tokens", "tokens", "GET", "", ADMIN, answer=tuple[OperatorToken, ...], embedded=False),
    _Command("server.add-token", "add_token", "POST", "", ADMIN, answer=str, embedded=False),
    _Command("server.revoke-token", "revoke_token", "POST", "", ADMIN, embedded=False),
)
"""All commands: those with a path are resources of REST, in the order of its document."""

BY_NAME = {command.name: command for command in COMMANDS}
