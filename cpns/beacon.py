"""Beacons: a hint that a Group Key exists, for members that may have missed it (docs/protocol.md section 8, SEC-13).

Any member can make one and a removed one can repeat old ones: a beacon may cause a pull and nothing else.
"""

import struct
from collections import namedtuple

from cpns import numbers
from cpns.crypto.compare import equal
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import MalformedMessage
from cpns.names import lp

_FORM = ">BIHHI"
_TAG = 6

Beacon = namedtuple("Beacon", ("pn_alias", "sg_alias", "generation", "version", "octets"))


def build(group_key, sg_id, pn_alias, sg_alias, generation, version):
    """Return the 19 octets of a beacon for the Group Key of this version."""
    body = struct.pack(_FORM, numbers.FRAME_BEACON, pn_alias, sg_alias, generation, version)
    return body + _tag(group_key, sg_id, version, body)


def parse(datagram):
    """Return the Beacon in a datagram. Raises MalformedMessage."""
    if len(datagram) != struct.calcsize(_FORM) + _TAG or datagram[0] != numbers.FRAME_BEACON:
        raise MalformedMessage("no beacon")
    octets = bytes(datagram)
    _, pn_alias, sg_alias, generation, version = struct.unpack(_FORM, octets[:-_TAG])
    return Beacon(pn_alias, sg_alias, generation, version, octets)


def verifies(beacon, group_key, sg_id):
    """Return True if the maker of the beacon had this Group Key under this SG ID and version."""
    octets = beacon.octets
    return equal(octets[-_TAG:], _tag(group_key, sg_id, beacon.version, octets[:-_TAG]))


def _tag(group_key, sg_id, version, body):
    key = hkdf(group_key, b"keycast/beacon/1" + lp(sg_id) + version.to_bytes(4, "big"), 32)
    return hmac_sha256(key, body)[:_TAG]
