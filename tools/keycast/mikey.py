"""`keycast mikey`: read and write MIKEY-SAKKE messages by hand."""

import base64
import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke import message as mikey
from mikey_sakke.curve import NotOnCurve
from mikey_sakke.errors import BadSignature, MikeyError
from mikey_sakke.identifiers import NTP_OFFSET, PURPOSE_GMK, PURPOSES, ntp_moment, purpose, purpose_name
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED, TIME_MAX, Parameters
from tools.keycast.options import sentences

app = typer.Typer(no_args_is_help=True, help="Read and write MIKEY-SAKKE messages (I_MESSAGE).")

NTP_MAX = (3 << 31) - 1 - NTP_OFFSET  # Unix second of the last NTP time that a message can hold, in 2104

KEYS = Annotated[Path, typer.Option(help="JSON file with `kms` and `users`.", dir_okay=False, exists=True)]


@dataclass
class KeyFile:
    """A KMS and some of its users, from JSON. `users` maps names to their entries.

    Of an entry only what is needed is read; what is missing or wrong there is a typer.BadParameter.
    """

    kms: i_message.Kms
    users: dict[str, dict[str, Any]]

    def uri(self, name: str) -> str:
        """The URI of the user `name`."""
        return str(self._field(name, "user_uri", str))

    def number(self, name: str) -> int:
        """The key period that the file has keys of the user for."""
        return int(self._field(name, "key_period_no", int))

    def decryption_key(self, name: str, number: int) -> sakke.DecryptionKey | None:
        """The user's checked key for a key period, None when the file holds another period's."""
        if self.number(name) != number:
            return None
        uid = self.kms.uid(self.uri(name), number)
        key = sakke.DecryptionKey(self.kms.encryption, uid, self._octets(name, "user_decrypt_key"))
        key.check()
        return key

    def signing_key(self, name: str) -> eccsi.SigningKey:
        """The user's checked signing key; eccsi.BadKey if it is not the user's."""
        uid = self.kms.uid(self.uri(name), self.number(name))
        ssk, pvt = self._octets(name, "user_signing_key_ssk"), self._octets(name, "user_pub_token_pvt")
        return eccsi.SigningKey(self.kms.signatures, uid, ssk, pvt)

    def _field(self, name: str, field: str, kind: type) -> Any:
        if name not in self.users:
            raise typer.BadParameter(f"no user {name!r} in the key file; it has {', '.join(self.users)}")
        entry = self.users[name]
        if not isinstance(entry, dict) or type(entry.get(field)) is not kind:
            raise typer.BadParameter(f"the key file: {field} of {name!r} is missing, or is no {kind.__name__}")
        return entry[field]

    def _octets(self, name: str, field: str) -> bytes:
        try:
            return bytes.fromhex(self._field(name, field, str))
        except ValueError:
            raise typer.BadParameter(f"the key file: {field} of {name!r} is no hexadecimal text") from None


def read_keys(path: Path) -> KeyFile:
    """The key file at `path`; typer.BadParameter with what is wrong in it."""
    try:
        with sentences():
            data = json.loads(path.read_text())
        kms = data["kms"]
        period, offset = int(kms["user_key_period"]), int(kms["user_key_offset"])
        if not 0 <= offset < period:
            raise ValueError("user_key_period is above 0, user_key_offset from 0 to below it")
        return KeyFile(
            i_message.Kms(
                str(kms["kms_uri"]),
                period,
                offset,
                eccsi.Community(bytes.fromhex(kms["pub_auth_key"])),
                sakke.Community(bytes.fromhex(kms["pub_enc_key"])),
            ),
            dict(data["users"]),
        )
    except KeyError as error:
        raise typer.BadParameter(f"{path}: {error} is missing") from None
    except (ValueError, TypeError, RecursionError, NotOnCurve) as error:
        raise typer.BadParameter(f"{path}: {error}") from None


def from_text(message: str) -> bytes:
    """The octets of a message in base64, with or without the word `mikey` before it."""
    try:
        return base64.b64decode("".join(message.removeprefix("mikey").split()), validate=True)
    except ValueError as error:  # binascii.Error is one; letters outside of ASCII are another
        raise typer.BadParameter(f"MESSAGE is not base64: {error}") from None


@app.command()
def decode(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="The message in base64.")],
    keys: KEYS,
    user: Annotated[str, typer.Option(help="Name of the receiver in the key file.")],
    sender: Annotated[str | None, typer.Option(help="Name of the only accepted initiator; default: anyone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show every payload of a message, check it and open it. Exit code 0 only if all of it is right.

    Example: keycast mikey decode --keys keys.json --user Alice "mikey ARoFAQah..."
    """
    file = read_keys(keys)
    octets = from_text(message)
    initiators = [file.uri(name) for name in ([sender] if sender else file.users)]
    result = opened(file, octets, user, initiators)
    console = Console(highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        for line in result["payloads"]:
            console.print(f"[dim]{line['offset']:4}[/] [bold]{line['payload']:18}[/] {escape(line['text'])}")
        for name, value in result.items():
            if name not in ("payloads", "fault"):
                console.print(f"{name:18} {value}", markup=False)
        if result["fault"]:
            console.print(f"[red]refused ({result['fault']['code']}):[/] {escape(result['fault']['reason'])}")
    if result["fault"]:
        raise typer.Exit(1)


def opened(file: KeyFile, octets: bytes, user: str, initiators: list[str]) -> dict[str, Any]:
    """What `decode` prints: the payloads, and the opened key or the fault."""
    result: dict[str, Any] = dict.fromkeys(
        ("purpose", "key", "key_id", "guk_id", "initiator_uri", "responder_uri", "signature_valid", "key_parameters")
    )
    result |= {"payloads": [], "fault": None}
    try:
        parsed = mikey.parse(octets)
        result["payloads"] = described(parsed)
        received = i_message.open_(
            octets, file.kms, file.uri(user), lambda number: file.decryption_key(user, number), initiators
        )
    except MikeyError as error:
        result["fault"] = {"code": error.code, "reason": str(error)}
        result["signature_valid"] = False if isinstance(error, BadSignature) else None
    except (sakke.BadKey, eccsi.BadKey) as error:
        result["fault"] = {"code": "bad-key", "reason": f"the key file: {error}"}
    else:
        parameters = received.parameters
        result |= {
            "purpose": purpose_name(received.purpose),
            "key": received.key.hex(),
            "key_id": received.key_id.hex(),
            "guk_id": received.guk_id.hex() if received.purpose == PURPOSE_GMK else None,
            "initiator_uri": received.initiator_uri,
            "responder_uri": received.responder_uri,
            "signature_valid": True,
            "key_parameters": None if parameters is None else parameters._asdict(),
        }
        if parameters is None:
            result["fault"] = {"code": "bad-parameters", "reason": "the message carries no key parameters"}
    return result


def described(message: Any) -> list[dict[str, Any]]:
    """The payloads as offset, name, length and a readable line."""
    sessions = "; ".join(str(session) for session in message.sessions) or "none"
    head = f"PRF {message.prf}, CSB ID {message.csb_id.hex()}, sessions: {sessions}"
    lines = [{"payload": "HDR", "offset": 0, "length": message.header_len, "text": head}]
    for payload, (offset, length) in zip(message.payloads, message.places, strict=True):
        name = mikey.NAMES[mikey.kind_of(payload)]
        lines.append({"payload": name, "offset": offset, "length": length, "text": _text(payload)})
    return lines


def _text(payload: Any) -> str:
    if isinstance(payload, mikey.Timestamp):
        moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(ntp_moment(payload.seconds) - NTP_OFFSET))
        return f"kind {payload.kind}, {payload.seconds} ({moment})"
    if isinstance(payload, mikey.Identity):
        role = mikey.ROLES.get(payload.role, f"role {payload.role}")
        readable = payload.role not in (mikey.ROLE_INITIATOR_UID, mikey.ROLE_RESPONDER_UID)
        return f"{role}: {payload.octets.decode(errors='replace') if readable else payload.octets.hex()}"
    if isinstance(payload, mikey.Policy):
        values = ", ".join(f"{kind}={octets.hex()}" for kind, octets in payload.parameters)
        return f"policy {payload.number}, protocol {payload.protocol}: {values}"
    if isinstance(payload, mikey.Encapsulated):
        return f"parameter set {payload.parameter_set}, ID scheme {payload.scheme}, {len(payload.octets)} octets"
    if isinstance(payload, mikey.Extension):
        names = {mikey.EXTENSION_SAKKE_TO_SELF: "SAKKE-to-self", mikey.EXTENSION_KEY_PARAMETERS: "key parameters"}
        return f"{names.get(payload.kind, f'type {payload.kind}')}, {len(payload.octets)} octets"
    return str(payload.octets.hex())


@app.command()
def encode(
    keys: KEYS,
    user: Annotated[str, typer.Option(help="Name of the receiver in the key file.")],
    sender: Annotated[str, typer.Option(help="Name of the initiator in the key file.")],
    group: Annotated[list[str] | None, typer.Option(help="URI of a group the key is for; may be repeated.")] = None,
    text: Annotated[str, typer.Option(help="Text of the key parameters.")] = "",
    activation: Annotated[
        int, typer.Option(min=0, max=TIME_MAX, help="Unix time from which the key is used, 0 = at once.")
    ] = 0,
    expiry: Annotated[int, typer.Option(min=0, max=TIME_MAX, help="Unix time after which it is not, 0 = none.")] = 0,
    key: Annotated[str | None, typer.Option(help="The key, 32 hex digits; default: random.")] = None,
    key_id: Annotated[str | None, typer.Option(help="Its ID, 8 hex digits; default: a random GMK-ID.")] = None,
    at: Annotated[int | None, typer.Option(min=0, max=NTP_MAX, help="Unix time of the message; default: now.")] = None,
) -> None:
    """Make a message that hands a key to one user, and print it in base64.

    Example: keycast mikey encode --keys keys.json --sender GMS --user Alice --group sip:crew@example.org
    """
    file = read_keys(keys)
    secret = _hex(key, 16, "--key") if key else os.urandom(16)
    name = _hex(key_id, 4, "--key-id") if key_id else secrets.randbelow(1 << 28).to_bytes(4, "big")
    if purpose(name) >= len(PURPOSES):
        raise typer.BadParameter(f"--key-id {key_id} has the tag of no purpose")
    now = (int(time.time()) if at is None else at) + NTP_OFFSET
    number, held = file.kms.number_at(now), file.number(sender)
    if number != held:
        raise typer.BadParameter(
            f"{sender} has keys for key period {held}, the message is of period {number}; see --at"
        )
    parameters = Parameters(purpose(name), STATUS_NOT_REVOKED, activation, expiry, text, group or [])
    try:
        octets = i_message.make(
            file.kms,
            file.signing_key(sender),
            file.uri(sender),
            file.uri(user),
            secret,
            name,
            parameters,
            now,
            os.urandom,
            1 + secrets.randbelow(int(eccsi.P256.q) - 1),
        )
        mikey.parse(octets)
    except eccsi.BadKey as error:
        raise typer.BadParameter(f"the key file: {error}") from None
    except (MikeyError, ValueError, OverflowError):
        raise typer.BadParameter("groups and text are too long for a message") from None
    typer.echo(f"mikey {base64.b64encode(octets).decode()}")


def _hex(text: str, length: int, option: str) -> bytes:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != length:
        raise typer.BadParameter(f"{option} takes {2 * length} hex digits")
    return octets
