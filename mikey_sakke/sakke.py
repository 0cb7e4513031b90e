"""SAKKE: Sakai-Kasahara key encryption (RFC 6508) with parameter set 1 (RFC 6509 appendix A).

Encapsulated Data is the point R (257 octets) and the hint H (16): 273 octets. Identifiers are octet strings, read as
one integer. Everything after the choice of the shared secret value (SSV, 16 octets) is deterministic.
"""

from mikey_sakke.curve import Curve, FixedBase, NotOnCurve, run
from mikey_sakke.hashing import hash_to_integer_range
from mikey_sakke.integers import from_octets, inverse, to_octets
from mikey_sakke.pairing import evaluate, functions

CURVE = Curve(
    0x997ABB1F0A563FDA65C61198DAD0657A416C0CE19CB48261BE9AE358B3E01A2EF40AAB27E2FC0F1B228730D531A59CB0E791B39FF7C88A19356D27F4A666A6D0E26C6487326B4CD4512AC5CD65681CE1B6AFF4A831852A82A7CF3C521C3C09AA9F94D6AF56971F1FFCE3E82389857DB080C5DF10AC7ACE87666D807AFEA85FEB,
    0,
    0x265EAEC7C2958FF69971846636B4195E905B0338672D20986FA6B8D62CF8068BBD02AAC9F8BF03C6C8A1CC354C69672C39E46CE7FDF222864D5B49FD2999A9B4389B1921CC9AD335144AB173595A07386DABFD2A0C614AA0A9F3CF14870F026AA7E535ABD5A5C7C7FF38FA08E2615F6C203177C42B1EB3A1D99B601EBFAA17FB,
    0x53FC09EE332C29AD0A7990053ED9B52A2B1A2FD60AEC69C698B2F204B6FF7CBFB5EDB6C0F6CE2308AB10DB9030B09E1043D5F22CDB9DFA55718BD9E7406CE8909760AF765DD5BCCB337C86548B72F2E1A702C3397A60DE74A7C1514DBA66910DD5CFB4CC80728D87EE9163A5B63F73EC80EC46C4967E0979880DC8ABEAE63895,
    0x0A8249063F6009F1F9F1F0533634A135D3E82016029906963D778D821E141178F5EA69F4654EC2B9E7F7F5E5F0DE55F66B598CCF9A140B2E416CFF0CA9E032B970DAE117AD547C6CCAD696B5B7652FE0AC6F1E80164AA989492D979FC5A4D5F213515AD7E9CB99A980BDAD5AD5BB4636ADB9B5706A67DCDE75573FD71BEF16D7,
)
G = int(  # <P, P>
    "66FC2A432B6EA392148F15867D623068C6A87BD1FB94C41E27FABE658E015A87"
    "371E94744C96FEDA449AE9563F8BC446CBFDA85D5D00EF577072DA8F541721BE"
    "EE0FAED1828EAB90B99DFB0138C7843355DF0460B4A9FD74B4F1A32BCAFA1FFA"
    "D682C033A7942BCCE3720F20B9B7B0403C8CAE87B7A0042ACDE0FAB36461EA46",
    16,
)
SSV_LEN = 16
ENCAPSULATED_LEN = 273
_FIELD_LEN = 128
_POINT_LEN = 257
_MASK_LIMIT = 1 << 128


class BadKey(ValueError):
    """An RSK that does not fit identifier and KMS."""


class NotDecapsulated(ValueError):
    """Encapsulated Data that is malformed, or not for this identifier and KMS."""


def _xor(a, b):
    return bytes([x ^ y for x, y in zip(a, b)])


def _mask(w_octets):
    return to_octets(hash_to_integer_range(w_octets, _MASK_LIMIT), SSV_LEN)


class Community:
    """The public side of one KMS: Z (257 octets), with combs for P and Z, and one for g once needed."""

    def __init__(self, z_octets, teeth=8):
        """NotOnCurve if `z_octets` are no point."""
        self._p = FixedBase(CURVE, CURVE.base, teeth)
        self._z = FixedBase(CURVE, CURVE.decode(z_octets), teeth)
        self._g = None
        self._teeth = teeth

    def encapsulate(self, ssv, identifier):
        """Encapsulated Data (273 octets) of `ssv` (16 octets) for `identifier` (section 6.2.1)."""
        if len(ssv) != SSV_LEN:
            raise ValueError("a shared secret value has %d octets" % SSV_LEN)
        r = hash_to_integer_range(ssv + identifier, CURVE.q)
        point = run(self.point_steps(r, identifier))
        if self._g is None:
            from mikey_sakke.power import FixedPower  # no board makes keys

            self._g = FixedPower(CURVE, G, self._teeth)
        hint = _xor(ssv, _mask(to_octets(self._g.power(r), _FIELD_LEN)))
        return CURVE.encode(point) + hint

    def point_steps(self, r, identifier):
        """Return [r]([b]P + Z), affine; a generator. Two fixed bases: [r*b]P + [r]Z."""
        q = CURVE.q
        total = yield from CURVE.sum_of_multiples([(self._p, r * from_octets(identifier) % q), (self._z, r)])
        return CURVE.affine(total)


class FreshFunctions:
    """The pairing functions of a point, computed anew at each iteration, for a board without room to keep them."""

    def __init__(self, point):
        self._point = point

    def __iter__(self):
        return functions(CURVE, self._point)


class DecryptionKey:
    """One user's RSK with its pairing functions; `repr` shows nothing of it. Call `check` once after provisioning."""

    def __init__(self, community, identifier, rsk, functions_of=None):
        """`rsk` is 257 octets, BadKey if they are no point; the identifier must be the one it was made for.

        `functions_of(point)` gives the iterable of the pairing's functions; by default they are computed once and kept
        (some 400 KB).
        """
        try:
            point = CURVE.decode(rsk)
        except NotOnCurve as error:
            raise BadKey("RSK: %s" % error) from None
        self._community = community
        self._identifier = bytes(identifier)
        try:
            self._functions = functions_of(point) if functions_of else [f for f in functions(CURVE, point) if f]
        except ZeroDivisionError:  # the loop meets infinity only for a point outside the group of order q
            raise BadKey("RSK: a point of small order") from None

    def check(self):
        """<[a]P + Z, RSK> = g (section 6.1.2); BadKey if it does not hold."""
        run(self.check_steps())

    def check_steps(self):
        """`check` as a generator."""
        public = yield from self._community.point_steps(1, self._identifier)
        w = None
        if public is not None:
            w = yield from evaluate(CURVE, self._functions, public)
        if w != G:
            raise BadKey("RSK does not belong to this identifier and Z")

    def __repr__(self):
        return "<DecryptionKey>"

    def decapsulate(self, data):
        """Return the SSV (16 octets) in Encapsulated Data (section 6.2.2).

        Raises NotDecapsulated if the re-encapsulation differs.

        A hint without its leading zero octets, and a mask made from g^r without them, are what some other
        implementations send; both are accepted, since the check [r]([b]P + Z) = R protects either way.
        """
        return run(self.decapsulate_steps(data))

    def decapsulate_steps(self, data):
        """`decapsulate` as a generator."""
        if not _POINT_LEN < len(data) <= ENCAPSULATED_LEN:
            raise NotDecapsulated("Encapsulated Data has %d octets in place of %d" % (len(data), ENCAPSULATED_LEN))
        try:
            point = CURVE.decode(data[:_POINT_LEN])
        except NotOnCurve as error:
            raise NotDecapsulated("R: %s" % error) from None
        hint = data[_POINT_LEN:]
        hint = bytes(SSV_LEN - len(hint)) + bytes(hint)
        w = yield from evaluate(CURVE, self._functions, point)
        if w is None:
            raise NotDecapsulated("R has the wrong order")
        octets = to_octets(w, _FIELD_LEN)
        candidates = [octets]
        if not octets[0]:
            candidates.append(octets.lstrip(b"\x00"))
        for candidate in candidates:
            ssv = _xor(hint, _mask(candidate))
            r = hash_to_integer_range(ssv + self._identifier, CURVE.q)
            test = yield from self._community.point_steps(r, self._identifier)
            if test == point:
                return ssv
        raise NotDecapsulated("not for this identifier and KMS, or changed on its way")


def z_of(master_secret):
    """Z (257 octets) of the KMS secret, 2..q-1."""
    return CURVE.encode(CURVE.affine(run(CURVE.multiply(master_secret, CURVE.base))))


def provision(master_secret, identifier):
    """Return the RSK (257 octets) of `identifier`: [1 / (a + z)]P (section 6.1.1), by the KMS."""
    q = CURVE.q
    k = inverse((from_octets(identifier) + master_secret) % q, q)
    return CURVE.encode(CURVE.affine(run(CURVE.multiply(k, CURVE.base))))
