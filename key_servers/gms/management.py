"""Groups, members, affiliations and GMKs: the requests of operators and users to a GMS, each in one transaction.

A change ends with `_plan`: every notification that becomes due is in the store before the change is acknowledged, and
every one that is not due any more is cancelled there.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace

from cpns import name_rule
from key_servers.errors import NotPossible, ServerError
from key_servers.gms import store, tuning
from key_servers.gms.delivery import OPEN, Event, NoticeDelivery, State, step
from key_servers.gms.values import Affiliation, Key, KeyState, ValGroup, ValMember, ValUser, entitled
from key_servers.https import tokens
from key_servers.https.tokens import StoredToken
from key_servers.sql import Database, Transaction, again
from mikey_sakke.group_configuration import KEY, REVOCATION, TEXT_MAX, URI_MAX
from mikey_sakke.identifiers import PURPOSE_GMK

_log = logging.getLogger(__name__)

Clock = Callable[[], int]
RandomOctets = Callable[[int], bytes]


class NotPermitted(ServerError):
    """The user is not authorised for the request."""


class GroupManagement:
    """The rules of a GMS. `changed(user)` is called after a commit that gave the user something to fetch."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        random: RandomOctets,
        changed: Callable[[str], None],
    ) -> None:
        """Keep the parts. `random(n)` returns n octets from the operating system's generator."""
        self._database = database
        self._clock = clock
        self._random = random
        self._changed = changed

    # operators

    @again
    async def add_user(self, uri: str, days: int = tuning.TOKEN_DAYS) -> str:
        """Permit a user the services of group management. Return its token, which is stored nowhere."""
        _require_name(uri, "The user URI", URI_MAX)
        drawn, stored = tokens.draw(uri, self._clock() + days * 86400, self._random)
        async with self._database.transaction() as sql:
            present = await store.user(sql, uri)
            await store.put_user(sql, ValUser(uri, True, present.authorised_until if present else 0))
            await store.put_token(sql, stored)
        return drawn

    @again
    async def withdraw_user(self, uri: str) -> bool:
        """Withdraw the permission: the user leaves every list, and gets nothing more. Raise NotPossible.

        Return False if it had been withdrawn before.
        """
        async with self._database.transaction() as sql:
            known = await store.user(sql, uri)
            if known is None:
                raise NotPossible(f"There is no user {uri}.")
            lists = [member.group for member in await store.memberships(sql, uri)]
        for group in lists:
            await self.remove_member(group, uri)
        async with self._database.transaction() as sql:
            await store.put_user(sql, ValUser(uri, False, 0))
        self._changed(uri)
        return known.permitted

    @again
    async def create_group(self, uri: str, name: str = "", *, rekey_on_removal: bool = True) -> None:
        """Make a group without members and without key. `rekey_on_removal` is its security profile (SEAL-GMK-48)."""
        _require_name(uri, "The group URI", URI_MAX)
        if name:
            _require_name(name, "The name", TEXT_MAX)
        async with self._database.transaction() as sql:
            if await store.group(sql, uri) is not None:
                raise NotPossible(f"There is a group {uri} already.")
            await store.add_group(sql, ValGroup(uri, name, rekey_on_removal))

    @again
    async def add_member(self, group: str, user: str, affiliation: Affiliation) -> None:
        """Put a permitted user on the list of a group.

        An IMPLICIT member is affiliated and subscribed by that (SEAL-GMK-37); an EXPLICIT one does both itself. Raise
        NotPossible.
        """
        async with self._database.transaction() as sql:
            await self._group(sql, group)
            if (known := await store.user(sql, user)) is None or not known.permitted:
                raise NotPossible(f"{user} is no permitted user of this GMS.")
            if await store.member(sql, group, user) is not None:
                raise NotPossible(f"{user} is on the list of {group} already.")
            at_once = affiliation is Affiliation.IMPLICIT
            await store.put_member(sql, ValMember(group, user, affiliation, at_once, at_once))
            await self._plan(sql, user)
        self._changed(user)

    @again
    async def remove_member(self, group: str, user: str) -> str | None:
        """Take a user from the list; by the group's security profile its key is changed (SEAL-GMK-48).

        Returns the GMK-ID of the new key, None where there is none. Raises NotPossible.
        """
        async with self._database.transaction() as sql:
            profile = await self._group(sql, group)
            if await store.member(sql, group, user) is None:
                raise NotPossible(f"{user} is not on the list of {group}.")
            await store.remove_member(sql, group, user)
            made, told = await self._after_removal(sql, profile, user)
        self._tell(told)
        return made

    @again
    async def make_key(self, groups: Iterable[str], *, text: str = "", activation: int = 0, expiry: int = 0) -> str:
        """Make a GMK for one group, or one that several groups share (SEAL-GMK-06), and return its GMK-ID.

        Keys that the groups had are retired, not revoked. Times are Unix seconds; 0 means at once, and never. Raise
        NotPossible.
        """
        wanted = tuple(sorted(set(groups)))
        now = self._clock()
        if not 1 <= len(wanted) <= tuning.GROUPS_OF_A_KEY_MAX:
            raise NotPossible(f"A key serves 1 to {tuning.GROUPS_OF_A_KEY_MAX} groups.")
        if expiry and expiry <= max(now, activation):
            raise NotPossible("A key must expire after now and after its activation.")
        _require_text(text, "The text of a key", TEXT_MAX)
        if sum(len(each.encode()) for each in (*wanted, text)) > tuning.NAMES_OF_A_KEY_MAX:
            raise NotPossible(f"Groups and text of a key have at most {tuning.NAMES_OF_A_KEY_MAX} octets together.")
        async with self._database.transaction() as sql:
            for group in wanted:
                await self._group(sql, group)
            key_id, told = await self._make_key(sql, wanted, text, activation, expiry)
        self._tell(told)
        return key_id

    @again
    async def revoke_key(self, key_id: str) -> bool:
        """Tell every holder that the key must not be used, until each has acknowledged it (MC-GMK-22).

        Return False if it had been revoked before. Raise NotPossible.
        """
        async with self._database.transaction() as sql:
            if (key := await store.key(sql, key_id)) is None:
                raise NotPossible(f"There is no key {key_id}.")
            told = await self._revoke(sql, key)
        if not told:
            await self._database.erase_log()
        self._tell(told)
        return key.state is not KeyState.REVOKED

    @again
    async def retry(self, key_id: str, user: str | None = None) -> int:
        """Offer a key again to users that refused it or never answered; return their number. Raise NotPossible.

        With `user` it is offered to that user alone, even if it has answered, as its client may have lost its keys
        since.
        """
        told = set()
        async with self._database.transaction() as sql:
            if await store.key(sql, key_id) is None:
                raise NotPossible(f"There is no key {key_id}.")
            if user is not None:
                await self._forget_delivered(sql, key_id, user)
                await self._plan(sql, user)
                due = [each for each in await store.open_deliveries(sql, user) if each.key_id == key_id]
                if not due:
                    raise NotPossible(f"{key_id} is no key for {user} now.")
                told.add(user)
            for delivery in await store.deliveries_of(sql, key_id):
                again, _ = step(delivery, Event.RETRY, self._clock())
                if again != delivery and user in (None, delivery.user):
                    await store.change_delivery(sql, again)
                    told.add(delivery.user)
        self._tell(told)
        return len(told)

    @again
    async def groups(self) -> list[tuple[ValGroup, list[ValMember], list[Key]]]:
        """Return all groups with their lists and keys; `repr` of a key does not show it."""
        async with self._database.transaction() as sql:
            return [
                (group, await store.members(sql, group.uri), await store.keys_of(sql, group.uri))
                for group in await store.groups(sql)
            ]

    @again
    async def deliveries(self, key_id: str) -> list[NoticeDelivery]:
        """Return the answers and errors to a key's notifications, by user."""
        async with self._database.transaction() as sql:
            return await store.deliveries_of(sql, key_id)

    @again
    async def require_key(self, key_id: str) -> None:
        """Raise NotPossible if no key has that GMK-ID."""
        async with self._database.transaction() as sql:
            if await store.key(sql, key_id) is None:
                raise NotPossible(f"There is no key {key_id}.")

    # users, who have been authenticated by their token

    @again
    async def token(self, token_id: str) -> StoredToken | None:
        """Return the stored token with that id."""
        async with self._database.transaction() as sql:
            return await store.token(sql, token_id)

    @again
    async def authorise(self, user: str) -> int:
        """Authorise the user for group management services (SEAL-GMK-38, -41). Return the end in Unix seconds.

        Raise NotPermitted.
        """
        until = self._clock() + tuning.AUTHORISATION_S
        async with self._database.transaction() as sql:
            known = await store.user(sql, user)
            if known is None or not known.permitted:
                raise NotPermitted(f"{user} has no permission for group management services.")
            await store.put_user(sql, replace(known, authorised_until=until))
            await self._plan(sql, user)
        self._changed(user)
        return until

    @again
    async def affiliate(self, user: str, group: str) -> None:
        """Affiliate a user that is on the list and does so itself. Raise NotPermitted."""
        async with self._database.transaction() as sql:
            member = await self._authorised_member(sql, user, group)
            await store.put_member(sql, replace(member, affiliated=True))
            await self._plan(sql, user)
        self._changed(user)

    @again
    async def subscribe(self, user: str, group: str) -> None:
        """Subscribe to group updates; only a user that is authorised and affiliated may (SEAL-GMK-41, -42).

        Raise NotPermitted.
        """
        async with self._database.transaction() as sql:
            member = await self._authorised_member(sql, user, group)
            if not member.affiliated:
                raise NotPermitted(f"{user} is not affiliated to {group}.")
            await store.put_member(sql, replace(member, subscribed=True))
            await self._plan(sql, user)
        self._changed(user)

    @again
    async def leave(self, user: str, group: str) -> None:
        """End affiliation and subscription. The user stays on the list; the key changes as on a removal."""
        async with self._database.transaction() as sql:
            member = await store.member(sql, group, user)
            if member is None:
                raise NotPermitted(f"{user} is not on the list of {group}.")
            await store.put_member(sql, replace(member, affiliated=False, subscribed=False))
            _, told = await self._after_removal(sql, await self._group(sql, group), user)
        self._tell(told)

    # inside a transaction; the sets returned are the users to tell after the commit

    async def _after_removal(self, sql: Transaction, group: ValGroup, user: str) -> tuple[str | None, set[str]]:
        told, made = {user}, None
        live = [key for key in await store.keys_of(sql, group.uri) if key.state is KeyState.LIVE]
        if group.rekey_on_removal and live:
            # one new key for all groups that shared the old one and that the user is not in
            shared = {each for key in live for each in key.groups}
            moved = [each for each in sorted(shared) if not await self._is_in(sql, each, user)]
            newest = live[-1]
            made, more = await self._make_key(sql, tuple(moved), newest.text, 0, newest.expiry, revoke=True)
            told |= more
        for key in await store.keys_of(sql, group.uri):
            if key.state is KeyState.LIVE:
                await self._forget_delivered(sql, key.key_id, user)
        await self._plan(sql, user)
        return made, told

    async def _forget_delivered(self, sql: Transaction, key_id: str, user: str) -> None:
        """Forget that the key was delivered, as the user's client erases it with the group."""
        for delivery in await store.user_deliveries(sql, key_id, user):
            if delivery.purpose == KEY:
                after, _ = step(delivery, Event.LEFT, self._clock())
                if after != delivery:
                    await store.change_delivery(sql, after)

    async def _make_key(
        self, sql: Transaction, groups: tuple[str, ...], text: str, activation: int, expiry: int, revoke: bool = False
    ) -> tuple[str, set[str]]:
        key = Key(await self._new_key_id(sql), self._random(16), activation, expiry, text, KeyState.LIVE, groups)
        told = set()
        for group in groups:
            for old in await store.keys_of(sql, group):
                if old.state is not KeyState.LIVE:
                    continue
                remaining = set(old.groups) - set(groups)
                if remaining:  # groups that keep the old key
                    await store.take_group_from_key(sql, old.key_id, group)
                else:
                    await store.set_key_state(sql, old.key_id, KeyState.RETIRED)
        await store.add_key(sql, key, self._clock())
        users = {member.user for group in groups for member in await store.members(sql, group)}
        for user in users:
            await self._plan(sql, user)
        told |= users
        if revoke:  # after the new key, so that no member is without a key
            for group in groups:
                for old in await store.keys_of(sql, group):
                    if old.state is KeyState.RETIRED:
                        told |= await self._revoke(sql, old)
        _log.info("GMK %s made for %s", key.key_id, ", ".join(groups))
        return key.key_id, told

    async def _revoke(self, sql: Transaction, key: Key) -> set[str]:
        await store.set_key_state(sql, key.key_id, KeyState.REVOKED)
        told: set[str] = set()
        if key.gmk is None:
            return told
        for delivery in reversed(await store.deliveries_of(sql, key.key_id)):  # the last one names the present groups
            if delivery.purpose == KEY and delivery.state in OPEN:
                cancelled, _ = step(delivery, Event.CANCELLED, self._clock())
                await store.change_delivery(sql, cancelled)
            if delivery.purpose == REVOCATION or not delivery.attempts or delivery.user in told:
                continue
            if not any([await self._is_in(sql, group, delivery.user) for group in key.groups]):
                continue  # removed users learn it from their profile (SEAL-GMK-45)
            await store.add_delivery(sql, self._delivery(key, delivery.user, REVOCATION, delivery.groups))
            told.add(delivery.user)
        if not told:
            await store.erase_key(sql, key.key_id)
        return told

    async def _plan(self, sql: Transaction, user: str) -> None:
        """Make the open deliveries of a user those that its memberships require."""
        wanted: dict[str, Key] = {}
        groups: dict[str, list[str]] = {}
        for member in await store.memberships(sql, user):
            if not (member.affiliated and member.subscribed):
                continue
            for key in await store.keys_of(sql, member.group):
                if key.state is KeyState.LIVE:
                    wanted[key.key_id] = key
                    groups.setdefault(key.key_id, []).append(member.group)
        for delivery in await store.open_deliveries(sql, user):
            if delivery.purpose == KEY and tuple(groups.get(delivery.key_id, ())) != delivery.groups:
                cancelled, _ = step(delivery, Event.CANCELLED, self._clock())
                await store.change_delivery(sql, cancelled)
        for key_id, key in wanted.items():
            sent = await store.user_deliveries(sql, key_id, user)
            last = next((each for each in reversed(sent) if each.state not in (State.CANCELLED, State.OVER)), None)
            if last is None or not set(groups[key_id]) <= set(last.groups):
                await store.add_delivery(sql, self._delivery(key, user, KEY, tuple(groups[key_id])))

    def _delivery(self, key: Key, user: str, purpose: str, groups: tuple[str, ...]) -> NoticeDelivery:
        return NoticeDelivery(self._random(12).hex(), key.key_id, user, purpose, groups, due=self._clock())

    async def _is_in(self, sql: Transaction, group: str, user: str) -> bool:
        member = await store.member(sql, group, user)
        return member is not None and member.affiliated

    async def _group(self, sql: Transaction, uri: str) -> ValGroup:
        group = await store.group(sql, uri)
        if group is None:
            raise NotPossible(f"There is no group {uri}.")
        return group

    async def _authorised_member(self, sql: Transaction, user: str, group: str) -> ValMember:
        known, member = await store.user(sql, user), await store.member(sql, group, user)
        if known is None or member is None:
            raise NotPermitted(f"{user} is not on the list of {group}.")
        # a user that would be entitled if it were affiliated and subscribed lacks only these two
        if not entitled(known, replace(member, affiliated=True, subscribed=True), self._clock()):
            raise NotPermitted(f"{user} is not authorised for group management services.")
        return member

    async def _new_key_id(self, sql: Transaction) -> str:
        """Return 28 random bits that no key of this GMS ever had, after the purpose tag of a GMK."""
        for _ in range(tuning.KEY_ID_DRAWS):
            number = int.from_bytes(self._random(4), "big") & ((1 << tuning.KEY_ID_BITS) - 1)
            key_id = (PURPOSE_GMK << tuning.KEY_ID_BITS | number).to_bytes(4, "big").hex()
            if not await store.key_id_used(sql, key_id):
                return key_id
        raise NotPossible("Nearly all key identifiers are used.", "Start another GMS with another server URI.")

    def _tell(self, users: Iterable[str]) -> None:
        for user in users:
            self._changed(user)


def _require_name(text: str, what: str, limit: int) -> None:
    wrong = name_rule.fault(text, limit)
    if wrong is not None:
        raise NotPossible(f"{what} {wrong}.")


def _require_text(text: str, what: str, limit: int) -> None:
    if len(text.encode()) > limit or not text.isprintable():
        raise NotPossible(f"{what} has at most {limit} octets and no control characters.")
