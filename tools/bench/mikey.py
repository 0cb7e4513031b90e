"""ECCSI and SAKKE on this machine, beside a P-256 verification of `cryptography` in the same run."""

import json
import secrets
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mikey_sakke import eccsi, sakke
from tools.bench.rows import Line, Row, Tell, median_ms
from tools.micropython_vm.vm import PROJECT

PEER = "P-256 verify of cryptography"
SIGN_MS, VERIFY_MS, ENCAPSULATE_MS, DECAPSULATE_MS = 0.5, 2.0, 6.0, 12.0
TEXT = b"an I_MESSAGE" * 50


def measure(tell: Tell) -> Iterator[Line]:
    """One row for each operation; the targets are those of issue 3."""
    tell("keys")
    given = json.loads((PROJECT / "tests" / "vectors" / "mikey_sakke_public.json").read_text())
    kms, alice, gms = given["kms"], given["users"]["Alice"], given["users"]["GMS"]
    signatures = eccsi.Community(bytes.fromhex(kms["pub_auth_key"]))
    encryption = sakke.Community(bytes.fromhex(kms["pub_enc_key"]))
    sender, receiver = bytes.fromhex(gms["user_id"]), bytes.fromhex(alice["user_id"])
    ssk, pvt = bytes.fromhex(gms["user_signing_key_ssk"]), bytes.fromhex(gms["user_pub_token_pvt"])
    signer = eccsi.SigningKey(signatures, sender, ssk, pvt)
    opener = sakke.DecryptionKey(encryption, receiver, bytes.fromhex(alice["user_decrypt_key"]))
    signature = signer.sign(TEXT, 1 + secrets.randbelow(int(eccsi.P256.q) - 1))
    data = encryption.encapsulate(bytes(16), receiver)
    peer_key = ec.generate_private_key(ec.SECP256R1())
    peer_signature = peer_key.sign(TEXT, ec.ECDSA(hashes.SHA256()))
    public = peer_key.public_key()
    tell("operations")
    peer = median_ms(lambda: public.verify(peer_signature, TEXT, ec.ECDSA(hashes.SHA256())), rounds=101)
    sign = median_ms(lambda: signer.sign(TEXT, 1 + secrets.randbelow(int(eccsi.P256.q) - 1)))
    yield Row("ECCSI sign", sign, "ms", PEER, peer, SIGN_MS)
    verify = median_ms(lambda: signatures.verify(TEXT, signature, sender))
    yield Row("ECCSI verify", verify, "ms", PEER, peer, VERIFY_MS)
    encapsulate = median_ms(lambda: encryption.encapsulate(secrets.token_bytes(16), receiver))
    yield Row("SAKKE encapsulate", encapsulate, "ms", PEER, peer, ENCAPSULATE_MS)
    decapsulate = median_ms(lambda: opener.decapsulate(data))
    yield Row("SAKKE decapsulate", decapsulate, "ms", PEER, peer, DECAPSULATE_MS)
