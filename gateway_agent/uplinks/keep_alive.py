"""Keeps the path from a remote CPNS Server to this gateway open, through the routers between them.

A router that translates addresses (NAT) forgets a UDP flow after about 30 s of silence. Messages of the Server are then
lost until the gateway sends something. The gateway therefore sends an empty CoAP message from time to time, which the
Server answers with four octets and without cryptography. A router may also give the flow another address without
either end noticing, and the Server accepts a new address only from an authenticated message. Therefore the gateway
sends an empty message inside the session every few times, and whenever the Server answers again after a silence.
"""

import logging

from gateway_agent.repeating import Repeating
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint
from message_plane.errors import PeerRefused, PlaneError

_log = logging.getLogger(__name__)

PING_ANSWER_S = 5.0
SIGN_ANSWER_S = 20.0
SIGN_EVERY = 4  # one sign of life after this many pings


class KeepAlive:
    """Sends keep-alive messages to one Server from `start` to `close`. It sends nothing while there is no session."""

    def __init__(self, endpoint: Endpoint, server_id: str, every_s: float) -> None:
        self._endpoint = endpoint
        self._server_id = server_id
        self._turns = Repeating("keep-alive of the uplink", every_s, self._turn)
        self._turn_number = 0
        self._lost = False
        self.start = self._turns.start
        self.close = self._turns.close

    async def _turn(self) -> None:
        if not self._endpoint.has_session(self._server_id):
            return
        self._turn_number += 1
        there = await self._ping()
        if there and (self._lost or self._turn_number % SIGN_EVERY == 0):
            there = await self._sign()
        if there and self._lost:
            _log.info("the CPNS Server answers again")
        elif not there and not self._lost:
            _log.warning("KC1201 the CPNS Server answers no keep-alive")
        self._lost = not there

    async def _ping(self) -> bool:
        try:
            return await self._endpoint.ping(self._server_id, timeout_s=PING_ANSWER_S)
        except PlaneError:
            return False

    async def _sign(self) -> bool:
        """Send a sign of life in the session (docs/protocol.md section 4) and return whether the Server answers.

        A refusal is an answer, too, because the sign of life was authenticated before.
        """
        try:
            await self._endpoint.request(self._server_id, b"", resource=PATH, timeout_s=SIGN_ANSWER_S)
        except PeerRefused:
            return True
        except PlaneError:
            return False
        return True
