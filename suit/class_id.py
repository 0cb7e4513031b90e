"""For which boards an update is: their class ID, a UUID (RFC 9562) of a text, as the SUIT manifest demands it.

Agents run on every chip with the same version of MicroPython's .mpy files; a firmware runs on boards of one build.
"""

from hashlib import sha1

VENDOR = b"\xe3\x68\x9c\x6f\x15\x0b\x50\x3a\x83\x1f\x23\xb1\x59\x72\xf9\x09"  # UUID version 5 of "keycast" as a domain


def class_id(text):
    """Return the 16 octets of the class that `text` names: the UUID of version 5 in the namespace of `VENDOR`."""
    octets = bytearray(sha1(VENDOR + text.encode()).digest()[:16])
    octets[6] = octets[6] & 0x0F | 0x50
    octets[8] = octets[8] & 0x3F | 0x80
    return bytes(octets)


def agent(mpy, val_client=False):
    """Return the text of the class of boards that run agents with .mpy files of version `mpy`.

    `val_client`: those whose agent is that of a VAL client, which the agent of other boards would take from them.
    """
    return "agent esp32 mpy%d%s" % (mpy, " val-client" if val_client else "")


def firmware(build):
    """Return the text of the class of boards with a build of MicroPython, such as "ESP32_GENERIC-OTA"."""
    return "firmware " + build
