"""The operations that persons and the registrar do on a PN GW, and the state that they see."""

from collections import Counter
from dataclasses import dataclass

from gateway_agent.core import events, roll_over
from gateway_agent.core.alarms import Alarm, Alarms
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys, CarriedStatus
from gateway_agent.core.events import Tell
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.gkdk.tree import Tree
from gateway_agent.core.groups.membership import Cause, Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.pairing_window import PairingWindow
from gateway_agent.core.ports import Clock, Signer
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.store import GatewayStore


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A Service Group as a person sees it. `states`: how many PNEs of the newest delivery are in each state."""

    group: ServiceGroup
    members: tuple[str, ...]
    states: dict[str, int]


class Administration:
    """Registers and retires PNEs, changes keys on request, and shows the state of groups, deliveries and alarms."""

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
        carried: CarriedKeys,
        versions: Versions,
        silence: ServerSilence,
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
        self._carried = carried
        self._versions = versions
        self._silence = silence
        self._housekeeping = housekeeping
        self._alarms = alarms
        self._signer = signer
        self._clock = clock
        self._tell = tell

    def register_pne(self, pne_id: str, preferred_sg: str | None = None) -> None:
        """Register a PNE that was provisioned or paired and therefore knows the present signing key.

        A PNE of this name that is present is retired first, as a new credential gets a new slot (SEC-19).
        `preferred_sg`: the SG ID near whose members the PNE gets its slot in the tree. Raises MalformedMessage for a
        name that is no PNE ID.
        """
        pne = self._store.pn.pne(pne_id)
        if pne is not None and not pne.retired:
            self.retire_pne(pne_id, Cause.NEW_CREDENTIAL)
        self._membership.register(pne_id, preferred_sg)

    def has_pne(self, pne_id: str) -> bool:
        """Return True if this PN has a PNE of this name now."""
        pne = self._store.pn.pne(pne_id)
        return pne is not None and not pne.retired

    def has_signing_key(self, pne_id: str) -> None:
        """Note that a present PNE knows the present signing key, because it was paired once more."""
        pn = self._store.pn.get()
        if pn is not None:
            with self._store.transaction():
                self._store.pn.set_trusted_epoch(pne_id, pn.signing_epoch)

    def retire_pne(self, pne_id: str, cause: Cause) -> list[str]:
        """Retire a PNE that is lost, provisioned anew or gone: it leaves every group (SEC-06).

        Returns the SG IDs of the groups that are exposed until they have a newer key. Raises Unknown.
        """
        exposed = self._membership.retire(pne_id, cause)
        self._gkdks.forget(pne_id)
        self._versions.forget(pne_id)
        self._housekeeping.soon()
        return exposed

    def end_rights(self, pne_id: str) -> None:
        """End the rights at the CPNS Server of a name that no PNE of this PN has (SEC-31)."""
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
        """Begin a new generation of the tree and return its number. Raises TooMany when all numbers are used up."""
        generation = self._tree.begin(self._clock.unix()).generation
        self._housekeeping.soon()
        return generation

    def open_pairing(self, pne_id: str, secret: bytes, server_credential: bytes = b"") -> PairingWindow:
        """Return a pairing window for the board `pne_id`, which shows `secret`.

        `server_credential`: CCS octets of the CPNS Server for the board, b"" for none. Raises ValueError if `secret`
        does not have the length of a pairing secret.
        """
        pn = self._store.pn.get()
        return PairingWindow(
            pne_id,
            secret,
            self._clock.monotonic(),
            gateway_id=self._gateway_id,
            pn_id=self._pn_id,
            signing_key=self._signer.public_key,
            signing_epoch=pn.signing_epoch if pn else 1,
            server_credential=server_credential,
        )

    def roll_over(self, new_signer: Signer) -> int:
        """Change the broadcast signing key (SEC-18) and return the epoch of the new one.

        The old private key is not needed afterwards. Raises NotAllowed if the new key is the old one.
        """
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

    @property
    def withholds_keys(self) -> bool:
        """True while no key is given out, because the CPNS Server is silent for too long (SEC-28)."""
        return self._silence.is_stale

    @property
    def uplink_is_up(self) -> bool:
        """True if the CPNS Server is in this process, or has answered the last version list."""
        return self._silence.is_up

    @property
    def server_age_s(self) -> float | None:
        """Seconds since the CPNS Server has answered a version list, None for never since the start."""
        return self._silence.age_s

    @property
    def server_problem(self) -> str:
        """Why the CPNS Server does not answer now, "" if nothing is known to be wrong."""
        return self._silence.why

    def set_alarm(self, kind: str, text: str, about: str = "") -> None:
        """Raise an alarm whose cause was found outside of the core; an empty `text` ends it."""
        if text:
            self._alarms.set(kind, text, about)
        else:
            self._alarms.clear(kind, about)

    def alarms(self) -> tuple[Alarm, ...]:
        """Return the alarms, oldest first."""
        return self._alarms.standing()

    def groups(self) -> list[GroupStatus]:
        """Return all Service Groups, ordered by SG ID."""
        return [
            GroupStatus(
                group,
                tuple(member.pne_id for member in self._store.inventory.members(group.sg_id)),
                dict(Counter(self.recipients(group.sg_id).values())),
            )
            for group in self._store.inventory.groups()
        ]

    def recipients(self, sg_id: str) -> dict[str, str]:
        """Return the state of each PNE of the group's newest delivery in this process, by PNE ID."""
        return self._deliveries.recipients(sg_id)

    def carried(self, sg_id: str) -> tuple[CarriedStatus, ...]:
        """Return the state of the newest wrapped key of each PNE of an end-to-end group, ordered by PNE ID."""
        return self._carried.statuses(sg_id)

    def delivery(self, sg_id: str) -> tuple[int, dict[str, int]]:
        """Return (version, number of PNEs in each state) of the group's newest delivery; version 0 if there is none."""
        return self._deliveries.version(sg_id), dict(Counter(self.recipients(sg_id).values()))
