"""Messages on the uplink, in CBOR or XML: both come from one table, an answer takes the form of its request."""

from collections.abc import Mapping
from typing import Any

from cpns import messages, tuning, xml_form

Fields = dict[int, Any]

CBOR, XML = "cbor", "xml"
XML_BEGINNING = b"<"
"""The first octet of each message in XML; none in CBOR begins with it."""


def form_of(data: bytes) -> str:
    """Return XML or CBOR, by the first octet."""
    return XML if data[:1] == XML_BEGINNING else CBOR


def decode(data: bytes) -> tuple[int, Fields]:
    """Return (code, fields) of a message in either form. Raises MalformedMessage."""
    reader = xml_form if form_of(data) == XML else messages
    decoded: tuple[int, Fields] = reader.decode(data, tuning.UPLINK_MESSAGE_MAX)
    return decoded


def encode(code: int, fields: Mapping[int, Any], form: str) -> bytes:
    """Return the octets of a message in `form`. Raises MalformedMessage for fields that do not belong."""
    writer = xml_form if form == XML else messages
    data: bytes = writer.encode(code, fields)
    return data
