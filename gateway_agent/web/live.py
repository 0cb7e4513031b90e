"""Events, and lines of the log, as they come: server-sent events (the HTML standard, 9.2).

A browser that was away for a moment gets what it has missed, from what the gateway remembers. A browser that reads
slower than events come loses the oldest and is told how many; it never holds up the gateway.
"""

import asyncio
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from gateway_agent.observe.plain import plain
from gateway_agent.observe.sight import Sight
from gateway_agent.web import tuning
from gateway_agent.web.log_in import LOG_IN

_FILTERS = {"kind": "kind", "sg": "sg_id", "pne": "pne_id"}
"""Words of the query -> fields of an event."""
_BEAT = ": still here\n\n"
_AGAIN = "event: again\ndata: {}\n\n"


@dataclass(frozen=True, slots=True)
class _Feed:
    """What numbered items are read from: their word as events, and the functions of the stream that has them."""

    word: str
    subscribe: Callable[[], Any]
    remembered: Callable[[], list[Any]]
    fields: Callable[[Any], dict[str, Any]]


class Live:
    """The connections that read events as they come; `/live/log` has lines, `/live?kind=..&sg=..&pne=..` some events.

    `after`, a number, asks also for what came since then. `event: told` has an event as `observe.plain` makes it,
    `event: line` a line of the log, both with `id`; `event: lost` the number of those that came too fast; `event:
    again` says that what was missed is not remembered, so that the page must be read anew.
    """

    def __init__(self) -> None:
        self._boot = secrets.token_hex(4)  # numbers of events begin anew with each start
        self._open = 0

    async def answer(self, request: web.Request, sight: Sight) -> web.StreamResponse:
        """Send events until the browser goes, its session ends, or the gateway stops."""
        return await self._answer(request, _Feed("told", sight.stream.subscribe, sight.stream.recent, plain))

    async def answer_log(self, request: web.Request, sight: Sight) -> web.StreamResponse:
        """Send lines of the log in the same way."""
        lines = sight.log_lines
        return await self._answer(request, _Feed("line", lines.subscribe, lines.recent, asdict))

    async def _answer(self, request: web.Request, feed: _Feed) -> web.StreamResponse:
        if self._open >= tuning.STREAMS:
            text = {"code": "full", "text": "Too many pages are live at once."}
            return web.json_response(text, status=HTTPStatus.SERVICE_UNAVAILABLE, headers={"Retry-After": "10"})
        self._open += 1
        try:
            with feed.subscribe() as events:  # before the look back, so that no event falls between
                return await self._send(request, feed, events)
        finally:
            self._open -= 1

    async def _send(self, request: web.Request, feed: _Feed, events: Any) -> web.StreamResponse:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        session = request.app[LOG_IN].session_of(request)
        assert session is not None  # nobody else reaches this
        ended = asyncio.ensure_future(session.ended.wait())
        coming = asyncio.ensure_future(anext(events))
        lost = 0
        try:
            await response.prepare(request)
            await _write(response, f"retry: {tuning.STREAM_RETRY_MS}\n\n" + self._missed(request, feed))
            while True:
                beat = tuning.STREAM_BEAT_S
                await asyncio.wait((ended, coming), timeout=beat, return_when=asyncio.FIRST_COMPLETED)
                if not request.app[LOG_IN].sessions.is_valid(session):
                    return response
                if not coming.done():
                    await _write(response, _BEAT)
                    continue
                await asyncio.sleep(tuning.STREAM_PAUSE_S)  # what comes together is sent together
                text = self._told(request, feed, [coming.result(), *events.take()])
                if events.lost > lost:
                    text = f"event: lost\ndata: {json.dumps({'count': events.lost - lost})}\n\n{text}"
                    lost = events.lost
                coming = asyncio.ensure_future(anext(events))
                if text:
                    await _write(response, text)
        except (ConnectionError, TimeoutError):
            return response
        finally:
            ended.cancel()
            coming.cancel()
            await asyncio.gather(ended, coming, return_exceptions=True)

    def _missed(self, request: web.Request, feed: _Feed) -> str:
        """Return what a browser has missed that was here before, or since its page was made (`after` in the query)."""
        after = request.query.get("after", "")
        said = request.headers.get("Last-Event-ID", "") or (f"{self._boot}-{after}" if after else "")
        if not said:
            return ""
        boot, _, number = said.partition("-")
        if boot != self._boot or not (number.isascii() and number.isdigit() and len(number) < 16):
            return _AGAIN
        remembered = feed.remembered()
        if remembered and remembered[0].number > int(number) + 1:
            return _AGAIN
        return self._told(request, feed, [each for each in remembered if each.number > int(number)])

    def _told(self, request: web.Request, feed: _Feed, events: Iterable[Any]) -> str:
        wanted = {field: request.query[word] for word, field in _FILTERS.items() if request.query.get(word)}
        pieces = []
        for each in events:
            told = feed.fields(each)
            if all(told.get(field) == value for field, value in wanted.items()):
                pieces.append(f"id: {self._boot}-{each.number}\nevent: {feed.word}\ndata: {json.dumps(told)}\n\n")
        return "".join(pieces)


async def _write(response: web.StreamResponse, text: str) -> None:
    """Write to a browser. Raises TimeoutError for one that takes nothing."""
    async with asyncio.timeout(tuning.STREAM_STUCK_S):
        await response.write(text.encode())
