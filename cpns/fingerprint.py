"""The fingerprint of a credential, by which people compare what two ends have."""

import hashlib


def fingerprint(ccs):
    """Return the first 8 octets of SHA-256 of a credential (CCS octets), as four groups of four hexadecimal digits."""
    digits = "".join(["%02x" % octet for octet in hashlib.sha256(ccs).digest()[:8]])
    return "-".join([digits[at : at + 4] for at in (0, 4, 8, 12)])
