"""What the server has to know of one page."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from gateway_agent.observe.sight import Sight

Handler = Callable[[web.Request, Sight], Awaitable[web.StreamResponse]]


class WebPage(NamedTuple):
    """One page: its path, as aiohttp's router reads it, and what answers there.

    `handle` answers GET and, with `forms`, the forms of the page, which come by POST to the same path. It finds their
    fields by `await request.post()`; where they come from was examined before.
    """

    path: str
    handle: Handler
    forms: bool = False
