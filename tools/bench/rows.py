"""One measured line of `make bench`: our value beside a named peer's in the same run, and the ratio of the two."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """`ratio` is peer / ours: above 1 we need less. `target` is the design's figure, in `unit`, where it has one."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Peer's value divided by ours, None without a peer or for 0."""
        if self.peer_value is None or not self.value:
            return None
        return self.peer_value / self.value

    @property
    def held(self) -> bool | None:
        """True when the target is met (at most, or for rates at least), None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.unit.endswith("/s") else self.value <= self.target


def median_ms(work: Callable[[], object], *, rounds: int = 15) -> float:
    """Median wall time of `work()` in milliseconds over `rounds` calls after one to warm up."""
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def number(value: float | None) -> str:
    """`value` with three significant digits, thousands grouped; a dash for None."""
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def show(rows: Iterable[Row], console: Console) -> None:
    """Print the table: a real one on a terminal, plain lines elsewhere."""
    if not console.is_terminal:
        for row in rows:
            peer = f"  {row.peer} {number(row.peer_value)}  ratio {number(row.ratio)}" if row.peer else ""
            verdict = "" if row.held is None else f"  target {number(row.target)} {'held' if row.held else 'MISSED'}"
            console.print(f"{row.name}: {number(row.value)} {row.unit}{peer}{verdict}", soft_wrap=True, highlight=False)
        return
    table = Table("what", "ours", "unit", "peer", "theirs", "ratio", "target")
    for row in rows:
        colour = {True: "green", False: "red", None: ""}[row.held]
        target = f"[{colour}]{number(row.target)}[/]" if colour else ""
        table.add_row(
            row.name, number(row.value), row.unit, row.peer or "", number(row.peer_value), number(row.ratio), target
        )
    console.print(table)


def write(rows: Iterable[Row], path: Path) -> None:
    """Write all rows and the machine they were measured on as JSON."""
    machine = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    lines = [{**asdict(row), "ratio": row.ratio, "held": row.held} for row in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": lines}, indent=1) + "\n")
