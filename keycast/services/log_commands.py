"""The commands of the control socket about the log of what runs there: its newest lines, its level for each area."""

import asyncio
import contextlib
import logging
from difflib import get_close_matches

from gateway_agent.control import Command, attended
from gateway_agent.errors import Refused
from gateway_agent.observe.log_lines import ROOMS, LogLine, LogLines

ALL = "all"
"""The area of everything."""
DEFAULT = "default"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
WAIT_MAX_S = 60.0


def log_commands(lines: LogLines) -> dict[str, Command]:
    """Return the commands `log.level`, `log.recent` and `log.after` of a process whose log `lines` keeps."""

    async def after(number: int, wait_s: float = WAIT_MAX_S) -> list[LogLine]:
        """Return the lines after the one with this `number`; if there are none, wait `wait_s` seconds for one."""
        with lines.subscribe() as reader:
            newer = [line for line in lines.recent() if line.number > number]
            if newer:
                return newer
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait_s, WAIT_MAX_S)):
                    return [await anext(reader)]
            return []

    return {"log.level": set_levels, "log.recent": lines.recent, "log.after": attended(after)}


def set_levels(levels: dict[str, str] | None = None) -> list[dict[str, str]]:
    """Set the level of each area in `levels` until the process ends; return all areas that have a level of their own.

    An area is the name of a module that logs, or of a folder of such: `message_plane`, `gateway_agent.radios`, `all`. A
    level is one of `LEVELS`, or `default` for that of the area above. Raises Refused for others, with the nearest known
    area, before anything is set.
    """
    known = areas()
    for area, level in (levels or {}).items():
        if area not in known:
            near = get_close_matches(area, known, n=1, cutoff=0.4)
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(_first(known))}, and modules in them."
            raise Refused(f"there is no area {area!r}. {hint}", "unknown")
        if level not in LEVELS and level != DEFAULT:
            raise Refused(f"{level!r} is no level. Known: {', '.join(LEVELS)}, {DEFAULT}.", "not-allowed")
    for area, level in (levels or {}).items():
        unset = logging.INFO if area == ALL else logging.NOTSET
        _logger(area).setLevel(LEVELS.get(level, unset))
    own = [area for area in known if _logger(area).level != logging.NOTSET]
    return [{"area": area, "level": logging.getLevelName(_logger(area).level).lower()} for area in own]


def areas() -> list[str]:
    """Return the areas whose level can be set: `all`, the modules that log, and the folders that they are in."""
    found = {ALL, *ROOMS}
    for name in logging.root.manager.loggerDict:
        parts = name.split(".")
        if parts[0] in ROOMS:
            found |= {".".join(parts[:length]) for length in range(1, len(parts) + 1)}
    return sorted(found)


def _first(known: list[str]) -> list[str]:
    return [area for area in known if "." not in area]


def _logger(area: str) -> logging.Logger:
    return logging.getLogger(None if area == ALL else area)
