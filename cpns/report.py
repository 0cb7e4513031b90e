"""Reports: a confirmation with the proof of the slot (`proof`), in 21 octets (docs/protocol.md section 13).

A report names its PNE by generation and slot. Every holder of the frame key can read it, and only the PNE of the slot
and the PN GW can make it (SEC-14).
"""

import struct
from collections import namedtuple

from cpns import numbers
from cpns.errors import MalformedMessage

_FORM = ">HHIIB8s"

# `result` is one of `numbers.RESULT_*`, `proof` are the 8 octets of `proof.confirmation`
Report = namedtuple("Report", ("sg_alias", "generation", "version", "slot", "result", "proof"))


def build(sg_alias, generation, version, slot, result, proof):
    """Return the 21 octets of a report."""
    return struct.pack(_FORM, sg_alias, generation, version, slot, int(result), proof)


def parse(octets):
    """Return the Report in 21 octets, of which nothing is verified. Raises MalformedMessage."""
    if len(octets) != struct.calcsize(_FORM):
        raise MalformedMessage("no report")
    sg_alias, generation, version, slot, result, proof = struct.unpack(_FORM, octets)
    result = str(result)
    if result not in (numbers.RESULT_SUCCESS, numbers.RESULT_FAIL):
        raise MalformedMessage("a report with an unknown result")
    return Report(sg_alias, generation, version, slot, result, proof)
