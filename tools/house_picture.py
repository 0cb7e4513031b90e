"""Write docs/house.svg: the rooms of the house, each above all that it imports, with an arrow for each import.

`python -m tools.house_picture` draws it from the imports of the code and the table of rooms in README.md; a test fails
when it is out of date. An arrow that follows from two others is left out: a room that imports `message_plane` may
import `cpns` too.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from html import escape
from itertools import pairwise, permutations
from pathlib import Path

from tools import PROJECT

PICTURE = PROJECT / "docs" / "house.svg"
_NOT_DRAWN = {"tools", "tests", "hw_configs"}

_WIDTH, _ROOM, _HEIGHT, _GAP, _BEND, _MARGIN = 1000, 250, 112, 60, 60, 20
_HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Arial, sans-serif">
<!-- Made by `python -m tools.house_picture` from the imports; do not edit. -->
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0 0 10 5 0 10z" fill="#46607a"/></marker></defs>
<rect width="{width}" height="{height}" fill="#fff"/>"""

Arrows = dict[str, set[str]]  # room -> the rooms that it imports


def arrows(project: Path = PROJECT) -> Arrows:
    """Return which rooms of the product each room imports, as its files say."""
    rooms = [room for room in described(project) if room not in _NOT_DRAWN]
    found: Arrows = {}
    for room in rooms:
        named = {name for path in sorted((project / room).rglob("*.py")) for name in _imports(path)}
        # an import of `micropython` means MicroPython's own module, as the folder is no package
        found[room] = named.intersection(rooms) - {room, "micropython"}
    return found


def described(project: Path = PROJECT) -> dict[str, str]:
    """Return the rooms and the description of each, from the table in README.md."""
    rows = re.findall(r"^\| `(\w+)/` \| (.+) \|$", (project / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return {room: text.replace("`", "") for room, text in rows}


def floors(house: Arrows) -> list[list[str]]:
    """Return the rooms by floor, the ground first: a room stands one above the highest that it imports.

    Raises ValueError if rooms import each other in a circle.
    """
    height: dict[str, int] = {}
    while len(height) < len(house):
        ready = [room for room in house if room not in height and house[room] <= height.keys()]
        if not ready:
            raise ValueError(f"these rooms import each other: {', '.join(sorted(house.keys() - height.keys()))}")
        for room in ready:
            height[room] = 1 + max((height[below] for below in house[room]), default=-1)
    return [[room for room in house if height[room] == floor] for floor in range(max(height.values()) + 1)]


def direct(house: Arrows) -> Arrows:
    """Return the arrows that do not follow from two or more others."""

    def reached(room: str) -> set[str]:
        return set().union(*({below} | reached(below) for below in house[room]))

    return {
        room: {below for below in lower if not any(below in reached(other) for other in lower - {below})}
        for room, lower in house.items()
    }


def picture(house: Arrows, project: Path = PROJECT) -> str:
    """Return the text of docs/house.svg for the checkout in `project`, whose `arrows` are `house`."""
    texts = described(project)
    storeys, routes = _routed(floors(house), direct(house))
    places = _places(_ordered(storeys, routes))
    height = 2 * _MARGIN + len(storeys) * _HEIGHT + (len(storeys) - 1) * _GAP
    lines = [_HEAD.format(width=_WIDTH, height=height)]
    lines += [_arrow([places[stop] for stop in route]) for route in routes]
    lines += [_room(room, texts[room], *places[room, room, 0]) for room in house]
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    """Write the picture into the checkout."""
    PICTURE.write_text(picture(arrows()), encoding="utf-8")


# A stop of an arrow: a room is (room, room, 0); (upper, lower, floor) is where their arrow crosses a floor between.
_Stop = tuple[str, str, int]


def _imports(path: Path) -> Iterator[str]:
    left: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
        elif not isinstance(node, ast.expr):  # no expression holds an import
            left.extend(ast.iter_child_nodes(node))


def _routed(by_floor: list[list[str]], house: Arrows) -> tuple[list[list[_Stop]], list[list[_Stop]]]:
    """Return the stops on each floor, and each arrow as its stops from the importing room down."""
    floor_of = {room: floor for floor, rooms in enumerate(by_floor) for room in rooms}
    storeys: list[list[_Stop]] = [[(room, room, 0) for room in rooms] for rooms in by_floor]
    routes = []
    for upper in house:
        for lower in sorted(house[upper]):
            between = range(floor_of[upper] - 1, floor_of[lower], -1)
            for floor in between:
                storeys[floor].append((upper, lower, floor))
            routes.append([(upper, upper, 0), *((upper, lower, floor) for floor in between), (lower, lower, 0)])
    return storeys, routes


def _ordered(storeys: list[list[_Stop]], routes: list[list[_Stop]]) -> list[list[_Stop]]:
    """Return the floors, each in an order with few crossings and short arrows.

    Every order of the ground floor is tried; the floors above it then settle one by one.
    """

    def cost(ordered: list[list[_Stop]]) -> tuple[int, float]:
        places = _places(ordered)
        steps = [(places[a], places[b]) for route in routes for a, b in pairwise(route) if {a, b} <= places.keys()]
        crossed = sum(
            one[0][1] == other[0][1] and (one[0][0] - other[0][0]) * (one[1][0] - other[1][0]) < 0
            for number, one in enumerate(steps)
            for other in steps[:number]
        )
        return crossed, sum(abs(upper[0] - lower[0]) for upper, lower in steps)

    tried = []
    for ground in permutations(storeys[0]):
        ordered = [list(ground)]
        for storey in storeys[1:]:
            ordered.append(list(min(permutations(storey), key=lambda order: cost([*ordered, list(order)]))))
        tried.append(ordered)
    return min(tried, key=cost)


def _places(storeys: list[list[_Stop]]) -> dict[_Stop, tuple[float, float]]:
    """Return the middle of each stop, the ground floor at the bottom."""
    found = {}
    for floor, storey in enumerate(storeys):
        widths = [_ROOM if upper == lower else _BEND for upper, lower, _ in storey]
        free = (_WIDTH - 2 * _MARGIN - sum(widths)) / len(storey)
        x = float(_MARGIN)
        for stop, width in zip(storey, widths, strict=True):
            x += free / 2 + width / 2
            found[stop] = (x, _MARGIN + _HEIGHT / 2 + (len(storeys) - 1 - floor) * (_HEIGHT + _GAP))
            x += free / 2 + width / 2
    return found


def _arrow(stops: list[tuple[float, float]]) -> str:
    (x, y), *rest = stops
    half = _HEIGHT / 2
    path = f"M{x:g} {y + half:g}"
    for number, (to_x, to_y) in enumerate(rest, 1):
        end = to_y - half
        path += f" C{x:g} {y + half + _GAP / 2:g} {to_x:g} {end - _GAP / 2:g} {to_x:g} {end:g}"
        if number < len(rest):
            path += f" V{to_y + half:g}"
        x, y = to_x, to_y
    return f'<path d="{path}" fill="none" stroke="#46607a" stroke-width="1.6" marker-end="url(#tip)"/>'


def _room(name: str, text: str, x: float, y: float) -> str:
    left, top = x - _ROOM / 2, y - _HEIGHT / 2
    lines = [
        f'<rect x="{left:g}" y="{top:g}" width="{_ROOM}" height="{_HEIGHT}" rx="8" fill="#f3f6f9" stroke="#46607a"/>',
        f'<text x="{left + 14:g}" y="{top + 27:g}" font-size="17" font-weight="bold" fill="#1d2b38">{name}</text>',
    ]
    for number, line in enumerate(textwrap.wrap(text, 32)):
        y = top + 50 + 18 * number
        lines.append(f'<text x="{left + 14:g}" y="{y:g}" font-size="13" fill="#33475b">{escape(line)}</text>')
    return "\n".join(lines)


if __name__ == "__main__":
    main()
