"""The two ways to a PN GW: a function call inside one process, or the message plane over UDP."""

import asyncio
from collections.abc import Awaitable, Callable

from key_servers.cpns_server import tuning
from key_servers.cpns_server.courier import GatewayLink, GatewaySilent

Receiver = Callable[[bytes], Awaitable[bytes]]
"""What an embedded PN GW offers: one request's octets in, its answer's octets out; raises CpnsError."""


class InProcessLink:
    """PN GWs of this process by name; everybody else through `beyond`, if there is one."""

    def __init__(self) -> None:
        self._receivers: dict[str, Receiver] = {}
        self.beyond: GatewayLink | None = None

    def attach(self, gateway_id: str, receiver: Receiver) -> None:
        """Reach `gateway_id` by calling `receiver`."""
        self._receivers[gateway_id] = receiver

    def detach(self, gateway_id: str) -> None:
        """Forget it again."""
        self._receivers.pop(gateway_id, None)

    async def request(self, gateway_id: str, message: bytes) -> bytes:
        """Send one message and give the answer. Raises GatewaySilent, NotSent, CpnsError."""
        receiver = self._receivers.get(gateway_id)
        if receiver is not None:
            try:
                async with asyncio.timeout(tuning.ANSWER_TIMEOUT_S):
                    return await receiver(message)
            except TimeoutError:
                raise GatewaySilent(f"PN GW {gateway_id} did not answer in time") from None
        if self.beyond is None:
            raise GatewaySilent(f"PN GW {gateway_id} is not attached")
        return await self.beyond.request(gateway_id, message)
