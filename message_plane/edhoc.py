"""EDHOC (RFC 9528), both sides: method 3, cipher suite 2, CCS credentials, always with message_4.

The library lakers does the cryptography; this module has the checks around it, the credentials, and the exporter.
lakers relies on its caller for well-formed messages and can panic on hostile octets. Therefore every call is contained,
and a handshake that has failed in any way is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lakers  # type: ignore[import-untyped]
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite
from cpns.crypto import hkdf
from cpns.errors import MalformedMessage
from message_plane.credentials import CCS_MAX, KID_LEN, RESPONDERS_OF, Credential
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity

METHOD = 3  # static Diffie-Hellman keys on both sides
SUITE = 2  # AES-CCM-16-64-128, SHA-256, P-256
C_I_LEN = 2
C_R_LEN = 3
MESSAGE_1_MAX = 96  # octets; ours has 39
MESSAGE_2_MAX = 128 + CCS_MAX
MESSAGE_3_MAX = 64 + CCS_MAX
MESSAGE_4_MAX = 64

LABEL_MASTER_SECRET = 0  # EDHOC exporter labels (RFC 9528, A.1)
LABEL_MASTER_SALT = 1

_KID = 4  # COSE header parameters (RFC 9528, 3.5.3)
_KCCS = 14


class HandshakeBroken(PlaneError):
    """This handshake has failed and is over. `library_panic`: its octets made the EDHOC library panic."""

    library_panic = False


class WrongSuite(HandshakeBroken):
    """The initiator wants another cipher suite; the answer names the one of this end (RFC 9528, 6.3)."""


class UnknownPeer(HandshakeBroken):
    """No credential fits the offer of the peer."""


class WrongRole(HandshakeBroken):
    """The credential is known, but its role does not allow this side of a handshake (SEC-16)."""


@dataclass(frozen=True, slots=True)
class Offer:
    """How a peer names its credential: by `kid`, or by value as `ccs` octets. The other one is None."""

    kid: bytes | None
    ccs: bytes | None


@dataclass(frozen=True, slots=True, repr=False)
class Established:
    """The result of a finished handshake.

    `peer`: the credential that authenticated; `provisional`: it is not registered; `sender_id`, `recipient_id`: the
    OSCORE IDs of this end; `exporter_key`: PRK_exporter, from which `export` derives further keys.
    """

    peer: Credential
    provisional: bool
    sender_id: bytes
    recipient_id: bytes
    exporter_key: bytes

    def export(self, label: int, length: int) -> bytes:
        """Return EDHOC_Exporter(label, h'', length) (RFC 9528, 4.2.1)."""
        return export(self.exporter_key, label, length)

    def __repr__(self) -> str:
        return f"Established(peer {self.peer.entity_id!r}, <secrets>)"


def export(exporter_key: bytes, label: int, length: int) -> bytes:
    """Return EDHOC_Exporter(label, h'', length) from PRK_exporter (RFC 9528, 4.2.1)."""
    return _kdf(exporter_key, label, length)


def exporter_key_of(prk_out: bytes) -> bytes:
    """Return PRK_exporter from PRK_out (RFC 9528, 4.1.3 and 4.2.1)."""
    return _kdf(prk_out, 10, 32)


class Responder:
    """One handshake as responder. It is made from message_1; `offered` and then `finish` must be called next."""

    def __init__(self, own: OwnIdentity, message_1: bytes, c_r: bytes, by_value: bool) -> None:
        """Process `message_1`; the attribute `message_2` is the answer. This computes for 0.5 ms.

        `c_r`: C_R_LEN random octets; `by_value`: send the credential of this end itself, not its kid. Raises
        MalformedMessage, WrongSuite, HandshakeBroken.
        """
        self.c_i = check_message_1(message_1)
        self.c_r = c_r
        self._lakers = _contained(lakers.EdhocResponder, own.private_octets(), own.credential.ccs)
        _, ead_1 = _contained(self._lakers.process_message_1, message_1)
        _refuse_critical(ead_1)
        self.message_2 = bytes(_contained(self._lakers.prepare_message_2, _transfer(by_value), c_r))

    def offered(self, message_3: bytes) -> Offer:
        """Return how message_3 names its sender, which is not verified. Raises MalformedMessage, HandshakeBroken."""
        _check_ciphertext(message_3, MESSAGE_3_MAX, 18)
        id_cred_i, ead_3 = _contained(self._lakers.parse_message_3, message_3)
        _refuse_critical(ead_3)
        return _offer(bytes(id_cred_i))

    def finish(self, peer: Credential, provisional: bool) -> tuple[bytes, Established]:
        """Verify message_3 against the credential `peer`; return (message_4, Established). Raises HandshakeBroken."""
        prk_out = bytes(_contained(self._lakers.verify_message_3, peer.ccs))
        message_4 = bytes(_contained(self._lakers.prepare_message_4))
        return message_4, Established(peer, provisional, self.c_i, self.c_r, exporter_key_of(prk_out))


class Initiator:
    """One handshake as initiator. The attribute `message_1` is sent first; then come `message_3` and `finish`."""

    def __init__(self, own: OwnIdentity, peer: Credential, c_i: bytes) -> None:
        """`peer`: the credential that the responder must have; `c_i`: 1..2 random octets.

        Raises WrongRole if `peer` may not be the responder of handshakes of this end (SEC-16).
        """
        if peer.role not in RESPONDERS_OF[own.role]:
            raise WrongRole(f"{peer.entity_id!r} is registered as {peer.role}: no one initiates towards it from here")
        self._own = own
        self._peer = peer
        self._c_i = c_i
        self._lakers = _contained(lakers.EdhocInitiator)
        self.message_1 = bytes(_contained(self._lakers.prepare_message_1, c_i))

    def message_3(self, message_2: bytes) -> bytes:
        """Verify message_2; return (encoded C_R ‖ message_3). Raises MalformedMessage, UnknownPeer, HandshakeBroken."""
        g_y_and_more = _check_ciphertext(message_2, MESSAGE_2_MAX, 32 + 10)
        _check_point(g_y_and_more[:32])
        c_r, id_cred_r, ead_2 = _contained(self._lakers.parse_message_2, message_2)
        _refuse_critical(ead_2)
        self._c_r = bytes(c_r)
        if len(self._c_r) != C_R_LEN:
            raise MalformedMessage(f"C_R has {C_R_LEN} octets")
        offer = _offer(bytes(id_cred_r))
        if offer.ccs != self._peer.ccs if offer.ccs is not None else offer.kid != self._peer.kid:
            raise UnknownPeer(f"the responder is not {self._peer.entity_id!r}")
        _contained(self._lakers.verify_message_2, self._own.private_octets(), self._own.credential.ccs, self._peer.ccs)
        message_3, prk_out = _contained(self._lakers.prepare_message_3, _transfer(by_value=False))
        self._exporter_key = exporter_key_of(bytes(prk_out))
        return bytes(cborlite.encode(self._c_r)) + bytes(message_3)

    def finish(self, message_4: bytes) -> Established:
        """Verify message_4, which proves that the responder has the same keys, and return the result.

        Raises MalformedMessage, HandshakeBroken.
        """
        _check_ciphertext(message_4, MESSAGE_4_MAX, 8)
        _contained(self._lakers.process_message_4, message_4)
        return Established(self._peer, False, self._c_r, self._c_i, self._exporter_key)


def check_message_1(message_1: bytes) -> bytes:
    """Check message_1 as far as possible without a point multiplication; return C_I as an OSCORE ID.

    Raises MalformedMessage, WrongSuite.
    """
    if len(message_1) > MESSAGE_1_MAX:
        raise MalformedMessage("message_1 is too long")
    method, offset = cborlite.decode_prefix(message_1)
    suites, offset = cborlite.decode_prefix(message_1, offset)
    g_x, offset = cborlite.decode_prefix(message_1, offset)
    start = offset
    c_i, offset = cborlite.decode_prefix(message_1, offset)
    if method != METHOD:
        raise MalformedMessage(f"method {METHOD} is the only one")
    if suites != SUITE and not (isinstance(suites, list) and suites and suites[-1] == SUITE):
        raise WrongSuite("another cipher suite is wanted")
    if not isinstance(g_x, bytes) or len(g_x) != 32:
        raise MalformedMessage("G_X has 32 octets")
    _check_point(g_x)
    if isinstance(c_i, bytes) and 1 <= len(c_i) <= C_I_LEN:
        return c_i
    if isinstance(c_i, int) and not isinstance(c_i, bool) and -24 <= c_i <= 23:
        return message_1[start:offset]  # one octet stands for itself (RFC 9528, 3.3.2)
    raise MalformedMessage(f"C_I has 1..{C_I_LEN} octets")


def split_message_3(payload: bytes) -> tuple[bytes, bytes]:
    """Return (C_R, message_3) of a payload for the EDHOC resource (RFC 9528, A.2.1). Raises MalformedMessage."""
    c_r, offset = cborlite.decode_prefix(payload)
    if not isinstance(c_r, bytes) or len(c_r) != C_R_LEN:
        raise MalformedMessage(f"C_R has {C_R_LEN} octets")
    return c_r, payload[offset:]


def _offer(id_cred: bytes) -> Offer:
    if id_cred[:1] != b"\xa1":
        raise MalformedMessage("ID_CRED is no map of one entry")
    label, offset = cborlite.decode_prefix(id_cred, 1)
    if label == _KCCS:
        return Offer(None, id_cred[offset:])
    value, end = cborlite.decode_prefix(id_cred, offset)
    if label != _KID or not isinstance(value, bytes) or len(value) != KID_LEN or end != len(id_cred):
        raise MalformedMessage(f"ID_CRED is neither a CCS nor a kid of {KID_LEN} octets")
    return Offer(value, None)


def _check_ciphertext(message: bytes, longest: int, shortest: int) -> bytes:
    """Return the octets of the one CBOR byte string that `message` must be."""
    octets = cborlite.decode(message, longest)
    if not isinstance(octets, bytes) or len(octets) < shortest:
        raise MalformedMessage("EDHOC message is no byte string of the right length")
    return octets


def _check_point(x: bytes) -> None:
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + x)
    except ValueError:
        raise MalformedMessage("the ephemeral key is not a point of P-256") from None


def _refuse_critical(items: Sequence[Any]) -> None:
    if any(item.is_critical() for item in items):
        raise HandshakeBroken("critical external authorization data, none is known")


def _transfer(by_value: bool) -> Any:
    return lakers.CredentialTransfer.ByValue if by_value else lakers.CredentialTransfer.ByReference


def _contained(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of lakers; any error in it becomes HandshakeBroken.

    A panic of lakers is a BaseException of a class that cannot be imported. Its texts hold no secrets.
    """
    try:
        return call(*arguments)
    except (ValueError, RuntimeError, TypeError) as error:
        raise HandshakeBroken(str(error)) from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        broken = HandshakeBroken("the EDHOC library gave up on these octets")
        broken.library_panic = True
        raise broken from None


def _kdf(key: bytes, label: int, length: int) -> bytes:
    info = cborlite.encode(label) + cborlite.encode(b"") + cborlite.encode(length)
    return bytes(hkdf.expand(key, info, length))
