"""Confirmations without a session (SEC-14), from PNEs that this PN GW can hear but cannot ask.

Such a report is a GroupKeyDeliveryResponse in CBOR, as in a session, with the proof of the slot; or the same in 21
octets, which fit into an advert (`cpns.report`). If the proof fits, the report is from the PNE that has the slot;
otherwise it is counted and has no other effect. A report of a key that was confirmed on another way, or was reported
before, changes nothing, so that a PNE with two radios counts once. Reports are never answered. A
PNE that could not open a key cannot report that, because it can prove nothing. A recorded report that an attacker
repeats changes nothing. It does not count against its PNE either, so it cannot keep out the next report of the PNE.
"""

from collections import Counter

from cpns import messages, numbers, report
from cpns.errors import CpnsError, MalformedMessage, NotAuthentic, TooMany, Unknown
from gateway_agent.core.delivering.confirmations import Claim, Confirmations, SlotProof, claim
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.ports import Clock
from gateway_agent.core.rates import REPORTS
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Bucket

IN_ADVERT = 21
"""Octets of a report from an advert. No GroupKeyDeliveryResponse with a proof is as short."""


class Reports:
    """Processes the reports of all senders in range. There is one limit for all of them together."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        confirmations: Confirmations,
        deliveries: Deliveries,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        """`counters` gets `confirmations` (which also counts those over sessions), `reports_unproven`, `reports_late`
        (the store could not be written) and `reports_too_many`."""
        self._store = store
        self._confirmations = confirmations
        self._deliveries = deliveries
        self._clock = clock
        self._counters = counters
        self._all = Bucket(*REPORTS)

    def take(self, frame: bytes) -> None:
        """Process one frame that a medium has received. Raises nothing, whatever the frame is."""
        try:
            self._take(frame)
        except TooMany:
            self._counters["reports_too_many"] += 1
        except CpnsError:
            self._counters["reports_unproven"] += 1
        except StoreFailed:  # there is an alarm for it; the PNE is asked by unicast
            self._counters["reports_late"] += 1

    def _take(self, frame: bytes) -> None:
        if not self._all.take(self._clock.monotonic()):
            raise TooMany("too many reports")
        claimed = self._of_advert(frame) if len(frame) == IN_ADVERT else _of_message(frame)
        pne_id = self._owner(claimed)
        if not self._confirmations.prove(pne_id, claimed):
            raise NotAuthentic("a report without proof")
        self._counters["confirmations"] += 1
        self._deliveries.proven(claimed.sg_id, claimed.version, pne_id, by_advert=len(frame) == IN_ADVERT)

    def _of_advert(self, frame: bytes) -> Claim:
        """Return the claim in the 21 octets of an advert. Raises MalformedMessage, Unknown."""
        found = report.parse(frame)
        group = self._store.inventory.group_with_alias(found.sg_alias)
        if group is None:
            raise Unknown("a report for no Service Group of this PN")
        proof = SlotProof(found.generation, found.slot, found.proof)
        return Claim(group.sg_id, found.version, found.result == numbers.RESULT_SUCCESS, proof)

    def _owner(self, claimed: Claim) -> str:
        """Return the PNE whose slot the claim names. Raises NotAuthentic."""
        owner = claimed.proof and self._store.slots.owner(claimed.proof.generation, claimed.proof.slot)
        if not owner:
            raise NotAuthentic("a report without the slot of a PNE")
        return owner


def _of_message(frame: bytes) -> Claim:
    """Return the claim in a message in CBOR. Raises MalformedMessage."""
    code, fields = messages.decode(frame)
    if code != numbers.GROUP_KEY_DELIVERY_RESPONSE:
        raise MalformedMessage(f"message {code} is no report")
    return claim(fields)
