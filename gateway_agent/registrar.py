"""The registration of PNEs: the one place where a board's name is bound to its key, or released (SEC-31, SEC-33).

Provisioning and pairing both use it. An identity that is replaced ends before the new one begins. After a power cut
between any two steps there is the old identity, none, or the new one, but never a mixture; the same request can then be
repeated and succeeds.
"""

import contextlib
import logging
from collections.abc import Collection

from cpns.errors import CpnsError, Unknown
from gateway_agent.core import events
from gateway_agent.core.administration import Administration
from gateway_agent.core.groups.membership import Cause
from gateway_agent.errors import GatewayError
from message_plane.binding import require_free
from message_plane.credentials import ROLE_PNE, Credential
from message_plane.errors import PlaneError, RegistrationRefused, StoreError
from message_plane.session_file import SessionFile

_log = logging.getLogger(__name__)


class Registrar:
    """Registers and retires the PNEs of a gateway.

    `own`: the credential of the gateway itself, whose key no board may have; `reserved`: the names of the gateway and
    of its CPNS Server, which no board may have either.
    """

    def __init__(
        self,
        credentials: SessionFile,
        administration: Administration,
        own: Credential,
        reserved: Collection[str],
        tell: events.Tell,
    ) -> None:
        self._credentials = credentials
        self._administration = administration
        self._own = own
        self._reserved = reserved
        self._tell = tell
        self._pairing = credentials.pairings()

    def require_free(self, pne_id: str, *, replace: bool) -> None:
        """Raise NameTaken unless this name may be bound to a new key.

        The name of a PNE that was paired and may not know it yet is free, so that the pairing can be repeated. Raises
        RegistrationRefused for a name that is no entity ID.
        """
        holder = self._credentials.credential(pne_id)
        if pne_id in self._pairing and holder is not None and holder.role == ROLE_PNE:
            holder = None
        require_free(pne_id, ROLE_PNE, holder, replace=replace, reserved=self._reserved)

    def register(
        self, credential: Credential, preferred_sg: str | None = None, *, replace: bool = False, pairing: bool = False
    ) -> None:
        """Register a PNE that has this credential and knows the present signing key.

        An earlier PNE of this name is retired with all its rights. A PNE that has the credential already stays as it
        is. `pairing`: it is registered by pairing, and may not know yet that it was. Raises NameTaken,
        RegistrationRefused, StoreError.
        """
        pne_id = credential.entity_id
        if self._require_bindable(credential, replace=replace):
            if self._administration.has_pne(pne_id):
                self._administration.retire_pne(pne_id, Cause.NEW_CREDENTIAL)
            self._credentials.unregister(pne_id)
            self._administration.register_pne(pne_id, preferred_sg)
            self._credentials.bind(credential, replace=False, reserved=self._reserved, pairing=pairing)
            if pairing:
                self._pairing.add(pne_id)
            else:
                self._tell(events.Registered(pne_id))
        elif self._administration.has_pne(pne_id):
            self._administration.has_signing_key(pne_id)
        else:
            self._administration.register_pne(pne_id, preferred_sg)

    def register_when_heard(
        self, credential: Credential, preferred_sg: str | None = None, *, replace: bool = False
    ) -> None:
        """Register a PNE as `register` does, but in the place of an earlier one of its name only once it is heard.

        Until then the earlier one keeps all its rights, so a provisioning that is cut short changes nothing. A PNE that
        waits for the name already goes on to wait.
        """
        holder = self._credentials.credential(credential.entity_id)
        if holder is None or holder == credential:
            self.register(credential, preferred_sg, replace=replace)
        elif not self.standing(credential):
            self._require_bindable(credential, replace=replace)
            self._credentials.name_successor(credential, preferred_sg)

    def succeed(self, credential: Credential) -> bool:
        """Register a successor that was heard in the place of the PNE that has its name; return whether it is.

        If this fails the board comes again, and the earlier PNE may be gone by then.
        """
        try:
            found = self._credentials.successor(entity_id=credential.entity_id)
            if found is None or found[0] != credential:
                return False
            self.register(credential, found[1], replace=True)
        except (CpnsError, GatewayError, PlaneError) as problem:
            _log.error(
                "KC1413 %r cannot take the place of the board that had its name: %s",
                credential.entity_id,
                problem,
                extra={"pne_id": credential.entity_id},
            )
            return False
        return True

    def standing(self, credential: Credential) -> str:
        """Return "registered", "successor" or, if this credential is neither, ""."""
        if self._credentials.credential(credential.entity_id) == credential:
            return "registered"
        found = self._credentials.successor(entity_id=credential.entity_id)
        return "successor" if found is not None and found[0] == credential else ""

    def withdraw(self, credential: Credential) -> None:
        """Take back what was done for a PNE that has not got its identity; another PNE of its name stays as it is.

        One that has a session has its identity, whatever another board says that claims to be it.
        """
        match self.standing(credential):
            case "registered" if not self._has_session(credential.entity_id):
                self.retire(credential.entity_id)
            case "successor":
                self._credentials.forget_successor(credential.entity_id)

    def is_pairing(self, pne_id: str) -> bool:
        """Return True if the PNE was registered by pairing and has sent nothing over a session since."""
        return pne_id in self._pairing

    def heard(self, pne_id: str) -> None:
        """Note that a PNE has sent something over its session, so it knows that it was paired."""
        if pne_id in self._pairing:
            self._pairing.discard(pne_id)
            with contextlib.suppress(StoreError):  # the only effect: its pairing may be repeated after the next start
                self._credentials.set_paired(pne_id)

    def retire(self, pne_id: str) -> list[str]:
        """Retire a PNE at the request of a person: its slots, sessions, memberships and credential end.

        Returns the SG IDs of the groups that are exposed until they have a newer key. Raises Unknown.
        """
        self._credentials.forget_successor(pne_id)
        holder = self._credentials.credential(pne_id)
        known = holder is not None and holder.role == ROLE_PNE
        exposed: list[str] = []
        try:
            exposed = self._administration.retire_pne(pne_id, Cause.LOST)
        except Unknown:
            if not known:
                raise
            self._administration.end_rights(pne_id)
        if known:
            self._credentials.unregister(pne_id)
        self._pairing.discard(pne_id)
        return exposed

    def _require_bindable(self, credential: Credential, *, replace: bool) -> bool:
        if credential.x == self._own.x:
            raise RegistrationRefused(f"the key of {credential.entity_id!r} is that of this gateway (SEC-17)")
        return self._credentials.require_bindable(credential, replace=replace, reserved=self._reserved)

    def _has_session(self, pne_id: str) -> bool:
        return any(context.entity_id == pne_id for context in self._credentials.contexts())
