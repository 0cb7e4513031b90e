"""The updates that are offered: their files in a folder, the offers in the store, both in memory.

A file is written whole before the offer that needs it, and erased after it, so that at a power cut an offer is there
with its file or not at all. At the start every file is checked again as when it was offered.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from cpns.errors import CpnsError, Unknown
from gateway_agent.errors import GatewayError
from gateway_agent.store.errors import StoreDamaged, StoreFailed
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.update_table import StoredOffer
from gateway_agent.updates import offers as rules
from gateway_agent.updates import update_file
from gateway_agent.updates.offers import UpdateOffer
from gateway_agent.updates.update_file import Update
from gateway_agent.updates.update_key import UpdateKey
from private_store import files, folders

_log = logging.getLogger(__name__)

_ENDING = ".suit"
_AGAIN = "Offer it again: keycast update offer FILE"


class Whom(NamedTuple):
    """For whom an update is, and how it is broadcast, as in UpdateOffer."""

    boards: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    by_broadcast: bool = False
    sealed_for: str = ""


class Catalogue:
    """All offers of a gateway. `open` reads those of the last run."""

    def __init__(self, store: GatewayStore, folder: Path, key: UpdateKey | None) -> None:
        """The files are in `folder`. `key` has signed what is offered; without one any key may have."""
        self._store = store
        self._folder = folder
        self._key = key
        self._offers: dict[bytes, UpdateOffer] = {}
        self._updates: dict[bytes, Update] = {}
        self._turn = asyncio.Lock()

    @property
    def offers(self) -> list[UpdateOffer]:
        """The offers that stand."""
        return list(self._offers.values())

    def offer(self, update_id: bytes) -> UpdateOffer | None:
        """Return the offer of an update, None if it is not offered."""
        return self._offers.get(update_id)

    def update(self, update_id: bytes) -> Update:
        """Return an update that is offered. Raises KeyError."""
        return self._updates[update_id]

    def open(self) -> None:
        """Read and check the offers of the last run, and erase files without one. Raises StoreFailed.

        An offer whose file is missing, damaged or signed by another key is forgotten, with a line in the log, and so
        is one whose boards and groups are gone.
        """
        stored = self._store.updates.offers()
        for each in stored:
            try:
                update = update_file.read(self._read(each.update_id), self._key)
                if update.update_id != each.update_id:
                    raise Unknown("its file is that of another update")
            except (CpnsError, GatewayError) as problem:
                why = problem.what if isinstance(problem, GatewayError) else f"{problem}."  # its file is erased below
                _log.warning("KC1414 update %s is not offered any more: %s %s", each.update_id.hex(), why, _AGAIN)
                continue
            to = Whom(each.boards, each.groups, each.by_broadcast, each.sealed_for)
            offer = replace(_offer(update, to, each.offered_at), position=each.position)
            for left in self._left([offer]):
                self._offers[each.update_id] = left
                self._updates[each.update_id] = update
        if [_row(each) for each in self.offers] != stored:
            with contextlib.suppress(StoreFailed):  # the next start does it
                self._stand(self.offers)
        self._tidy()

    async def add(self, octets: bytes, to: Whom, unix: int) -> UpdateOffer:
        """Offer the update in a file to whom it is for, from `unix` on, in Unix seconds.

        Raises MalformedMessage, NotAuthentic, NotAllowed (such as that a newer one is offered there), Unknown (those
        that it is for have been removed meanwhile) and StoreFailed; then nothing has changed.
        """
        async with self._turn:
            update = await asyncio.to_thread(update_file.read, octets, self._key)
            new = _offer(update, to, unix)
            rules.added(self.offers, new)
            is_new = new.update_id not in self._updates
            if is_new:
                await asyncio.to_thread(self._write, new.update_id, octets)
            self._updates[new.update_id] = update
            try:
                left = self._left([new])
                if not left:
                    raise Unknown("the boards and groups that it is for were removed meanwhile")
                self._stand(rules.added(self.offers, *left))
            except BaseException:
                if is_new:
                    del self._updates[new.update_id]
                    self._erase(new.update_id)
                raise
            return self._offers[new.update_id]

    async def withdraw(self, update_id: bytes) -> UpdateOffer:
        """Offer an update no more; return what was offered. Raises Unknown, StoreFailed."""
        async with self._turn:
            gone = self._offers.get(update_id)
            if gone is None:
                raise Unknown("this update is not offered")
            self._stand([each for each in self.offers if each.update_id != update_id])
            return gone

    def forget(self, *, boards: Collection[str] = (), groups: Collection[str] = ()) -> None:
        """End the offers to boards and groups that are gone. Raises StoreFailed; the next start does it then."""
        left = rules.without(self.offers, boards=boards, groups=groups)
        if left != self.offers:
            self._stand(left)

    def moved(self, update_id: bytes, position: int, *, save: bool) -> None:
        """Note how many datagrams of an airing are sent; `save`: also in the store. Raises StoreFailed."""
        self._offers[update_id] = replace(self._offers[update_id], position=position)
        if save:
            with self._store.transaction():
                self._store.updates.set_position(update_id, position)

    def _left(self, offers: Iterable[UpdateOffer]) -> list[UpdateOffer]:
        """Return what is left of offers without boards that are retired, and groups that are deleted.

        A group that this gateway has never heard of may get its first board later.
        """
        standing = list(offers)
        boards = frozenset().union(*(each.boards for each in standing)) - set(self._store.pn.pnes())
        groups = frozenset().union(*(each.groups for each in standing))
        deleted = [sg_id for sg_id in groups if (of := self._store.inventory.group_or_deleted(sg_id)) and of.deleted]
        return rules.without(standing, boards=boards, groups=deleted)

    def _stand(self, offers: Iterable[UpdateOffer]) -> None:
        """Make these the offers, first in the store; erase what no offer needs any more."""
        stood = {each.update_id: each for each in offers}
        with self._store.transaction():
            self._store.updates.set_offers(map(_row, stood.values()))
        self._offers = stood
        for update_id in self._updates.keys() - stood.keys():
            del self._updates[update_id]
            self._erase(update_id)

    def _path(self, update_id: bytes) -> Path:
        return self._folder / f"{update_id.hex()}{_ENDING}"

    def _read(self, update_id: bytes) -> bytes:
        return files.read(self._path(update_id), StoreDamaged, most=update_file.OCTETS_MAX)

    def _write(self, update_id: bytes, octets: bytes) -> None:
        folders.make(self._folder, StoreFailed)
        with files.exchanging(self._path(update_id), StoreFailed) as write:
            write(octets)

    def _erase(self, update_id: bytes) -> None:
        with contextlib.suppress(OSError):  # the next start erases it
            self._path(update_id).unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Erase files that no offer needs: of a process that was killed, or of an offer that was forgotten."""
        needed = {self._path(update_id) for update_id in self._offers}
        found: set[Path] = set()
        with contextlib.suppress(OSError):
            found |= {*self._folder.glob(f"*{_ENDING}"), *self._folder.glob(".*.unfinished")}
        for path in found - needed:
            with contextlib.suppress(OSError):  # one that cannot be erased keeps no other
                path.unlink()


def _offer(update: Update, to: Whom, offered_at: int) -> UpdateOffer:
    return UpdateOffer(
        update.update_id, update.number, update.kind, update.class_id, *to, position=0, offered_at=offered_at
    )


def _row(offer: UpdateOffer) -> StoredOffer:
    return StoredOffer(
        offer.update_id,
        offer.boards,
        offer.groups,
        offer.by_broadcast,
        offer.sealed_for,
        offer.position,
        offer.offered_at,
    )
