"""`keycast demo`: a whole home on this machine, re-keyed once with a board thrown out."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keycast.demo.house import build_house, new_seed
from keycast.demo.story import DemoFigures, Story
from keycast.demo.view import View
from keycast.micropython_vm.vm import NoVm
from keycast.terminal.options import JsonOption, answer, refuse, sentences
from keycast.virtual_board.board import BoardEnded


def command(
    boards: Annotated[int, typer.Option(min=3, max=100, help="Virtual boards, each a real MicroPython VM.")] = 8,
    loss: Annotated[float, typer.Option(min=0.0, max=0.9, help="Probability that a datagram is lost.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the losses; default: a new one each time.")] = None,
    picture: Annotated[
        Path | None, typer.Option(readable=False, help="Write the last picture to this SVG file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a gateway, its CPNS Server and virtual boards; expel one, re-key the rest, and let the expelled one try.

    Exit code 0 only if every member got each key and the expelled board could not read the new one.

    Example: keycast demo --boards 20 --loss 0.2
    """
    console = Console(quiet=as_json)
    figures = DemoFigures(boards, loss, new_seed() if seed is None else seed)
    with sentences(), tempfile.TemporaryDirectory(prefix="keycast-demo-") as folder:
        try:
            asyncio.run(_play(Path(folder), figures, View(console), picture))
        except (NoVm, BoardEnded) as problem:
            refuse(str(problem))
        except TimeoutError:
            refuse("A member was still without its key after two minutes.", "timeout")
    answer(figures.as_dict())  # lines are shown while it runs
    if figures.excluded_could_read is not False or not figures.pull_refused:
        raise typer.Exit(1)


async def _play(folder: Path, figures: DemoFigures, view: View, picture: Path | None) -> None:
    view.say("a PN GW with its CPNS Server starts, and the boards are switched on")
    async with build_house(folder, boards=figures.boards, loss=figures.loss, seed=figures.seed) as house:
        story = Story(house, figures, view.say)
        view.start(story)
        drawing = asyncio.create_task(_draw(view))
        try:
            await story.play()
        finally:
            drawing.cancel()
            view.stop()
        figures.restarts = sum(board.restarts for board in house.boards.values())
        view.statistics(figures)
        if picture is not None:
            view.save(picture, figures)


async def _draw(view: View) -> None:
    while True:
        await asyncio.sleep(0.2)
        view.refresh()
