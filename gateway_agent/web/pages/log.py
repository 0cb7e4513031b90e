"""The page of the log: the newest lines that are kept, then live ones, through a filter."""

from aiohttp import web

from gateway_agent.observe.log_lines import KEPT, LogLine
from gateway_agent.observe.sight import Sight
from gateway_agent.web.pages import frame

_LEVELS = ("debug", "info", "warning", "error")
_SHOWN_MAX = 200


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the newest lines. The query may have a part of a line (`about`), and the lowest `level`."""
    about = request.query.get("about", "").strip()
    level = request.query.get("level", "")
    level = level if level in _LEVELS else "debug"
    kept = sight.log_lines.recent(KEPT)
    found = [line for line in reversed(kept) if _passes(line, about, level)]
    return await frame.show(
        request,
        sight,
        "log.html",
        lines=found[:_SHOWN_MAX],
        about=about,
        level=level,
        levels=_LEVELS,
        kept=KEPT,
        shown_max=_SHOWN_MAX,
        live=f"/live/log?after={kept[-1].number if kept else 0}",
    )


def _passes(line: LogLine, about: str, level: str) -> bool:
    """Return True if the filter lets a line through; events.js has the same rule."""
    if _LEVELS.index(line.level) < _LEVELS.index(level):
        return False
    return not about or any(
        about.casefold() in part.casefold() for part in (line.text, line.area, line.code, line.sg_id, line.pne_id)
    )
