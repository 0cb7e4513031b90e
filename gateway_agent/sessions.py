"""The adapter between core and message plane: unicast to PNEs."""

from gateway_agent.core.ports import NoAnswer
from message_plane.cpns_resource import PATH
from message_plane.endpoint import Endpoint
from message_plane.errors import PlaneError
from message_plane.links.gatt import GattLink

ANSWER_S = 10.0
ANSWER_BY_GATT_S = 30.0
"""A request to a board behind GATT may have to wait until connections to other boards have ended."""


class PneSessions:
    """Implements `core.ports.Unicast` over the endpoint's sessions with PNEs, for one of their resources."""

    def __init__(self, endpoint: Endpoint, path: str = PATH) -> None:
        """`path`: the resource that is requested from PNEs."""
        self._endpoint = endpoint
        self._path = path

    async def request(self, pne_id: str, message: bytes) -> bytes | None:
        """Send one message to a PNE and return its answer, None if it is empty. Raises NoAnswer."""
        try:
            limit_s = self._limit_s(pne_id)
            return await self._endpoint.request(pne_id, message, resource=self._path, timeout_s=limit_s) or None
        except PlaneError as error:
            raise NoAnswer(str(error)) from None

    def has_session(self, pne_id: str) -> bool:
        """Return True if a message could be sent now."""
        return self._endpoint.has_session(pne_id)

    def drop(self, pne_id: str) -> None:
        """End the PNE's session at once (SEC-06)."""
        self._endpoint.drop(pne_id)

    def _limit_s(self, pne_id: str) -> float:
        heard = self._endpoint.last_heard(pne_id)
        is_behind_gatt = heard is not None and heard.place.startswith(f"{GattLink.scheme}:")
        return ANSWER_BY_GATT_S if is_behind_gatt else ANSWER_S
