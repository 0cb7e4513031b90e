"""PNEs that are VAL clients themselves: the gateway transports their key messages and cannot open them.

Each has one `BoardUser`, in the place that a `ValClient` has for the gateway's own user: `servers.Servers` passes it
the notices of the group management servers and sends the answers. The gateway has the user's tokens for CMS and GMS.
It has no RSK of the user, so it can neither read a GMK nor prove that one arrived.

A notice without an answer is not repeated here, because the GMS makes its message anew with a fresh time. No notices
are fetched while the PNE is away, because the GMS gives up after a number of unanswered notices.
"""

import asyncio
import datetime
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from cpns import cborlite, tuning
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, TooMany
from gateway_agent.core.background import Background
from gateway_agent.core.rates import Rate
from gateway_agent.val_client.client import RefreshProfile, shortened
from mikey_sakke.errors import NoKeyForPeriod, UnauthorisedGroup, WrongInitiator, WrongReceiver
from mikey_sakke.group_configuration import NotifyRequest, NotifyResponse, UserProfile

_log = logging.getLogger(__name__)

THERE = cborlite.encode([])
PROFILE = "profile"
TOO_LARGE = "too-large"
BY_PROFILE = (UnauthorisedGroup.code, WrongInitiator.code)
ANSWER_S = 240.0
"""An ESP32 needs tens of seconds for a message, and restarts twice for it if its heap is small."""
ASK_FIRST_S, ASK_MAX_S = 10.0, 600.0
READY_FOLLOWS_S = 10.0
"""A PNE says ready soon after it has started: after the answer for which it restarted, or after the first message that
it accepts. The first ready within this time aborts nothing."""
GIVEN_MAX = 32
WARN_S, WARN_EVERY_S = 7 * 86400, 86400
UNASKED_PER_HOUR = 12
"""Limit of answers to notices that this process has not sent: answers after a restart, and repeated ones."""

Send = Callable[[str, bytes], Awaitable[None]]
"""`PnGateway.send_key_message`."""
Respond = Callable[[NotifyResponse], Coroutine[Any, Any, None]]


class BoardUser:
    """One PNE that is a VAL client.

    `profile` is the last profile of the CMS; `keys_end`: the Unix seconds until which the PNE says that it has keys.
    """

    def __init__(
        self,
        pne_id: str,
        user: str,
        send: Send,
        respond: Respond,
        counters: Counter[str] | None = None,
        *,
        answer_s: float = ANSWER_S,
        ask_first_s: float = ASK_FIRST_S,
    ) -> None:
        """`send` sends octets to the PNE, `respond` sends a late answer to the group management servers."""
        self.pne_id = pne_id
        self.user = user
        self.profile: UserProfile | None = None
        self.counters: Counter[str] = Counter() if counters is None else counters
        self._send = send
        self._respond = respond
        self._answer_s = answer_s
        self._ask_first_s = ask_first_s
        self._turn = asyncio.Lock()
        self._there = asyncio.Event()
        self._seen = asyncio.Event()
        self._news = asyncio.Event()
        self._told = 0  # revision of the profile that the PNE has acknowledged
        self._open: tuple[str, asyncio.Future[list[object] | None]] | None = None
        self.keys_end: int | None = None
        self._warned_at = self._ready_until = float("-inf")
        self._given: dict[str, None] = {}  # IDs of the last notices that were sent to the PNE and not answered
        self._unasked = Rate(UNASKED_PER_HOUR)
        self._background = Background()

    @property
    def there(self) -> bool:
        """True if the PNE has received the last message to it, or has sent something since."""
        return self._there.is_set()

    # called by `servers`

    async def ready(self) -> None:
        """Return when the PNE is there.

        The PNE is asked from time to time, and soon after it has sent something; it also reports by itself.
        """
        delay = self._ask_first_s
        while not self._there.is_set():
            if await self._sent(THERE):  # it may have just started, and its ready may be under way
                self._ready_follows()
                return
            self._seen.clear()
            if await _within(self._seen, delay):
                delay = self._ask_first_s
                await _within(self._there, delay)
            else:
                delay = min(2 * delay, ASK_MAX_S)

    async def take(
        self, request: NotifyRequest, refresh_profile: RefreshProfile | None = None
    ) -> NotifyResponse | None:
        """Send a notice to the PNE and return its answer, None if none comes, as the GMS repeats the notice then.

        `refresh_profile` is used after a refusal for lack of rights, as a change of the profile may arrive later than
        the notice that depends on it.
        """
        if request.user != self.user:
            self.counters["val.notices.refused"] += 1
            return NotifyResponse(request.notice_id, code=WrongReceiver.code, text="the notice is for another user")
        notice = cborlite.encode([request.notice_id, request.purpose, request.gms, request.i_message])
        if len(notice) > tuning.KEY_MESSAGE_MAX:
            self.counters["val.notices.refused"] += 1
            return NotifyResponse(request.notice_id, code=TOO_LARGE, text="the notice does not fit one datagram")
        async with self._turn:
            self._given[request.notice_id] = None
            while len(self._given) > GIVEN_MAX:
                del self._given[next(iter(self._given))]
            answer = await self._judged(request.notice_id, notice)
            if answer is not None and answer[3] in BY_PROFILE and await self._profile_is_another(refresh_profile):
                answer = await self._judged(request.notice_id, notice)
        if answer is None:
            self.counters["val.notices.unanswered"] += 1
            return None
        return self._response(answer)

    def apply_profile(self, profile: UserProfile) -> None:
        """Keep a profile for the PNE. One that is not newer than the last is ignored. Raises WrongReceiver."""
        if profile.user != self.user:
            raise WrongReceiver(f"the profile is of {profile.user}")
        if self.profile is None or profile.revision > self.profile.revision:
            self.profile = profile
            self._news.set()

    def tick(self) -> None:
        """Warn in the log, once a day, if the keys of the PNE end soon."""
        if self.keys_end is None or self.keys_end - time.time() > WARN_S:
            return
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            end = datetime.datetime.fromtimestamp(self.keys_end, datetime.UTC)
            _log.warning(
                "KC1302 the keys of %s end at %s: run keycast seal board %s",
                self.pne_id,
                end,
                self.pne_id,
                extra={"pne_id": self.pne_id},
            )

    async def run(self) -> None:
        """Send each new profile to the PNE, so that it erases at once the keys that it may not have (SEAL-GMK-47)."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self.ready()
            async with self._turn:
                told = await self._profile_told()
            if not told:
                self._news.set()
                await asyncio.sleep(self._ask_first_s)

    async def close(self) -> None:
        """Cancel the answers that are under way to the servers."""
        await self._background.close()

    # called with messages of the PNE

    def seen(self) -> None:
        """Note that the PNE has sent a message of any kind."""
        self._seen.set()

    def heard(self, octets: bytes) -> None:
        """Process a Key Message of the PNE. Raises MalformedMessage, TooMany."""
        answer = answer_of(octets)
        now = asyncio.get_running_loop().time()
        self._there.set()
        self._seen.set()
        if isinstance(answer, int):  # the PNE has restarted, and its store may be another one
            self.keys_end, self._warned_at = answer, float("-inf")
            self._told = 0
            self._news.set()
            if now > self._ready_until:
                self._settle(None)  # the PNE has lost the message that it had to answer
            self._ready_until = float("-inf")
            return
        name = str(answer[0])
        asked = name in self._given
        self._given.pop(name, None)
        if self._open is not None and name == self._open[0]:
            self._settle(answer)
        elif name:
            if not asked and not self._unasked.allow(self.pne_id, now):
                self.counters["val.answers.too_many"] += 1
                raise TooMany("too many answers to what was not asked")
            self.counters["val.answers.late"] += 1
            self._background.spawn(self._respond(self._response(answer)))
        if name:  # a profile is answered without a restart
            self._ready_follows()

    def _ready_follows(self) -> None:
        self._ready_until = asyncio.get_running_loop().time() + READY_FOLLOWS_S

    def _settle(self, answer: list[object] | None) -> None:
        if self._open is not None and not self._open[1].done():
            self._open[1].set_result(answer)

    def _response(self, answer: list[object]) -> NotifyResponse:
        name, key_id, shown, code, text = answer
        self.counters["val.answers.refused" if code else "val.answers.accepted"] += 1
        if code:
            _log.warning(
                "KC1303 %s refused the notice %s: %s, %s", self.pne_id, name, code, text, extra={"pne_id": self.pne_id}
            )
        if code == NoKeyForPeriod.code:
            _log.warning(
                "KC1304 %s has no key of this key period: run keycast seal board %s",
                self.pne_id,
                self.pne_id,
                extra={"pne_id": self.pne_id},
            )
        return NotifyResponse(name, key_id, shown, code, text)  # type: ignore[arg-type]

    async def _judged(self, name: str, notice: bytes) -> list[object] | None:
        """Send a notice and return the answer, None if none comes.

        The profile is sent first, if it is new, as the PNE checks by it whether this GMS may issue keys for the group.
        """
        return await self._asked(name, notice) if await self._profile_told() else None

    async def _profile_is_another(self, refresh_profile: RefreshProfile | None) -> bool:
        """Fetch the profile from the CMS; return True if it has changed.

        A user that was just added to a group may get the notice of the GMS before the new profile.
        """
        before = self.profile
        if refresh_profile is not None:
            await refresh_profile()
        return self.profile != before

    async def _profile_told(self) -> bool:
        profile = self.profile
        if profile is None or profile.revision == self._told:
            return True
        groups = cborlite.encode([[group, gms] for group, gms in sorted(profile.groups.items())])
        octets = cborlite.encode(["", PROFILE, str(profile.revision), groups])
        if len(octets) > tuning.KEY_MESSAGE_MAX:
            self.counters["val.profiles.too_large"] += 1
            _log.warning(
                "KC1305 the profile of %s does not fit one datagram: %s gets no keys",
                self.user,
                self.pne_id,
                extra={"pne_id": self.pne_id},
            )
            return False
        answer = await self._asked("", octets)
        if answer is None or answer[3:] != ["", str(profile.revision)]:
            return False
        self._told = profile.revision
        self.counters["val.profiles"] += 1
        return True

    async def _asked(self, name: str, octets: bytes) -> list[object] | None:
        """Send a Key Message and return the PNE's answer, None if none comes.

        Only one may be under way at a time, as a board has memory for few.
        """
        self._open = name, asyncio.get_running_loop().create_future()
        try:
            if not await self._sent(octets):
                return None
            async with asyncio.timeout(self._answer_s):
                return await self._open[1]
        except TimeoutError:
            self._there.clear()
            return None
        finally:
            self._open = None

    async def _sent(self, octets: bytes) -> bool:
        """Send a Key Message; return True if the PNE has accepted it, which shows that the PNE is there."""
        try:
            await self._send(self.pne_id, octets)
        except CpnsError as error:
            self._there.clear()
            self.counters["val.unreachable"] += 1
            _log.info("%s takes no key message now: %s", self.pne_id, error.reason)
            return False
        self._there.set()
        return True


class BoardUsers:
    """Implements `core.ports.KeyMessages` for the PNEs that are VAL clients. Each can act for its own user only."""

    def __init__(self, users: Mapping[str, BoardUser], counters: Counter[str] | None = None) -> None:
        self._users = users
        self.counters: Counter[str] = Counter() if counters is None else counters

    def status(self) -> list[dict[str, object]]:
        """Return each board with its user, whether it is there, and when its keys end (Unix seconds or None)."""
        return [
            {"pne_id": user.pne_id, "user": user.user, "there": user.there, "keys_end": user.keys_end}
            for _, user in sorted(self._users.items())
        ]

    def seen(self, pne_id: str) -> None:
        """Note that a PNE has sent something."""
        if pne_id in self._users:
            self._users[pne_id].seen()

    def take(self, pne_id: str, key_message: bytes) -> None:
        """Process a Key Message of a PNE. Raises NotAllowed, MalformedMessage, TooMany."""
        user = self._users.get(pne_id)
        if user is None:
            self.counters["val.refused"] += 1
            raise NotAllowed(f"{pne_id} is not configured as a VAL client")
        user.heard(key_message)


def answer_of(octets: bytes) -> list[object] | int:
    """Return [notice ID, GMK-ID, proof, code, text] for an answer of a PNE; for READY the end of its keys.

    The end is in Unix seconds. Raises MalformedMessage.
    """
    value = cborlite.decode(octets, tuning.KEY_MESSAGE_MAX)
    if type(value) is list and [type(each) for each in value] == [int] and 0 <= value[0] < 1 << 40:
        return int(value[0])
    if type(value) is not list or [type(each) for each in value] != [str, bytes, bytes, str, str]:
        raise MalformedMessage("no answer of a VAL client")
    name, key_id, shown, code, text = value
    if len(name.encode()) > 64 or len(code.encode()) > 64 or shortened(name) != name or shortened(code) != code:
        raise MalformedMessage("a notice ID or code that is none")
    if (len(key_id), len(shown)) != ((0, 0) if code or not name else (4, 16)):
        raise MalformedMessage("an answer has either a GMK-ID with its proof or the code of an error")
    return [name, key_id, shown, code, shortened(text)]


async def _within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event; return False if it does not come within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
