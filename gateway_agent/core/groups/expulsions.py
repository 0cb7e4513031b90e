"""Tells expelled PNEs over their sessions (SEC-15), so that they wipe the key and send nothing more under it.

This is best effort, as the exclusion does not depend on it. A PNE that is not reached is told when it pulls.
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
"""Pause before each try. There are no more tries, as the board may be switched off or out of range."""


class Expulsions:
    """Tells PNEs that they are no longer members, in a DeleteServiceGroupRequest with reason leave."""

    def __init__(self, *, store: GatewayStore, unicast: Unicast, background: Background) -> None:
        self._store = store
        self._unicast = unicast
        self._background = background

    def tell(self, sg_id: str, pne_ids: Iterable[str]) -> None:
        """Begin to tell these PNEs, which the CPNS Server has removed from the group just now."""
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
            # a PNE that has joined again in the meantime must not get it; one without a session is told when it pulls
            if self._store.inventory.is_member(sg_id, pne_id) or not self._unicast.has_session(pne_id):
                return
            try:
                await self._unicast.request(pne_id, message)
            except CpnsError as error:
                _log.debug("%s was not told that it is no member of %s: %s", pne_id, sg_id, error.reason)
            else:
                return
