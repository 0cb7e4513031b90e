"""Which PN GW serves which PN, and which PNE belongs to which PN (SEC-16).

What a PN GW asks for a PNE has no proof of that PNE, and any PN GW could name any PNE. So a PNE is bound to one PN: by
an operator who admits it or, if an operator has opened the PN because its PN GW is trusted with names, by the first
join or create that comes from there. The same ID through another PN GW is refused until an operator moves it.
"""

from collections.abc import Iterable
from dataclasses import replace

from cpns import name_rule, uplink_form
from cpns.errors import NotAllowed, TooMany, Unknown
from key_servers.cpns_server import tuning
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import StoredGateway


class Registry:
    """Registered PN GWs and bound PNEs."""

    def __init__(self, store: ServerStore) -> None:
        self._store = store

    def register_gateway(
        self, gateway_id: str, pn_id: str, form: str | None = None, is_open: bool | None = None
    ) -> None:
        """Let a PN GW serve a PN; requests to it go in `form`, "cbor" or "xml". A repeated call changes nothing.

        With `is_open` each PNE that comes through the PN GW belongs to the PN. None keeps the present choice of either;
        a new PN is closed, and its PN GW gets CBOR. Raise NotAllowed when the PN has another PN GW, or the PN GW has
        another PN or was blocked.
        """
        if self._store.gateway(gateway_id) is None:
            name_rule.checked(gateway_id, "PN GW ID")
        if self._store.gateway_of(pn_id) is None:
            name_rule.checked(pn_id, "PN ID")
        if form not in (None, uplink_form.CBOR, uplink_form.XML):
            raise NotAllowed(f"form is cbor or xml, not {form!r}")
        with self._store.transaction():
            known = self._store.gateway(gateway_id)
            if known is not None and (known.blocked or known.pn_id != pn_id):
                state = "is blocked" if known.blocked else f"already serves PN {known.pn_id}"
                raise NotAllowed(f"PN GW {gateway_id} {state}")
            other = self._store.gateway_of(pn_id)
            if other is not None and other.gateway_id != gateway_id:
                raise NotAllowed(f"PN {pn_id} is served by PN GW {other.gateway_id}; replace that one")
            if is_open is None:
                is_open = known is not None and known.is_open
            if form is None:
                form = uplink_form.CBOR if known is None else known.form
            self._store.put_gateway(StoredGateway(gateway_id, pn_id, form, False, is_open))

    def block_gateway(self, gateway_id: str) -> StoredGateway:
        """Accept nothing more from a PN GW, send it nothing more, and return it (SEC-18). Raise Unknown."""
        with self._store.transaction():
            gateway = self._store.gateway(gateway_id)
            if gateway is None:
                raise Unknown(f"there is no PN GW {gateway_id}")
            self._store.put_gateway(replace(gateway, blocked=True))
        return gateway

    def speaking(self, gateway_id: str) -> StoredGateway:
        """Return the PN GW that sent a message. Raises NotAllowed if it is not registered or is blocked."""
        gateway = self._store.gateway(gateway_id)
        if gateway is None:
            raise NotAllowed("this PN GW is not registered")
        if gateway.blocked:
            raise NotAllowed("this PN GW is blocked")
        return gateway

    def bind(self, pne_id: str, gateway: StoredGateway) -> None:
        """Bind a PNE to the PN it speaks from, if that is open, inside the caller's transaction.

        Raise NotAllowed if it belongs to another PN or must be admitted first, TooMany if the PN has no room.
        """
        if not gateway.is_open and self._store.pn_of(pne_id) is None:
            raise NotAllowed(f"PN {gateway.pn_id} is not open to board {pne_id}; an operator can admit it")
        self._bind(pne_id, gateway.pn_id)

    def admit(self, pne_id: str, pn_id: str) -> None:
        """Bind a PNE that was never heard of to a PN, at an operator's wish.

        Raises Unknown (no PN GW serves the PN), NotAllowed (it belongs to another PN, or is the name of a PN GW),
        TooMany.
        """
        with self._store.transaction():
            if self._store.gateway(pne_id) is not None:
                raise NotAllowed(f"{pne_id} is the name of a PN GW: choose another one")
            if self._store.gateway_of(pn_id) is None:
                raise Unknown(f"no PN GW serves PN {pn_id}; register it first")
            self._bind(pne_id, pn_id)

    def _bind(self, pne_id: str, pn_id: str) -> None:
        bound = self._store.pn_of(pne_id)
        if bound == pn_id:
            return
        if bound is not None:
            raise NotAllowed(f"board {pne_id} belongs to another PN; an operator can move it")
        name_rule.checked(pne_id, "PNE ID")
        if self._store.count_pnes(pn_id) >= tuning.PNES_PER_PN_MAX:
            raise TooMany(f"PN {pn_id} has {tuning.PNES_PER_PN_MAX} boards, no more are taken")
        self._store.bind_pne(pne_id, pn_id)

    def must_be_bound(self, pne_ids: Iterable[str], pn_id: str) -> None:
        """Raise NotAllowed unless all these PNEs belong to the PN."""
        for pne_id in pne_ids:
            if self._store.pn_of(pne_id) != pn_id:
                raise NotAllowed(f"board {pne_id} does not belong to PN {pn_id}")
