"""Fuzz targets: Key Messages between a PN GW and a PNE that is a VAL client (docs/protocol.md section 12)."""

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.key_store import KeyStore
from device_agent.val_client import client, records
from gateway_agent.val_client.board_users import answer_of
from mikey_sakke.curve import run
from tests.fuzz.files import Flash
from tests.fuzz.servers import I_MESSAGE, PUBLIC
from tests.fuzz.target import Target

_KMS, _USER = PUBLIC["kms"], PUBLIC["users"]["Alice"]["user_uri"]
_GMS, _GROUP = PUBLIC["users"]["GMS"]["user_uri"], "sip:group@example.org"
_CLIENT = records.Client(
    _USER,
    _KMS["kms_uri"],
    _KMS["user_key_period"],
    _KMS["user_key_offset"],
    bytes.fromhex(_KMS["pub_auth_key"]),
    bytes.fromhex(_KMS["pub_enc_key"]),
    {_GROUP: _GMS},
)
_RECORD = records.pack_client(_CLIENT)
_PROFILE = cborlite.encode(["", "profile", "3", cborlite.encode([[_GROUP, _GMS]])])


def _notice(data: bytes) -> None:
    """As `service` takes it. This PNE has no key of any period, so nothing gets as far as the curves."""
    store = KeyStore(Flash({}))
    store.save(records.PROVISIONING, _RECORD)
    if records.take_profile(store, data) is None:
        worker = client.BoardClient(store, "", _CLIENT)
        name, key_id, proof, code, _ = cborlite.decode(run(worker.receive(data, 0)))
        if not name or key_id or proof or not code:
            raise AssertionError("a message was opened without a key")


TARGETS = (
    Target(
        "key-message",
        _notice,
        (CpnsError,),
        (_PROFILE, cborlite.encode(["n-1", "key", _GMS, I_MESSAGE]), cborlite.encode([])),
    ),
    Target(
        "key-message-answer",
        answer_of,
        (CpnsError,),
        (
            cborlite.encode(["n-1", bytes(4), bytes(16), "", ""]),
            cborlite.encode(["n-1", b"", b"", "error", "no"]),
            cborlite.encode(["", b"", b"", "", "3"]),
            cborlite.encode([]),
        ),
    ),
)
