"""ECCSI: elliptic-curve based certificateless signatures for identity-based encryption (RFC 6507), on P-256, SHA-256.

A signature is r (32), s (32), PVT (65): 129 octets. An identifier is an octet string; 3GPP uses the 32 octets of a UID.
Signatures are malleable, (r, q - s) verifies too: never use their octets against replay.
"""

from mikey_sakke.curve import Curve, FixedBase, NotOnCurve, run
from mikey_sakke.hashing import sha256
from mikey_sakke.integers import from_octets, inverse, to_octets

P256 = Curve(
    0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
SIGNATURE_LEN = 129
_BASE = P256.encode(P256.base)


class BadKey(ValueError):
    """Key material of a KMS that does not fit identifier and KMS."""


def _hs(kpak, identifier, pvt):
    """HS = H(G || KPAK || ID || PVT), 32 octets (section 5.1.1)."""
    return sha256(_BASE, kpak, identifier, pvt)


class Community:
    """The public side of one KMS: KPAK, and the precomputation that makes verifying against it fast.

    `teeth` trades memory for speed: 2 * (2**teeth - 1) points are kept; none with 0, for a board that only verifies.
    """

    def __init__(self, kpak, teeth=8):
        """`kpak` is 65 octets; NotOnCurve if they are no point."""
        self.kpak = bytes(kpak)
        self._bases = [P256.base, P256.decode(kpak)]
        self._fixed = teeth > 0
        if teeth:
            self._bases = [FixedBase(P256, point, teeth) for point in self._bases]

    def verify_steps(self, message, signature, identifier):
        """`verify` as a generator that yields now and then and returns the verdict."""
        if len(signature) != SIGNATURE_LEN:
            return False
        r = from_octets(signature[:32])
        s = from_octets(signature[32:64])
        pvt = bytes(signature[64:])
        if not (0 < r < P256.p and 0 < s < P256.q):
            return False
        try:
            token = P256.decode(pvt)
        except NotOnCurve:
            return False
        hs = _hs(self.kpak, identifier, pvt)
        he = from_octets(sha256(hs, signature[:32], message))
        q = P256.q
        sr = s * r % q
        known = [(self._bases[0], s * he % q), (self._bases[1], sr)]
        free = [(token, sr * from_octets(hs) % q)]
        if self._fixed:
            j = yield from P256.sum_of_multiples(known, free)
        else:
            j = yield from P256.sum_of_multiples((), known + free)
        j = P256.affine(j)
        return j is not None and j[0] == r

    def verify(self, message, signature, identifier):
        """Return True if `signature` (129 octets) over `message` is by the owner of `identifier` (section 5.2.2)."""
        return run(self.verify_steps(message, signature, identifier))

    def multiple_of_base(self, k):
        """Return [k]G, affine, 0 < k < q; only with teeth."""
        return P256.affine(run(P256.sum_of_multiples([(self._bases[0], k)])))


class SigningKey:
    """One user's SSK (32 octets) and PVT (65 octets), validated against KPAK and identifier; `repr` shows neither."""

    def __init__(self, community, identifier, ssk, pvt):
        """Checks KPAK = [SSK]G - [HS]PVT (section 5.1.2); BadKey if it does not hold."""
        try:
            token = P256.decode(pvt)
        except NotOnCurve as error:
            raise BadKey("PVT: %s" % error) from None
        self._ssk = from_octets(ssk)
        if len(ssk) != 32 or not 0 < self._ssk < P256.q:
            raise BadKey("SSK is not in 1..q-1")
        self._community = community
        self._pvt = bytes(pvt)
        self._hs = _hs(community.kpak, identifier, pvt)
        right = run(P256.multiply(from_octets(self._hs) % P256.q, token))
        right = P256.affine(P256.add_affine(right, P256.decode(community.kpak)))
        if right != community.multiple_of_base(self._ssk):
            raise BadKey("SSK and PVT do not belong to this identifier and KPAK")

    def __repr__(self):
        return "<SigningKey>"

    def sign(self, message, j):
        """Return the signature over `message`, 129 octets (section 5.2.1).

        `j` is the ephemeral, a fresh secret random integer in 1..q-1.

        Raises ValueError for the one j in 2**256 that gives t = 0: draw another.
        """
        q = P256.q
        if not 0 < j < q:
            raise ValueError("j must be in 1..q-1")
        r = self._community.multiple_of_base(j)[0]
        octets = to_octets(r, 32)
        he = from_octets(sha256(self._hs, octets, message))
        t = (he + r * self._ssk) % q
        if not t:
            raise ValueError("unusable j, draw another")
        return octets + to_octets(inverse(t, q) * j % q, 32) + self._pvt


def kpak_of(ksak):
    """KPAK (65 octets) of the KMS secret `ksak`, 1..q-1."""
    return P256.encode(P256.affine(run(P256.multiply(ksak, P256.base))))


def provision(ksak, kpak, identifier, v):
    """Return (SSK, PVT) for `identifier`, by the KMS (section 5.1.1); `v` is a fresh secret random integer in 1..q-1.

    Raises ValueError where HS mod q or SSK is 0: draw another v.
    """
    pvt = P256.encode(P256.affine(run(P256.multiply(v, P256.base))))
    hs = from_octets(_hs(kpak, identifier, pvt)) % P256.q
    ssk = (ksak + hs * v) % P256.q
    if not hs or not ssk:
        raise ValueError("unusable v, draw another")
    return to_octets(ssk, 32), pvt
