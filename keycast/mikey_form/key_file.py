"""The key file of `keycast mikey`: one KMS and the keys of some of its users, as JSON (docs/mikey.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from keycast.terminal.options import sentences
from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke.curve import NotOnCurve
from private_store import plain_file

_FILE_MAX = 1 << 20  # octets; the keys of a user are 1,000


@dataclass
class KeyFile:
    """A KMS and some of its users, from JSON. `users` maps names to their entries.

    An entry is read when one of its fields is asked for. A field that is missing or wrong raises typer.BadParameter.
    """

    kms: i_message.Kms
    users: dict[str, dict[str, Any]]

    def uri(self, name: str) -> str:
        """Return the URI of the user `name`."""
        return str(self._field(name, "user_uri", str))

    def number(self, name: str) -> int:
        """Return the number of the key period for which the file has keys of the user `name`."""
        return int(self._field(name, "key_period_no", int))

    def decryption_key(self, name: str, number: int) -> sakke.DecryptionKey | None:
        """Return the user's checked key for the key period `number`, None if the file has keys for another period."""
        if self.number(name) != number:
            return None
        uid = self.kms.uid(self.uri(name), number)
        key = sakke.DecryptionKey(self.kms.encryption, uid, self._octets(name, "user_decrypt_key"))
        key.check()
        return key

    def signing_key(self, name: str) -> eccsi.SigningKey:
        """Return the user's checked signing key. Raise eccsi.BadKey if it is not the user's."""
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
    """Return the key file at `path`. Raise typer.BadParameter, which says what is wrong in it."""
    try:
        with sentences():
            octets = plain_file.read(path, _FILE_MAX)
        data = json.loads(octets.decode("utf-8-sig"))
        kms = data["kms"]
        period, offset = int(kms["user_key_period"]), int(kms["user_key_offset"])
        if not 0 <= offset < period:
            raise ValueError("user_key_period must be above 0, and user_key_offset from 0 to below user_key_period")
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
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is not UTF-8") from None
    except (ValueError, TypeError, RecursionError, NotOnCurve) as error:
        raise typer.BadParameter(f"{path}: {error}") from None


def made_keys(kms_uri: str, users: Mapping[str, str], period_s: int, moment: int) -> dict[str, Any]:
    """Return the content of a key file for a new KMS, whose master secrets are not kept.

    `users` maps names to URIs. Their keys are those of the key period of `period_s` seconds in which `moment` (Unix
    seconds) lies. Raise ValueError for an impossible period.
    """
    import secrets

    from key_servers.kms.issuer import Issuer, MasterSecrets
    from mikey_sakke.kms_exchange import period_number

    master = MasterSecrets.draw(kms_uri, period_s, 0, 1, 2, secrets.randbelow)
    issuer = Issuer(master, secrets.randbelow)
    number = period_number(issuer.certificate, moment)
    sets = {name: issuer.key_set(uri, number) for name, uri in users.items()}
    return {
        "kms": {
            "kms_uri": kms_uri,
            "user_key_period": period_s,
            "user_key_offset": 0,
            "pub_enc_key": issuer.certificate.pub_enc_key.hex(),
            "pub_auth_key": issuer.certificate.pub_auth_key.hex(),
        },
        "users": {
            name: {
                "user_uri": each.user_uri,
                "key_period_no": number,
                "user_decrypt_key": each.rsk.hex(),
                "user_signing_key_ssk": each.ssk.hex(),
                "user_pub_token_pvt": each.pvt.hex(),
            }
            for name, each in sets.items()
        },
    }
