"""A hostile PN GW: it has all keys, sessions and the store of a real one, and sits where that would sit.

It hands on what it gets unless one of its judges says otherwise, and remembers all of it in the clear.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from cpns import messages
from cpns.errors import NotAllowed
from gateway_agent.app import GatewayApp
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import PeerUnreachable
from message_plane.resource import Answer

FROM_BOARD, TO_BOARD, FROM_SERVER, TO_SERVER = "from board", "to board", "from Server", "to Server"


@dataclass(frozen=True)
class Seen:
    """A request on one of the four ways, of or to `peer`, or (`answer`) what was answered to one on that way."""

    way: str
    peer: str
    octets: bytes
    answer: bool = False

    @property
    def code(self) -> int | None:
        return messages.decode(self.octets, 1 << 20)[0] if self.octets else None

    @property
    def fields(self) -> dict[int, Any]:
        return messages.decode(self.octets, 1 << 20)[1] if self.octets else {}


def hands_on(seen: Seen) -> bytes | None:
    """The judge of an honest PN GW."""
    return seen.octets


async def nobody(seen: Seen) -> None:
    """Answer nothing in the place of another one."""


class HostileGateway(GatewayApp):
    """`judge(seen)` returns the octets that go on instead of those seen, or None to withhold them.

    What comes in and goes out again is judged twice: as FROM_... before the PN GW handles it, and as TO_... after.
    `instead(seen)` answers a request in the place of its receiver, unless it returns None.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.seen: list[Seen] = []
        self.judge: Callable[[Seen], bytes | None] = hands_on
        self.instead: Callable[[Seen], Awaitable[bytes | None]] = nobody

    async def say(self, entity_id: str, code: int, fields: dict[int, Any], timeout_s: float = 5.0) -> tuple[int, dict]:
        """Send a message of its own to a board or to the Server; its answer, (0, {}) for an empty one."""
        return _parsed(await self.repeat(entity_id, messages.encode(code, fields), timeout_s))

    async def repeat(self, entity_id: str, octets: bytes, timeout_s: float = 5.0) -> bytes:
        """Send octets, such as those seen before, to a board or to the Server."""
        return await self._unjudged(entity_id, octets, resource=PATH, timeout_s=timeout_s)

    def of(self, way: str, code: int, answer: bool = False) -> list[Seen]:
        """All messages of one kind seen so far."""
        return [seen for seen in self.seen if (seen.way, seen.code, seen.answer) == (way, code, answer)]

    async def _open(self, *arguments: Any) -> None:
        await super()._open(*arguments)
        self.endpoint.request = self._request  # type: ignore[method-assign]

    async def _request(self, entity_id: str, payload: bytes, **how: Any) -> bytes:
        way = TO_SERVER if entity_id == self.config.uplink.server_id else TO_BOARD
        judged = self._judged(Seen(way, entity_id, payload))
        if judged is None:
            raise PeerUnreachable("withheld")
        answer = await self.instead(Seen(way, entity_id, judged))
        if answer is None:
            answer = await self._unjudged(entity_id, judged, **how)
        return self._judged(Seen(way, entity_id, answer, answer=True)) or b""

    async def _unjudged(self, entity_id: str, payload: bytes, **how: Any) -> bytes:
        return await Endpoint.request(self.endpoint, entity_id, payload, **how)

    async def _handle_pne(self, peer: Peer, message: bytes) -> bytes | None:
        return await self._handled(FROM_BOARD, peer, message, super()._handle_pne)

    async def _handle_server(self, peer: Peer, message: bytes) -> Any:
        return await self._handled(FROM_SERVER, peer, message, super()._handle_server)

    async def _handled(self, way, peer, message, handle):
        judged = self._judged(Seen(way, peer.entity_id, message))
        if judged is None:
            raise NotAllowed("withheld")
        answer = await handle(peer, judged)
        body = answer.body if isinstance(answer, Answer) else answer
        body = self._judged(Seen(way, peer.entity_id, body or b"", answer=True))
        return Answer(body, answer.left) if isinstance(answer, Answer) else body

    def _judged(self, seen: Seen) -> bytes | None:
        self.seen.append(seen)
        return self.judge(seen)


def _parsed(octets: bytes) -> tuple[int, dict]:
    return messages.decode(octets, 1 << 20) if octets else (0, {})
