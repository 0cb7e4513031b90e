"""The check that a name which a person typed is known, with the nearest known name in the refusal."""

import difflib
from collections.abc import Iterable

from cpns.errors import NotAllowed, Unknown

_SHOWN_MAX = 5
_TYPED_MAX = 128  # characters; comparing longer names takes long, and no person typed them
_COMPARED_MAX = 1000  # names; comparing with each of more would keep everybody else waiting


def require(name: str, known: Iterable[str], what: str, step: str = "") -> None:
    """Raise Unknown unless `name` is among the `known` names of the kind `what` ("board", "Service Group").

    The sentence goes on with the nearest name or, if none is near, with all names if they are few; it ends with `step`.
    """
    names = set(known)
    if name not in names:
        raise Unknown(" ".join(filter(None, (f"there is no {what} {name!r}.", _near(name, sorted(names)), step))))


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that was perhaps meant; "" if none is near, or too many are known."""
    by_folded = {each.casefold(): each for each in known}
    if len(name) > _TYPED_MAX or len(by_folded) > _COMPARED_MAX:
        return ""
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    return f"Did you mean {by_folded[found[0]]!r}?" if found else ""


def new_name(name: str, what: str) -> str:
    """Return `name`, the name of a new `what`. Raise NotAllowed if it is empty or has blanks in it."""
    if not name or any(character.isspace() for character in name):
        raise NotAllowed(f"{name!r} can be no name of a {what}: write one without blanks")
    return name


def _near(name: str, names: list[str]) -> str:
    return nearest(name, names) or (f"Known: {', '.join(map(repr, names))}." if 0 < len(names) <= _SHOWN_MAX else "")
