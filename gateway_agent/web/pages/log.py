"""The page of the log: its newest lines, read anew every few seconds, through a filter."""

from aiohttp import web

from gateway_agent.observe.log_lines import KEPT, LogLine
from gateway_agent.observe.sight import Sight
from gateway_agent.web.pages import frame

_LEVELS = ("debug", "info", "warning", "error")
_SHOWN_MAX = 200
_EVERY_MS = 2000


async def handle(request: web.Request, sight: Sight) -> web.StreamResponse:
    """Show the newest lines. The query may have a part of a line (`about`), and the lowest `level`."""
    about = request.query.get("about", "").strip()
    level = request.query.get("level", "")
    level = level if level in _LEVELS else "debug"
    found = [line for line in reversed(sight.log_lines.recent(KEPT)) if _passes(line, about, level)]
    return await frame.show(
        request,
        sight,
        "log.html",
        lines=found[:_SHOWN_MAX],
        about=about,
        level=level,
        levels=_LEVELS,
        kept=KEPT,
        every=_EVERY_MS,
    )


def _passes(line: LogLine, about: str, level: str) -> bool:
    if _LEVELS.index(line.level) < _LEVELS.index(level):
        return False
    return not about or any(
        about.casefold() in part.casefold() for part in (line.text, line.area, line.code, line.sg_id, line.pne_id)
    )
