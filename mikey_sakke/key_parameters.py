"""The 3GPP key parameters that travel with a key (TS 33.180 annex E.6): content, and its protection under the key.

Times are Unix seconds; 0 means none (activation: at once). Status bit 1 set means not revoked; senders differ in
whether they set it, so the reading is the caller's (`Parameters.revoked`).
"""

from collections import namedtuple

from mikey_sakke import gcm
from mikey_sakke.errors import BadParameters
from mikey_sakke.identifiers import PURPOSES
from mikey_sakke.kdf import kdf

STATUS_NOT_REVOKED = 1
GROUP_ID_ELEMENT = 0x7B  # the MCData group ID element; other values are accepted
IV_LEN = 16
TIME_MAX = (1 << 40) - 1  # Unix seconds in 5 octets

_KEYS_WITH_GROUPS = (0, 4, 6)  # GMK, MKFC, MuSiK
_PROTECTED = 0x40
_MESSAGE_TYPE = 0x43
_AES_128_GCM = 1
_HEAD_LEN = 32
_FC_DPCK = 0x53


class Parameters(namedtuple("Parameters", ("key_type", "status", "activation", "expiry", "text", "groups"))):
    """`key_type` as the purpose tags, `groups` a list of group URIs (only for GMK, MKFC and MuSiK)."""

    def revoked(self, strict):
        """Return True when the sender says so: strict reads a clear bit 1 as revoked, lenient reads nothing from it."""
        return strict and not self.status & STATUS_NOT_REVOKED


def dpck(key, key_id):
    """Return the key that protects the parameters: last 16 octets of KDF(key, 0x53, id) (TS 33.180 clause 8.5.4)."""
    return kdf(key, _FC_DPCK, key_id)[-16:]


def encode(parameters):
    """Return the content (annex E.6.1) in octets."""
    text = parameters.text.encode()
    out = bytes([parameters.key_type]) + parameters.status.to_bytes(4, "big")
    out += parameters.activation.to_bytes(5, "big") + parameters.expiry.to_bytes(5, "big")
    out += len(text).to_bytes(2, "big") + text
    if parameters.key_type in _KEYS_WITH_GROUPS:
        groups = bytes([len(parameters.groups)])
        for group in parameters.groups:
            uri = group.encode()
            groups += bytes([GROUP_ID_ELEMENT]) + len(uri).to_bytes(2, "big") + uri
        out += len(groups).to_bytes(2, "big") + groups
    return out


def decode(octets):
    """Parameters from their content; what follows the group IDs is skipped. BadParameters if it is none."""
    if len(octets) < 17 or octets[0] >= len(PURPOSES):
        raise BadParameters("the key parameters are truncated or of an unknown key type")
    text, rest = _block(octets[15:])
    groups = []
    if octets[0] in _KEYS_WITH_GROUPS:
        element, rest = _block(rest)
        if not element:
            raise BadParameters("the list of group IDs is empty")
        count, element = element[0], element[1:]
        for _ in range(count):
            uri, element = _block(element[1:])
            groups.append(_text(uri))
        if element:
            raise BadParameters("octets after the last group ID")
    return Parameters(
        octets[0],
        int.from_bytes(octets[1:5], "big"),
        int.from_bytes(octets[5:10], "big"),
        int.from_bytes(octets[10:15], "big"),
        _text(text),
        groups,
    )


def _block(octets):
    if len(octets) < 2:
        raise BadParameters("the key parameters are truncated")
    end = 2 + int.from_bytes(octets[:2], "big")
    if end > len(octets):
        raise BadParameters("the key parameters are truncated")
    return octets[2:end], octets[end:]


def _text(octets):
    try:
        return octets.decode()
    except UnicodeError:
        raise BadParameters("a text of the key parameters is not UTF-8") from None


def protect(parameters, key, csb_id, iv, unix_time):
    """Return the data of general extension 7: `parameters` sealed under `key` (16 octets).

    `iv` 16 fresh random octets.
    """
    head = bytes([_MESSAGE_TYPE]) + unix_time.to_bytes(5, "big") + bytes(5) + bytes([_AES_128_GCM]) + iv + csb_id
    sealed = gcm.seal(dpck(key, csb_id), iv, head, encode(parameters))
    return head + b"\x00" + len(sealed).to_bytes(2, "big") + sealed


def unprotect(data, key, csb_id):
    """Return the Parameters in the data of general extension 7.

    Raises BadParameters if malformed, foreign or changed.
    """
    if len(data) < _HEAD_LEN + 3 or not data[0] & _PROTECTED or data[11] != _AES_128_GCM:
        raise BadParameters("not a payload protected with AES-128-GCM")
    if data[28:32] != csb_id:
        raise BadParameters("the key parameters belong to another key identifier")
    sealed, rest = _block(data[33:])
    if rest:
        raise BadParameters("octets after the key parameters")
    return decode(gcm.open_(dpck(key, csb_id), data[12:28], data[:_HEAD_LEN], sealed))
