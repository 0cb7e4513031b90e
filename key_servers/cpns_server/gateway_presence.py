"""Whether a request to a PN GW has a way at all, where brokers carry the messages.

A broker tells who is connected to it. That is a hint and proves nothing (SEC-27), and the Server's store is the queue,
not the broker: a request to a PN GW that is away would only wait there, and every later one behind it. So it is held
back, and after the usual time counts as one without an answer. Once in a while one is sent all the same, in case that
the hint was wrong.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from key_servers.cpns_server import tuning
from key_servers.cpns_server.gateway_requests import GatewaySilent, NotSent

if TYPE_CHECKING:
    from message_plane.links.mqtt import MqttLink


class GatewayPresence:
    """Holds requests back that have no way. Without a `link` it holds nothing back.

    `heard_at` returns the place at which a PN GW was heard last, "" if it was not heard since the start.
    """

    def __init__(self, link: "MqttLink | None", heard_at: Callable[[str], str]) -> None:
        self._link = link
        self._heard_at = heard_at
        self._away_since: dict[str, float] = {}  # or since the last request that was sent all the same

    def ready(self, gateway_id: str) -> Awaitable[None] | None:
        """Return None if a request to this PN GW can be sent now, else what returns once it can.

        That raises GatewaySilent if it is away for as long as a request may wait for its answer, NotSent if no broker
        is connected for as long.
        """
        link = self._link
        if link is None or not self._has_no_way(link, gateway_id) or not self._goes_by(link, gateway_id):
            return None
        return self._way(link, gateway_id)

    async def _way(self, link: "MqttLink", gateway_id: str) -> None:
        try:
            async with asyncio.timeout(tuning.ANSWER_TIMEOUT_S):
                while self._has_no_way(link, gateway_id):
                    await asyncio.sleep(tuning.PRESENCE_LOOK_S)
        except TimeoutError:
            if _is_connected(link):
                raise GatewaySilent(f"{gateway_id} is connected to no broker") from None
            raise NotSent("no broker is connected") from None

    def _has_no_way(self, link: "MqttLink", gateway_id: str) -> bool:
        return not _is_connected(link) or self._is_away(link, gateway_id)

    def _goes_by(self, link: "MqttLink", gateway_id: str) -> bool:
        heard_at = self._heard_at(gateway_id)
        return not heard_at or heard_at == link.place_of(gateway_id)

    def _is_away(self, link: "MqttLink", gateway_id: str) -> bool:
        if link.is_present(link.place_of(gateway_id)) is not False:
            self._away_since.pop(gateway_id, None)
            return False
        now = asyncio.get_running_loop().time()
        if now - self._away_since.setdefault(gateway_id, now) < tuning.AWAY_BELIEVED_S:
            return True
        self._away_since[gateway_id] = now
        return False


def _is_connected(link: "MqttLink") -> bool:
    return any(broker.connected for broker in link.brokers)
