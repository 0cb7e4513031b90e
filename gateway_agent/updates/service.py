"""The updates of a gateway: what a person offers, shows and withdraws, and what boards ask about it."""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from functools import partial
from pathlib import Path

from cpns.errors import MalformedMessage, NotAllowed, Unknown
from gateway_agent.core import events
from gateway_agent.core.ports import Clock, Unicast
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from gateway_agent.updates import offers as rules
from gateway_agent.updates import sealed as sealed_airings
from gateway_agent.updates import status
from gateway_agent.updates.airing import DATAGRAM, UpdateAiring
from gateway_agent.updates.answers import BoardAnswers
from gateway_agent.updates.asking import AskingBoards
from gateway_agent.updates.board_reports import BoardReports
from gateway_agent.updates.catalogue import Catalogue, Whom
from gateway_agent.updates.failures import FailedUpdates, SetAlarm
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.ports import QuickAir
from gateway_agent.updates.pulls import UpdatePulls
from gateway_agent.updates.status import BoardStatus, OfferStatus
from gateway_agent.updates.update_key import UpdateKey


class BoardUpdates:
    """All updates of a gateway. `open` reads what was offered; from `start` to `close` boards are asked and told."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        folder: Path,
        key: UpdateKey | None,
        air: QuickAir,
        frame_keys: Callable[[int], list[bytes]],
        unicast: Unicast,
        boards: Callable[[], Collection[str]],
        is_on_bluetooth: Callable[[str], bool],
        clock: Clock,
        tell: events.Tell,
        counters: Counter[str],
        set_alarm: SetAlarm,
    ) -> None:
        """`folder` is that of the signed files. `key` is the one of the configuration, if it names one.
        `frame_keys` returns the key of the adverts of a generation, or no key if it has ended.

        `unicast` requests the resource of updates from boards; `boards` returns the PNE IDs of those that are let in;
        `is_on_bluetooth` returns True for one that was heard over Bluetooth last.
        """
        self._air = air
        self._boards = boards
        self._clock = clock
        self._tell = tell
        self._groups_of = store.inventory.groups_of
        self._sealing_key = partial(sealed_airings.newest, store)
        self._key = key
        self._catalogue = Catalogue(store, folder, key)
        self._reports = BoardReports(store)
        self._failures = FailedUpdates(self._catalogue, self._reports, boards, self._groups_of, set_alarm)
        self._pulls = UpdatePulls()
        self._airing = UpdateAiring(
            self._catalogue,
            air,
            lambda: [(of.generation, key) for of in store.slots.generations() for key in frame_keys(of.generation)],
            self._sealing_key,
            tell,
        )
        self._asking = AskingBoards(unicast)
        self._answers = BoardAnswers(
            store=store,
            catalogue=self._catalogue,
            board_reports=self._reports,
            airing=self._airing,
            key=b"" if key is None else key.octets,
            pulls=self._pulls,
            is_on_bluetooth=is_on_bluetooth,
            clock=clock,
            tell=tell,
            counters=counters,
        )
        self.handle = self._answers.handle

    def open(self) -> None:
        """Read and check what was offered and reported. Raises StoreFailed."""
        self._catalogue.open()
        self._reports.open()

    def start(self) -> None:
        """Go on with the airings, and ask boards that have a session from before and lack the key or an update."""
        self._reports.start()
        self._airing.start()
        self._failures.start()
        self._asking.ask(self._that_lack_something())

    async def close(self) -> None:
        """Stop all work; it goes on at the next start. The store stays open."""
        await self._asking.close()
        await self._failures.close()
        await self._airing.close()
        await self._reports.close()

    async def offer(
        self,
        file: str,
        boards: Iterable[str] = (),
        groups: Iterable[str] = (),
        *,
        broadcast: bool = False,
        sealed: str = "",
    ) -> OfferStatus:
        """Offer the update in a file, whose octets are `file` in base64; return the offer.

        It is for these boards and the members of these groups, and for all boards without any. `broadcast`: it is
        broadcast to all boards or, sealed under the key of a group, to the members of `sealed`. Raises
        MalformedMessage, NotAuthentic, NotAllowed, StoreFailed.
        """
        if broadcast and (boards or groups):
            raise NotAllowed("a broadcast is for all boards, or sealed for one group: leave out --board and --group")
        if sealed and not broadcast:
            raise NotAllowed("only a broadcast is sealed, as the sessions with boards are: add --broadcast")
        if sealed and isinstance(key := self._sealing_key(sealed), str):
            raise NotAllowed(f"nothing can be sealed: {key}")
        if broadcast and self._air.pace_s(DATAGRAM) is None:
            raise NotAllowed("no network for broadcasts is up: leave out --broadcast, and boards pull the update")
        try:
            octets = base64.b64decode(file, validate=True)
        except (ValueError, TypeError):
            raise MalformedMessage("the file does not come in base64") from None
        before = self._catalogue.offers
        to = Whom(frozenset(boards), frozenset(groups) | frozenset(filter(None, [sealed])), broadcast, sealed)
        offer = await self._catalogue.add(octets, to, self._clock.unix())
        self._end_what_is_gone(before)
        self._tell(
            events.UpdateOffered(
                offer.update_id.hex(),
                offer.kind,
                offer.number,
                tuple(sorted(offer.boards)),
                tuple(sorted(offer.groups)),
                offer.by_broadcast,
                offer.sealed_for,
            )
        )
        self._asking.ask(self._meant(offer))
        return self._offer_status(offer)

    async def withdraw(self, update: str | None = None) -> OfferStatus:
        """Offer an update no more; return what was offered. `update`: its number or ID; None for the only one.

        Boards that have begun with it drop it; one that runs it keeps it. Raises Unknown, NotAllowed, StoreFailed.
        """
        gone = self._offer_status(self._named(update))
        before = self._catalogue.offers
        offer = await self._catalogue.withdraw(bytes.fromhex(gone.update_id))
        self._end_what_is_gone(before)
        self._tell(events.UpdateWithdrawn(gone.update_id, offer.kind, offer.number))
        self._asking.ask(self._meant(offer))
        return gone

    def status(self) -> dict[str, list[OfferStatus] | list[BoardStatus]]:
        """Return all offers and how far each board is, as JSON values."""
        boards = sorted(self._boards())
        return {
            "offers": [self._offer_status(each) for each in self._catalogue.offers],
            "boards": [self.of_board(pne_id, self._groups_of(pne_id)) or status.unknown(pne_id) for pne_id in boards],
        }

    def of_board(self, pne_id: str, groups: Collection[str]) -> BoardStatus | None:
        """Return how far a board is, which is a member of `groups`; None if it has said nothing about updates."""
        last = self._reports.of(pne_id)
        if last is None:
            return None
        offer = rules.offered(self._catalogue.offers, pne_id, groups, last.report)
        pull = None if offer is None else self._pulls.of(pne_id, offer.update_id)
        pieces = 0 if offer is None else self._catalogue.update(offer.update_id).pieces
        return status.of_board(pne_id, last, offer, pull, pieces)

    def follow(self, event: events.Event) -> None:
        """Forget a board or a group that is gone, soon after the event that says so."""
        if isinstance(event, events.Retired):
            asyncio.get_running_loop().call_soon(self._forget_board, event.pne_id)
        elif isinstance(event, events.GroupDeleted):
            asyncio.get_running_loop().call_soon(partial(self._forget, groups=[event.sg_id]))

    def _forget_board(self, pne_id: str) -> None:
        self._answers.forget_board(pne_id)
        self._reports.forget(pne_id)
        self._forget(boards=[pne_id])
        with contextlib.suppress(StoreFailed):  # the next start does it
            self._reports.save()

    def _forget(self, **gone: Collection[str]) -> None:
        before = self._catalogue.offers
        with contextlib.suppress(StoreFailed):  # the next start does it
            self._catalogue.forget(**gone)
        self._end_what_is_gone(before)

    def _end_what_is_gone(self, before: Iterable[UpdateOffer]) -> None:
        """End the airings of offers that stood before, and do not any more."""
        for each in before:
            if self._catalogue.offer(each.update_id) is None:
                self._airing.stop(each.update_id)
                self._answers.forget_update(each.update_id)
        self._failures.look()

    def _named(self, update: str | None) -> UpdateOffer:
        offers = self._catalogue.offers
        if not offers:
            raise Unknown("no update is offered")
        if update is not None:
            found = [each for each in offers if update in (str(each.number), each.update_id.hex())]
            if not found:
                known = ", ".join(f"{each.number} ({each.update_id.hex()})" for each in offers)
                raise Unknown(f"no update {update} is offered; those are: {known}")
            offers = found
        if len(offers) > 1:
            ids = " or ".join(f"{each.update_id.hex()} ({each.kind} {each.number})" for each in offers)
            raise NotAllowed(f"several updates are meant: name one by its ID: {ids}")
        return offers[0]

    def _meant(self, offer: UpdateOffer) -> list[str]:
        """Return the boards that an offer is for, without those that can not run it as they say."""
        found = []
        for pne_id in sorted(self._boards()):
            last = self._reports.of(pne_id)
            can = last is None or offer.class_id in last.report.class_ids
            if can and offer.is_for(pne_id, self._groups_of(pne_id)):
                found.append(pne_id)
        return found

    def _that_lack_something(self) -> list[str]:
        """Return the boards that have no update key where this gateway has one, or not the update that is for them."""
        found = []
        for pne_id in sorted(self._boards()):
            last = self._reports.of(pne_id)
            if last is not None:
                lacks_key = self._key is not None and not last.report.key_id
                groups = self._groups_of(pne_id)
                if lacks_key or rules.offered(self._catalogue.offers, pne_id, groups, last.report) is not None:
                    found.append(pne_id)
        return found

    def _offer_status(self, offer: UpdateOffer) -> OfferStatus:
        position, length = self._airing.progress(offer)
        meant = self._meant(offer)
        said = [last.report for pne_id in meant if (last := self._reports.of(pne_id)) is not None]
        return OfferStatus(
            update_id=offer.update_id.hex(),
            kind=offer.kind,
            number=offer.number,
            image_octets=self._catalogue.update(offer.update_id).size,
            is_verified=self._key is not None,
            pne_ids=tuple(sorted(offer.boards)),
            sg_ids=tuple(sorted(offer.groups)),
            is_broadcast=offer.by_broadcast,
            sealed_for=offer.sealed_for,
            problem=self._airing.problem(offer),
            offered_at=offer.offered_at,
            aired_percent=100 * position // length if length else 0,
            boards_count=len(meant),
            updated_count=sum(report.number(offer.kind) >= offer.number for report in said),
        )
