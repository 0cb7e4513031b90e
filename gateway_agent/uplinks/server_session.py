"""The session with a CPNS Server elsewhere, over whichever link its place is on."""

from cpns import errors
from gateway_agent.core.ports import NoAnswer
from gateway_agent.uplinks.keep_alive import KeepAlive
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint
from message_plane.errors import PlaneError

_ANSWER_S = 20.0


class ServerSession:
    """`uplink.OpenUplink`: the session is made when it is first needed.

    `keep_alive_s`: seconds between messages that keep the way open, 0 where no router is on it.
    """

    def __init__(self, endpoint: Endpoint, server_id: str, place: str, keep_alive_s: float = 0) -> None:
        self._endpoint = endpoint
        self._server_id = server_id
        self._place = place
        self._keep_alive = KeepAlive(endpoint, server_id, keep_alive_s) if keep_alive_s else None

    async def request(self, message: bytes) -> bytes:
        """One CPNS message to the Server; its answer. Raises NoAnswer."""
        try:
            # Also with a session of an earlier start: if the Server has lost it, the place is needed to make another.
            await self._endpoint.connect(self._server_id, self._place)
            answer = await self._endpoint.request(self._server_id, message, resource=PATH, timeout_s=_ANSWER_S)
        except PlaneError as error:
            raise NoAnswer(str(error)) from None
        if not answer:
            raise errors.MalformedMessage("the CPNS Server answered without a message")
        return answer

    def start(self) -> None:
        """Begin to keep the way open."""
        if self._keep_alive is not None:
            self._keep_alive.start()

    async def close(self) -> None:
        """End that."""
        if self._keep_alive is not None:
            await self._keep_alive.close()
