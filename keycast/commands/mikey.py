"""`keycast mikey`: read and write MIKEY-SAKKE messages by hand, without a server."""

import base64
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from keycast.mikey_form.key_file import KeyFile, read_keys
from keycast.mikey_form.text_forms import NoMessage, octets_of, sdp_line
from keycast.terminal.json_option import Answering
from keycast.terminal.options import answer, console, refusal, sentences
from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke import message as mikey
from mikey_sakke.curve import run
from mikey_sakke.errors import BadSignature, MikeyError
from mikey_sakke.identifiers import NTP_OFFSET, PURPOSE_GMK, PURPOSES, ntp_moment, purpose, purpose_name
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED, TIME_MAX, Parameters
from mikey_sakke.kms_table import URI

app = typer.Typer(cls=Answering, no_args_is_help=True, help="Read and write MIKEY-SAKKE messages (I_MESSAGE).")

NTP_MAX = (3 << 31) - 1 - NTP_OFFSET  # Unix second of the last NTP time that a message can hold, in 2104

ONLY_PARAMETERS = 3
"""Exit code of `decode` when signature and key are right and only the key parameters are refused."""
SDP_MAX = 1 << 20  # octets read from standard input
_USERS = {"GMS": "sip:gms.example.org", "Alice": "sip:alice@example.org", "Bob": "sip:bob@example.org"}

KEYS = Annotated[
    Path, typer.Option(help="JSON file with `kms` and `users`.", dir_okay=False, exists=True, readable=False)
]


@app.command()
def decode(
    message: Annotated[
        str,
        typer.Argument(metavar="MESSAGE", help="Base64, `mikey BASE64`, SDP or a line of it; -: standard input."),
    ],
    keys: KEYS,
    user: Annotated[str, typer.Option(help="Name of the receiver in the key file.")],
    sender: Annotated[str | None, typer.Option(help="Name of the only accepted initiator; default: anyone.")] = None,
) -> None:
    """Show every payload of a message, check the message and open it.

    The exit code is 0 if all of it is right, 1 if it is refused, and 3 if signature and key are right and only the key
    parameters are refused.

    Example: keycast mikey decode --keys keys.json --user Alice "a=key-mgmt:mikey ARoFAQah..."
    """
    file = read_keys(keys)
    try:
        octets = octets_of(_standard_input() if message == "-" else message)
    except NoMessage as error:
        raise typer.BadParameter(f"MESSAGE {error}") from None
    initiators = [file.uri(name) for name in ([sender] if sender else file.users)]
    result = opened(file, octets, user, initiators)
    fault = result["fault"]
    answer(result | refusal(fault["reason"], fault["code"]) if fault else result, lambda: _show(result))
    if fault:
        raise typer.Exit(ONLY_PARAMETERS if result["signature_valid"] else 1)


def _show(result: dict[str, Any]) -> None:
    for line in result["payloads"]:
        offset, payload = f"{line['offset']:4}", f"{line['payload']:18}"
        console.print(Text.assemble((offset, "dim"), " ", (payload, "bold"), " ", line["text"]))
    for name, value in result.items():
        if name not in ("payloads", "fault"):
            console.print(f"{name:18} {value}")
    if fault := result["fault"]:
        what = "the key parameters are refused" if result["signature_valid"] else "refused"
        console.print(Text.assemble((f"{what} ({fault['code']}):", "red"), " ", fault["reason"]))


def _standard_input() -> str:
    """Return the text on standard input, at most SDP_MAX octets. Octets that are not UTF-8 become replacement letters,
    which no message has."""
    try:
        octets = sys.stdin.buffer.read(SDP_MAX) if sys.stdin else b""
    except OSError as error:
        raise NoMessage(f"cannot be read from standard input: {error.strerror}") from None
    return octets.decode("utf-8-sig", "replace")


def opened(file: KeyFile, octets: bytes, user: str, initiators: list[str]) -> dict[str, Any]:
    """Return what `decode` prints: the payloads, and the opened key or the fault. If only the parameters are refused it
    is both."""
    result: dict[str, Any] = dict.fromkeys(
        ("purpose", "key", "key_id", "guk_id", "initiator_uri", "responder_uri", "signature_valid", "key_parameters")
    )
    result |= {"payloads": [], "fault": None}
    try:
        parsed = mikey.parse(octets)
        result["payloads"] = described(parsed)
        received = run(
            i_message.signed_steps(
                parsed, file.kms, file.uri(user), lambda number: file.decryption_key(user, number), initiators
            )
        )
        result |= {
            "purpose": purpose_name(received.purpose),
            "key": received.key.hex(),
            "key_id": received.key_id.hex(),
            "guk_id": received.guk_id.hex() if received.purpose == PURPOSE_GMK else None,
            "initiator_uri": received.initiator_uri,
            "responder_uri": received.responder_uri,
            "signature_valid": True,
        }
        parameters = i_message.parameters_of(parsed, received)
        if parameters is not None:
            result["key_parameters"] = parameters._asdict()
    except MikeyError as error:
        result["fault"] = {"code": error.code, "reason": str(error)}
        if isinstance(error, BadSignature):
            result["signature_valid"] = False
    except (sakke.BadKey, eccsi.BadKey) as error:
        result["fault"] = {"code": "bad-key", "reason": f"the key file: {error}"}
    return result


def described(message: Any) -> list[dict[str, Any]]:
    """Return each payload of the message as offset, name, length and a readable line."""
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
    group: Annotated[
        list[str] | None, typer.Option(help="URI of a group that the key is for; may be repeated.")
    ] = None,
    text: Annotated[str, typer.Option(help="Text of the key parameters.")] = "",
    activation: Annotated[
        int, typer.Option(min=0, max=TIME_MAX, help="Unix time from which the key is used, 0 = at once.")
    ] = 0,
    expiry: Annotated[
        int, typer.Option(min=0, max=TIME_MAX, help="Unix time at which the use of the key ends, 0 = never.")
    ] = 0,
    key: Annotated[str | None, typer.Option(help="The key, 32 hex digits; default: random.")] = None,
    key_id: Annotated[str | None, typer.Option(help="Its ID, 8 hex digits; default: a random GMK-ID.")] = None,
    revoked: Annotated[
        bool, typer.Option("--revoked", help="The status says that the key is revoked; needs --key and --key-id.")
    ] = False,
    sdp: Annotated[bool, typer.Option("--sdp", help="Print the message as a line of SDP (RFC 4567).")] = False,
    at: Annotated[int | None, typer.Option(min=0, max=NTP_MAX, help="Unix time of the message; default: now.")] = None,
) -> None:
    """Make a message that hands a key to one user, or revokes one, and print it in base64.

    Example: keycast mikey encode --keys keys.json --sender GMS --user Alice --group sip:crew@example.org
    """
    file = read_keys(keys)
    if revoked and not (key and key_id):
        raise typer.BadParameter("--revoked needs --key and --key-id: those of the message that handed the key out")
    secret = os.urandom(16) if key is None else _hex(key, 16, "--key")
    name = _hex(key_id, 4, "--key-id") if key_id is not None else secrets.randbelow(1 << 28).to_bytes(4, "big")
    if purpose(name) >= len(PURPOSES):
        raise typer.BadParameter(f"--key-id {key_id} has the tag of no purpose")
    now = (int(time.time()) if at is None else at) + NTP_OFFSET
    number, held = file.kms.number_at(now), file.number(sender)
    if number != held:
        raise typer.BadParameter(
            f"{sender} has keys for key period {held}, the message is of period {number}; see --at"
        )
    status = 0 if revoked else STATUS_NOT_REVOKED
    parameters = Parameters(purpose(name), status, activation, expiry, text, group or [])
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
    line = f"mikey {base64.b64encode(octets).decode()}"
    shown = {"message": line, "sdp": sdp_line(octets), "key_id": name.hex(), "revoked": revoked}
    answer(shown, lambda: typer.echo(shown["sdp"] if sdp else line))


@app.command()
def keys(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="The key file to make; it must not exist yet.")
    ],
    user: Annotated[
        list[str] | None, typer.Option(metavar="NAME=URI", help="A user and its identity; may be repeated.")
    ] = None,
    kms: Annotated[str, typer.Option(metavar="NAME", help="Unique name of the KMS.")] = "kms.example.org",
    period: Annotated[int, typer.Option(help="Key period in seconds.")] = 30 * 86400,
    at: Annotated[
        int | None, typer.Option(min=0, max=NTP_MAX, help="Unix time in the key period of the keys; default: now.")
    ] = None,
) -> None:
    """Make a key file for a laboratory: a new KMS and keys of its users, GMS, Alice and Bob by default.

    Example: keycast mikey keys keys.json --user GMS=sip:gms.example.org --user Alice=sip:alice@example.org
    """
    from keycast.mikey_form.key_file import made_keys
    from private_store import files

    users = _named(user) if user else _USERS
    try:
        URI.read(kms)
        made = made_keys(kms, users, period, int(time.time()) if at is None else at)
    except ValueError as error:
        raise typer.BadParameter(str(error) or "--kms must be a name without blanks") from None
    with sentences():
        files.write_new(file, json.dumps(made, indent=1).encode())
    named = [{"name": name, "user": uri} for name, uri in users.items()]
    answer({"file": str(file), "users": named}, f"{file} holds keys of {', '.join(users)}. They are secret.")


def _named(users: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in users:
        name, _, uri = each.partition("=")
        try:
            URI.read(uri)
        except ValueError:
            name = ""
        if not name or name in found:
            raise typer.BadParameter(f"--user must be NAME=URI, each name once, not {each!r}")
        found[name] = uri
    return found


def _hex(text: str, length: int, option: str) -> bytes:
    try:
        octets = bytes.fromhex(text)
    except ValueError:
        octets = b""
    if len(octets) != length:
        raise typer.BadParameter(f"{option} must be {2 * length} hex digits")
    return octets
