"""What a GMS, a CMS and a VAL client tell each other around an I_MESSAGE, as values, to and from JSON octets.

Bodies of the *Notify group configuration request* and *response* (TS 23.434 clause 10.3.2.24, TS 23.280 clause
10.1.2.7) and of the user profile. The texts fix their content and not their bytes; these are the project's. The body of
a request carries its I_MESSAGE in base64, as application/mikey does in text protocols.

Reading is strict: an unknown, repeated or missing name, another type, a text that is too long: Malformed.
"""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mikey_sakke.errors import Malformed
from mikey_sakke.message import MESSAGE_MAX

BODY_MAX = 65536
URI_MAX = 255
TEXT_MAX = 256
GROUPS_MAX = 64
NOTICES_MAX = 16

KEY, REVOCATION = "key", "revocation"


@dataclass(frozen=True)
class GroupRecord:
    """The group management record of one group: its URI and a name for people."""

    uri: str
    name: str = ""


@dataclass(frozen=True)
class NotifyRequest:
    """*Notify group configuration request* of `gms` to `user`.

    `notice_id` names this delivery and stays the same when it is repeated; `purpose` is KEY or REVOCATION (of the key
    in `i_message`: the means both sides share beside the Status field, which vendors read differently).
    """

    notice_id: str
    gms: str
    user: str
    purpose: str
    groups: tuple[GroupRecord, ...]
    i_message: bytes


@dataclass(frozen=True)
class NotifyResponse:
    """*Notify group configuration response*, or the error that stands in its place.

    Without error `code` and `text` are empty, `key_id` is the GMK-ID (4 octets) and `proof` shows that its GMK arrived.
    With one `code` is that of `mikey_sakke.errors`, `text` its sentence, the others are empty.
    """

    notice_id: str
    key_id: bytes = b""
    proof: bytes = b""
    code: str = ""
    text: str = ""


@dataclass(frozen=True)
class UserProfile:
    """What a CMS says of a user: the groups, each with the URI of the GMS in charge. `revision` only grows."""

    user: str
    revision: int
    groups: dict[str, str]


# names of the JSON objects: name -> (reader, writer); the order is that of the values' fields
_Reader = Callable[[Any, str], Any]


def _text(limit: int, least: int = 1) -> _Reader:
    def read(value: Any, name: str) -> str:
        if not isinstance(value, str) or not least <= len(value.encode(errors="replace")) <= limit:
            raise Malformed(f"{name} is no text of {least} to {limit} octets")
        if any(ord(each) < 0x20 or 0xD800 <= ord(each) < 0xE000 or ord(each) == 0x7F for each in value):
            raise Malformed(f"{name} holds control characters")
        return value

    return read


def _octets(limit: int, least: int = 0) -> _Reader:
    def read(value: Any, name: str) -> bytes:
        if not isinstance(value, str) or len(value) > limit * 4 // 3 + 4:
            raise Malformed(f"{name} is no base64 of at most {limit} octets")
        try:
            found = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise Malformed(f"{name} is no base64") from None
        if not least <= len(found) <= limit:
            raise Malformed(f"{name} has {len(found)} octets, {least} to {limit} are expected")
        return found

    return read


def _purpose(value: Any, name: str) -> str:
    if value not in (KEY, REVOCATION):
        raise Malformed(f"{name} is neither {KEY} nor {REVOCATION}")
    return str(value)


def _number(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise Malformed(f"{name} is no number from 0")
    return value


def _records(value: Any, name: str) -> tuple[GroupRecord, ...]:
    if not isinstance(value, list) or len(value) > GROUPS_MAX:
        raise Malformed(f"{name} is no list of at most {GROUPS_MAX} groups")
    return tuple(GroupRecord(**_object(each, _RECORD, f"{name}[{at}]")) for at, each in enumerate(value))


def _memberships(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > GROUPS_MAX:
        raise Malformed(f"{name} is no object of at most {GROUPS_MAX} groups")
    read = _text(URI_MAX)
    return {read(group, name): read(gms, f"{name}.{group[:32]}") for group, gms in value.items()}


def _object(value: Any, table: dict[str, _Reader], name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != table.keys():
        raise Malformed(f"{name} is no object with exactly {', '.join(table)}")
    return {key: read(value[key], f"{name}.{key}") for key, read in table.items()}


_RECORD: dict[str, _Reader] = {"uri": _text(URI_MAX), "name": _text(TEXT_MAX, 0)}
_REQUEST: dict[str, _Reader] = {
    "notice_id": _text(64),
    "gms": _text(URI_MAX),
    "user": _text(URI_MAX),
    "purpose": _purpose,
    "groups": _records,
    "i_message": _octets(MESSAGE_MAX, 1),
}
_RESPONSE: dict[str, _Reader] = {
    "notice_id": _text(64),
    "key_id": _octets(4),
    "proof": _octets(16),
    "code": _text(64, 0),
    "text": _text(TEXT_MAX, 0),
}
_PROFILE: dict[str, _Reader] = {"user": _text(URI_MAX), "revision": _number, "groups": _memberships}


def encode_requests(requests: list[NotifyRequest]) -> bytes:
    """Return the body that hands several requests to one user at once."""
    return _written(
        [
            {
                "notice_id": each.notice_id,
                "gms": each.gms,
                "user": each.user,
                "purpose": each.purpose,
                "groups": [{"uri": group.uri, "name": group.name} for group in each.groups],
                "i_message": base64.b64encode(each.i_message).decode(),
            }
            for each in requests
        ]
    )


def decode_requests(octets: bytes) -> list[NotifyRequest]:
    """Return the requests in a body. Raises Malformed."""
    found = _read(octets, NOTICES_MAX * BODY_MAX)
    if not isinstance(found, list) or len(found) > NOTICES_MAX:
        raise Malformed(f"no list of at most {NOTICES_MAX} requests")
    return [NotifyRequest(**_object(each, _REQUEST, "request")) for each in found]


def encode_response(response: NotifyResponse) -> bytes:
    """Return the body of a response."""
    return _written(
        {
            "notice_id": response.notice_id,
            "key_id": base64.b64encode(response.key_id).decode(),
            "proof": base64.b64encode(response.proof).decode(),
            "code": response.code,
            "text": response.text,
        }
    )


def decode_response(octets: bytes) -> NotifyResponse:
    """Return the response in a body. Raises Malformed."""
    found = NotifyResponse(**_object(_read(octets), _RESPONSE, "response"))
    if bool(found.code) == bool(found.key_id) or bool(found.key_id) != bool(found.proof):
        raise Malformed("a response has either a key_id with its proof or the code of an error")
    return found


def encode_profile(profile: UserProfile) -> bytes:
    """Return the body of a user profile."""
    return _written({"user": profile.user, "revision": profile.revision, "groups": profile.groups})


def decode_profile(octets: bytes) -> UserProfile:
    """Return the profile in a body. Raises Malformed."""
    return UserProfile(**_object(_read(octets), _PROFILE, "profile"))


def _written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _read(octets: bytes, limit: int = BODY_MAX) -> Any:
    if len(octets) > limit:
        raise Malformed(f"{len(octets)} octets, at most {limit} are accepted")
    try:
        return json.loads(octets.decode(), object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("a name is repeated")
    return found


def _no_constant(name: str) -> Any:
    raise Malformed(f"{name} is no JSON")
