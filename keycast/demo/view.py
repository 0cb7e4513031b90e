"""The display of `keycast demo`: a live table of boards and key versions on a terminal, plain lines elsewhere."""

import asyncio
import io
import re
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cpns.in_words import version_text
from keycast.demo.end_to_end_story import EndToEndFigures, EndToEndStory
from keycast.demo.house import BLE, WIFI, build_houses
from keycast.demo.story import SG_ID, DeliveryFigures, DemoFigures, Story, counted
from keycast.demo.uplinks import EMBEDDED, MQTT

_WEB_FONT = re.compile(r"@font-face\s*{[^}]*}")  # a picture fetches nothing


async def show(folder: Path, figures: DemoFigures, picture: Path | None, quiet: bool = False) -> None:
    """Build the houses in `folder`, play the story and show it; fill in `figures`, and write `picture` as SVG.

    Raise NoVm, NoBroker, BoardEnded, and TimeoutError if a member is still without its key after two minutes.
    """
    view = View(Console(quiet=quiet))
    if picture is not None:
        picture.touch()  # so that a name which cannot be written is told before the story, not after it
    server = "its CPNS Server" if figures.uplink == EMBEDDED else "a CPNS Server elsewhere"
    over = ", over a Mosquitto of their own," if figures.uplink == MQTT else ""
    gateways = "a PN GW" if figures.homes == 1 else f"{figures.homes} PN GWs"
    view.say(
        f"{gateways} with {server}{over} {'starts' if figures.homes == 1 else 'start'}, and the boards are switched on"
    )
    async with build_houses(
        folder,
        boards=figures.boards,
        homes=figures.homes,
        uplink=figures.uplink,
        loss=figures.loss,
        seed=figures.seed,
        radios=(WIFI, BLE) if figures.ble else (WIFI,),
    ) as houses:
        story = (
            EndToEndStory(houses, figures, view.say)
            if isinstance(figures, EndToEndFigures)
            else Story(houses, figures, view.say)
        )
        view.start(story)
        drawing = asyncio.create_task(_draw(view))
        try:
            await story.play()
        finally:
            drawing.cancel()
            view.stop()
        figures.restarts = sum(board.restarts for board in story.boards.values())
        view.statistics(figures)
        if picture is not None:
            view.save(picture, figures)


async def _draw(view: "View") -> None:
    while True:
        await asyncio.sleep(0.2)
        view.refresh()


class View:
    """The sentences of the story so far, and a table of the key version that each board has."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.lines: list[str] = []
        self._live: Live | None = None
        self.story: Story | None = None

    def say(self, sentence: str) -> None:
        """Show one more sentence of the story."""
        self.lines.append(sentence)
        if self.console.is_terminal:
            self.refresh()
        else:
            self.console.print(sentence, soft_wrap=True, highlight=False)

    def start(self, story: Story) -> None:
        """Begin to show the table, on a terminal."""
        self.story = story
        if self.console.is_terminal:
            self._live = Live(self.picture(), console=self.console, refresh_per_second=8, transient=False)
            self._live.start()

    def refresh(self) -> None:
        """Draw the present state."""
        if self._live is not None:
            self._live.update(self.picture())

    def stop(self) -> None:
        """Leave the last picture on the screen."""
        if self._live is not None:
            self.refresh()
            self._live.stop()
            self._live = None

    def picture(self) -> Group:
        """Return the table of boards and the story so far."""
        home = ["home"] if self._shows_homes else []
        radio = ["radio"] if self._shows_radios else []
        groups = [column for sg_id in (self.story.sg_ids if self.story else (SG_ID,)) for column in (sg_id, "")]
        table = Table("board", *home, "runs on", *radio, *groups, title="Group Key versions", title_justify="left")
        if self.story is not None:
            versions = [self.story.table(sg_id) for sg_id in self.story.sg_ids]
            newest = [max(of_group.values(), default=0) for of_group in versions]
            for name in versions[0]:
                home = [self.story.home_of[name]] if self._shows_homes else []
                radio = [self.story.radios[name]] if self._shows_radios else []
                cells = [self._cells(name, held[name], new) for held, new in zip(versions, newest, strict=True)]
                table.add_row(name, *home, "MicroPython, 96 KiB", *radio, *(cell for pair in cells for cell in pair))
        story = Text("\n".join(f"{number}. {line}" for number, line in enumerate(self.lines, 1)))
        return Group(table, story)

    @property
    def _shows_homes(self) -> bool:
        return self.story is not None and self.story.figures.homes > 1

    @property
    def _shows_radios(self) -> bool:
        return self.story is not None and self.story.figures.ble

    def _cells(self, name: str, version: int, newest: int) -> tuple[Text, Text]:
        assert self.story is not None
        if not version:
            outside = name not in self.story.members
            return Text("-"), Text("not a member" if outside else "waits", style="dim")
        if version == newest:
            return Text(version_text(version), style="green"), Text("has the key", style="green")
        expelled = name == self.story.expelled
        return Text(version_text(version), style="red" if expelled else "yellow"), Text(
            "thrown out" if expelled else "waits", style="red" if expelled else "yellow"
        )

    def statistics(self, figures: DemoFigures) -> None:
        """Print the figures of all deliveries."""
        if self.console.is_terminal:
            self.console.print(_table(figures))
        else:
            for each in figures.deliveries:
                group = f"{each.sg_id}, " if _shows_groups(figures) else ""
                self.console.print(group + _line(each), soft_wrap=True, highlight=False)

    def save(self, path: Path, figures: DemoFigures) -> None:
        """Write what a terminal would show at the end as SVG."""
        paper = Console(record=True, width=112, file=io.StringIO(), force_terminal=True, color_system="truecolor")
        paper.print(self.picture())
        paper.print(_table(figures))
        drawing = paper.export_svg(title="keycast demo")
        path.write_text(_WEB_FONT.sub("", drawing), encoding="utf-8")


def _shows_groups(figures: DemoFigures) -> bool:
    return len({each.sg_id for each in figures.deliveries}) > 1


def _line(each: DeliveryFigures) -> str:
    return (
        f"{each.occasion}: version {version_text(each.version)}, confirmed {each.confirmed_count}, "
        f"excluded {len(each.excluded)}, {each.method}, {counted(each.datagrams, 'datagram')}, "
        f"{each.bytes} octets, {_adverts(each)}{each.seconds:.2f} s"
    )


def _adverts(delivery: DeliveryFigures) -> str:
    return "" if delivery.adverts is None else f"{counted(delivery.adverts, 'advert')}, "


def _table(figures: DemoFigures) -> Table:
    groups, adverts = _shows_groups(figures), ["adverts"] if figures.ble else []
    group = ["Service Group"] if groups else []
    columns = ("delivery", "version", "confirmed", "excluded", "way", "datagrams", "octets", *adverts, "seconds")
    table = Table(*group, *columns)
    for each in figures.deliveries:
        table.add_row(
            *([each.sg_id] if groups else []),
            each.occasion,
            version_text(each.version),
            str(each.confirmed_count),
            str(len(each.excluded)),
            each.method,
            str(each.datagrams),
            f"{each.bytes:,}",
            *([str(each.adverts)] if figures.ble else []),
            f"{each.seconds:.2f}",
        )
    return table
