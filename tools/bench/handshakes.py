"""The cost of one EDHOC handshake at the PN GW: its own computations, without the network and the initiator's."""

import secrets
import time
from collections.abc import Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from message_plane import edhoc
from message_plane.identity import OwnIdentity
from tools.bench.rows import Line, Row, Tell, median_ms

HANDSHAKES = 200


def measure(tell: Tell) -> Iterator[Line]:
    """Yield handshakes a second as responder (lakers), beside P-256 verifications a second of `cryptography`."""
    tell(f"{HANDSHAKES} EDHOC handshakes")
    rate = responder_rate(OwnIdentity.new("gw.home", "gateway"), OwnIdentity.new("lamp.hall", "pne"))
    key = ec.generate_private_key(ec.SECP256R1())
    es256 = ec.ECDSA(hashes.SHA256())
    message = secrets.token_bytes(64)
    signature = key.sign(message, es256)
    public = key.public_key()
    verify_ms = median_ms(lambda: public.verify(signature, message, es256), rounds=500)
    yield Row(
        "EDHOC handshakes at the gateway",
        rate,
        "handshakes/s",
        "P-256 verify (cryptography)",
        1000 / verify_ms,
        note="responder's computations: 3 scalar multiplications each, of lakers' Rust; one thread",
    )


def responder_rate(own: OwnIdentity, peer: OwnIdentity) -> float:
    """Return how many handshakes a second a responder `own` computes with initiators that have the key of `peer`."""
    spent = 0.0
    for _ in range(HANDSHAKES):
        initiator = edhoc.Initiator(peer, own.credential, secrets.token_bytes(edhoc.C_I_LEN))
        begun = time.perf_counter()
        responder = edhoc.Responder(own, initiator.message_1, secrets.token_bytes(edhoc.C_R_LEN), by_value=False)
        spent += time.perf_counter() - begun
        _, message_3 = edhoc.split_message_3(initiator.message_3(responder.message_2))
        begun = time.perf_counter()
        responder.offered(message_3)
        message_4, _ = responder.finish(peer.credential, provisional=False)
        spent += time.perf_counter() - begun
        initiator.finish(message_4)
    return HANDSHAKES / spent
