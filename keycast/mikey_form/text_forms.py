"""The text forms in which people find and paste a MIKEY message: base64, `mikey BASE64`, SDP, RTSP (RFC 4567)."""

import base64
import re

# RFC 4567, 3.1: an attribute of a session or a medium; 3.2: a header of RTSP. Names of protocols are compared as SDP's
# attribute names are, but people and products write them in capitals.
_ATTRIBUTE = re.compile(r"(?:^|[\r\n])[ \t]*(?:a=)?key-mgmt:[ \t]*(\S+)[ \t]+(\S+)", re.IGNORECASE)
_HEADER = re.compile(r"(?:^|[\r\n])[ \t]*KeyMgmt:[^\r\n]*?prot=\"?mikey\"?[^\r\n]*?data=\"([^\"]*)\"", re.IGNORECASE)
_WORD = re.compile(r"mikey\s+", re.IGNORECASE)
_SDP = re.compile(r"(?:^|[\r\n])[ \t]*(?:[a-z]=|\S+:)", re.IGNORECASE)


class NoMessage(ValueError):
    """A text has no MIKEY message in it. str() is the end of a sentence that begins with "MESSAGE"."""


def octets_of(text: str) -> bytes:
    """Return the octets of the one message in `text`. Several lines of an SDP may hold the same message.

    Raise NoMessage if there is no message, or more than one.
    """
    found = [data for protocol, data in _ATTRIBUTE.findall(text) if protocol.lower() == "mikey"]
    found += _HEADER.findall(text)
    if not found:
        text = text.strip()
        if _SDP.match(text):
            raise NoMessage("has no line a=key-mgmt:mikey")
        word = _WORD.match(text)
        found = [text[word.end() :] if word else text]
    messages = {_octets(each) for each in found}
    if len(messages) > 1:
        raise NoMessage(f"holds {len(messages)} messages: type one of its lines")
    return messages.pop()


def sdp_line(octets: bytes) -> str:
    """Return the attribute line of SDP that carries the message `octets`."""
    return f"a=key-mgmt:mikey {base64.b64encode(octets).decode()}"


def _octets(text: str) -> bytes:
    letters = "".join(text.split()).rstrip("=")
    try:
        return base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except ValueError as error:  # binascii.Error is one; letters outside of ASCII are another
        raise NoMessage(f"is not base64: {error}") from None
