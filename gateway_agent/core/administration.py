"""What persons and the registrar do with a PN GW, and what they see of it."""

from dataclasses import dataclass

from gateway_agent.core import events, roll_over
from gateway_agent.core.alarms import Alarm, Alarms
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.events import Tell
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.groups.membership import Cause, Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.pairing_window import PairingWindow
from gateway_agent.core.ports import Clock, Signer
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.store import GatewayStore


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A Service Group as a person sees it. `states`: PNEs of the newest delivery by state."""

    group: ServiceGroup
    members: tuple[str, ...]
    states: dict[str, int]


class Administration:
    """PNEs that come and go, keys that are changed by hand, and the state in which everything is."""

    def __init__(
        self,
        *,
        pn_id: str,
        gateway_id: str,
        store: GatewayStore,
        tree: Tree,
        membership: Membership,
        gkdks: GkdkHandout,
        objects: BroadcastObjects,
        deliveries: Deliveries,
        versions: Versions,
        housekeeping: Housekeeping,
        alarms: Alarms,
        signer: Signer,
        clock: Clock,
        tell: Tell,
    ) -> None:
        self._pn_id = pn_id
        self._gateway_id = gateway_id
        self._store = store
        self._tree = tree
        self._membership = membership
        self._gkdks = gkdks
        self._objects = objects
        self._deliveries = deliveries
        self._versions = versions
        self._housekeeping = housekeeping
        self._alarms = alarms
        self._signer = signer
        self._clock = clock
        self._tell = tell

    def register_pne(self, pne_id: str, preferred_sg: str | None = None) -> None:
        """A PNE was provisioned or paired and knows the present signing key.

        One that was here before is retired first: a new credential gets a new slot (SEC-19). `preferred_sg`: the group
        whose neighbourhood in the tree it wants.
        """
        pne = self._store.pn.pne(pne_id)
        if pne is not None and not pne.retired:
            self.retire_pne(pne_id, Cause.NEW_CREDENTIAL)
        self._membership.register(pne_id, preferred_sg)

    def has_pne(self, pne_id: str) -> bool:
        """Return True if a PNE of this name is one of this PN now."""
        pne = self._store.pn.pne(pne_id)
        return pne is not None and not pne.retired

    def has_signing_key(self, pne_id: str) -> None:
        """A PNE that is here already was paired once more, and was told the present signing key with that."""
        pn = self._store.pn.get()
        if pn is not None:
            with self._store.transaction():
                self._store.pn.set_trusted_epoch(pne_id, pn.signing_epoch)

    def retire_pne(self, pne_id: str, cause: Cause) -> list[str]:
        """Lost, re-provisioned or gone: a leave from every group (SEC-06).

        Returns the SG IDs exposed until they have a newer key. Raises Unknown.
        """
        exposed = self._membership.retire(pne_id, cause)
        self._gkdks.forget(pne_id)
        self._versions.forget(pne_id)
        self._housekeeping.soon()
        return exposed

    def end_rights(self, pne_id: str) -> None:
        """A name that is none of a PNE of this PN is to have no rights at the CPNS Server either (SEC-31)."""
        self._membership.end_rights(pne_id)
        self._housekeeping.soon()

    def is_held(self, pne_id: str) -> bool:
        """Return True if joins and leaves of a PNE wait for `release_pne`."""
        pne = self._store.pn.pne(pne_id)
        return pne is not None and pne.held

    def release_pne(self, pne_id: str) -> None:
        """Let a held PNE join and leave again (SEC-19). Raises Unknown."""
        self._membership.release(pne_id)

    def new_generation(self) -> int:
        """Begin a generation of the tree by hand; return its number. Raises TooMany."""
        generation = self._tree.begin(self._clock.unix()).generation
        self._housekeeping.soon()
        return generation

    def open_pairing(self, pne_id: str, secret: bytes) -> PairingWindow:
        """Return a pairing window for the board that is called `pne_id` and shows `secret`. Raises ValueError."""
        pn = self._store.pn.get()
        return PairingWindow(
            pne_id,
            secret,
            self._clock.monotonic(),
            gateway_id=self._gateway_id,
            pn_id=self._pn_id,
            signing_key=self._signer.public_key,
            signing_epoch=pn.signing_epoch if pn else 1,
        )

    def roll_over(self, new_signer: Signer) -> int:
        """Change the broadcast signing key (SEC-18); return its epoch. The old private key is not needed any more."""
        epoch = roll_over.announce(self._store, self._signer, new_signer.public_key)
        self._signer = new_signer
        self._objects.change_signer(new_signer)
        self._housekeeping.soon()
        self._tell(events.RolledOver(epoch))
        return epoch

    @property
    def stop_reason(self) -> str | None:
        """Why broadcasts and pulls are stopped (SEC-02), None if they are not."""
        return self._versions.stop_reason

    def set_alarm(self, kind: str, text: str) -> None:
        """Raise an alarm that is found outside of the core; an empty `text` ends it."""
        if text:
            self._alarms.set(kind, text)
        else:
            self._alarms.clear(kind)

    def alarms(self) -> tuple[Alarm, ...]:
        """Return the alarms that a person should look at, oldest first."""
        return self._alarms.standing()

    def groups(self) -> list[GroupStatus]:
        """Return all Service Groups, by SG ID."""
        return [
            GroupStatus(
                group,
                tuple(member.pne_id for member in self._store.inventory.members(group.sg_id)),
                dict(self._deliveries.states(group.sg_id)),
            )
            for group in self._store.inventory.groups()
        ]

    def delivery(self, sg_id: str) -> tuple[int, dict[str, int]]:
        """Return (version, PNEs by state) of this group's newest delivery; version 0 if there was none."""
        return self._deliveries.version(sg_id), dict(self._deliveries.states(sg_id))
