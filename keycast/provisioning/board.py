"""Make the identity of a board on the host, and the record of it for the flash of the board."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.provisioning import RECORD, Provisioning
from device_agent.update import key as update_key
from message_plane import credentials
from message_plane.credentials import Credential

if TYPE_CHECKING:
    from gateway_agent.app import GatewayApp


@dataclass(frozen=True)
class Trust:
    """The parts of a PN GW that a board pins. `address` is a hint, such as "192.168.1.10".

    `company_id` is that of its adverts, None for a PN GW without Bluetooth LE. `server_ccs` is the credential of its
    CPNS Server (CCS octets), empty if that is embedded, as it then makes no end-to-end groups. `update_key` is the
    public key that signs updates, x || y, empty without one.
    """

    gateway: Credential
    signing_key: bytes
    signing_epoch: int
    pn_id: str
    address: str = ""
    company_id: int | None = None
    server_ccs: bytes = b""
    update_key: bytes = b""

    def further_records(self) -> dict[str, bytes]:
        """Return the records for the key store of a board beside that of its identity."""
        return {update_key.RECORD: self.update_key} if self.update_key else {}


def told_trust(told: Mapping[str, Any], address: str | None = None) -> Trust:
    """Return the Trust in the answer of a gateway to the command `trust`. `address` takes the place of its own."""
    return Trust(
        credentials.parse(bytes.fromhex(told["credential"]), "gateway"),
        bytes.fromhex(told["signing_key"]),
        told["signing_epoch"],
        told["pn"],
        told["address"] if address is None else address,
        told.get("company_id"),
        bytes.fromhex(told.get("server_credential", "")),
        bytes.fromhex(told.get("update_key", "")),
    )


def trust_of(app: "GatewayApp") -> Trust:
    """Return the Trust of a PN GW that runs in this process, with the first address at which it listens."""
    plane = app.config.message_plane
    return told_trust(app.trust(), f"{plane.listen[0]}:{plane.port}")


def new_board(pne_id: str, trust: Trust) -> tuple[bytes, Credential]:
    """Make a fresh P-256 identity for `pne_id`. Return its provisioning record, which is secret, and its credential.

    Raises cpns.errors.MalformedMessage if `pne_id` is no valid entity ID.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    x = key.public_key().public_numbers().x.to_bytes(32, "big")
    credential = credentials.of(pne_id, "pne", x)
    record = Provisioning(
        pne_id,
        key.private_numbers().private_value.to_bytes(32, "big"),
        credential.ccs,
        trust.gateway.entity_id,
        trust.gateway.ccs,
        trust.signing_key,
        trust.signing_epoch,
        trust.pn_id,
        trust.address,
        trust.server_ccs,
    )
    return record.pack(), credential


def flash_script(records: Mapping[str, bytes], first: Sequence[str] = ()) -> str:
    """Return a program for `mpremote run` that saves `records` in the key store of a board, after the lines `first`.

    These lines can use the key store under the name `store`. A provisioning record among the records takes the place of
    the present identity, as `device_agent.pending` does it, and the others are then those of the new one.
    """
    others = dict(records)
    identity = others.pop(RECORD, None)
    lines = ["# Secret: it holds keys of one board. Delete it when the board has run it.", "import nvs_store", ""]
    lines += ["from device_agent import pending"] if identity is not None else []
    lines += ["from device_agent.key_store import KeyStore", "", "store = KeyStore(nvs_store.NvsStore())"]
    lines += first
    octets_of = {name: f'bytes.fromhex("{octets.hex()}")' for name, octets in records.items()}
    if identity is None:
        lines += [f"store.save({name!r}, {octets_of[name]})" for name in others]
    else:
        beside = ", ".join(f"{name!r}: {octets_of[name]}" for name in others)
        lines += [f"pending.install(store, {octets_of[RECORD]}, {{{beside}}})"]
    return "\n".join([*lines, 'print("saved")', ""])
