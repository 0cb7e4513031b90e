"""A line that says what a command waits for, and on a terminal how long it will go on."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from keycast.terminal.options import console, remark, wants_json


@contextmanager
def countdown(sentence: str, seconds: float) -> Iterator[None]:
    """Show `sentence` while the `with` block runs: on a terminal with the time left, elsewhere once, not with JSON."""
    if wants_json() or not console.is_terminal:
        remark(f"{sentence} ...")
        yield
        return
    from rich.live import Live
    from rich.text import Text

    ends = time.monotonic() + seconds

    def line() -> Text:
        minutes, rest = divmod(max(0, round(ends - time.monotonic())), 60)
        return Text(f"{sentence}: {minutes}:{rest:02d} left, Ctrl-C ends it")

    with Live(get_renderable=line, console=console, refresh_per_second=2, transient=True):
        yield
