"""Carries datagrams of the session between PNE and CPNS Server, and does not read them.

The PNE sends a datagram in a TunnelRequest, the PN GW passes it to the Server, and the datagram with which the Server
answers comes back in the TunnelResponse. There is no other message downwards (docs/protocol.md section 11).
"""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from cpns import messages, numbers
from cpns.errors import NotAllowed, TooMany
from gateway_agent.core.fields import Fields, octets, own_id
from gateway_agent.core.ports import Clock, Uplink
from gateway_agent.core.rates import PEERS_MAX, TUNNELLED
from gateway_agent.core.server_requests import ask
from gateway_agent.core.turns import UnicastPlaces
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Buckets

UNDER_WAY_MAX = 4
"""Datagrams of one PNE that wait for the Server's answer."""
AT_ONCE = 4
"""Datagrams of all PNEs that the Server has at the same time. It handles eight messages of one PN GW at once, and the
other four are for joins, reports and the rest. Datagrams that it does not answer hold one of these places at most."""
PLACE_S = 8.0
"""A datagram that has waited so long for a place is refused, as its PNE does not wait much longer."""


class Tunnel:
    """Passes datagrams to the CPNS Server, within limits for each PNE and for all (SEC-19)."""

    def __init__(self, *, store: GatewayStore, uplink: Uplink, clock: Clock, counters: Counter[str]) -> None:
        """`counters` gets `tunnelled`, and `tunnel_too_many` for the datagrams that were refused by a limit."""
        self._store = store
        self._uplink = uplink
        self._clock = clock
        self._counters = counters
        self._rates = Buckets(*TUNNELLED, PEERS_MAX)
        self._places = UnicastPlaces(AT_ONCE)
        self._under_way: Counter[str] = Counter()

    async def carry(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Handle a TunnelRequest: return the fields of the response, without Datagram if the Server has sent none.

        Raises NotAllowed (it names another PNE, or the PNE was retired meanwhile), TooMany, NoAnswer, and ServerRefused
        with the Server's error.
        """
        pne_id, datagram = own_id(peer_id, fields), octets(fields, messages.DATAGRAM)
        is_in_time = self._rates.take(pne_id, self._clock.monotonic())
        if not is_in_time or self._under_way[pne_id] >= UNDER_WAY_MAX:
            raise self._too_many("too many datagrams for the CPNS Server; wait a minute")
        self._under_way[pne_id] += 1
        try:
            answer = await self._pass(pne_id, datagram)
        finally:
            self._under_way[pne_id] -= 1
            if not self._under_way[pne_id]:
                del self._under_way[pne_id]
        pne = self._store.pn.pne(pne_id)
        if pne is None or pne.retired:
            raise NotAllowed(f"{pne_id} is not of this PN")
        self._counters["tunnelled"] += 1
        response: dict[int, object] = {messages.RESULT: numbers.RESULT_SUCCESS}
        if messages.DATAGRAM in answer:
            response[messages.DATAGRAM] = answer[messages.DATAGRAM]
        return response

    async def _pass(self, pne_id: str, datagram: bytes) -> Fields:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(PLACE_S):
                    await stack.enter_async_context(self._places.of(pne_id))
            except TimeoutError:
                raise self._too_many("the way to the CPNS Server is busy; try again later") from None
            request = {messages.PNE_ID: pne_id, messages.DATAGRAM: datagram}
            answer = await ask(self._uplink, numbers.TUNNEL_REQUEST, request)
            if messages.DATAGRAM in answer:
                self._places.heard(pne_id)
            return answer

    def _too_many(self, reason: str) -> TooMany:
        self._counters["tunnel_too_many"] += 1
        return TooMany(reason)
