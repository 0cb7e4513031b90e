"""A KMS with known master secrets for tests, and its answers, which a test can change before they are read."""

from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from key_servers.kms.issuer import Issuer, MasterSecrets
from mikey_sakke.kms_exchange import Ask, Exchange
from mikey_sakke.kms_values import Certificate, Init, KeyProvision, KeySet, KmsMessage, Response
from mikey_sakke.kms_xml import encode

NOW = 1_790_000_000  # Unix seconds, 2026
PERIOD = 3600
KMS_URI = "kms.example.org"
BASE_URL = "https://kms.example.org:8443"
ALICE = "sip:alice@example.org"
BOB = "sip:bob@example.org"
GMS = "sip:gms@example.org"


def below(seed: int) -> Any:
    """A `secrets.randbelow` that repeats itself."""
    return Random(seed).randrange


@cache
def master_secrets(kms_uri: str = KMS_URI, seed: int = 1, period: int = PERIOD, offset: int = 0) -> MasterSecrets:
    return MasterSecrets.draw(kms_uri, period, offset, NOW - 10 * 86400, NOW + 86400 * 365, below(seed))


@cache
def issuer(kms_uri: str = KMS_URI, seed: int = 1) -> Issuer:
    return Issuer(master_secrets(kms_uri, seed), below(seed + 100))


@cache
def keys_of(user_uri: str, number: int, kms_uri: str = KMS_URI, seed: int = 1) -> KeySet:
    return issuer(kms_uri, seed).key_set(user_uri, number)


class Answers:
    """What a KMS answers to Alice; `**changes` replace fields of the response, of the certificate or the key set."""

    def __init__(self) -> None:
        self.exchange = Exchange(BASE_URL, KMS_URI, ALICE)
        self.certificate = issuer().certificate
        self.number = issuer().period_for(NOW, None)
        self.key_set = keys_of(ALICE, self.number)

    def response(self, ask: Ask, usual: KmsMessage | None, /, **changes: Any) -> bytes:
        right = Response(ALICE, KMS_URI, NOW, ask.url, message=usual)
        return encode(replace(right, **changes))

    def init(self, ask: Ask, envelope: dict[str, Any] | None = None, **changes: Any) -> bytes:
        return self.response(ask, KmsMessage(init=Init(replace(self.certificate, **changes))), **(envelope or {}))

    def keys(self, ask: Ask, envelope: dict[str, Any] | None = None, **changes: Any) -> bytes:
        provision = KeyProvision((replace(self.key_set, **changes),))
        return self.response(ask, KmsMessage(key_provision=provision), **(envelope or {}))


def neighbour() -> Certificate:
    """The certificate of another domain's KMS."""
    return issuer("kms.elsewhere.org", 2).certificate
