"""ECCSI and SAKKE on this machine, beside a P-256 verification of `cryptography` in the same run."""

import json
import secrets
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from mikey_sakke import eccsi, sakke
from tools import PROJECT
from tools.bench.processor import YARDSTICK, side_by_side_ms
from tools.bench.rows import Line, Row, Tell

PEER = "P-256 verify of cryptography"
TARGETS_MS = {"ECCSI sign": 0.5, "ECCSI verify": 2.0, "SAKKE encapsulate": 6.0, "SAKKE decapsulate": 12.0}
ROUNDS = 15
NOTE = f"median processor time of the quickest of five passes; yardstick_us is what one {YARDSTICK} took meanwhile"
TEXT = b"an I_MESSAGE" * 50


def measure(tell: Tell) -> Iterator[Line]:
    """Yield one row for each operation."""
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
    works = {
        PEER: lambda: public.verify(peer_signature, TEXT, ec.ECDSA(hashes.SHA256())),
        "ECCSI sign": lambda: signer.sign(TEXT, 1 + secrets.randbelow(int(eccsi.P256.q) - 1)),
        "ECCSI verify": lambda: signatures.verify(TEXT, signature, sender),
        "SAKKE encapsulate": lambda: encryption.encapsulate(secrets.token_bytes(16), receiver),
        "SAKKE decapsulate": lambda: opener.decapsulate(data),
    }
    (peer, *ours), yardstick = side_by_side_ms(list(works.values()), rounds=ROUNDS, prepare=lambda: None)
    for (name, target), value in zip(TARGETS_MS.items(), ours, strict=True):
        yield Row(name, value, "ms", PEER, peer, target, NOTE, yardstick)
