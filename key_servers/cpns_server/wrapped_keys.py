"""Group Keys wrapped for one PNE each, past its PN GW (CPNS-GKM-85..90), and proofs that it opened them (SEC-25)."""

from collections.abc import Collection

from cpns import entity_user_key
from cpns import messages as m
from cpns.crypto.compare import equal
from cpns.uplink_form import Fields
from key_servers.cpns_server.values import StoredEntityUserKey, StoredKey


def chosen(keys: StoredEntityUserKey, unknown: Collection[bytes]) -> bytes:
    """Return the Entity User Key to wrap with: the newest whose EUK ID is not in `unknown`, the PNE's word on it.

    If the PNE said that it knows none of them, it is the current one.
    """
    for euk in (keys.current, keys.previous):
        if euk is not None and euk_id(euk) not in unknown:
            return euk
    return keys.current


def euk_id(euk: bytes) -> bytes:
    """Return the EUK ID, 8 octets, of an Entity User Key."""
    octets: bytes = entity_user_key.key_id(euk)
    return octets


def request(pne_id: str, key: StoredKey, euk: bytes) -> Fields:
    """Return the fields of the SGroupKeyDeliveryRequest by which a PNE gets a Group Key."""
    return {
        m.SGID: key.sg_id,
        m.GROUP_KEY_INFO: (pne_id, entity_user_key.encrypt(euk, pne_id, key.sg_id, key.version, key.key)),
        m.VERSION: key.version,
        m.EUK_ID: euk_id(euk),
    }


def is_proof(mac: bytes, pne_id: str, key: StoredKey) -> bool:
    """Return True if `mac` proves that the PNE has opened this Group Key."""
    return equal(mac, entity_user_key.response_mac(key.key, pne_id, key.sg_id, key.version))
