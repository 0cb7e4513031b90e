"""Keeps the way from a CPNS Server elsewhere to this gateway open, through the routers between them.

A router that translates addresses (NAT) forgets a UDP flow after some 30 s of silence, and what the Server sends then
is lost until the gateway speaks. So the gateway sends an empty CoAP message from time to time, which costs the Server
four octets and no cryptography. A router may also give the flow another address, unnoticed by both ends; the Server
believes no address that has not authenticated. So every few times, and whenever the Server answers again after it did
not, an empty message inside the session tells the Server where the gateway is.
"""

import asyncio
import logging

from message_plane.endpoint import Endpoint
from message_plane.errors import PeerRefused, PlaneError

_log = logging.getLogger(__name__)

PING_ANSWER_S = 5.0
SIGN_ANSWER_S = 20.0
SIGN_EVERY = 4  # pings


class KeepAlive:
    """One background task for one Server. While there is no session it does nothing: requests make one."""

    def __init__(self, endpoint: Endpoint, server_id: str, every_s: float) -> None:
        self._endpoint = endpoint
        self._server_id = server_id
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None
        self._lost = False

    def start(self) -> None:
        """Begin; the first message goes out after the first pause."""
        self._task = asyncio.create_task(self._run(), name="keep-alive of the uplink")

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        turn = 0
        while True:
            await asyncio.sleep(self._every_s)
            if not self._has_session():
                continue
            turn += 1
            there = await self._ping()
            if there and (self._lost or turn % SIGN_EVERY == 0):
                there = await self._sign()
            if there == self._lost:
                _log.warning("the CPNS Server answers %s", "again" if there else "no keep-alive")
            self._lost = not there

    def _has_session(self) -> bool:
        try:
            return self._endpoint.has_session(self._server_id)
        except PlaneError:  # the store cannot tell now whose key the session is of
            return False

    async def _ping(self) -> bool:
        try:
            return await self._endpoint.ping(self._server_id, timeout_s=PING_ANSWER_S)
        except PlaneError:
            return False

    async def _sign(self) -> bool:
        """A sign of life in the session (docs/protocol.md section 4). One that is refused has authenticated, too."""
        try:
            await self._endpoint.request(self._server_id, b"", timeout_s=SIGN_ANSWER_S)
        except PeerRefused:
            return True
        except PlaneError:
            return False
        return True
