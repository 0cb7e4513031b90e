"""Waits for sessions of PNEs with the CPNS Server: Group Keys past the PN GW, under the Entity User Key (SEC-25).

The Entity User Key (16 octets) is EDHOC_Exporter(32769, '', 16) of the session between CPNS Server and PNE, or was
provisioned (docs/protocol.md section 11). Each wrap is under a key of its own, made from the names it is for: the PN GW
that forwards it can neither read it nor use it for another PNE, Service Group or version.
"""

from cpns.crypto import keywrap
from cpns.crypto.hkdf import hkdf
from cpns.crypto.hmac import hmac_sha256
from cpns.names import lp


def key_id(euk):
    """Return the 8 octets (EUK ID) by which both ends name this Entity User Key."""
    return hkdf(euk, b"keycast/euk-id/1", 8)


def encrypt(euk, pne_id, sg_id, version, group_key):
    """Return the EncryptedGroupKey, 24 octets (CPNS-GKM-90)."""
    return keywrap.wrap(_wrap_key(euk, pne_id, sg_id, version), group_key)


def decrypt(euk, pne_id, sg_id, version, encrypted):
    """Return the Group Key in an EncryptedGroupKey (CPNS-GKM-76). Raises NotAuthentic if it is not for these names."""
    return keywrap.unwrap(_wrap_key(euk, pne_id, sg_id, version), encrypted)


def response_mac(group_key, pne_id, sg_id, version):
    """Return the MAC, 8 octets, that proves a Return of `1`: the PNE has opened this Group Key."""
    return hmac_sha256(hkdf(group_key, b"keycast/euk-ack/1", 32), _names(pne_id, sg_id, version))[:8]


def _wrap_key(euk, pne_id, sg_id, version):
    return hkdf(euk, b"keycast/euk/1" + _names(pne_id, sg_id, version), 16)


def _names(pne_id, sg_id, version):
    return lp(pne_id) + lp(sg_id) + version.to_bytes(4, "big")
