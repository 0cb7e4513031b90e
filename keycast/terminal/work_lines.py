"""A line for each of several works that go on at once: what is done now and, on a terminal, how much of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keycast.terminal.options import console, remark, wants_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class WorkLine:
    """The line of one work, called `name`."""

    def __init__(self, name: str, bars: "Progress | None") -> None:
        self.name = name
        self._bars = bars
        self._bar: TaskID | None = None if bars is None else bars.add_task("", total=1.0, name=name)

    def doing(self, what: str) -> None:
        """Show what is done now."""
        if self._bars is not None and self._bar is not None:
            self._bars.reset(self._bar, description=what)
            self._bars.refresh()
        else:
            remark(f"{self.name}: {what}")

    def progress(self, done: float) -> None:
        """Show how much of that is done, 0 to 1."""
        if self._bars is not None and self._bar is not None:
            self._bars.update(self._bar, completed=done)

    def warn(self, sentence: str) -> None:
        """Show a sentence that a person must know, above the lines."""
        remark(f"{self.name}: {sentence}")


@contextmanager
def work_lines(names: list[str]) -> Iterator[list[WorkLine]]:
    """Show a line for each of `names` while the `with` block runs; on a terminal they go away then."""
    if wants_json() or not console.is_terminal:
        yield [WorkLine(name, None) for name in names]
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (TextColumn("{task.fields[name]}: {task.description}", markup=False), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield [WorkLine(name, bars) for name in names]
