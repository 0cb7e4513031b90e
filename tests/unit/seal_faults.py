"""I_MESSAGEs with one field changed and signed anew by the GMS, each with the code of the error that it must meet."""

import secrets
from collections.abc import Callable
from typing import Any

from mikey_sakke import eccsi, sakke
from mikey_sakke import message as mikey
from tests.unit.seal_world import BOB, GMS, KmsSecrets


def rebuilt(
    kms: KmsSecrets, good: bytes, change: Callable[[list[Any]], list[Any]], csb_id: bytes | None = None
) -> bytes:
    """`good` with its payloads changed, signed anew by the GMS."""
    parsed = mikey.parse(good)
    payloads = change([each for each in parsed.payloads if not isinstance(each, mikey.Signature)])
    text: bytes = mikey.encode(mikey.Message(csb_id or parsed.csb_id, payloads=payloads))
    return text + bytes(kms.signing_key(GMS).sign(text, 1 + secrets.randbelow(int(eccsi.P256.q) - 1)))


def repeated(kind: Any, role: int | None = None) -> Callable[[list[Any]], list[Any]]:
    return lambda payloads: [
        each for each in payloads for _ in range(1 + (isinstance(each, kind) and (role is None or each.role == role)))
    ]


def without(kind: Any, role: int | None = None) -> Callable[[list[Any]], list[Any]]:
    return lambda payloads: [
        each for each in payloads if not (isinstance(each, kind) and (role is None or each.role == role))
    ]


def replaced(payload: Any, role: int | None = None, /, **fields: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda payloads: [
        each._replace(**fields) if isinstance(each, payload) and (role is None or each.role == role) else each
        for each in payloads
    ]


def encapsulated(change: Callable[[bytes], bytes]) -> Callable[[list[Any]], list[Any]]:
    return lambda payloads: [
        each._replace(octets=change(each.octets)) if isinstance(each, mikey.Encapsulated) else each for each in payloads
    ]


def sealed(change: Callable[[bytes], bytes]) -> Callable[[list[Any]], list[Any]]:
    return lambda payloads: [
        each._replace(octets=change(each.octets)) if isinstance(each, mikey.Extension) else each for each in payloads
    ]


OFF_CURVE = sakke.CURVE.encode((2, 3))
TWO = (0, 0)  # of order 2, on y^2 = x^3 - 3x
ORDER_TWO = sakke.CURVE.encode(TWO)


def shifted(octets: bytes) -> bytes:
    """The point in `octets`, of order q, plus the one of order 2: on the curve, of order 2q."""
    x, y = sakke.CURVE.decode(octets)
    total = sakke.CURVE.affine(sakke.CURVE.add_affine((x, y, 1), TWO))
    return bytes(sakke.CURVE.encode(total))


CHANGED = {
    "T repeated": (repeated(mikey.Timestamp), "malformed"),
    "T missing": (without(mikey.Timestamp), "malformed"),
    "T is a counter": (replaced(mikey.Timestamp, kind=2), "malformed"),
    "RAND repeated": (repeated(mikey.Rand), "malformed"),
    "RAND missing": (without(mikey.Rand), "malformed"),
    "RAND too short": (replaced(mikey.Rand, octets=bytes(15)), "malformed"),
    "SAKKE repeated": (repeated(mikey.Encapsulated), "malformed"),
    "SAKKE missing": (without(mikey.Encapsulated), "malformed"),
    "SAKKE of another parameter set": (replaced(mikey.Encapsulated, parameter_set=2), "malformed"),
    "SAKKE of another ID scheme": (replaced(mikey.Encapsulated, scheme=1), "malformed"),
    "SAKKE truncated": (encapsulated(lambda data: data[:200]), "not-decapsulated"),
    "SAKKE oversized": (encapsulated(lambda data: data + b"\x00"), "not-decapsulated"),
    "R not on the curve": (encapsulated(lambda data: OFF_CURVE + data[257:]), "not-decapsulated"),
    "R of order 2": (encapsulated(lambda data: ORDER_TWO + data[257:]), "not-decapsulated"),
    "R of order 2q": (encapsulated(lambda data: shifted(data[:257]) + data[257:]), "not-decapsulated"),
    "R at infinity": (encapsulated(lambda data: b"\x00" * 257 + data[257:]), "not-decapsulated"),
    "H changed": (encapsulated(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "not-decapsulated"),
    "IDRr of another": (replaced(mikey.Identity, 9, octets=bytes(32)), "wrong-receiver"),
    "IDRr missing": (without(mikey.Identity, 9), "wrong-receiver"),
    "IDRr cut": (replaced(mikey.Identity, 9, octets=bytes(31)), "wrong-receiver"),
    "IDRr repeated": (repeated(mikey.Identity, 9), "malformed"),
    "IDRr of another by its URI": (replaced(mikey.Identity, 9, role=2, octets=BOB.encode()), "wrong-receiver"),
    "IDRi of another": (replaced(mikey.Identity, 8, octets=bytes(32)), "wrong-initiator"),
    "IDRi missing": (without(mikey.Identity, 8), "malformed"),
    "IDRi repeated": (repeated(mikey.Identity, 8), "malformed"),
    "IDRi of another by its URI": (replaced(mikey.Identity, 8, role=1, octets=BOB.encode()), "wrong-initiator"),
    "IDRkmsi repeated": (repeated(mikey.Identity, 6), "malformed"),
    "IDRkmsr repeated": (repeated(mikey.Identity, 7), "malformed"),
    "IDRkmsi of another KMS": (replaced(mikey.Identity, 6, octets=b"kms.elsewhere.org"), "wrong-kms"),
    "IDRkmsr of another KMS": (replaced(mikey.Identity, 7, octets=b"kms.elsewhere.org"), "wrong-kms"),
    "key parameters repeated": (repeated(mikey.Extension), "malformed"),
    "key parameters missing": (without(mikey.Extension), "bad-parameters"),
    "key parameters truncated": (sealed(lambda data: data[:30]), "bad-parameters"),
    "key parameters cut": (sealed(lambda data: data[:-1]), "bad-parameters"),
    "key parameters changed": (sealed(lambda data: data[:-1] + bytes([data[-1] ^ 1])), "bad-parameters"),
    "key parameters in clear": (sealed(lambda data: b"\x00" + data[1:]), "bad-parameters"),
    "key parameters of another key": (sealed(lambda data: data[:28] + bytes(4) + data[32:]), "bad-parameters"),
}
