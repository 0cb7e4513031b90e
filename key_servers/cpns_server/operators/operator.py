"""The commands of operators, each carried out on the Server after the names in it have been looked up.

An unknown board, group or gateway, and a command that has been carried out already, is refused with a sentence that may
name others. The Server's own methods, which serve messages of PN GWs too, name no entity but the one they were asked
about.
"""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from cpns import name_rule, uplink_form
from cpns.errors import MalformedMessage, NotAllowed, NotMember, Unknown
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.operators.access import OperatorToken, Scope
from key_servers.cpns_server.operators.audit_log import AuditEntry
from key_servers.cpns_server.operators.bodies import PAGE_MAX
from key_servers.cpns_server.values import (
    GroupDeliveries,
    GroupView,
    MemberState,
    PnePlace,
    ServerAlarm,
    ServerStatus,
    StoredGateway,
    StoredMember,
)
from key_servers.https import tokens
from key_servers.known_names import nearest, new_name, require
from message_plane import credentials
from message_plane.credentials import ROLE_GATEWAY, ROLE_PNE, Credential

Names = Callable[[], Iterable[str]]

DAY_S = 86400


async def _no_backup(path: str, lock: str, identity: bool = False) -> str:
    raise NotAllowed("a backup of this CPNS Server is a part of its gateway's: keycast gateway backup")


class Operator:
    """Carries the commands out on `server`, after it has looked up the names in them.

    Methods raise Unknown, NotMember or NotAllowed with a sentence for the person who typed the command.
    """

    def __init__(
        self, server: CpnsServer, boards: Names = tuple, back_up: Callable[..., Awaitable[str]] = _no_backup
    ) -> None:
        """Keep the parts. `boards` returns the boards that a gateway beside the Server lets in.

        `back_up(path, lock, identity)` writes a backup of the Server and returns its path.
        """
        self._server = server
        self._boards = boards
        self.back_up = back_up

    def list_groups(self) -> tuple[GroupView, ...]:
        """Return all Service Groups with members, versions and deliveries; never a key."""
        return self._server.list_groups()

    def show(self, sg_id: str) -> GroupView:
        """Return one Service Group with members, versions and deliveries; never a key."""
        try:
            return self._server.show_group(sg_id)  # also a deleted group, until all gateways know
        except Unknown:
            self._require_group(sg_id)
            raise

    def members(self, sg_id: str) -> tuple[StoredMember, ...]:
        """Return the boards that have or had a relation to a Service Group."""
        return self.show(sg_id).members

    def deliveries(self, sg_id: str) -> GroupDeliveries:
        """Return how far the deliveries of a Service Group are."""
        view = self.show(sg_id)
        return GroupDeliveries(view.deliveries, view.pne_deliveries)

    def create(self, sg_id: str, open_to: Iterable[str] = (), **how: Any) -> GroupView:
        """Create a Service Group and its first key."""
        new_name(sg_id, "Service Group")
        open_to = list(open_to)
        self._require_pns(open_to)
        return self._server.create_group(sg_id, open_to, **how)

    def set_policy(self, sg_id: str, **policy: Any) -> GroupView:
        """Change the policies of a Service Group from now on."""
        self._require_group(sg_id)
        return self._server.set_policy(sg_id, **policy)

    def open_to(self, sg_id: str, pn_id: str) -> None:
        """Let the boards of one more PN join a Service Group."""
        self._require_group(sg_id)
        self._require_pns([pn_id])
        self._server.open_group(sg_id, pn_id)

    def permit(self, sg_id: str, pne_id: str) -> None:
        """Permit a board to join, even one that was expelled; it is a member once it joins."""
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
        """Make a new Group Key and return its version."""
        self._require_group(sg_id)
        return self._server.update_key(sg_id)

    def delete(self, sg_id: str) -> None:
        """Delete a Service Group and its keys everywhere."""
        self._require_group(sg_id)
        self._server.delete_group(sg_id)

    def alarms(self) -> tuple[ServerAlarm, ...]:
        """Return the alarms that a person should look at, oldest first."""
        return self._server.alarms()

    def dismiss_alarm(self, kind: str, gateway_id: str = "", sg_id: str = "") -> None:
        """Dismiss alarms; they come back if their cause does."""
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
        """Let a board speak through the PN GW of a PN, and name its credential or key for end-to-end groups."""
        self._require_pns([pn_id])
        ccs = typed_credential(credential, ROLE_PNE).ccs if credential else b""
        euk = _key_octets(entity_user_key) if entity_user_key else b""
        self._server.admit_pne(new_name(pne_id, "board"), pn_id, ccs, euk, replace)

    def pnes(self) -> tuple[PnePlace, ...]:
        """Return the boards that belong to a PN."""
        return tuple(PnePlace(*each) for each in self._server.pnes().items())

    def retire_board(self, pne_id: str) -> None:
        """End the memberships of a board, its session with the Server and its key for end-to-end groups."""
        require(pne_id, self._server.pnes(), "board")
        self._server.retire_pne(pne_id)

    def move_board(self, pne_id: str, pn_id: str) -> None:
        """Move a board to another PN; it leaves all its Service Groups."""
        bound = self._server.pnes()
        require(pne_id, bound, "board")
        self._require_pns([pn_id])
        if bound[pne_id] == pn_id:
            raise NotAllowed(f"{pne_id} belongs to {pn_id} already")
        self._server.move_pne(pne_id, pn_id)

    async def restore(self, epochs: int = 1) -> tuple[str, ...]:
        """Declare the Server's store an older copy, and return the Service Groups that are held now."""
        return await self._server.restore(epochs)

    def confirm_members(self, sg_id: str, expel: Iterable[str] = ()) -> int:
        """End the hold of a restored Service Group and return the version of its new key."""
        states, expel = self._states(sg_id), list(expel)
        members = [name for name, state in states.items() if state is MemberState.MEMBER]
        for pne_id in expel:
            if pne_id not in members:
                raise NotMember(f"{pne_id!r} is no member of {sg_id}. {nearest(pne_id, members)}".strip())
        return self._server.confirm_members(sg_id, expel)

    def status(self) -> ServerStatus:
        """Return what the Server is reached by, how much it serves, and what is wrong."""
        return self._server.status()

    def gateways(self) -> tuple[StoredGateway, ...]:
        """Return all PN GWs ever registered."""
        return self._server.gateways()

    async def block_gateway(self, gateway_id: str) -> None:
        """Accept nothing more from a PN GW, and send it nothing more."""
        blocked = {gateway.gateway_id: gateway.blocked for gateway in self._server.gateways()}
        require(gateway_id, blocked, "PN GW")
        if blocked[gateway_id]:
            raise NotAllowed(f"{gateway_id} is blocked already")
        await self._server.block_gateway(gateway_id)

    async def replace_gateway(self, gateway_id: str, new_gateway_id: str, credential: str, **how: Any) -> None:
        """Let another PN GW serve a PN, and renew all keys that the old one held."""
        require(gateway_id, [gateway.gateway_id for gateway in self._server.gateways()], "PN GW")
        new_name(new_gateway_id, "PN GW")
        ccs = typed_credential(credential, ROLE_GATEWAY).ccs
        await self._server.replace_gateway(gateway_id, new_gateway_id, ccs, **how)

    def add_gateway(self, gateway_id: str, pn_id: str, credential: str, form: str | None = None, **how: Any) -> None:
        """Let a PN GW serve a PN. Without a `form` it keeps the one that it has, and a new one gets XML."""
        new_name(gateway_id, "PN GW")
        new_name(pn_id, "PN")
        ccs = typed_credential(credential, ROLE_GATEWAY).ccs
        if form is None and gateway_id not in {gateway.gateway_id for gateway in self._server.gateways()}:
            form = uplink_form.XML
        self._server.register_gateway(gateway_id, pn_id, ccs, form, **how)

    def credential(self) -> str:
        """Return the Server's own credential, in hexadecimal, with which PN GWs and boards register it."""
        return self._server.credential().hex()

    def audit(self, limit: int = 100, before: int = 0) -> tuple[AuditEntry, ...]:
        """Return a part of the audit log, newest entries first."""
        return self._server.audit.page(min(max(limit, 1), PAGE_MAX), before)

    def tokens(self) -> tuple[OperatorToken, ...]:
        """Return all tokens, also those whose time is over."""
        return self._server.tokens.all()

    def add_token(self, operator: str, scope: str, days: int) -> str:
        """Make a token and return its text, which is stored nowhere."""
        new_name(operator, "operator")
        if scope not in list(Scope):
            raise NotAllowed(f"scope is one of {', '.join(Scope)}, not {scope!r}")
        now = self._server.now().unix
        if not now:
            raise NotAllowed("the clock of this machine is not set, so no end of a token can be told")
        text, token = tokens.draw(name_rule.checked(operator, "operator"), now + days * DAY_S, secrets.token_bytes)
        self._server.tokens.add(token, Scope(scope))
        return text

    def revoke_token(self, operator: str) -> None:
        """End all tokens of an operator."""
        require(operator, {token.operator for token in self._server.tokens.all()}, "operator")
        self._server.tokens.revoke(operator)

    def _states(self, sg_id: str) -> dict[str, MemberState]:
        self._require_group(sg_id)
        return {member.pne_id: member.state for member in self._server.members(sg_id)}

    def _require_group(self, sg_id: str) -> None:
        require(sg_id, self._server.sg_ids(), "Service Group", "For the whole list: keycast group list")

    def _require_pns(self, pn_ids: Iterable[str]) -> None:
        served = {gateway.pn_id for gateway in self._server.gateways() if not gateway.blocked}
        for pn_id in pn_ids:
            require(pn_id, served, "PN", "A PN is there once a PN GW serves it: keycast server add-gateway")


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
