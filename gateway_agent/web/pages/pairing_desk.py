"""The pairing that the page has begun: it waits for the board in the background, as a browser asks anew each time."""

import asyncio
from typing import NamedTuple

from aiohttp import web

from cpns.errors import CpnsError
from cpns.fingerprint import fingerprint
from gateway_agent.errors import GatewayError
from gateway_agent.observe.plain import plain
from gateway_agent.observe.sight import Sight
from message_plane.errors import PlaneError

IN, REFUSED, RUN_OUT, STOPPED = "in", "refused", "run out", "stopped"
_AT_ONCE_S = 0.2  # within which a refusal that needs no board has come


class PairingEnd(NamedTuple):
    """How a pairing has ended: `word` is IN, REFUSED, RUN_OUT or STOPPED; `text` says it to a person.

    `fingerprint`: that of the credential of a board that is in, "" otherwise.
    """

    pne_id: str
    word: str
    title: str
    text: str
    fingerprint: str = ""

    @property
    def is_in(self) -> bool:
        """True if the board was let in."""
        return self.word == IN


class PairingDesk:
    """Begins and stops the pairings of the page, one at a time, and knows how the last one has ended."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self._task: asyncio.Task[None] | None = None
        self.ended: PairingEnd | None = None

    @property
    def is_waiting(self) -> bool:
        """True while a pairing that the page has begun goes on."""
        return self._task is not None and not self._task.done()

    async def begin(self, pne_id: str, secret: str, *, replace: bool, by: str) -> None:
        """Wait for the board from now on. A pairing that the page has begun before ends."""
        await self.stop()
        self.ended = None
        self._task = asyncio.create_task(self._pair(pne_id, secret, replace, by), name="pairing of the page")
        await asyncio.wait([self._task], timeout=_AT_ONCE_S)

    async def stop(self) -> None:
        """Close the window of the pairing, if there is one: its board is not let in any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def close(self, _: object = None) -> None:
        """End with the server."""
        await self.stop()

    async def _pair(self, pne_id: str, secret: str, replace: bool, by: str) -> None:
        try:
            name = await self._sight.command("board.pair", by=by, pne_id=pne_id, secret=secret, replace=replace)
            own = await self._fingerprint(name)
            self.ended = PairingEnd(name, IN, f"{name} is in.", "It belongs to this home now.", own)
        except (GatewayError, CpnsError, PlaneError) as error:
            word = self._outcome(pne_id)
            title = "The time has run out." if word == RUN_OUT else f"{pne_id} is not let in."
            text = str(error) or type(error).__name__
            self.ended = PairingEnd(pne_id, word, title, f"{text[:1].upper()}{text[1:].rstrip('.')}.")
        except asyncio.CancelledError:
            self.ended = PairingEnd(
                pne_id, STOPPED, "Stopped.", f"{pne_id} is not let in any more: the window is closed."
            )
            raise

    def _outcome(self, pne_id: str) -> str:
        """Return how the last pairing of a board has ended, as the gateway has told it."""
        ended = (each for each in map(plain, reversed(self._sight.stream.recent())) if each["kind"] == "pairing-ended")
        newest = next(ended, None)
        return RUN_OUT if newest and (newest["pne_id"], newest["outcome"]) == (pne_id, RUN_OUT) else REFUSED

    async def _fingerprint(self, name: str) -> str:
        listed = await self._sight.command("board.list")
        return next((fingerprint(bytes.fromhex(each["credential"])) for each in listed if each["pne_id"] == name), "")


DESK: web.AppKey[PairingDesk] = web.AppKey("DESK", PairingDesk)
