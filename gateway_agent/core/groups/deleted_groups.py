"""Tells former members that their Service Group was deleted (SEC-15, Q-23)."""

import logging

from cpns import messages, numbers
from cpns.errors import CpnsError
from gateway_agent.core.background import Background
from gateway_agent.core.gkdk.gkek import BroadcastObjects
from gateway_agent.core.ports import Air, Unicast
from gateway_agent.store.inventory import ServiceGroup

_log = logging.getLogger(__name__)


class DeletedGroups:
    """Tells PNEs by a signed broadcast and over their sessions. A PNE that gets neither is told when it pulls."""

    def __init__(self, *, objects: BroadcastObjects, unicast: Unicast, air: Air, background: Background) -> None:
        self._objects = objects
        self._unicast = unicast
        self._air = air
        self._background = background
        self._being_told: set[str] = set()

    def tell(self, group: ServiceGroup, members: list[str]) -> None:
        """Tell the former `members` that the group was deleted, at the version that `group` has."""
        self._background.spawn(self._tell(group, members))

    def tell_late(self, pne_id: str, group: ServiceGroup) -> None:
        """Tell one PNE that still asks for a key of the group, because it was away when the others were told."""
        if pne_id not in self._being_told:
            self._background.spawn(self._tell_one(pne_id, group))

    async def _tell(self, group: ServiceGroup, members: list[str]) -> None:
        if not group.end_to_end:  # its members take nothing from the air (SEC-26)
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
