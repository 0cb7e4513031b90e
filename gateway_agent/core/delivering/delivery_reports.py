"""Sends the CPNS Server the delivery reports that are due: for each PNE how the delivery ended, on which link the key
came to it, after how many tries and when."""

import logging
from collections import Counter
from collections.abc import Mapping
from itertools import islice

from cpns import messages, numbers
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.ports import Clock, NotUnderstood, Uplink
from gateway_agent.core.server_requests import ServerRefused, ask
from gateway_agent.store.delivery_table import DeliveryOutcome
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

NAMES_PER_REPORT = 500
LISTS_ONLY_S = 86_400.0
"""A Server of an earlier release understands the lists of a report only. It is tried again after this time."""

_LISTS = {
    "confirmed": messages.CONFIRMED,
    "unreachable": messages.UNREACHABLE,
    "excluded": messages.EXCLUDED,
}


class DeliveryReports:
    """The reports of all deliveries that have ended, those of carried keys included."""

    def __init__(
        self, *, store: GatewayStore, carried: CarriedKeys, uplink: Uplink, clock: Clock, counters: Counter[str]
    ) -> None:
        """`counters` gets `reports_refused`, the reports that the Server did not want."""
        self._store = store
        self._carried = carried
        self._uplink = uplink
        self._clock = clock
        self._counters = counters
        self._lists_only_until = clock.monotonic()

    async def send(self) -> None:
        """Send all reports that are due. Raises NoAnswer, MalformedMessage, StoreFailed."""
        for delivery in self._store.deliveries.unreported():
            outcomes = self._store.deliveries.outcomes(delivery.sg_id, delivery.version)
            await self._send(delivery.sg_id, delivery.version, outcomes)
            with self._store.transaction():
                self._store.deliveries.set_reported(delivery.sg_id, delivery.version, True)
        for (sg_id, version), outcomes in self._carried.unreported().items():
            await self._send(sg_id, version, outcomes)
            self._carried.reported(sg_id, version, outcomes)

    async def _send(self, sg_id: str, version: int, outcomes: Mapping[str, DeliveryOutcome]) -> None:
        """Send one report. The Server may refuse it, if it no longer knows the group or a PNE of it."""
        names = iter(sorted((of.state, pne_id) for pne_id, of in outcomes.items() if of.state in _LISTS))
        while chunk := list(islice(names, NAMES_PER_REPORT)):
            fields: dict[int, object] = {messages.SG_ID: sg_id, messages.VERSION: version}
            for state, label in _LISTS.items():
                if listed := [pne_id for of, pne_id in chunk if of == state]:
                    fields[label] = listed
            told = [(pne_id, outcomes[pne_id]) for state, pne_id in chunk if state != "excluded"]
            try:
                await self._ask(fields, [_element(pne_id, outcome) for pne_id, outcome in told])
            except ServerRefused as error:
                self._counters["reports_refused"] += 1
                _log.info("the Server refused the report of %s: %s", sg_id, error.reason)
                return

    async def _ask(self, fields: dict[int, object], elements: list[object]) -> None:
        if elements and self._clock.monotonic() >= self._lists_only_until:
            try:
                await ask(self._uplink, numbers.DELIVERY_REPORT_REQUEST, {**fields, messages.DELIVERY: elements})
            except NotUnderstood:
                self._lists_only_until = self._clock.monotonic() + LISTS_ONLY_S
                _log.info("the CPNS Server does not understand how boards got a key; it is told who confirmed only")
            else:
                return
        await ask(self._uplink, numbers.DELIVERY_REPORT_REQUEST, fields)


def _element(pne_id: str, outcome: DeliveryOutcome) -> tuple[str, str | None, int, int | None]:
    if outcome.state != "confirmed":
        return pne_id, None, outcome.tries, None
    return pne_id, outcome.link or None, outcome.tries, outcome.confirmed_at
