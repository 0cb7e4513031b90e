"""Confirmations that come without a session, as a PNE sends them that can be heard and not be asked (SEC-14).

Such a report is a GroupKeyDeliveryResponse in CBOR, as in a session, with the proof of the slot. If the proof fits, it
is from the PNE that has the slot; otherwise it is counted and nothing else happens. Nothing is ever answered. That a
key was of no use cannot be reported: a PNE that could not open it can prove nothing.
"""

from collections import Counter

from cpns import messages, numbers
from cpns.errors import CpnsError, MalformedMessage, NotAuthentic, TooMany
from gateway_agent.core.delivering.confirmations import Claim, Confirmations, claim
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.ports import Clock
from gateway_agent.core.rates import PEERS_MAX, REPORTS, REQUESTS
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Bucket, Buckets


class Reports:
    """Takes reports from whoever can be heard. Those without proof share one small rate and nothing else."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        confirmations: Confirmations,
        deliveries: Deliveries,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        """`counters` counts `confirmations`, those of PNEs over their sessions too, `reports_unproven`, `reports_late`
        (the store could not be written) and `reports_too_many`."""
        self._store = store
        self._confirmations = confirmations
        self._deliveries = deliveries
        self._clock = clock
        self._counters = counters
        self._all = Bucket(*REPORTS)
        self._of_pne = Buckets(*REQUESTS, PEERS_MAX)

    def take(self, frame: bytes) -> None:
        """Take one frame that a medium has heard; raises nothing, whatever it is."""
        try:
            self._take(frame)
        except TooMany:
            self._counters["reports_too_many"] += 1
        except CpnsError:
            self._counters["reports_unproven"] += 1
        except StoreFailed:  # an alarm says so; the PNE is asked by unicast
            self._counters["reports_late"] += 1

    def _take(self, frame: bytes) -> None:
        now = self._clock.monotonic()
        if not self._all.take(now):
            raise TooMany("too many reports")
        code, fields = messages.decode(frame)
        if code != numbers.GROUP_KEY_DELIVERY_RESPONSE:
            raise MalformedMessage(f"message {code} is no report")
        claimed = claim(fields)
        pne_id = self._owner(claimed)
        if not self._confirmations.prove(pne_id, claimed):
            raise NotAuthentic("a report without proof")
        if not self._of_pne.take(pne_id, now):
            raise TooMany(f"too many reports of {pne_id}")
        self._counters["confirmations"] += 1
        self._deliveries.proven(claimed.sg_id, claimed.version, pne_id)

    def _owner(self, claimed: Claim) -> str:
        """Return the PNE whose slot the claim names. Raises NotAuthentic."""
        owner = claimed.proof and self._store.slots.owner(claimed.proof.generation, claimed.proof.slot)
        if not owner:
            raise NotAuthentic("a report without the slot of a PNE")
        return owner
