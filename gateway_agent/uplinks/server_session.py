"""The session with a remote CPNS Server, over the link that its place names."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cpns.errors import CpnsError
from gateway_agent.core.ports import NoAnswer, NotUnderstood
from gateway_agent.uplinks.keep_alive import KeepAlive
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint
from message_plane.errors import HandshakeRefused, NotRegistered, PeerRefused, PlaneError

if TYPE_CHECKING:
    from message_plane.links.mqtt_brokers import BrokerState

_ANSWER_S = 20.0
_MALFORMED = "4.00"
_SIGN_TRIES = 5
_SIGN_AGAIN_S = 5.0  # at most after the first one without an answer, twice as long after each further one


class ServerSession:
    """Implements `uplink.OpenUplink`. The session is established by the first request.

    `keep_alive_s`: seconds between messages that keep the path through routers open, 0 for none. `brokers` returns the
    brokers of the link, if it has any.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        server_id: str,
        place: str,
        keep_alive_s: float = 0,
        brokers: "Callable[[], Sequence[BrokerState]]" = tuple,
    ) -> None:
        self._endpoint = endpoint
        self._server_id = server_id
        self._place = place
        self._keep_alive = KeepAlive(endpoint, server_id, keep_alive_s) if keep_alive_s else None
        self._sign: asyncio.Task[None] | None = None
        self._closed = False
        self._brokers = brokers

    @property
    def brokers(self) -> "Sequence[BrokerState]":
        """The brokers on the way to the Server, connected or not."""
        return self._brokers()

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
        except NotRegistered:
            raise NoAnswer(
                f"the credential of {self._server_id} is not here yet: keycast gateway trust-server CREDENTIAL, with "
                "what keycast server credential prints at the Server"
            ) from None
        except HandshakeRefused:
            raise NoAnswer(
                f"{self._server_id} does not know this gateway, or has another key of it: keycast server add-gateway "
                "there, with what keycast gateway credential prints here"
            ) from None
        except PlaneError as error:
            raise NoAnswer(str(error)) from None

    def say_here(self) -> None:
        """Send the Server a sign of life soon (docs/protocol.md section 4), as it seems to be reachable again.

        It may have given this PN GW up, and sends what waits as soon as it hears of it.
        """
        if self._closed:
            return
        if self._sign is not None:
            self._sign.cancel()  # it went to where nobody was
        self._sign = asyncio.create_task(self._sign_of_life(), name="sign of life of the uplink")

    def start(self) -> None:
        """Begin to send keep-alive messages, if any are wanted. Behind brokers send a sign of life."""
        if self._keep_alive is not None:
            self._keep_alive.start()
        if self.brokers:
            self.say_here()

    async def close(self) -> None:
        """Stop sending keep-alive messages and signs of life."""
        self._closed = True
        if self._keep_alive is not None:
            await self._keep_alive.close()
        if self._sign is not None:
            self._sign.cancel()
            await asyncio.gather(self._sign, return_exceptions=True)

    async def _sign_of_life(self) -> None:
        for number in range(_SIGN_TRIES):
            try:
                await self.request(b"")
            except CpnsError:
                await asyncio.sleep(random.uniform(0, _SIGN_AGAIN_S * (1 << number)))
            else:
                return
