"""The I_MESSAGE that hands a key to one user: making it, and the checks of receiving it, in their order.

What the receiver checks here: bounds, clock window, receiver, KMS, initiator, signature (before any SAKKE work),
decapsulation, key identifier, key parameters. What depends on earlier keys and on the user's profile (duplicates,
groups) is the client's part.
"""

from collections import namedtuple

from mikey_sakke import key_parameters
from mikey_sakke import message as mikey
from mikey_sakke.curve import run
from mikey_sakke.eccsi import SIGNATURE_LEN
from mikey_sakke.errors import (
    BadParameters,
    BadSignature,
    Malformed,
    MikeyError,
    NoKeyForPeriod,
    NotDecapsulated,
    OutsideWindow,
    WrongInitiator,
    WrongKms,
    WrongReceiver,
)
from mikey_sakke.hashing import sha256
from mikey_sakke.identifiers import PURPOSE_GMK, guk_id, key_period_number, ntp_moment, purpose, uid
from mikey_sakke.sakke import NotDecapsulated as _SakkeError

RAND_LEN = 16
# default SRTP policy of a GMK (TS 33.180 annex E.2.2): AES-GCM 16, RCCm3, salt 12, no rate change, tags 4, 0, 16
GMK_POLICY = tuple(
    (kind, bytes([value]))
    for kind, value in ((0, 6), (1, 16), (2, 4), (4, 12), (5, 0), (6, 0), (13, 1), (18, 4), (19, 0), (20, 16))
)


class Kms:
    """What a KMS certificate says: unique name, key period (seconds) and offset, and the public keys' precomputation.

    `signatures` is an `eccsi.Community`, `encryption` a `sakke.Community`.
    """

    def __init__(self, uri, period, offset, signatures, encryption):
        self.uri = uri
        self.period = period
        self.offset = offset
        self.signatures = signatures
        self.encryption = encryption

    def number_at(self, ntp_seconds):
        """Key period number of a moment."""
        return key_period_number(ntp_seconds, self.period, self.offset)

    def uid(self, user_uri, number):
        """UID of a user in one key period."""
        return uid(user_uri, self.uri, self.period, self.offset, number)


class Received(
    namedtuple(
        "Received",
        ("purpose", "key", "key_id", "guk_id", "initiator_uri", "responder_uri", "ntp_seconds", "digest", "parameters"),
    )
):
    """An accepted key. `digest` (32 octets, of the signed part) tells a retransmission from a replay; `parameters` may
    be None. `repr` does not show the key."""

    def __repr__(self):
        return "<Received %s for %s>" % (self.key_id.hex(), self.responder_uri)


def make(kms, signing_key, initiator_uri, responder_uri, key, key_id, parameters, ntp_seconds, random, j):
    """Return the octets of an I_MESSAGE for `responder_uri`.

    `kms`: of both ends; `signing_key`: the initiator's `eccsi.SigningKey` for the period of `ntp_seconds`; `key` 16
    octets, `key_id` 4; `parameters`: `key_parameters.Parameters` or None; `random(n)`: n fresh random octets, called
    for RAND and the IV; `j`: fresh secret random integer for the signature.
    """
    number = kms.number_at(ntp_seconds)
    receiver = kms.uid(responder_uri, number)
    csb_id = guk_id(key_id, key, responder_uri) if purpose(key_id) == PURPOSE_GMK else key_id
    kms_uri = kms.uri.encode()
    payloads = [
        mikey.Timestamp(mikey.TS_NTP_UTC, ntp_seconds & 0xFFFFFFFF, 0),
        mikey.Rand(random(RAND_LEN)),
        mikey.Identity(mikey.ROLE_INITIATOR_UID, mikey.ID_URI, kms.uid(initiator_uri, number)),
        mikey.Identity(mikey.ROLE_RESPONDER_UID, mikey.ID_URI, receiver),
        mikey.Identity(mikey.ROLE_INITIATOR_KMS, mikey.ID_URI, kms_uri),
        mikey.Identity(mikey.ROLE_RESPONDER_KMS, mikey.ID_URI, kms_uri),
        mikey.Policy(0, 0, GMK_POLICY),
        mikey.Encapsulated(mikey.PARAMETER_SET_1, mikey.SCHEME_UID, kms.encryption.encapsulate(key, receiver)),
    ]
    if parameters is not None:
        data = key_parameters.protect(parameters, key, csb_id, random(key_parameters.IV_LEN), ntp_seconds - 2208988800)
        payloads.append(mikey.Extension(mikey.EXTENSION_KEY_PARAMETERS, data))
    text = mikey.encode(mikey.Message(csb_id, payloads=payloads), SIGNATURE_LEN)
    return text + signing_key.sign(text, j)


def open_(octets, kms, user_uri, key_for_period, initiators, ntp_window=None):
    """`open_steps`, drained."""
    return run(open_steps(octets, kms, user_uri, key_for_period, initiators, ntp_window))


def open_steps(octets, kms, user_uri, key_for_period, initiators, ntp_window=None):
    """Receive an I_MESSAGE; a generator that yields now and then and returns Received.

    `key_for_period(number)`: the user's `sakke.DecryptionKey` for a key period, or None; `initiators`: URIs that may
    send keys; `ntp_window`: (first, last) accepted NTP second, None for any. Raises one of `errors` and has then
    changed nothing.
    """
    message = mikey.parse(octets)
    received = yield from signed_steps(message, kms, user_uri, key_for_period, initiators, ntp_window)
    parameters = parameters_of(message, received)
    return received if parameters is None else Received(*(tuple(received)[:-1] + (parameters,)))


def signed_steps(message, kms, user_uri, key_for_period, initiators, ntp_window=None):
    """`open_steps` of a parsed message without its key parameters: Received, in which `parameters` is None."""
    sakke, stamp, signature = (
        message.one(mikey.Encapsulated),
        message.one(mikey.Timestamp),
        message.one(mikey.Signature),
    )
    if stamp.kind > 1 or len(message.one(mikey.Rand).octets) < RAND_LEN:
        raise Malformed("an NTP time and at least %d random octets are expected" % RAND_LEN)
    if sakke.parameter_set != mikey.PARAMETER_SET_1 or sakke.scheme != mikey.SCHEME_UID:
        raise Malformed("parameter set 1 and 3GPP identifiers are expected")
    seconds = ntp_moment(stamp.seconds)
    if ntp_window is not None and not ntp_window[0] <= seconds <= ntp_window[1]:
        raise OutsideWindow("the time of the message is outside the accepted window")
    number = kms.number_at(seconds)
    if number < 0:
        raise NoKeyForPeriod("the time of the message is before the first key period")
    me = kms.uid(user_uri, number)
    _check_receiver(message, user_uri, me)
    _check_kms(message, kms)
    initiator = _initiator(message, kms, number, initiators)
    key = key_for_period(number)
    if key is None:
        raise NoKeyForPeriod("no key material for key period %d" % number)
    genuine = False
    if signature.kind == mikey.SIGN_ECCSI:
        genuine = yield from kms.signatures.verify_steps(message.signed, signature.octets, kms.uid(initiator, number))
    if not genuine:
        raise BadSignature("the signature of %s does not verify" % initiator)
    try:
        secret = yield from key.decapsulate_steps(sakke.octets)
    except _SakkeError as error:
        raise NotDecapsulated(str(error)) from None
    tag = purpose(message.csb_id)
    key_id = guk_id(message.csb_id, secret, user_uri) if tag == PURPOSE_GMK else message.csb_id
    return Received(tag, secret, key_id, message.csb_id, initiator, user_uri, seconds, sha256(message.signed), None)


def parameters_of(message, received):
    """Return the key parameters of a message whose Received is `received`, or None. Raises BadParameters, Malformed."""
    found = [each for each in message.all(mikey.Extension) if each.kind == mikey.EXTENSION_KEY_PARAMETERS]
    if len(found) > 1:
        raise Malformed("the key parameters are repeated")
    if not found:
        return None
    parameters = key_parameters.unprotect(found[0].octets, received.key, message.csb_id)
    if parameters.key_type != received.purpose:
        raise BadParameters("the key parameters are for another type of key")
    return parameters


def _check_receiver(message, user_uri, me):
    identity = message.identity(mikey.ROLE_RESPONDER, mikey.ROLE_RESPONDER_UID)
    expected = user_uri.encode() if identity and identity.role == mikey.ROLE_RESPONDER else me
    if identity is None or identity.octets != expected:
        raise WrongReceiver("the message is not for %s in this key period" % user_uri)


def _check_kms(message, kms):
    for role in (mikey.ROLE_INITIATOR_KMS, mikey.ROLE_RESPONDER_KMS):
        identity = message.identity(role)
        if identity is not None and identity.octets != kms.uri.encode():
            raise WrongKms("%s is not %s" % (mikey.ROLES[role], kms.uri))


def _initiator(message, kms, number, initiators):
    identity = message.identity(mikey.ROLE_INITIATOR, mikey.ROLE_INITIATOR_UID)
    if identity is None:
        raise Malformed("no initiator")
    for uri in initiators:
        expected = uri.encode() if identity.role == mikey.ROLE_INITIATOR else kms.uid(uri, number)
        if identity.octets == expected:
            return uri
    raise WrongInitiator("the initiator is none of those that may send keys")


__all__ = [
    "GMK_POLICY",
    "Kms",
    "MikeyError",
    "Received",
    "make",
    "open_",
    "open_steps",
    "parameters_of",
    "signed_steps",
]
