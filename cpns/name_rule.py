"""Which characters a name may have: entity IDs, PN IDs, SG IDs, and the users of keycast (SEC-31). CPython only.

Two names that look the same must not be two names. So a name has one form, NFC, and no character that is invisible or
changes the direction of text. Letters of one script that look like those of another are allowed, as a home names things
in its own language; `doubts` tells a person where to look twice.

The rule applies where a name is new. A name that a store holds already stays usable.
"""

import unicodedata
from collections.abc import Iterable

from cpns import tuning
from cpns.errors import MalformedMessage

# Shown as nothing or as a blank, although Unicode classes them neither as format characters nor as separators.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
# What looks like a Latin letter in the fonts of common terminals, and which one; digits among themselves too.
_LIKE = {
    "a": "\u0430\u03b1",
    "b": "\u044c\u042c",
    "c": "\u0441\u03f2",
    "d": "\u0501",
    "e": "\u0435\u04bd",
    "g": "\u0261",
    "h": "\u04bb",
    "i": "\u0456\u0131\u03b9",
    "j": "\u0458\u03f3",
    "k": "\u043a\u03ba",
    "l": "1\u04cf|\u01c0",
    "m": "\u043c",
    "n": "\u043f\u03b7",
    "o": "0\u043e\u03bf\u0585\u03c3",
    "p": "\u0440\u03c1",
    "q": "\u051b",
    "r": "\u0433",
    "s": "\u0455",
    "t": "\u0442\u03c4",
    "u": "\u03c5\u057d",
    "v": "\u0475\u03bd",
    "w": "\u051d\u03c9\u0448",
    "x": "\u0445\u03c7",
    "y": "\u0443\u03b3\u04af",
    "z": "\u03b6",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2212",
    ".": "\u2024\u00b7",
    "/": "\u2044\u2215",
}
_ALIKE = frozenset(("LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "COPTIC", "CHEROKEE"))  # scripts with the same shapes
_LATIN = {ord(other): letter for letter, others in _LIKE.items() for other in others}


def fault(name: str, limit: int = tuning.ENTITY_ID_MAX) -> str | None:
    """Return what is wrong with `name` as the end of a sentence, or None. It may have 1..`limit` octets of UTF-8."""
    if not name:
        return "is empty"
    if wrong := unseen(name):
        return wrong
    if name != name.strip():
        return "has blanks around it"
    if len(name.encode()) > limit:
        return f"is longer than {limit} octets"
    if unicodedata.category(name[0])[0] == "M":
        return f"begins with an accent that belongs to nothing (U+{ord(name[0]):04X})"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode's composed form (NFC), in which it is typed"
    return None


def unseen(name: str) -> str | None:
    """Return the end of a sentence about a character in `name` that does not show, or None if all of them do."""
    for character in name:
        if not character.isprintable() or character in _UNSEEN:
            return f"has a character in it that does not show (U+{ord(character):04X})"
    return None


def checked(name: str, what: str, limit: int = tuning.ENTITY_ID_MAX) -> str:
    """Return `name` if it may be a new `what`. Raises MalformedMessage, which says what is wrong with it."""
    wrong = fault(name, limit)
    if wrong is not None:
        raise MalformedMessage(f"the {what} {wrong}")
    return name


def doubts(name: str, others: Iterable[str] = ()) -> list[str]:
    """Return sentences that warn of `name`: it mixes letters of several scripts, or looks like one of `others`."""
    said = []
    scripts = sorted(_ALIKE & set(map(_script, name)))
    if len(scripts) > 1:
        said.append(f"{name} mixes letters of several scripts: {', '.join(scripts)}.")
    looks = _look(name)
    alike = [other for other in others if other != name and _look(other) == looks]
    said.extend(f"{name} looks like {other}, which is another name." for other in alike)
    return said


def _script(character: str) -> str:
    """Return the script of a letter, the first word of its Unicode name (LATIN, GREEK, CYRILLIC), "" if it is none."""
    return unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""


def _look(name: str) -> str:
    """Return a text that is the same for names that look alike. It keeps accents, not case, width or script."""
    folded = unicodedata.normalize("NFKC", name).replace("I", "l").casefold()
    return unicodedata.normalize("NFKC", folded.translate(_LATIN))
