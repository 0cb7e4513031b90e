"""The newest lines of this process's log, kept for the page, for `keycast log` and for a bundle of `keycast doctor`.

    lines = LogLines()
    logging.getLogger().addHandler(lines)
    with lines.subscribe() as reader:
        async for line in reader: ...

A line never waits for a reader: one that is too slow loses the oldest lines that it has not read, and can see how many.
Lines may come from any thread; readers are in event loops.
"""

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

WAITING_MAX = 256
"""Lines that wait for one reader."""
KEPT = 2000
"""The newest lines, kept for readers that come later."""
TEXT_MAX = 4096
"""Letters of a line that are kept: a text of a peer in it may be long."""

ROOMS = ("gateway_agent", "http_door", "key_servers", "keycast", "message_plane", "mikey_sakke", "private_store")
"""The first words of the product's areas, each of which is the name of a module that logs."""

_CODED = re.compile(r"(KC\d{4}) ")
_NEVER_FORMATTED = logging.Formatter()


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `number` counts from 1 since the start of the process; `at` is Unix seconds.

    `level` is "debug", "info", "warning" or "error"; `area` the module that wrote it. `code` is the one of
    docs/troubleshooting.md, "" for what is neither a warning nor an error; `sg_id` and `pne_id` are what it is about,
    or "". `text` prints: what does not, newlines included, is shown by its number.
    """

    number: int
    at: float
    level: str
    area: str
    code: str
    text: str
    sg_id: str
    pne_id: str


def code_of(record: logging.LogRecord) -> str:
    """Return the code of a record, "" if it has none.

    It stands in the format of a line of the product, never in what is filled in, which may be the text of a peer.
    """
    if record.name.partition(".")[0] not in ROOMS:
        return ""
    found = _CODED.match(str(record.msg))
    return found[1] if found else ""


def about(record: logging.LogRecord) -> tuple[str, str]:
    """Return the SG ID and the PNE ID that a record is about, as its caller gave them in `extra`; "" for none."""
    return str(getattr(record, "sg_id", "") or ""), str(getattr(record, "pne_id", "") or "")


def level_of(record: logging.LogRecord) -> str:
    """Return the level of a record as one of four words."""
    if record.levelno >= logging.ERROR:
        return "error"
    if record.levelno >= logging.WARNING:
        return "warning"
    return "info" if record.levelno >= logging.INFO else "debug"


def text_of(record: logging.LogRecord) -> str:
    """Return the message of a record without its code, and below it the traceback if it has one."""
    text = record.getMessage().removeprefix(f"{code_of(record)} ")
    if record.exc_info:
        text += "\n" + _NEVER_FORMATTED.formatException(record.exc_info)
    return text


def printable(text: str) -> str:
    """Return `text` with each letter that does not print, such as a newline or a right-to-left mark, by its number."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class LogReader(AsyncIterator[LogLine]):
    """The lines for one reader, from its subscription on, oldest first. `lost` counts those it was too slow for."""

    def __init__(self, forget: "Callable[[LogReader], None]") -> None:
        import asyncio  # a command that only begins a log has no readers

        self.lost = 0
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[LogLine] = deque()
        self._wake = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._forget(self)

    async def __anext__(self) -> LogLine:
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        return self._waiting.popleft()

    def take(self) -> list[LogLine]:
        """Return the lines that wait, without waiting."""
        found = list(self._waiting)
        self._waiting.clear()
        return found

    def put(self, line: LogLine) -> None:
        """Append a line. The oldest one is lost if the reader has not read the last `WAITING_MAX`."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._put, line)

    def _put(self, line: LogLine) -> None:
        if len(self._waiting) == WAITING_MAX:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(line)
        self._wake.set()


class LogLines(logging.Handler):
    """The handler of `logging` that keeps the last `KEPT` lines and passes each new one to its readers."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[LogLine] = deque(maxlen=KEPT)
        self._readers: tuple[LogReader, ...] = ()
        self._number = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as a line. `logging` calls this, in one thread at a time."""
        try:
            text = printable(text_of(record)[:TEXT_MAX])
        except Exception:  # noqa: BLE001 - a format that does not fit its arguments, of a library
            self.handleError(record)
            return
        sg_id, pne_id = map(printable, about(record))
        self._number += 1
        line = LogLine(
            self._number, record.created, level_of(record), record.name, code_of(record), text, sg_id, pne_id
        )
        self._kept.append(line)
        for reader in self._readers:
            reader.put(line)

    def recent(self, count: int = KEPT) -> list[LogLine]:
        """Return the last `count` lines or, of those that are kept, all, oldest first."""
        with self.lock:  # type: ignore[union-attr]  # every handler has one; a line may come from another thread
            return list(self._kept)[-count:] if count > 0 else []

    def subscribe(self) -> LogReader:
        """Return a new reader, in the event loop that runs. It is used with `with`, which ends it."""
        reader = LogReader(self._forget)
        self._readers += (reader,)
        return reader

    def _forget(self, reader: LogReader) -> None:
        self._readers = tuple(each for each in self._readers if each is not reader)
