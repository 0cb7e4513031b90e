"""Messages on the uplink, in CBOR or XML: both come from one table, an answer takes the form of its request."""

from typing import Any

from cpns import messages, tuning, xml_form

Fields = dict[int, Any]


def form_of(data: bytes) -> str:
    """Give "xml" or "cbor": a CBOR map never begins with '<', a blank or a byte order mark."""
    return "xml" if data[:1] in (b"<", b" ", b"\t", b"\r", b"\n", b"\xef") else "cbor"


def decode(data: bytes) -> tuple[int, Fields]:
    """Give (code, fields) of a message in either form. Raises MalformedMessage."""
    reader = xml_form if form_of(data) == "xml" else messages
    decoded: tuple[int, Fields] = reader.decode(data, tuning.UPLINK_MESSAGE_MAX)
    return decoded


def encode(code: int, fields: Fields, form: str) -> bytes:
    """Give the octets of a message in `form`. Raises MalformedMessage for fields that do not belong."""
    writer = xml_form if form == "xml" else messages
    data: bytes = writer.encode(code, fields)
    return data
