"""Charts as SVG: panels beside each other, in each the same curves over the same axis."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Curves = Mapping[str, Sequence[float]]
"""Name of a curve -> its values, one for each place on the axis."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 340, 260, 44, 34, 12, 40
_COLUMNS = 3
_LEGEND = 40
_COLOURS = ("#0b6e4f", "#c8553d", "#7353ba", "#6c757d")
_TEXT = "#33475b"
_MARKS = (1, 1.5, 2, 3, 5, 10, 20, 50, 100)


def chart(panels: Mapping[str, Curves], axis: Sequence[int], across: str, up: str) -> str:
    """Return the text of an SVG: a panel for each name, with its curves over `axis`; `across` and `up` name the axes.

    All values are at least 1; their axis is logarithmic. All panels have the same curves.
    """
    rows = -(-len(panels) // _COLUMNS)
    width, height = _COLUMNS * _WIDTH, rows * _HEIGHT + _LEGEND
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="Arial, sans-serif">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, (name, curves) in enumerate(panels.items()):
        x, y = number % _COLUMNS * _WIDTH, number // _COLUMNS * _HEIGHT + _LEGEND
        lines += [f'<g transform="translate({x} {y})">', *_panel(name, curves, axis, across, up), "</g>"]
    for number, name in enumerate(next(iter(panels.values()))):
        x = _LEFT + number * 150
        lines.append(f'<path d="M{x} 20h24" stroke="{_COLOURS[number]}" stroke-width="3"/>')
        lines.append(f'<text x="{x + 30}" y="25" font-size="14" fill="{_TEXT}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _panel(name: str, curves: Curves, axis: Sequence[int], across: str, up: str) -> list[str]:
    top = 1.1 * max(max(values) for values in curves.values())
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + (value - axis[0]) / (axis[-1] - axis[0]) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - math.log(value) / math.log(top) * (bottom - _TOP)

    lines = [
        f'<text x="{_LEFT}" y="22" font-size="14" font-weight="bold" fill="{_TEXT}">{escape(name)}</text>',
        f'<text x="{right}" y="{_HEIGHT - 6}" font-size="11" text-anchor="end" fill="{_TEXT}">{escape(across)}</text>',
        f'<text transform="translate(11 {bottom}) rotate(-90)" font-size="11" fill="{_TEXT}">{escape(up)}</text>',
    ]
    for value in (each for each in _MARKS if each <= top):
        lines.append(f'<path d="M{_LEFT} {y(value):.1f}H{right}" stroke="#dde3e8"/>')
        lines.append(_label(_LEFT - 5, y(value) + 4, f"{value:g}", "end"))
    lines += [_label(x(value), bottom + 15, str(value), "middle") for value in axis]
    for colour, values in reversed(list(zip(_COLOURS, curves.values(), strict=False))):
        points = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in zip(axis, values, strict=True))
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    return lines


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" fill="{_TEXT}">{text}</text>'
