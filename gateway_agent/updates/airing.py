"""Broadcasts updates, one after another, paced so that a Group Key finds the air free."""

import asyncio
import logging
from collections.abc import Callable

from gateway_agent.core import events
from gateway_agent.core.ports import Broadcast
from gateway_agent.repeating import Repeating
from gateway_agent.store.errors import StoreFailed
from gateway_agent.updates.catalogue import Catalogue
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.ports import QuickAir
from gateway_agent.updates.schedule import AiringOrder
from gateway_agent.updates.sealed import SealingKey
from suit import frames, sealing
from suit import numbers as n

_log = logging.getLogger(__name__)

DATAGRAM = frames.HEAD + n.BLOCK
"""Octets of a frame, the longest datagrams of an airing but for manifests."""
LOOK_EVERY_S = 1.0
"""Pause between two looks for something to air, and for a medium that has come back."""
SAVE_EVERY = 64
"""Datagrams between two commits of the position. After a restart so many are sent twice at most."""

FrameKeys = Callable[[], list[tuple[int, bytes]]]
"""A function that returns (generation, key of its adverts) of each generation that boards may hold."""
SealingKeyOf = Callable[[str], SealingKey | str]
"""A function that returns the key of a Service Group that is given out now, or why there is none (`sealed.newest`)."""


class UpdateAiring:
    """Airs what the catalogue offers by broadcast, from `start` to `close`, each at its position."""

    def __init__(
        self,
        catalogue: Catalogue,
        air: QuickAir,
        frame_keys: FrameKeys,
        sealing_key: SealingKeyOf,
        tell: events.Tell,
    ) -> None:
        self._catalogue = catalogue
        self._air = air
        self._frame_keys = frame_keys
        self._sealing_key = sealing_key
        self._tell = tell
        self._schedules: dict[bytes, AiringOrder] = {}
        self._under_way: tuple[bytes, Broadcast, asyncio.Event] | None = None
        self._turns = Repeating("airing of updates", LOOK_EVERY_S, self._turn, at_once=True)
        self.start = self._turns.start

    def progress(self, offer: UpdateOffer) -> tuple[int, int]:
        """Return the position of the airing of an offer, and its length; 0 and 0 without an airing."""
        if not offer.by_broadcast:
            return 0, 0
        length = len(self._schedule(offer.update_id))
        return min(offer.position, length), length  # an earlier release may have had a longer one

    def problem(self, offer: UpdateOffer) -> str:
        """Return why the airing of an offer does not go on, in words; "" if it does, or has ended."""
        position, length = self.progress(offer)
        if position == length:
            return ""
        if self._air.pace_s(DATAGRAM) is None:
            return "no network for broadcasts is up"
        return self._no_key(offer)

    def left_s(self, update_id: bytes) -> float:
        """Return in how many seconds the airing of an update ends; 0.0 if it has ended, or does not go on."""
        left = 0
        for offer in self._catalogue.offers:  # in the order in which they are aired
            position, length = self.progress(offer)
            goes_on = not self.problem(offer)
            left += length - position if goes_on else 0
            if offer.update_id == update_id:
                return left * (self._air.pace_s(DATAGRAM) or 0.0) if goes_on and position < length else 0.0
        return 0.0

    def stop(self, update_id: bytes) -> None:
        """Stop the airing of an update that is not offered any more: nothing of it is sent after this call."""
        self._schedules.pop(update_id, None)
        if self._under_way is not None and self._under_way[0] == update_id:
            _, sending, ended = self._under_way
            sending.stop()
            ended.set()

    async def close(self) -> None:
        """Stop the airing; it goes on at the next start."""
        await self._turns.close()
        for offer in self._catalogue.offers:
            if 0 < offer.position < self.progress(offer)[1]:
                self._moved(offer.update_id, offer.position, save=True)

    async def _turn(self) -> None:
        """Air all that is to be aired, until that is done or no medium sends."""
        clock = asyncio.get_running_loop().time
        while (offer := self._next()) is not None and (pace_s := self._air.pace_s(DATAGRAM)) is not None:
            began = clock()
            if not self._air.is_taken and not await self._send_next(offer):
                return
            await asyncio.sleep(began + pace_s - clock())

    def _next(self) -> UpdateOffer | None:
        for offer in self._catalogue.offers:
            position, length = self.progress(offer)
            if position < length and not self._no_key(offer):
                return offer
        return None

    def _no_key(self, offer: UpdateOffer) -> str:
        """Return why an offer cannot be sealed as it should be, "" if it can or need not."""
        key = self._sealing_key(offer.sealed_for) if offer.sealed_for else ""
        return key if isinstance(key, str) else ""

    async def _send_next(self, offer: UpdateOffer) -> bool:
        """Send what is at the position of an offer; return whether any medium has sent it."""
        schedule = self._schedule(offer.update_id)
        kind, index = schedule.at(offer.position)
        for datagram in self._datagrams(offer, kind, index):
            if not await self._send(offer.update_id, datagram):
                return self._catalogue.offer(offer.update_id) is None
        if self._catalogue.offer(offer.update_id) == offer:  # neither withdrawn nor begun anew meanwhile
            position = offer.position + 1
            has_ended = position == len(schedule)
            self._moved(offer.update_id, position, save=has_ended or position % SAVE_EVERY == 0)
            if has_ended:
                self._tell(events.UpdateAired(offer.update_id.hex(), offer.kind, offer.number))
        return True

    def _datagrams(self, offer: UpdateOffer, kind: int, index: int) -> list[bytes]:
        update_id, update = offer.update_id, self._catalogue.update(offer.update_id)
        if kind == n.ENVELOPE:
            bodies = [frames.manifest_body(key, of, update_id, update.envelope) for of, key in self._frame_keys()]
            return [frames.build(kind, update_id, index, body) for body in bodies]
        body = update.piece(kind, index)
        if kind == n.FRAME and offer.sealed_for:
            key = self._sealing_key(offer.sealed_for)
            assert isinstance(key, SealingKey)  # `_next` has asked for it at this moment
            seal = sealing.Seal(key.key, offer.sealed_for, key.version, update_id)
            kind, body = n.SEALED, sealing.head(key.alias, key.version) + seal.turn(index, body)
        return [frames.build(kind, update_id, index, body)]

    async def _send(self, update_id: bytes, datagram: bytes) -> bool:
        ended = asyncio.Event()
        sending = self._air.once(datagram, ended.set)
        self._under_way = update_id, sending, ended
        try:
            await ended.wait()
        finally:
            self._under_way = None
            sending.stop()
        return sending.has_gone_out

    def _schedule(self, update_id: bytes) -> AiringOrder:
        if update_id not in self._schedules:
            update = self._catalogue.update(update_id)
            self._schedules[update_id] = AiringOrder(update.coded.code, len(update.pages))
        return self._schedules[update_id]

    def _moved(self, update_id: bytes, position: int, *, save: bool) -> None:
        try:
            self._catalogue.moved(update_id, position, save=save)
        except StoreFailed as problem:  # after a restart it goes on at the last position that is stored
            _log.debug("the position of an airing is not written down: %s", problem)
