"""Former members learn that their Service Group is gone (SEC-15, Q-23)."""

import logging

from cpns import messages, numbers
from cpns.errors import CpnsError
from gateway_agent.core.background import Background
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.ports import Air, Unicast
from gateway_agent.store.inventory import ServiceGroup

_log = logging.getLogger(__name__)


class DeletedGroups:
    """Tells them: signed by broadcast, and by session. Who hears neither is told when it pulls."""

    def __init__(self, *, objects: BroadcastObjects, unicast: Unicast, air: Air, background: Background) -> None:
        self._objects = objects
        self._unicast = unicast
        self._air = air
        self._background = background
        self._being_told: set[str] = set()

    def tell(self, group: ServiceGroup, members: list[str]) -> None:
        """The group was deleted just now, at the version it has here."""
        self._background.spawn(self._tell(group, members))

    def tell_late(self, pne_id: str, group: ServiceGroup) -> None:
        """A PNE still asks for a key of the group: it was away when the others were told."""
        if pne_id not in self._being_told:
            self._background.spawn(self._tell_one(pne_id, group))

    async def _tell(self, group: ServiceGroup, members: list[str]) -> None:
        await self._air.delete(self._objects.delete(group))
        for pne_id in members:
            if self._unicast.has_session(pne_id):
                await self._tell_one(pne_id, group)

    async def _tell_one(self, pne_id: str, group: ServiceGroup) -> None:
        fields = {messages.SG_ID: group.sg_id, messages.VERSION: group.version}
        self._being_told.add(pne_id)
        try:
            await self._unicast.request(pne_id, messages.encode(numbers.DELETE_SERVICE_GROUP_REQUEST, fields))
        except CpnsError as error:
            _log.info("%s was not told that %s is deleted: %s", pne_id, group.sg_id, error.reason)
        finally:
            self._being_told.discard(pne_id)
