"""One measured line of `make bench`: our value beside a named peer's in the same run, and the ratio of the two."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Tell = Callable[[str], None]
"""A function that a subject calls with a few words about the step that it begins."""


@dataclass(frozen=True)
class Row:
    """A measured value. `target` is the figure of the design in `unit`, if it has one; `note` explains the value.

    Values are costs, of which less is better, except that units ending with "/s" are rates. If a target is for the
    processor's time, `yardstick_us` says how fast the machine was meanwhile (`processor.YARDSTICK`).
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    target: float | None = None
    note: str = ""
    yardstick_us: float | None = None

    @property
    def is_rate(self) -> bool:
        """True if more is better."""
        return self.unit.endswith("/s")

    @property
    def ratio(self) -> float | None:
        """How many times better we are than the peer; below 1 the peer is better. None without peer, or if one is 0."""
        if not self.peer_value or not self.value:
            return None
        return self.value / self.peer_value if self.is_rate else self.peer_value / self.value

    @property
    def held(self) -> bool | None:
        """True if the target is met (at most, or for rates at least), None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.is_rate else self.value <= self.target


@dataclass(frozen=True)
class Skipped:
    """A subject that was not measured on this machine, and the reason."""

    name: str
    reason: str


Line = Row | Skipped


def median_ms(work: Callable[[], object], *, rounds: int = 15, prepare: Callable[[], object] | None = None) -> float:
    """Return the median processor time of `work()` in milliseconds over `rounds` calls, after one to warm up.

    The time of other programs and of waiting is not in it, nor is that of `prepare()`, which runs before each call.
    """
    times = []
    for _ in range(rounds + 1):
        if prepare is not None:
            prepare()
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times[1:]) * 1000


def number(value: float | None) -> str:
    """Return `value` with three significant digits and grouped thousands, or a dash for None."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(lines: Iterable[Line], console: Console) -> None:
    """Print the lines, as a table on a terminal and as plain text elsewhere."""
    if not console.is_terminal:
        for line in lines:
            console.print(plain(line), soft_wrap=True, highlight=False, markup=False)
        return
    table = Table("what", "ours", "unit", "peer", "theirs", "ratio", "target")
    for line in lines:
        if isinstance(line, Skipped):
            table.add_row(f"[dim]{escape(line.name)}: {escape(line.reason)}[/]")
            continue
        colour = {True: "green", False: "red", None: ""}[line.held]
        target = f"[{colour}]{number(line.target)}[/]{_speed(line)}" if colour else ""
        peer = escape(line.peer or "")
        table.add_row(
            escape(line.name), number(line.value), line.unit, peer, number(line.peer_value), number(line.ratio), target
        )
    console.print(table)


def plain(line: Line) -> str:
    """Return a line of the results as plain text."""
    if isinstance(line, Skipped):
        return f"{line.name}: skipped, {line.reason}"
    peer = f"  {line.peer} {number(line.peer_value)}  ratio {number(line.ratio)}" if line.peer else ""
    verdict = "" if line.held is None else f"  target {number(line.target)} {'held' if line.held else 'MISSED'}"
    verdict += _speed(line)
    return f"{line.name}: {number(line.value)} {line.unit}{peer}{verdict}"


def _speed(row: Row) -> str:
    return "" if row.yardstick_us is None else f" (SHA-256 {number(row.yardstick_us)} us)"


def as_json(lines: Iterable[Line]) -> dict[str, object]:
    """Return all lines, and the machine on which they were measured, as plain values."""
    lines = list(lines)
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    rows = [{**asdict(line), "ratio": line.ratio, "held": line.held} for line in lines if isinstance(line, Row)]
    return {"machine": machine, "rows": rows, "skipped": [asdict(line) for line in lines if isinstance(line, Skipped)]}


def write(lines: Iterable[Line], path: Path) -> None:
    """Write `as_json` to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(lines), indent=1) + "\n")
