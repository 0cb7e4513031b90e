"""`python -m tools.bench` measures the figures of the design, each beside a peer in the same run.

It prints a table and writes `build/bench.json`. Nothing passes or fails here: a missed target is shown as missed.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from keycast.micropython_vm.vm import NoVm
from tools import PROJECT
from tools.bench import (
    adverts,
    board,
    board_profiles,
    confirmations,
    end_to_end,
    gateway_work,
    gatt,
    handshakes,
    living,
    living_home_assistant,
    mikey,
    mqtt,
    mqtt_moonshot,
    mqtt_processes,
    mqtt_returns,
    octets,
    page,
    seal,
    start,
    thousand,
    update_house,
    updates,
    uplink,
    val_board,
)
from tools.bench.rows import Line, Skipped, Tell, as_json, show, write

RESULTS = PROJECT / "build" / "bench.json"
SUBJECTS: dict[str, Callable[[Tell], Iterator[Line]]] = {
    "octets": octets.measure,
    "gateway_work": gateway_work.measure,
    "handshakes": handshakes.measure,
    "confirmations": confirmations.measure,
    "living": living.measure,
    "adverts": adverts.measure,
    "gatt": gatt.measure,
    "thousand": thousand.measure,
    "updates": updates.measure,
    "update_house": update_house.measure,
    "start": start.measure,
    "uplink": uplink.measure,
    "mqtt": mqtt.measure,
    "mqtt_returns": mqtt_returns.measure,
    "mqtt_processes": mqtt_processes.measure,
    "living_home_assistant": living_home_assistant.measure,
    "end_to_end": end_to_end.measure,
    "page": page.measure,
    "seal": seal.measure,
    "mikey": mikey.measure,
    "board": board.measure,
    "board_profiles": board_profiles.measure,
    "val_board": val_board.measure,
}
ONLY_IF_NAMED: dict[str, Callable[[Tell], Iterator[Line]]] = {"mqtt_moonshot": mqtt_moonshot.measure}
EVERY = SUBJECTS | ONLY_IF_NAMED


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Measure only this; may be repeated: {', '.join(EVERY)}.")
    ] = None,
    as_json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON and nothing else.")] = False,
) -> None:
    """Measure everything but mqtt_moonshot, which takes minutes, or what --only names.

    Example: python -m tools.bench --only octets
    """
    for name in only or ():
        if name not in EVERY:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(EVERY)}", param_hint="--only")
    console = Console(stderr=as_json_)
    lines = measured([name for name in EVERY if name in (only or SUBJECTS)], console)
    write(lines, RESULTS)
    if as_json_:
        typer.echo(json.dumps(as_json(lines)))
        return
    if console.is_terminal:
        show(lines, console)
    console.print(f"written to {RESULTS.relative_to(PROJECT)}", highlight=False)


def measured(names: list[str], console: Console) -> list[Line]:
    """Measure these subjects in turn. Show a progress bar on a terminal, and elsewhere each line when it is there."""
    lines: list[Line] = []
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console, transient=True)
    with bar:
        task = bar.add_task("", total=len(names), visible=console.is_terminal)
        for name in names:
            begun = time.monotonic()

            def tell(step: str, name: str = name) -> None:
                bar.update(task, description=f"{name}: {step}")

            try:
                for line in EVERY[name](tell):
                    lines.append(line)
                    if not console.is_terminal:
                        show([line], console)
            except NoVm as why:
                lines.append(Skipped(name, str(why)))
                show(lines[-1:], console)
            bar.advance(task)
            if not console.is_terminal:
                console.print(f"# {name} took {time.monotonic() - begun:.0f} s", highlight=False)
    return lines


if __name__ == "__main__":
    typer.run(main)
