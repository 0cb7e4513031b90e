"""Answers the messages of the CPNS Server, and begins the work that follows after the answer."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from cpns import messages, numbers, uplink_form
from cpns.errors import CpnsError, MalformedMessage, NotAllowed
from gateway_agent.core.background import Background
from gateway_agent.core.delivering.batch import STORE_RETRY_S
from gateway_agent.core.delivering.group_keys import GroupKeys
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.fields import Fields, text
from gateway_agent.core.groups.deleted_groups import DeletedGroups
from gateway_agent.core.groups.membership import Membership
from gateway_agent.core.housekeeping import Housekeeping
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.refusals import refusal
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore


class ServerMessages:
    """Handles the messages of the CPNS Server, which its session has authenticated. The entry is `handle`."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        versions: Versions,
        keys: GroupKeys,
        membership: Membership,
        deleted_groups: DeletedGroups,
        housekeeping: Housekeeping,
        carried: CarriedKeys,
        background: Background,
        counters: Counter[str],
    ) -> None:
        self._store = store
        self._versions = versions
        self._keys = keys
        self._membership = membership
        self._deleted_groups = deleted_groups
        self._housekeeping = housekeeping
        self._carried = carried
        self._background = background
        self._counters = counters
        self._answers: dict[int, Callable[[Fields, asyncio.Event | None], Awaitable[Fields]]] = {
            numbers.GROUP_KEY_DELIVERY_REQUEST: self._group_key,
            numbers.INVENTORY_UPDATE_REQUEST: self._inventory,
            numbers.DELETE_SERVICE_GROUP_REQUEST: self._delete,
        }

    async def handle(self, message: bytes, left: asyncio.Event | None = None) -> bytes:
        """Return the answer to one message of the CPNS Server, in the form of the message (CBOR or XML).

        `left` must be set by the caller when the answer has been sent: the delivery of a Group Key begins then
        (CPNS-GKM-30). Without `left` it begins soon after this method has returned.

        A refusal is a response with Result 2. Raises MalformedMessage and NotAllowed (a message that a PN GW does not
        accept). The answer to an SGroupKeyDeliveryRequest is empty, as the response to it is made by the PNE and
        follows as a message of its own; the reason of a refusal is raised instead.
        """
        form = uplink_form.form_of(message)
        try:
            code, fields = uplink_form.decode(message)
        except MalformedMessage:
            self._counters["server_refused"] += 1
            raise
        if code == numbers.S_GROUP_KEY_DELIVERY_REQUEST:
            await self._carry(fields)
            return b""
        handler = self._answers.get(code)
        if handler is None:
            self._counters["server_refused"] += 1
            raise NotAllowed(f"message {code} is not one a CPNS Server sends to a PN GW")
        try:
            answer = await handler(fields, left)
        except (CpnsError, StoreFailed) as error:
            self._counters["server_refused"] += 1
            answer_code, failure = messages.decode(messages.failure(code, refusal(error)))
            return uplink_form.encode(answer_code, failure, form)
        return uplink_form.encode(code + 1, answer, form)

    async def _group_key(self, fields: Fields, left: asyncio.Event | None) -> Fields:
        await self._versions.compared()
        answer = self._keys.accept(fields)
        sg_id = text(fields, messages.SG_ID)
        self._background.spawn(self._deliver_after(left, sg_id))
        if self._store.inventory.is_behind(sg_id):
            self._housekeeping.compare_versions_soon()
        return answer

    async def _inventory(self, fields: Fields, left: asyncio.Event | None) -> Fields:
        return self._membership.update(fields)

    async def _delete(self, fields: Fields, left: asyncio.Event | None) -> Fields:
        deleted, members, answer = self._keys.delete_group(fields)
        if deleted is not None:
            self._deleted_groups.tell(deleted, members)
        return answer

    async def _deliver_after(self, left: asyncio.Event | None, sg_id: str) -> None:
        if left is not None:
            await left.wait()
        while True:
            try:
                return self._keys.begin_delivery(sg_id)
            except StoreFailed:  # there is an alarm for it
                await asyncio.sleep(STORE_RETRY_S)

    async def _carry(self, fields: Fields) -> None:
        """Begin to carry an SGroupKeyDeliveryRequest to the PNE that it names (CPNS-GKM-81)."""
        try:
            await self._versions.compared()
            if not self._carried.is_for_member(fields):
                await self._membership.settled(text(fields, messages.SGID))  # its join may be on the way back
            self._carried.carry(fields)
        except (CpnsError, StoreFailed) as error:
            self._counters["server_refused"] += 1
            raise refusal(error) from None
