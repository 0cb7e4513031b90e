"""The commands that an operator can give to a CPNS Server, embedded or on its own, over the control socket.

Each name is looked up before the command is carried out. An unknown board, group or gateway, and a command that has
been carried out already, is refused with a sentence that may name others. The Server's own methods, which serve
messages of PN GWs too, name no entity but the one they were asked about.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from cpns import uplink_form
from cpns.errors import MalformedMessage, NotAllowed, NotMember, Unknown
from gateway_agent.control import Command
from gateway_agent.errors import Refused, code_of
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.values import GroupView, MemberState
from key_servers.errors import ServerError
from keycast.services.known_names import nearest, new_name, require
from message_plane import credentials
from message_plane.credentials import ROLE_GATEWAY, ROLE_PNE, Credential

Names = Callable[[], Iterable[str]]


# The commands of every CPNS Server, embedded or on its own: name -> method of `_Operator`.
_GROUP_COMMANDS = {
    "group.list": "list_groups",
    "group.show": "show",
    "group.create": "create",
    "group.open": "open_to",
    "group.permit": "permit",
    "group.expel": "expel",
    "group.update": "update",
    "group.delete": "delete",
    "alarms": "alarms",
    "server.dismiss-alarm": "dismiss_alarm",
    "server.admit-board": "admit_board",
    "server.move-board": "move_board",
    "server.restore": "restore",
    "server.confirm-members": "confirm_members",
}


def group_commands(server: CpnsServer, boards: Names = tuple) -> dict[str, Command]:
    """Return the commands about groups and boards. `boards` returns those that a gateway beside the Server lets in."""
    operator = _Operator(server, boards)
    return _told({name: getattr(operator, method) for name, method in _GROUP_COMMANDS.items()})


def commands_elsewhere() -> dict[str, Command]:
    """Return the same commands for a gateway without embedded Server: each raises NotAllowed and says where to ask."""
    return dict.fromkeys(_GROUP_COMMANDS, _elsewhere)


def _elsewhere(**_: Any) -> NoReturn:
    raise NotAllowed(
        "the CPNS Server of this gateway is elsewhere: give this command there, with --state and its folder"
    )


def server_commands(server: CpnsServer) -> dict[str, Command]:
    """Return the commands of a CPNS Server on its own."""
    operator = _Operator(server, tuple)
    return group_commands(server) | _told(
        {
            "server.credential": lambda: server.credential().hex(),
            "server.gateways": server.gateways,
            "server.block-gateway": operator.block_gateway,
            "server.replace-gateway": operator.replace_gateway,
            "server.add-gateway": operator.add_gateway,
            "server.retire-board": operator.retire_board,
        }
    )


def typed_credential(text: str, role: str) -> Credential:
    """Return the credential of an entity in `role` that was typed in hexadecimal. Raise NotAllowed for other text."""
    try:
        return credentials.parse(bytes.fromhex(text), role)
    except (ValueError, MalformedMessage):
        raise NotAllowed("this is no credential, or not all of it: copy the whole line that was printed") from None


def _key_octets(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise NotAllowed("an Entity User Key is 32 hexadecimal digits") from None


class _Operator:
    """Carries the commands out on `server`, after it has looked up the names in them.

    Methods raise Unknown, NotMember or NotAllowed with a sentence for the person who typed the command.
    """

    def __init__(self, server: CpnsServer, boards: Names) -> None:
        self._server = server
        self._boards = boards
        self.list_groups = server.list_groups
        self.alarms = server.alarms
        self.restore = server.restore

    def show(self, sg_id: str) -> GroupView:
        try:
            return self._server.show_group(sg_id)  # also a deleted group, until all gateways know
        except Unknown:
            self._require_group(sg_id)
            raise

    def create(self, sg_id: str, open_to: Iterable[str] = (), **how: Any) -> GroupView:
        new_name(sg_id, "Service Group")
        open_to = list(open_to)
        for pn_id in open_to:
            self._require_pn(pn_id)
        return self._server.create_group(sg_id, open_to, **how)

    def open_to(self, sg_id: str, pn_id: str) -> None:
        self._require_group(sg_id)
        self._require_pn(pn_id)
        self._server.open_group(sg_id, pn_id)

    def permit(self, sg_id: str, pne_id: str) -> None:
        states = self._states(sg_id)
        if states.get(pne_id) is MemberState.MEMBER:
            raise NotAllowed(f"{pne_id} is a member of {sg_id} already")
        step = "Let a new board in first (keycast board), or admit it: keycast server admit-board"
        require(pne_id, {*self._boards(), *self._server.pnes(), *states}, "board", step)
        self._server.permit(sg_id, pne_id)

    def expel(self, sg_id: str, pne_id: str) -> str:
        """Expel the board, and return the state that it had in the group before."""
        states = self._states(sg_id)
        state = states.get(pne_id)
        if state is None:
            members = [name for name, of in states.items() if of is MemberState.MEMBER]
            raise NotMember(f"{pne_id!r} is no member of {sg_id}. {nearest(pne_id, members)}".strip())
        if state is MemberState.EXPELLED:
            raise NotMember(f"{pne_id} is expelled from {sg_id} already")
        self._server.expel(sg_id, pne_id)
        return str(state)

    def update(self, sg_id: str) -> int:
        self._require_group(sg_id)
        return self._server.update_key(sg_id)

    def delete(self, sg_id: str) -> None:
        self._require_group(sg_id)
        self._server.delete_group(sg_id)

    def dismiss_alarm(self, kind: str, gateway_id: str = "", sg_id: str = "") -> None:
        standing = self._server.alarms()
        require(kind, {alarm.kind for alarm in standing}, "alarm")
        of_kind = [alarm for alarm in standing if alarm.kind == kind]
        if gateway_id:
            require(gateway_id, {alarm.gateway_id for alarm in of_kind} - {""}, f"alarm {kind} of PN GW")
        if sg_id:
            require(sg_id, {alarm.sg_id for alarm in of_kind} - {""}, f"alarm {kind} of Service Group")
        self._server.dismiss_alarm(kind, gateway_id, sg_id)

    def admit_board(
        self, pne_id: str, pn_id: str, credential: str = "", entity_user_key: str = "", replace: bool = False
    ) -> None:
        self._require_pn(pn_id)
        ccs = typed_credential(credential, ROLE_PNE).ccs if credential else b""
        euk = _key_octets(entity_user_key) if entity_user_key else b""
        self._server.admit_pne(new_name(pne_id, "board"), pn_id, ccs, euk, replace)

    def retire_board(self, pne_id: str) -> None:
        require(pne_id, self._server.pnes(), "board")
        self._server.retire_pne(pne_id)

    def move_board(self, pne_id: str, pn_id: str) -> None:
        bound = self._server.pnes()
        require(pne_id, bound, "board")
        self._require_pn(pn_id)
        if bound[pne_id] == pn_id:
            raise NotAllowed(f"{pne_id} belongs to {pn_id} already")
        self._server.move_pne(pne_id, pn_id)

    def confirm_members(self, sg_id: str, expel: Iterable[str] = ()) -> int:
        states, expel = self._states(sg_id), list(expel)
        members = [name for name, state in states.items() if state is MemberState.MEMBER]
        for pne_id in expel:
            if pne_id not in members:
                raise NotMember(f"{pne_id!r} is no member of {sg_id}. {nearest(pne_id, members)}".strip())
        return self._server.confirm_members(sg_id, expel)

    async def block_gateway(self, gateway_id: str) -> None:
        blocked = {gateway.gateway_id: gateway.blocked for gateway in self._server.gateways()}
        require(gateway_id, blocked, "PN GW")
        if blocked[gateway_id]:
            raise NotAllowed(f"{gateway_id} is blocked already")
        await self._server.block_gateway(gateway_id)

    async def replace_gateway(self, gateway_id: str, new_gateway_id: str, credential: str, **how: Any) -> None:
        require(gateway_id, [gateway.gateway_id for gateway in self._server.gateways()], "PN GW")
        new_name(new_gateway_id, "PN GW")
        ccs = typed_credential(credential, ROLE_GATEWAY).ccs
        await self._server.replace_gateway(gateway_id, new_gateway_id, ccs, **how)

    def add_gateway(self, gateway_id: str, pn_id: str, credential: str, form: str | None = None, **how: Any) -> None:
        """Register a PN GW. Without a `form` it keeps the one that it has, and a new one gets XML."""
        new_name(gateway_id, "PN GW")
        new_name(pn_id, "PN")
        ccs = typed_credential(credential, ROLE_GATEWAY).ccs
        if form is None and gateway_id not in {gateway.gateway_id for gateway in self._server.gateways()}:
            form = uplink_form.XML
        self._server.register_gateway(gateway_id, pn_id, ccs, form, **how)

    def _groups(self) -> list[str]:
        return [view.sg_id for view in self._server.list_groups()]

    def _states(self, sg_id: str) -> dict[str, MemberState]:
        self._require_group(sg_id)
        return {member.pne_id: member.state for member in self._server.show_group(sg_id).members}

    def _require_group(self, sg_id: str) -> None:
        require(sg_id, self._groups(), "Service Group", "For the whole list: keycast group list")

    def _require_pn(self, pn_id: str) -> None:
        served = {gateway.pn_id for gateway in self._server.gateways() if not gateway.blocked}
        require(pn_id, served, "PN", "A PN is there once a PN GW serves it: keycast server add-gateway")


def _told(commands: Mapping[str, Command]) -> dict[str, Command]:
    """Return the same commands; an error of the Server's store or disk becomes a Refused with the same sentence."""
    return {name: _refusing(command) for name, command in commands.items()}


def _refusing(command: Command) -> Command:
    if inspect.iscoroutinefunction(command):

        @functools.wraps(command)
        async def later(**arguments: Any) -> Any:
            try:
                return await command(**arguments)
            except ServerError as error:
                raise Refused(str(error), code_of(error)) from None

        return later

    @functools.wraps(command)
    def now(**arguments: Any) -> Any:
        try:
            return command(**arguments)
        except ServerError as error:
            raise Refused(str(error), code_of(error)) from None

    return now
