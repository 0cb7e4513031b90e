"""Write docs/messages.md, the reference of all CPNS messages, from the table with which they are packed and parsed.

`python -m tools.message_reference` writes the page; a test fails when it is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpns import message_table as table
from cpns import messages, xml_form

PAGE = Path(__file__).resolve().parent.parent / "docs" / "messages.md"

_ROLES = {table.PNE: "PNE", table.GATEWAY: "PN GW", table.SERVER: "CPNS Server"}
_HEAD = """# CPNS messages

Made from `cpns/messages.py` and `cpns/message_table.py` by `python -m tools.message_reference`; do not edit.

In CBOR a message is a map: key 0 holds the code, the other keys are labels; a field that may repeat anywhere is an
array and is left out when empty; an element with attributes is a map, key 0 its text, the others its attributes.
In XML the root element has the name of the message, in the default namespace `{namespace}`; elements (E) and attributes
(A) have the names in brackets. `‖` in a label column joins element and attribute. A String has no control characters.
In a response whose Result (or Return) is not `1`, only {kept} must be present; Error and Error Text may be.
Rows without a requirement id are extensions of this project.
"""


def page() -> str:
    """Return the text of docs/messages.md."""
    kept = ", ".join(table.NAMES[label][0] for label in messages.KEPT_ON_FAIL)
    lines = [_HEAD.format(namespace=xml_form.NAMESPACE, kept=kept)]
    lines += ["| Code | Message | Level | Ways |", "|---|---|---|---|"]
    for code in sorted(table.MESSAGES):
        pair = table.PAIRS.get(code) or table.PAIRS[code - 1]
        lines.append(f"| {code} | [{table.name(code)}](#{table.name(code).lower()}) | {pair.level} | {_ways(code)} |")
    for code in sorted(table.MESSAGES):
        lines += _section(code)
    lines += _labels()
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page into the checkout."""
    PAGE.write_text(page(), encoding="utf-8")


def _section(code: int) -> Iterator[str]:
    pair = table.PAIRS.get(code)
    yield f"\n## {table.name(code)}\n"
    if pair:
        yield f"Code {code}: {pair.meaning}. {_source(table.requirement(code))}\n"
    else:
        yield f"Code {code}: the answer to {table.name(code - 1)}. {_source(table.requirement(code))}\n"
    yield "| Label | Name (in XML) | T | Cardinality | Type | Meaning | From |"
    yield "|---|---|---|---|---|---|---|"
    for row in table.rows(code):
        label = row.label if row.part is None else f"{row.label} ‖ {row.part}"
        named = row.name if row.name == row.xml_name else f"{row.name} ({row.xml_name})"
        kind = _type(row.kind)
        yield f"| {label} | {named} | {row.t} | {row.cardinality} | {kind} | {row.meaning} | {row.requirements} |"


def _labels() -> Iterator[str]:
    where: dict[int, list[int]] = {}
    for code in sorted(table.MESSAGES):
        for label in dict.fromkeys(row.label for row in table.rows(code)):
            where.setdefault(label, []).append(code)
    yield "\n## Labels\n"
    yield "One number means one thing in every message.\n"
    yield "| Label | Name | Meaning | In messages |"
    yield "|---|---|---|---|"
    for label, codes in sorted(where.items()):
        name, meaning = table.NAMES[label]
        yield f"| {label} | {name} | {meaning} | {', '.join(map(str, codes))} |"


def _source(requirement: str) -> str:
    return f"{requirement}." if requirement else "Extension."


def _ways(code: int) -> str:
    return "; ".join(f"{_ROLES[source]} → {_ROLES[to]}" for source, to in table.ways(code))


def _type(kind: tuple[type, Any, Any] | None) -> str:
    if kind is None:
        return "attributes only"
    python, least, most = kind
    if python is str and isinstance(least, str):
        return "String, " + " ".join(f"`{chr(sign)}`" for sign in range(ord(least), ord(most) + 1))
    name = {str: "String", bytes: "Binary", int: "uint"}[python]
    amount = f"{most}" if least == most else f"{least}..{most}"
    return f"{name}, {amount}" if python is int else f"{name}, {amount} octets"


if __name__ == "__main__":
    main()
