"""The VAL/MC client of one user: it processes notifications of its GMSs and its profile, and stores and selects GMKs.

It has no sockets: `servers` passes it requests and sends its answers, `uplink` uses the keys.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from gateway_agent.core import events
from gateway_agent.core.events import Tell
from gateway_agent.val_client.gmk_checks import GmkVerdict, Known, Settings, judge
from gateway_agent.val_client.gmk_store import GmkStore, StoredGmk
from mikey_sakke import i_message
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key, proof
from mikey_sakke.errors import MikeyError, NoKeyForPeriod, UnauthorisedGroup, WrongInitiator, WrongReceiver
from mikey_sakke.group_configuration import TEXT_MAX, NotifyRequest, NotifyResponse, UserProfile
from mikey_sakke.identifiers import NTP_OFFSET

_log = logging.getLogger(__name__)

RefreshProfile = Callable[[], Awaitable[None]]
"""A function that fetches the user profile of this moment from the CMS and applies it. A failure changes nothing."""


class OpeningKeys(Protocol):
    """The user's identity-specific keys from its KMS (`key_material.UserKeys`)."""

    kms: Any

    def decryption_key(self, number: int) -> Any:
        """Return the key that opens messages of a key period, None if there is none."""


class ValClient:
    """The client of one VAL user. It is not thread-safe.

    `keys` returns the UserKeys of the user, None before the first provisioning (SEAL-GMK-19, MC-GMK-04). `changed` is
    called with the URIs of groups after a commit that has changed their GMKs.
    """

    def __init__(
        self,
        user: str,
        store: GmkStore,
        keys: Callable[[], OpeningKeys | None],
        clock: Callable[[], int],
        settings: Settings | None = None,
        changed: Callable[[set[str]], None] = lambda groups: None,
        tell: Tell = events.nobody,
        over: Callable[[], int] | None = None,
    ) -> None:
        """`clock` returns Unix seconds; `over` returns the time by which expired keys are erased, by default `clock`'s.

        `store` must be used by this client only. `tell` is called with events about GMKs.
        """
        self.user = user
        self.settings = settings or Settings()
        self.counters: Counter[str] = Counter()
        self._changed = changed
        self._tell = tell
        self._store = store
        self._keys = keys
        self._clock = clock
        self._over = over or clock
        self._turn = asyncio.Lock()

    async def take(self, request: NotifyRequest, refresh_profile: RefreshProfile | None = None) -> NotifyResponse:
        """Process a *Notify group configuration request* and return the response.

        The response confirms the key when it is accepted and stored (SEAL-GMK-34, -35); otherwise it has the error, and
        nothing is stored (SEAL-GMK-33, MC-GMK-17). `refresh_profile` is used before a refusal for lack of rights, as a
        change of the profile may arrive later than the notification that depends on it.
        """
        async with self._turn:
            try:
                response = await self._accept_with_profile_of_now(request, refresh_profile)
            except MikeyError as error:
                self.counters[f"refused.{error.code}"] += 1
                _log.warning("KC1306 a key of %s was refused: %s", request.gms, error)
                return NotifyResponse(request.notice_id, code=error.code, text=shortened(str(error)))
        self.counters["accepted"] += 1
        return response

    def apply_profile(self, profile: UserProfile) -> set[str]:
        """Store a user profile and return the groups that are not in it any more, which end at once (SEAL-GMK-45..47).

        A profile that is older than the last one is ignored, as it may be a repetition. Raises WrongReceiver for the
        profile of another user.
        """
        if profile.user != self.user:
            raise WrongReceiver(f"the profile is of {profile.user}")
        last = self._store.profile(self.user)
        if last is not None and profile.revision < last.revision:
            self.counters["profiles.old"] += 1
            return set()
        before = {} if last is None else last.groups
        # a group that another GMS manages now is another group, for which its old keys are not valid
        gone = {group for group, gms in before.items() if profile.groups.get(group) != gms}
        with self._store.transaction():
            self._store.put_profile(profile)
            erased = [key_id for group in sorted(gone) for key_id in self._store.take_group(group)]
        for key_id in erased:
            _log.info("GMK %s erased: it serves no group of %s any more", key_id.hex(), self.user)
        if gone:
            self._changed(gone)
        return gone

    @property
    def profile(self) -> UserProfile | None:
        """The last user profile, None if there is none yet."""
        return self._store.profile(self.user)

    def sending_key(self, group: str) -> StoredGmk | None:
        """Return the active GMK with the most recent Activation Time (SEAL-GMK-09), None if no GMK is active.

        Of GMKs with the same time it is the one that came last.
        """
        now = self._clock()
        active = [key for key in self._store.of_group(group) if key.active(now)]
        return max(reversed(active), key=lambda key: key.effective, default=None)

    def receiving_keys(self, group: str) -> list[StoredGmk]:
        """Return every active GMK of the group (SEAL-GMK-08)."""
        return [key for key in self._store.of_group(group) if key.active(self._clock())]

    async def ready(self) -> None:
        """Return at once, because this client can always process notices."""

    def tick(self) -> None:
        """Erase the GMKs that have expired."""
        with self._store.transaction():
            groups = self._store.forget_past(self._over())
        if groups:
            self._changed(set(groups))

    async def _accept_with_profile_of_now(
        self, request: NotifyRequest, refresh_profile: RefreshProfile | None
    ) -> NotifyResponse:
        """Process a request; before a refusal for lack of rights, fetch the profile and try once more.

        A user that was just added to a group may get the notice of the GMS before the new profile of the CMS.
        """
        before = self.profile
        try:
            return await self._accept(request)
        except (UnauthorisedGroup, WrongInitiator):
            if refresh_profile is None:
                raise
            await refresh_profile()
            if self.profile == before:
                raise
        return await self._accept(request)

    async def _accept(self, request: NotifyRequest) -> NotifyResponse:
        received = await self._open(request)
        # From here to the commit nothing else runs, so profile and keys are those of one moment.
        profile = self._store.profile(self.user)
        if profile is None:
            raise UnauthorisedGroup("there is no user profile yet")
        held = self._store.get(received.key_id)
        known = Known(
            held,
            self._store.is_revoked(received.initiator_uri, received.key_id),
            self._store.is_seen(received.digest),
        )
        now = self._clock()
        verdict = judge(received, request, profile, known, self.settings, now)
        key = self._stored(received)
        touched = set(key.groups)
        with self._store.transaction():
            self._store.set_seen(received.digest, received.ntp_seconds - NTP_OFFSET + 2 * self.settings.window_s)
            if verdict is GmkVerdict.REVOKE:
                touched |= set(held.groups) if held else set()
                self._store.erase(received.key_id)
                self._store.set_revoked(received.initiator_uri, received.key_id)
            elif verdict is GmkVerdict.STORE:
                self._store.put(key)
            else:
                touched -= set(held.groups) if held else set()
                self._store.add_groups(received.key_id, key.groups)
        if verdict is GmkVerdict.REVOKE:
            self._tell(events.GmkRevoked(self.user, received.key_id.hex(), tuple(sorted(touched))))
        elif verdict is GmkVerdict.STORE:
            self._tell(events.GmkArrived(self.user, received.key_id.hex(), key.groups))
        if touched:
            self._changed(touched)
        answer = proof(key.endpoint_key, request.notice_id, key.key_id)
        return NotifyResponse(request.notice_id, key.key_id, answer)

    async def _open(self, request: NotifyRequest) -> Any:
        if request.user != self.user:
            raise WrongReceiver(f"the notification is for {request.user}")
        profile, keys, now = self.profile, self._keys(), self._clock()
        if keys is None:
            raise NoKeyForPeriod("no key material from the KMS yet")
        initiators = sorted(set(profile.groups.values())) if profile else []
        window = (now + NTP_OFFSET - self.settings.window_s, now + NTP_OFFSET + self.settings.window_s)
        # tens of milliseconds of arithmetic, which must not block the thread of the gateway's links
        return await asyncio.to_thread(
            i_message.open_, request.i_message, keys.kms, self.user, keys.decryption_key, initiators, window
        )

    def _stored(self, received: Any) -> StoredGmk:
        parameters = received.parameters
        return StoredGmk(
            received.key_id,
            received.initiator_uri,
            received.key,
            received.guk_id,
            endpoint_key(received.key, SERVICE_GROUP_MANAGEMENT, self.user, received.guk_id),
            parameters.activation,
            parameters.activation or received.ntp_seconds - NTP_OFFSET,
            parameters.expiry,
            parameters.text,
            tuple(sorted(set(parameters.groups))),
        )


def shortened(text: str) -> str:
    """Return `text` cut to the TEXT_MAX octets of a response, with "?" for characters that cannot be printed."""
    clean = "".join(each if each.isprintable() else "?" for each in text)
    return clean.encode()[:TEXT_MAX].decode(errors="ignore")
