"""The way to PN GWs in the Server's own process: a function call."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from key_servers.cpns_server import tuning
from key_servers.cpns_server.gateway_requests import GatewaySilent

Receiver = Callable[[bytes], Awaitable[bytes]]
"""The function of an embedded PN GW that gets the octets of a request and returns those of its answer, or raises
CpnsError."""


class InProcessGateways:
    """`gateway_requests.Gateways` inside of this process. `receivers` maps entity IDs of PN GWs to functions."""

    def __init__(self, receivers: Mapping[str, Receiver]) -> None:
        self._receivers = receivers

    def ready(self, gateway_id: str) -> None:
        """Return None, as a call always has a way."""

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one message and return the answer. Raises GatewaySilent, NotSent, CpnsError."""
        receiver = self._receivers.get(gateway_id)
        if receiver is None:
            raise GatewaySilent(f"PN GW {gateway_id} is not in this process")
        try:
            async with asyncio.timeout(tuning.ANSWER_TIMEOUT_S):
                return await receiver(message)
        except TimeoutError:
            raise GatewaySilent(f"PN GW {gateway_id} did not answer in time") from None
