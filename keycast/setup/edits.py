"""Changes a configuration file as little as possible: what a person wrote into it, comments and order, stays.

A value is exchanged where it stands; a new key comes after the last one of its section, a new section at the end of the
file. A section goes with its keys and the comments between them; those below it may be about the next one, and stay.
"""

import copy
import difflib
import tomllib
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Array, Comment, Item, Table, Whitespace

from gateway_agent.errors import ConfigError
from keycast.setup.answers import Settings
from keycast.setup.first_file import COMMENTS

Changes = dict[tuple[str, str], Any]
"""(section, key) -> its new value, None if the key goes. The key "" stands for the whole section, which goes."""


def changes_between(before: Settings, after: Settings) -> Changes:
    """Return what must change in a file with the settings `before` for those of `after`."""
    found: Changes = {}
    for name, wanted in after.items():
        present = before.get(name) or {}
        if wanted is None:
            if before.get(name) is not None:
                found[name, ""] = None
            continue
        found |= {(name, key): value for key, value in wanted.items() if present.get(key) != value}
        # Settings of another kind of uplink may stay, so that a person can change the kind and back.
        if wanted.get("kind") == present.get("kind"):
            found |= {(name, key): None for key in present.keys() - wanted.keys()}
    return found


def edited(text: str, changes: Changes) -> str:
    """Return TOML `text` with `changes`.

    Raises ConfigError if they cannot be made because of how the text is written.
    """
    wanted = _expected(tomllib.loads(text), changes)
    try:
        document = tomlkit.parse(text)
        for (name, key), value in changes.items():
            if not key:
                _remove_section(document, name)
            elif value is None:
                document[name].remove(key)
            else:
                _set(document, name, key, value)
        found = tomlkit.dumps(document)
        is_right = tomllib.loads(found) == wanted
    except (TOMLKitError, tomllib.TOMLDecodeError):
        is_right = False
    if not is_right:
        what = ", ".join(f"{name}.{key}" if key else f"[{name}]" for name, key in changes)
        raise ConfigError(f"It is written so that {what} cannot be changed here.", "Change that in an editor.")
    return found.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else found


def difference(old: str, new: str, name: str) -> list[str]:
    """Return the lines of a unified diff between two texts of the file `name`, without line ends."""
    return list(difflib.unified_diff(old.splitlines(), new.splitlines(), name, f"{name}, new", lineterm=""))


def _expected(tree: dict[str, Any], changes: Changes) -> dict[str, Any]:
    found = copy.deepcopy(tree)
    for (name, key), value in changes.items():
        if not key:
            del found[name]
        elif value is None:
            found[name].pop(key, None)
        else:
            found.setdefault(name, {})[key] = value
    return found


def _set(document: tomlkit.TOMLDocument, name: str, key: str, value: Any) -> None:
    if name not in document:
        if not document.as_string().endswith("\n"):
            document.add(tomlkit.nl())
        document.add(tomlkit.nl())
        document.add(name, tomlkit.table())
    section: Any = document[name]
    if isinstance(section.get(key), Array) and isinstance(value, list):
        _set_list(section[key], value)
        if section[key] == value:
            return
    if key in section or not isinstance(section, Table):  # an inline table, or one in several places
        section[key] = value
        return
    tail = _tail(section)
    item = tomlkit.item(value)
    if comment := COMMENTS.get((name, key)):
        item.comment(comment)
    section.add(key, item)
    section.value.body.extend(tail)


def _set_list(array: Array, wanted: list[Any]) -> None:
    """Take out of an array what is not wanted, and append what it lacks; comments beside the others stay."""
    for each in [each for each in array if each not in wanted]:
        array.remove(each)
    for each in wanted:
        if each not in array:
            array.append(each)


def _remove_section(document: tomlkit.TOMLDocument, name: str) -> None:
    section = document[name]
    tail = _tail(section) if isinstance(section, Table) else []
    above = None
    for key, item in document.body:
        if key is not None and key.key == name:
            break
        above = item if isinstance(item, Table) else above
    document.remove(name)
    if any(isinstance(item, Comment) for _, item in tail):
        (document if above is None else above.value).body.extend(tail)


def _tail(section: Table) -> list[tuple[Any, Item]]:
    """Take the blank lines and comments after the last key out of a section, and return them."""
    body = section.value.body
    tail: list[tuple[Any, Item]] = []
    while body and isinstance(body[-1][1], (Comment, Whitespace)):
        tail.insert(0, body.pop())
    return tail
