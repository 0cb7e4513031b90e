"""Typed access to the fields of decoded CPNS messages.

`cpns.messages` has checked presence and type by its table already; these functions make the types known to mypy.
"""

from collections.abc import Mapping

from cpns import messages
from cpns.errors import MalformedMessage, NotAllowed

Fields = Mapping[int, object]


def text(fields: Fields, label: int) -> str:
    """Return a String field. Raises MalformedMessage if it is missing or of another type."""
    value = fields.get(label)
    if not isinstance(value, str):
        raise MalformedMessage(f"field {label}: no text")
    return value


def number(fields: Fields, label: int) -> int:
    """Return a uint field. Raises MalformedMessage if it is missing or of another type."""
    value = fields.get(label)
    if not isinstance(value, int):
        raise MalformedMessage(f"field {label}: no number")
    return value


def optional_number(fields: Fields, label: int) -> int | None:
    """Return a uint field, or None if it is missing. Raises MalformedMessage if it is of another type."""
    return number(fields, label) if label in fields else None


def octets(fields: Fields, label: int) -> bytes:
    """Return a Binary field. Raises MalformedMessage if it is missing or of another type."""
    value = fields.get(label)
    if not isinstance(value, bytes):
        raise MalformedMessage(f"field {label}: no octets")
    return value


def listed(fields: Fields, label: int) -> list[str]:
    """Return a repeated String field, an empty list if it is missing. Raises MalformedMessage if it is no array."""
    value = fields.get(label, [])
    if not isinstance(value, list):
        raise MalformedMessage(f"field {label}: no array")
    return value


def own_id(peer_id: str, fields: Fields) -> str:
    """Return the PNE ID in a message, which must be that of the session's credential (SEC-16, CPNS-GKM-43).

    `peer_id`: the PNE ID of that credential. Raises NotAllowed if the message names another PNE, MalformedMessage if
    it names none.
    """
    if text(fields, messages.PNE_ID) != peer_id:
        raise NotAllowed("the message names another board than the session")
    return peer_id
