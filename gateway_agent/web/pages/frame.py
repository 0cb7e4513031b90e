"""What all pages have in common: the state that they show, the words for it, and the pieces of a long list."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from aiohttp import web

from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import Snapshot
from gateway_agent.web.pages import words
from gateway_agent.web.render import render

PER_PAGE = 50
"""Rows of a long list on one page."""
_PAGE_DIGITS = 6
_Row = TypeVar("_Row")


class Piece(NamedTuple):
    """The rows of a list on one page. `page` and `last_page` count from 1, `first` is the number of the first row."""

    rows: Sequence[Any]
    page: int
    last_page: int
    first: int
    found: int


async def show(
    request: web.Request,
    sight: Sight,
    name: str,
    *,
    snapshot: Snapshot | None = None,
    status: int = 200,
    live: str = "",
    **context: Any,
) -> web.Response:
    """Return the page that the template `name` makes of `context` and of the state of the gateway.

    `snapshot`: the state, if the page has read it already; `live`: what the page follows in place of the events.
    """
    state = snapshot or sight.snapshot()
    follow = live or f"/live?after={sight.stream.number}"
    return await render(
        request, name, status=status, snapshot=state, live=follow, now=time.time(), words=words, **context
    )


def piece(request: web.Request, rows: Sequence[_Row]) -> Piece:
    """Return the rows of the page that the query of a request asks for, the nearest one if there is no such page."""
    asked = request.query.get("page", "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) <= _PAGE_DIGITS else 1
    last = max(1, -(-len(rows) // PER_PAGE))
    page = min(max(1, number), last)
    begin = (page - 1) * PER_PAGE
    return Piece(rows[begin : begin + PER_PAGE], page, last, begin + 1, len(rows))


def missing(what: str) -> NoReturn:
    """Answer that there is no such thing here. Raises HTTPNotFound."""
    raise web.HTTPNotFound(reason=f"There is no {what} of this name here, or not any more.")
