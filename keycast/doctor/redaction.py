"""Takes out of texts and values what a person must not paste in public: secrets, and the names of the home.

Secrets are found by their place (a key named `password`) and by their form (64 hexadecimal digits). In place of each
stands "[secret]". Names and addresses become words, the same one each time, as "board-1" and "address-2", so that a
reader can still follow one board through a log. What looks like a secret and is none is taken out, too.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

SECRET = "[secret]"

_KEY_WORDS = r"pass(word|phrase|wd)?|psk|secret|token|credential|cookie|authorization|api_?key|private_?key|salt|pin"
_NOT_SECRET = re.compile(r"(_file|_path|_age|_s|_at|_count|_version|_epoch|_alias)$", re.IGNORECASE)
_SECRET_KEY = re.compile(rf"({_KEY_WORDS}|^key$|_key$)", re.IGNORECASE)
"""Names of settings and fields whose values are secrets, unless they end as `_NOT_SECRET` says."""

_BLOCKS = re.compile(
    r"-----BEGIN [A-Z0-9 ]+-----(?:(?:\\n|\s)*[A-Za-z0-9+/=]{12,})*"
    r"(?:(?:\\n|\s)*[A-Za-z0-9+/=]*(?:\\n|\s)*-----END [A-Z0-9 ]+-----)?"
)
_ASSIGNED = re.compile(
    rf"""(?ix) (?P<name> ["']? \b [\w.-]* (?:{_KEY_WORDS}) [\w.-]* ["']? ) (?P<mark> \s* [:=] \s* )
    (?P<value> \[secret\] | \"\"\"(?s:.*?)\"\"\" | \'\'\'(?s:.*?)\'\'\'
    | "(?:[^"\\]|\\.)*" | '[^']*' | [^\s,;&}}\])]+ )"""
)
_PHRASE = re.compile(
    r"(?i)(?P<name>\b[\w.-]*pass(?:word|phrase)[\w.-]*)(?P<mark>[ \t]*[:=][ \t]*)"
    r"(?P<value>(?:\[secret\]|[^\s\"',;&}\])\[])(?:\[secret\]|[^\r\n,;&}\])])*)"
)
"""What is not in quotes may have several words."""
_FORMS = (
    re.compile(r"(?i)(?<=cookie:)[^\r\n]+"),
    re.compile(r"(?<!\w)(?:__Host-)?keycast-(?:form-)?\d+=[^\s;,\"']+"),  # a cookie of the page
    re.compile(r"(?i)\b(Bearer|Basic|Digest)\s+[\w+/=.~-]+"),
    re.compile(r"\beyJ[\w-]{6,}\.[\w-]+\.[\w-]*"),  # a JSON Web Token
    re.compile(r"(?<=://)[^/\s@]+(?=@)"),  # user and password in a URL
    re.compile(r"(?i)KEYCAST:[^\s]*:[A-Z2-7]{16}"),  # the QR code of a board
    re.compile(r"\b[A-Z2-7]{4}(?:[- ][A-Z2-7]{4}){3}\b"),  # a pairing secret in fours
    re.compile(r"\b(?=[a-z-]*[2-7])[a-z2-7]{4}(?:-[a-z2-7]{4}){3}\b"),  # as it may be typed
    re.compile(r"\b(?=[A-Z]*[2-7])[A-Z2-7]{16}\b|\b(?=[a-z]*[2-7])[a-z2-7]{16}\b"),
    re.compile(r"\b[0-9a-fA-F]{8,}\.[\w-]{16,}"),  # a token of ours: its ID and its secret
    re.compile(r"\b(?:[0-9a-fA-F]{2}[ :]){15,}[0-9a-fA-F]{2}\b"),  # octets one by one
    re.compile(r"(?i)\b(?:0x[0-9a-f]{1,2}[, ]+){7,}0x[0-9a-f]{1,2}\b"),
    re.compile(r"\b(?:\d{1,3}, ?){15,}\d{1,3}\b"),  # octets as numbers
    re.compile(r"\b(?:0x)?[0-9a-fA-F]{24,}\b"),
    re.compile(r"(?<![\w/+.-])(?=[\w/+-]*\d)(?=[\w/+-]*[A-Z])(?=[\w/+-]*[a-z])[\w/+-]{22,}={0,2}(?![\w/+])"),  # base64
    re.compile(r"b(?:'(?:[^'\\]|\\.){6,}'|\"(?:[^\"\\]|\\.){6,}\")"),  # octets as Python shows them
)
_URL_VALUE = re.compile(rf"(?i)(?<=[?&])([\w-]*(?:{_KEY_WORDS})[\w-]*)=[^&\s#]+")

_MAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")
_MAC = re.compile(r"\b[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}\b")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
_IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}(?:%\w+)?(?![\w:])")
_HOME = re.compile(r"(?<=/home/)[^/\s\"']+")
_ADDRESSES = (("mail", _MAIL), ("mac", _MAC), ("address", _IPV4), ("address", _IPV6), ("user", _HOME))
_OF_ALL = {"127.0.0.1", "0.0.0.0", "255.255.255.255", "::1", "::"}
"""Addresses that are the same on each machine, and tell nothing of this one."""


class Redaction:
    """Replaces secrets and names in everything that goes into one bundle."""

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        """`names`: kind -> the names of that kind that are known, for example "board" -> ["porch lamp"]."""
        self._words: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        for kind, known in names.items():
            for name in known:
                word = self._word(kind, name)
                for form in _forms_of(name):
                    self._words.setdefault(form, word)
        # Longer names first: "porch lamp" before "lamp". A name stands for itself only as a whole word.
        longest = sorted((name for name in self._words if name), key=len, reverse=True)
        ways = "|".join(map(re.escape, longest))
        self._known = re.compile(rf"(?<![\w-])(?!(?<=/)home/)(?:{ways})(?![\w-])") if longest else None

    def text(self, text: str) -> str:
        """Return `text` without secrets, and with words in place of names and addresses."""
        text = _BLOCKS.sub(SECRET, text)
        for form in _FORMS:
            text = form.sub(SECRET, text)
        text = _URL_VALUE.sub(rf"\1={SECRET}", text)
        text = _ASSIGNED.sub(_without_value, _PHRASE.sub(_without_value, text))
        if self._known is not None:
            text = self._known.sub(lambda found: self._words[found[0]], text)
        for kind, address in _ADDRESSES:
            text = address.sub(lambda found, kind=kind: self._address(kind, found[0]), text)  # type: ignore[misc]
        return text

    def value(self, value: Any, key: str = "") -> Any:
        """Return a JSON value without secrets. Octets, and texts below a key with the name of a secret, are ones."""
        if isinstance(value, bytes | bytearray):
            return SECRET
        if isinstance(value, Mapping):
            within = key if is_secret(key) else ""  # what is below a secret is one, too
            return {self.text(str(name)): self.value(of, within or str(name)) for name, of in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(of, key) for of in value]
        if is_secret(key) and isinstance(value, str | int) and not isinstance(value, bool):
            return SECRET if value not in ("", 0) else value
        if isinstance(value, str):
            return self.text(value)
        return value if isinstance(value, bool | int | float) or value is None else self.text(str(value))

    def _address(self, kind: str, found: str) -> str:
        return found if found in _OF_ALL else self._word(kind, found)

    def _word(self, kind: str, name: str) -> str:
        if name not in self._words:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._words[name] = f"{kind}-{self._counts[kind]}"
        return self._words[name]


def is_secret(key: str) -> bool:
    """Return True if the value of a setting or field with this name is a secret."""
    return bool(_SECRET_KEY.search(key)) and not _NOT_SECRET.search(key)


def _without_value(found: "re.Match[str]") -> str:
    name = found["name"].strip("\"'")
    if _NOT_SECRET.search(name):
        return found[0]
    quote = found["value"][0] if found["value"][0] in "\"'" else ""
    return f"{found['name']}{found['mark']}{quote}{SECRET}{quote}"


def _forms_of(name: str) -> set[str]:
    """Return how a name may also be written: in a URL, in JSON, in the log, in other letters, as a name of DNS."""
    escaped = name.encode("unicode_escape").decode()
    forms = {quote(name, safe=""), quote(name), quote_plus(name), json.dumps(name)[1:-1], escaped}
    forms |= {unicodedata.normalize("NFD", name), name.lower(), name.upper()}
    return forms - {name}
