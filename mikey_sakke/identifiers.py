"""Identifiers of TS 33.180: UIDs and their key periods, key identifiers (K-ID) and GUK-IDs.

A K-ID is 4 octets: a purpose tag in the upper 4 bits, 28 random bits. Times are seconds; MIKEY's count from 1900 (NTP),
the key parameters' from 1970 (Unix).
"""

from mikey_sakke.hashing import sha256
from mikey_sakke.kdf import kdf

NTP_OFFSET = 2208988800  # seconds from 1900-01-01 to 1970-01-01

PURPOSE_GMK = 0
PURPOSES = ("GMK", "PCK", "CSK", "SPK", "MKFC", "MSCCK", "MuSiK")
_FC_GUK_ID = 0x50
_SALT_MASK = (1 << 28) - 1


def _shortest(n):
    """n as its shortest big-endian octets; 0 is one octet (annex F.2.1). ValueError below 0."""
    if n < 0:
        raise ValueError("periods, offsets and numbers of key periods are 0 or more")
    octets = []
    while n:
        octets.insert(0, n & 255)
        n >>= 8
    return bytes(octets or [0])


def uid(user_uri, kms_uri, period, offset, number):
    """Return the UID of a user for one key period, 32 octets (TS 33.180 annex F.2.1). ECCSI and SAKKE use it."""
    text = b"\x00"
    for part in (
        b"MIKEY-SAKKE-UID",
        user_uri.encode(),
        kms_uri.encode(),
        _shortest(period),
        _shortest(offset),
        _shortest(number),
    ):
        text += part + len(part).to_bytes(2, "big")
    return sha256(text)


def ntp_moment(seconds):
    """Return the seconds since 1900 of an NTP time's 32 bits, which lie in 1968 to 2104 (RFC 4330 section 3)."""
    return seconds if seconds >> 31 else seconds + (1 << 32)


def key_period_number(ntp_seconds, period, offset):
    """Return the number of the key period that holds the moment, below 0 before `offset`.

    `period` in seconds, above 0.
    """
    return (ntp_seconds - offset) // period


def key_period_bounds(number, period, offset):
    """Return (first, last) NTP second of a key period."""
    first = number * period + offset
    return first, first + period - 1


def purpose(key_id):
    """Return the purpose tag, 0..15, of a K-ID (4 octets)."""
    return key_id[0] >> 4


def purpose_name(tag):
    """Return the key's name for a purpose tag, such as 'GMK'; 'unassigned' above 6."""
    return PURPOSES[tag] if tag < len(PURPOSES) else "unassigned"


def guk_id(gmk_id, gmk, user_uri):
    """Return the GUK-ID (4 octets) that stands in the message to `user_uri` for `gmk_id`.

    Its own inverse (annex E, 5.2.4).
    """
    salt = int.from_bytes(kdf(gmk, _FC_GUK_ID, user_uri.encode())[-4:], "big") & _SALT_MASK
    return (int.from_bytes(gmk_id, "big") ^ salt).to_bytes(4, "big")
