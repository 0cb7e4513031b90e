"""The VAL client as an uplink of the PN GW: it acts as the CPNS Server for Service Groups whose keys come from GMKs.

Upward it answers the requests of the PN GW (`Uplink.request`). Downward it sends the messages that a CPNS Server would
send, through `PnGateway.handle_server`: InventoryUpdateRequest, GroupKeyDeliveryRequest, DeleteServiceGroupRequest.
Requests about other groups are passed to the real CPNS Server, if there is one.

Every change of a GMK has the reason "leave", as the message of the GMS does not say why it was changed. After a removal
of a member the old Group Key must not be used any longer.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from cpns import messages, numbers, tuning
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotMember, Unknown
from gateway_agent.core.fields import Fields, listed, number, text
from gateway_agent.core.ports import NoAnswer
from gateway_agent.store.errors import StoreFailed
from gateway_agent.val_client.bridged_groups import BridgedGroup, BridgedGroups, following, group_key
from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_store import StoredGmk

_log = logging.getLogger(__name__)

RETRY_S = 10.0
LOOK_S = 30.0
"""Interval of the checks for a GMK that has become active, as no message announces that."""

AskServer = Callable[[bytes], Awaitable[bytes]]
"""A function that sends a message of the PN GW to its CPNS Server and returns the answer; it raises NoAnswer."""
HandleServer = Callable[[bytes], Awaitable[bytes]]
"""A function that passes a message of the CPNS Server to the PN GW and returns the answer; it raises CpnsError."""


@dataclass(frozen=True, slots=True)
class MappedGroup:
    """The VAL group `group` is the Service Group `sg_id` in this PN. `pnes`: the PNEs that may join, None for all.

    No other PN may use the same `sg_id`; a person best puts the PN ID into it.
    """

    group: str
    sg_id: str
    pnes: frozenset[str] | None = None
    protection: int = numbers.PROTECTION_SEALED
    rekey_on_join: bool = True


class ValClientUplink:
    """Implements `core.ports.Uplink`, and delivers keys from `start` on."""

    def __init__(
        self,
        client: ValClient,
        groups: BridgedGroups,
        pn_id: str,
        mappings: list[MappedGroup],
        handle_server: HandleServer,
        server: AskServer | None = None,
    ) -> None:
        """`handle_server` is that of the PN GW, which is called only after `start`. `server` passes requests about
        groups that are not mapped to the CPNS Server, None if there is none. Raises ValueError for a group mapped
        twice.
        """
        self._client = client
        self._groups = groups
        self._pn_id = pn_id
        self._by_sg = {mapping.sg_id: mapping for mapping in mappings}
        self._sg_of = {mapping.group: mapping.sg_id for mapping in mappings}
        if not len(self._by_sg) == len(self._sg_of) == len(mappings):
            raise ValueError("a group or SG ID is mapped twice")
        self._server = server
        self._handle = handle_server
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.counters: Counter[str] = Counter()
        self._answers: dict[int, Callable[[Fields], dict[int, object]]] = {
            numbers.JOIN_REQUEST: self._join,
            numbers.LEAVE_REQUEST: self._leave,
            numbers.DELIVERY_REPORT_REQUEST: self._report,
        }

    def start(self) -> None:
        """Begin to deliver. Keys that the PN GW has not acknowledged before are delivered again."""
        self._task = asyncio.create_task(self._run())

    def gmks_changed(self, groups: set[str]) -> None:
        """Deliver soon if one of these VAL groups, whose GMKs have changed, is mapped. The client calls this."""
        if not self._sg_of.keys().isdisjoint(groups):
            self._wake.set()

    async def close(self) -> None:
        """Stop delivering; it continues at the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    # upward

    async def request(self, message: bytes) -> bytes:
        """Answer a message of the PN GW about a mapped group, or pass it to the CPNS Server. Raises NoAnswer."""
        try:
            return await self._answer(message)
        except StoreFailed as error:
            raise NoAnswer(str(error)) from None

    async def _answer(self, message: bytes) -> bytes:
        code, fields = messages.decode(message, tuning.UPLINK_MESSAGE_MAX)
        if code == numbers.VERSION_LIST_REQUEST:
            return await self._version_list(fields)
        if code == numbers.RETIREMENT_REQUEST:
            return await self._retirement(message, fields)
        if fields.get(messages.SG_ID) not in self._by_sg:
            if self._server is None:
                raise NoAnswer("there is no CPNS Server, and no GMK is mapped to this Service Group")
            return await self._server(message)
        try:
            if fields.get(messages.PN_ID, self._pn_id) != self._pn_id:
                raise NotAllowed("another PN")
            if code not in self._answers:
                raise NotAllowed("this Service Group is made and deleted by its group management server")
            answer = {messages.RESULT: numbers.RESULT_SUCCESS, **self._answers[code](fields)}
        except CpnsError as error:
            self.counters["refused"] += 1
            return bytes(messages.failure(code, error))
        return bytes(messages.encode(code + 1, answer))

    def _join(self, fields: Fields) -> dict[int, object]:
        sg_id, pne_id = text(fields, messages.SG_ID), text(fields, messages.PNE_ID)
        mapping, group = self._by_sg[sg_id], self._groups.get(sg_id)
        if mapping.pnes is not None and pne_id not in mapping.pnes:
            raise NotAllowed(f"{pne_id} may not join {sg_id}")
        if fields.get(messages.TRUST) == numbers.TRUST_END_TO_END:
            raise NotAllowed(f"{sg_id} is not end-to-end: this gateway makes its keys from a GMK")
        profile = self._client.profile
        if profile is None or mapping.group not in profile.groups:
            raise Unknown(f"this gateway is not in the group of {sg_id}")
        if pne_id not in self._groups.members(sg_id):
            with self._groups.transaction():
                self._groups.add_member(sg_id, pne_id)
                group = self._changed_members(group, numbers.REASON_JOIN, rekey=mapping.rekey_on_join)
        floor = group.version - 1 if group.key_id else group.version
        return {
            messages.SG_ID: sg_id,
            messages.VERSION: max(0, floor),
            messages.PROTECTION: mapping.protection,
            messages.REVISION: group.revision,
            messages.PN_ID: self._pn_id,
        }

    def _leave(self, fields: Fields) -> dict[int, object]:
        sg_id, pne_id = text(fields, messages.SG_ID), text(fields, messages.PNE_ID)
        group = self._groups.get(sg_id)
        if pne_id not in self._groups.members(sg_id):
            raise NotMember(f"{pne_id} is no member of {sg_id}")
        with self._groups.transaction():
            self._groups.remove_member(sg_id, pne_id)
            group = self._changed_members(group, numbers.REASON_LEAVE, rekey=True)
        return {messages.SG_ID: sg_id, messages.REVISION: group.revision}

    def _report(self, fields: Fields) -> dict[int, object]:
        for name, label in (("confirmed", messages.CONFIRMED), ("unreachable", messages.UNREACHABLE)):
            self.counters[f"pnes_{name}"] += len(listed(fields, label))
        return {messages.SG_ID: text(fields, messages.SG_ID)}

    async def _retirement(self, message: bytes, fields: Fields) -> bytes:
        """Remove a retired name from the mapped groups, and pass the request to the CPNS Server, if there is one."""
        for sg_id in self._by_sg:
            with suppress(NotMember):
                self._leave({**fields, messages.SG_ID: sg_id})
        if self._server is not None:
            return await self._server(message)
        return bytes(messages.encode(numbers.RETIREMENT_RESPONSE, {messages.RESULT: numbers.RESULT_SUCCESS}))

    async def _version_list(self, fields: Fields) -> bytes:
        """Answer a version list: for the mapped groups here, for the others by the CPNS Server.

        A mapped group that the list does not name, or names with version 0, is delivered anew.
        """
        entries = fields.get(messages.VERSION_ENTRY, [])
        named = {sg_id: version for version, sg_id in entries} if isinstance(entries, list) else {}
        answer: dict[int, object] = {}
        others: object = []
        if self._server is not None:
            rest = dict(fields)
            rest.pop(messages.VERSION_ENTRY, None)
            if foreign := [(version, sg_id) for sg_id, version in named.items() if sg_id not in self._by_sg]:
                rest[messages.VERSION_ENTRY] = foreign
            _, answer = messages.decode(
                await self._server(messages.encode(numbers.VERSION_LIST_REQUEST, rest)),
                tuning.UPLINK_MESSAGE_MAX,
            )
            if answer[messages.RESULT] != numbers.RESULT_SUCCESS:
                return bytes(messages.encode(numbers.VERSION_LIST_RESPONSE, answer))
            others = answer.get(messages.VERSION_ENTRY, [])
        own = []
        for sg_id in self._by_sg:
            group = self._groups.get(sg_id)
            if not named.get(sg_id) and group.key_id:
                with self._groups.transaction():
                    self._groups.put(self._next(replace(group, told=0), group.key_id, numbers.REASON_LEAVE))
                self._wake.set()
            if group.acknowledged:
                own.append((group.acknowledged, sg_id))
        answer[messages.RESULT] = numbers.RESULT_SUCCESS
        if listing := [*(others if isinstance(others, list) else []), *own]:
            answer[messages.VERSION_ENTRY] = listing
        return bytes(messages.encode(numbers.VERSION_LIST_RESPONSE, answer))

    # downward

    async def deliver(self) -> bool:
        """Bring the PN GW up to date. Return False if the delivery of a group has failed."""
        done = True
        for mapping in self._by_sg.values():
            try:
                await self._deliver(mapping)
            except (CpnsError, StoreFailed) as error:
                self.counters["deliveries_failed"] += 1
                _log.warning("KC1312 %s is not delivered: %s", mapping.sg_id, error, extra={"sg_id": mapping.sg_id})
                done = False
        return done

    async def _deliver(self, mapping: MappedGroup) -> None:
        key = self._client.sending_key(mapping.group)
        group = self._follow_gmk(self._groups.get(mapping.sg_id), key)
        while not group.settled:
            if group.told < group.revision:
                await self._say(
                    numbers.INVENTORY_UPDATE_REQUEST,
                    {
                        messages.SG_ID: group.sg_id,
                        messages.PN_ID: self._pn_id,
                        messages.REVISION: group.revision,
                        messages.MEMBER: self._groups.members(group.sg_id),
                    },
                )
                self._put(replace(self._groups.get(group.sg_id), told=group.revision))
            elif key is not None and group.key_id == key.key_id:
                await self._say(numbers.GROUP_KEY_DELIVERY_REQUEST, self._key_fields(group, key))
                self._put(replace(self._groups.get(group.sg_id), acknowledged=group.version))
                self.counters["group_keys"] += 1
            else:
                await self._say(
                    numbers.DELETE_SERVICE_GROUP_REQUEST,
                    {messages.SG_ID: group.sg_id, messages.VERSION: group.version},
                )
                self._put(replace(self._groups.get(group.sg_id), acknowledged=group.version))
                self.counters["deleted"] += 1
            key = self._client.sending_key(mapping.group)
            group = self._follow_gmk(self._groups.get(mapping.sg_id), key)

    def _follow_gmk(self, group: BridgedGroup, key: StoredGmk | None) -> BridgedGroup:
        """Return the group, at its next version if the sending GMK has changed or is gone; store it."""
        with self._groups.transaction():
            if key is not None and key.key_id != group.key_id:
                # The GMK may be new because a member was removed (SEC-05).
                reason = numbers.REASON_LEAVE if group.version else numbers.REASON_CREATE
                group = self._next(replace(group, told=min(group.told, group.revision)), key.key_id, reason)
            elif key is None and group.key_id:
                # The PN GW tells the members that the group is deleted; they may join again.
                self._groups.remove_members(group.sg_id)
                group = self._next(group, b"", numbers.REASON_LEAVE)
                revision = group.revision + 1
                group = replace(group, revision=revision, told=revision)
            self._groups.put(group)
        return group

    def _next(self, group: BridgedGroup, key_id: bytes, reason: int) -> BridgedGroup:
        return replace(group, version=following(group.version), key_id=key_id, reason=reason)

    def _changed_members(self, group: BridgedGroup, reason: int, *, rekey: bool) -> BridgedGroup:
        """Store the next revision and, for `rekey`, a new version of the same GMK. Called inside a transaction."""
        group = replace(group, revision=group.revision + 1)
        if rekey and group.key_id:
            group = self._next(group, group.key_id, reason)
        self._groups.put(group)
        self._wake.set()
        return group

    def _key_fields(self, group: BridgedGroup, key: StoredGmk) -> dict[int, object]:
        return {
            messages.SG_ID: group.sg_id,
            messages.GROUP_KEY: [(group_key(key.gmk, group.sg_id, group.version), None)],
            messages.VERSION: group.version,
            messages.ACTIVATION: 0,
            messages.REASON: group.reason,
            messages.REVISION: group.revision,
        }

    async def _say(self, code: int, fields: dict[int, object]) -> None:
        if not fields.get(messages.MEMBER, True):
            del fields[messages.MEMBER]
        answer_code, answer = messages.decode(
            await self._handle(messages.encode(code, fields)), tuning.UPLINK_MESSAGE_MAX
        )
        if answer_code != code + 1:
            raise MalformedMessage(f"message {answer_code} answers message {code}")
        if answer[messages.RESULT] != numbers.RESULT_SUCCESS:
            refused = NotAllowed(str(answer.get(messages.ERROR_TEXT, "refused")))
            if number(answer, messages.ERROR) != numbers.ERROR_STALE:
                raise refused
            # The PN GW has a later version than this file, which must be from a backup.
            raise NotAllowed(f"{refused.reason}: run `keycast gateway restore`")

    def _put(self, group: BridgedGroup) -> None:
        with self._groups.transaction():
            self._groups.put(group)

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            done = await self.deliver()
            try:
                async with asyncio.timeout(LOOK_S if done else RETRY_S):
                    await self._wake.wait()
            except TimeoutError:
                continue
