"""Hands notifications to the users that fetch them, and accepts their answers.

A user keeps one request open (long poll), so a notification reaches it at once, through any router, and the user needs
no certificate. A message is made when it is handed out: its time is fresh, and a user that left meanwhile gets nothing.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from cpns.crypto.compare import equal
from key_servers.errors import ServerError
from key_servers.gms import store, tuning
from key_servers.gms.delivery import Event, NoticeDelivery, State, step
from key_servers.gms.maker import Maker, Order
from key_servers.gms.provisioning import OwnKeys
from key_servers.gms.values import Key, KeyState, ValGroup, entitled
from key_servers.sql import Database, Transaction, again
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key, proof
from mikey_sakke.group_configuration import (
    KEY,
    NOTICES_MAX,
    REVOCATION,
    GroupRecord,
    NotifyRequest,
    NotifyResponse,
)
from mikey_sakke.identifiers import guk_id
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED

_log = logging.getLogger(__name__)

Clock = Callable[[], int]


class ResponseRefused(ServerError):
    """An answer belongs to no request to this user, or lacks the proof that the GMK arrived."""


@dataclass(frozen=True, slots=True)
class _Parcel:
    delivery: NoticeDelivery
    key: Key
    records: tuple[ValGroup, ...]


class NoticeCourier:
    """Hands out the notifications of a GMS. `counters` counts by name what was handed out and answered."""

    def __init__(
        self, database: Database, gms_uri: str, keys: OwnKeys, maker: Maker, clock: Clock, counters: Counter[str]
    ) -> None:
        self._database = database
        self._gms_uri = gms_uri
        self._keys = keys
        self._maker = maker
        self._clock = clock
        self._counters = counters
        self._bells: dict[str, asyncio.Event] = {}

    def changed(self, user: str) -> None:
        """Wake the open request of `user`, as there may be something to fetch."""
        if user in self._bells:
            self._bells[user].set()

    async def fetch(self, user: str, wait_s: float) -> list[NotifyRequest]:
        """Return the *Notify group configuration requests* due to `user`; wait up to `wait_s` for the first one.

        Each carries the record of its groups and the I_MESSAGE (SEAL-GMK-18, -39, -43). Raises ServerError.
        """
        ends = asyncio.get_running_loop().time() + min(wait_s, tuning.LONG_POLL_MAX_S)
        bell = asyncio.Event()
        self.changed(user)
        self._bells[user] = bell  # a newer request of the same user takes the place of an older one
        try:
            while self._bells.get(user) is bell:
                bell.clear()
                found = await self._take(user)
                left = ends - asyncio.get_running_loop().time()
                if found or left <= 0:
                    return found
                try:
                    async with asyncio.timeout(min(left, await self._next_due_s(user))):
                        await bell.wait()
                except TimeoutError:
                    continue
            return []
        finally:
            if self._bells.get(user) is bell:
                del self._bells[user]

    @again
    async def answered(self, user: str, response: NotifyResponse) -> None:
        """Note a *Notify group configuration response* or an error. Raises ResponseRefused."""
        erased = False
        async with self._database.transaction() as sql:
            delivery = await store.delivery(sql, response.notice_id)
            if delivery is None or delivery.user != user or not delivery.attempts:
                raise ResponseRefused("There is no such notification to this user.")
            if response.code:
                after, _ = step(delivery, Event.REFUSED, self._clock(), response.code, response.text)
            else:
                key = await store.key(sql, delivery.key_id)
                if key is None or key.gmk is None:
                    after = delivery  # a repeated answer after the last one: the key is erased
                elif not self._proven(key.key_id, key.gmk, user, response):
                    raise ResponseRefused("The proof that the GMK arrived is wrong.")
                else:
                    after, _ = step(delivery, Event.ANSWERED, self._clock())
            if after != delivery:
                await store.change_delivery(sql, after)
                self._counters[f"deliveries.{after.state}"] += 1
            if delivery.purpose == REVOCATION and after.state is State.DONE:
                erased = await self._forget(sql, delivery.key_id)
        if erased:
            await self._database.erase_log()
        if response.code:
            _log.warning("KC2301 %s refused key %s: %s, %s", user, delivery.key_id, response.code, response.text)
        elif after != delivery:
            what = "the revocation of GMK" if delivery.purpose == REVOCATION else "GMK"
            _log.info("%s has acknowledged %s %s", user, what, delivery.key_id)

    def _proven(self, key_id: str, gmk: bytes, user: str, response: NotifyResponse) -> bool:
        name = bytes.fromhex(key_id)
        secret = endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, user, guk_id(name, gmk, user))
        return response.key_id == name and bool(equal(response.proof, proof(secret, response.notice_id, name)))

    async def _take(self, user: str) -> list[NotifyRequest]:
        now = self._clock()
        parcels = await self._due(user, now)
        if not parcels:
            return []
        material = await self._keys.material(now)
        made = await self._maker.make([_order(parcel) for parcel in parcels], material, now)
        still = await self._still_due(parcels, now)  # a user that was removed meanwhile gets nothing
        messages = dict(zip((parcel.delivery.notice_id for parcel in parcels), made, strict=True))
        self._counters["notifications"] += len(still)
        return [
            NotifyRequest(
                parcel.delivery.notice_id,
                self._gms_uri,
                user,
                parcel.delivery.purpose,
                tuple(GroupRecord(group.uri, group.name) for group in parcel.records),
                messages[parcel.delivery.notice_id],
            )
            for parcel in still
        ]

    @again
    async def _due(self, user: str, now: int) -> list[_Parcel]:
        async with self._database.transaction() as sql:
            return await self._found_due(sql, user, now)

    @again
    async def _still_due(self, parcels: list[_Parcel], now: int) -> list[_Parcel]:
        async with self._database.transaction() as sql:
            return [parcel for parcel in parcels if await self._is_due(sql, parcel, now)]

    async def _found_due(self, sql: Transaction, user: str, now: int) -> list[_Parcel]:
        found: list[_Parcel] = []
        for delivery in await store.open_deliveries(sql, user):
            if len(found) == NOTICES_MAX:
                break
            if not await self._entitled(sql, delivery, now):
                continue
            key = await store.key(sql, delivery.key_id)
            if key is None or key.gmk is None:
                after, send = step(delivery, Event.CANCELLED, now)
            elif delivery.purpose == KEY and key.expiry and now >= key.expiry:
                after, send = step(delivery, Event.EXPIRED, now)
            else:
                after, send = step(delivery, Event.ASKED, now)
            if after != delivery:
                await store.change_delivery(sql, after)
            if send and key is not None:
                records = [await store.group(sql, uri) for uri in delivery.groups]
                found.append(_Parcel(after, key, tuple(group for group in records if group is not None)))
        return found

    async def _is_due(self, sql: Transaction, parcel: _Parcel, now: int) -> bool:
        delivery = await store.delivery(sql, parcel.delivery.notice_id)
        if delivery is None or delivery.state is not State.OFFERED:
            return False
        return await self._entitled(sql, delivery, now)

    async def _entitled(self, sql: Transaction, delivery: NoticeDelivery, now: int) -> bool:
        """Return True if the user may get the message.

        A key needs a right to every group named; a revocation needs a right to one of them.
        """
        user = await store.user(sql, delivery.user)
        verdicts = [entitled(user, await store.member(sql, group, delivery.user), now) for group in delivery.groups]
        return all(verdicts) if delivery.purpose == KEY else any(verdicts)

    @again
    async def _next_due_s(self, user: str) -> float:
        async with self._database.transaction() as sql:
            waiting = [delivery.due for delivery in await store.open_deliveries(sql, user)]
        due_s = min(waiting) - self._clock() if waiting else tuning.LOOK_EVERY_S
        return float(max(1, min(due_s, tuning.LOOK_EVERY_S)))

    async def _forget(self, sql: Transaction, key_id: str) -> bool:
        """Erase a revoked key when every holder has acknowledged; return True if it was erased."""
        key = await store.key(sql, key_id)
        missing = [
            each
            for each in await store.deliveries_of(sql, key_id)
            if each.purpose == REVOCATION and each.state is not State.DONE
        ]
        if key is None or key.state is not KeyState.REVOKED or missing:
            return False
        await store.erase_key(sql, key_id)
        return True


def _order(parcel: _Parcel) -> Order:
    key, delivery = parcel.key, parcel.delivery
    if key.gmk is None:
        raise AssertionError("a parcel without key")
    status = 0 if delivery.purpose == REVOCATION else STATUS_NOT_REVOKED
    name = bytes.fromhex(key.key_id)
    return Order(delivery.user, key.gmk, name, status, key.activation, key.expiry, key.text, delivery.groups)
