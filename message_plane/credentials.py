"""Credentials, which identify entities octet for octet (docs/protocol.md section 2, SEC-16).

The identity is the whole CCS. The kid is only a hint for finding candidates, and proves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite, tuning
from cpns.errors import MalformedMessage

ROLE_PNE = "pne"
ROLE_GATEWAY = "gateway"
ROLE_SERVER = "server"
ROLES = (ROLE_PNE, ROLE_GATEWAY, ROLE_SERVER)

# Handshakes are initiated upwards: by a PNE towards the PN GW, and by both towards the CPNS Server (CPNS-GKM-50).
INITIATORS_OF: dict[str, tuple[str, ...]] = {
    ROLE_PNE: (),
    ROLE_GATEWAY: (ROLE_PNE,),
    ROLE_SERVER: (ROLE_GATEWAY, ROLE_PNE),
}
RESPONDERS_OF: dict[str, tuple[str, ...]] = {
    ROLE_PNE: (ROLE_GATEWAY, ROLE_SERVER),
    ROLE_GATEWAY: (ROLE_SERVER,),
    ROLE_SERVER: (),
}

KID_LEN = 8
COORDINATE_LEN = 32
CCS_MAX = 128  # octets: an entity ID of 48 and less than 64 around it


@dataclass(frozen=True, slots=True)
class Credential:
    """A registered or offered public credential.

    `entity_id`: 1..CREDENTIAL_ID_MAX octets of UTF-8; `role`: one of ROLES; `x`: the public point's x coordinate, 32
    octets; `ccs`: the CRED octets that EDHOC authenticates; `kid`: 8 octets, a look-up hint only.
    """

    entity_id: str
    role: str
    x: bytes
    ccs: bytes
    kid: bytes


def kid_of(x: bytes) -> bytes:
    """Return the look-up hint of the key with x coordinate `x`: 8 octets."""
    return hashlib.sha256(x).digest()[:KID_LEN]


def ccs_of(entity_id: str, x: bytes) -> bytes:
    """Return the CCS octets of an entity with public x coordinate `x` (32 octets). Raises MalformedMessage."""
    if not 1 <= len(entity_id.encode()) <= tuning.CREDENTIAL_ID_MAX:
        raise MalformedMessage(f"an entity ID has 1..{tuning.CREDENTIAL_ID_MAX} octets of UTF-8")
    if len(x) != COORDINATE_LEN:
        raise MalformedMessage("the public key's x coordinate has 32 octets")
    return bytes(cborlite.encode({2: entity_id, 8: {1: {1: 2, 2: kid_of(x), -1: 1, -2: x}}}))


def of(entity_id: str, role: str, x: bytes) -> Credential:
    """Return the credential of `entity_id` in `role` with public x coordinate `x`. Raises MalformedMessage.

    An `x` that is no x coordinate of P-256 is refused here, so that no handshake has to check it.
    """
    if role not in ROLES:
        raise MalformedMessage(f"no such role: one of {', '.join(ROLES)} is wanted")
    ccs = ccs_of(entity_id, x)
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + x)
    except ValueError:
        raise MalformedMessage("the public key is not a point of P-256") from None
    return Credential(entity_id, role, x, ccs, kid_of(x))


def parse(ccs: bytes, role: str) -> Credential:
    """Return the credential whose CCS octets are `ccs`, in the given role. Raises MalformedMessage.

    Only the encoding of docs/protocol.md is accepted: the result, encoded again, must have the same octets.
    """
    if len(ccs) > CCS_MAX:
        raise MalformedMessage(f"CCS longer than {CCS_MAX} octets")
    claims = cborlite.decode(ccs)
    try:
        entity_id, x = claims[2], claims[8][1][-2]
    except (KeyError, TypeError, IndexError):
        raise MalformedMessage("CCS without subject or P-256 key") from None
    if not isinstance(entity_id, str) or not isinstance(x, bytes):
        raise MalformedMessage("CCS with a subject or key of another type")
    credential = of(entity_id, role, x)
    if credential.ccs != ccs:
        raise MalformedMessage("CCS is not in the one form that is registered")
    return credential
