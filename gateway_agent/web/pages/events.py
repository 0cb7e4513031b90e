"""The page of events: those that are kept, then live ones, through a filter."""

from typing import Any

from aiohttp import web

from gateway_agent.observe.event_stream import KEPT
from gateway_agent.observe.plain import plain
from gateway_agent.observe.sight import Sight
from gateway_agent.web.pages import frame

_SHOWN_MAX = 200


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the newest events. The query may have a part of a name or of the sentence (`about`), and a `level`."""
    about = request.query.get("about", "").strip()
    level = "warning" if request.query.get("level") == "warning" else ""
    found = [each for each in map(plain, reversed(sight.stream.recent())) if _passes(each, about, level)]
    return await frame.show(
        request,
        sight,
        "events.html",
        title="Events",
        events=found[:_SHOWN_MAX],
        about=about,
        level=level,
        kept=KEPT,
        shown_max=_SHOWN_MAX,
    )


def _passes(event: dict[str, Any], about: str, level: str) -> bool:
    """Return True if the filter lets an event through; events.js has the same rule."""
    if level and event["level"] == "info":
        return False
    parts = (event["text"], event.get("pne_id"), event.get("sg_id"))
    return not about or any(about.casefold() in str(part).casefold() for part in parts if part)
