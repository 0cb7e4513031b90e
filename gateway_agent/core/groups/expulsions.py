"""Who was expelled learns it at once, over its session (SEC-15): it wipes the key and sends nothing more under it.

Best effort, as the exclusion does not depend on it: who hears nothing is told when it pulls.
"""

import asyncio
import logging
from collections.abc import Iterable

from cpns import messages, numbers
from cpns.errors import CpnsError
from gateway_agent.core.background import Background
from gateway_agent.core.ports import Unicast
from gateway_agent.store.store import GatewayStore

_log = logging.getLogger(__name__)

PAUSES_S = (0.0, 10.0, 60.0)
"""Before each try; a board that is switched off, or out of range, is not waited for."""


class Expulsions:
    """Tells PNEs that they are members no more, in a DeleteServiceGroupRequest with reason leave."""

    def __init__(self, *, store: GatewayStore, unicast: Unicast, background: Background) -> None:
        self._store = store
        self._unicast = unicast
        self._background = background

    def tell(self, sg_id: str, pne_ids: Iterable[str]) -> None:
        """These were removed from the group by the CPNS Server just now."""
        group = self._store.inventory.group(sg_id)
        if group is None:
            return
        fields = {messages.SG_ID: sg_id, messages.VERSION: group.version, messages.REASON: numbers.REASON_LEAVE}
        message = messages.encode(numbers.DELETE_SERVICE_GROUP_REQUEST, fields)
        for pne_id in pne_ids:
            self._background.spawn(self._tell(sg_id, pne_id, message))

    async def _tell(self, sg_id: str, pne_id: str, message: bytes) -> None:
        for pause_s in PAUSES_S:
            await asyncio.sleep(pause_s)
            # who was let in again meanwhile must not hear it, and who has a new session has pulled
            if self._store.inventory.is_member(sg_id, pne_id) or not self._unicast.has_session(pne_id):
                return
            try:
                await self._unicast.request(pne_id, message)
            except CpnsError as error:
                _log.debug("%s was not told that it is no member of %s: %s", pne_id, sg_id, error.reason)
            else:
                return
