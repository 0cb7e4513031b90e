"""The session with a remote CPNS Server, over the link that its place names."""

from gateway_agent.core.ports import NoAnswer, NotUnderstood
from gateway_agent.uplinks.keep_alive import KeepAlive
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint
from message_plane.errors import PeerRefused, PlaneError

_ANSWER_S = 20.0
_MALFORMED = "4.00"


class ServerSession:
    """Implements `uplink.OpenUplink`. The session is established by the first request.

    `keep_alive_s`: seconds between messages that keep the path through routers open, 0 for none.
    """

    def __init__(self, endpoint: Endpoint, server_id: str, place: str, keep_alive_s: float = 0) -> None:
        self._endpoint = endpoint
        self._server_id = server_id
        self._place = place
        self._keep_alive = KeepAlive(endpoint, server_id, keep_alive_s) if keep_alive_s else None

    async def request(self, message: bytes) -> bytes:
        """Send one CPNS message to the Server and return its answer, b"" if it is empty.

        Raises NoAnswer, NotUnderstood.
        """
        try:
            # Needed also with a session from before the start: if the Server has lost it, the place serves to renew it.
            await self._endpoint.connect(self._server_id, self._place)
            return await self._endpoint.request(self._server_id, message, resource=PATH, timeout_s=_ANSWER_S)
        except PeerRefused as error:
            raise (NotUnderstood if error.code == _MALFORMED else NoAnswer)(str(error)) from None
        except PlaneError as error:
            raise NoAnswer(str(error)) from None

    def start(self) -> None:
        """Begin to send keep-alive messages, if any are wanted."""
        if self._keep_alive is not None:
            self._keep_alive.start()

    async def close(self) -> None:
        """Stop sending keep-alive messages."""
        if self._keep_alive is not None:
            await self._keep_alive.close()
