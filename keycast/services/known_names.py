"""Names that a person types mean something that is there; who mistypes one is told what it is near to."""

import difflib
from collections.abc import Iterable

from cpns.errors import NotAllowed, Unknown

_SHOWN_MAX = 5
_TYPED_MAX = 128  # characters; comparing longer ones takes long, and nobody typed them


def require(name: str, known: Iterable[str], what: str, step: str = "") -> None:
    """Raise Unknown unless `name` is among the `known` names of a `what` ("board", "Service Group").

    The sentence ends with the nearest name, else with those there are if they are few, and then with `step`.
    """
    names = sorted(set(known))
    if name not in names:
        raise Unknown(" ".join(filter(None, (f"there is no {what} {name!r}.", _near(name, names), step))))


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence with the known name that was meant, it may be; "" if none is near."""
    if len(name) > _TYPED_MAX:
        return ""
    by_folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f"Did you mean {by_folded[found[0]]!r}?" if found else ""


def new_name(name: str, what: str) -> str:
    """Give the name of a new `what` back if it can be typed and listed. Raises NotAllowed for one with blanks in it."""
    if not name or any(character.isspace() for character in name):
        raise NotAllowed(f"{name!r} can be no name of a {what}: write one without blanks")
    return name


def _near(name: str, names: list[str]) -> str:
    return nearest(name, names) or (f"Known: {', '.join(map(repr, names))}." if 0 < len(names) <= _SHOWN_MAX else "")
