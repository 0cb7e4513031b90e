"""Make a board a VAL client: fetch its keys from the KMS and its groups from the CMS, and write files for the board.

The RSK goes from the KMS into these files only: the gateway that forwards the board's key messages never has it. Keys
are for the present and the next key period; this must be done again before the last one ends.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cpns import cborlite
from device_agent.val_client import key_cache, records
from gateway_agent.errors import GatewayError
from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import KmsAccess, ServerAccess
from gateway_agent.val_client.servers import fetch_profile
from keycast.provisioning.board import flash_script
from mikey_sakke.errors import MikeyError
from mikey_sakke.identifiers import uid
from mikey_sakke.kms_exchange import period_bounds, period_number
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_values import Certificate
from private_store import files

SCRIPT = "provision.py"


class BoardNotProvisioned(GatewayError):
    """KMS or CMS do not return the data of a board, or the files cannot be written."""

    word = "not-provisioned"


@dataclass(frozen=True)
class ValBoard:
    """The keys and groups of a board. `until` is in Unix seconds, when its last key period ends."""

    client: records.Client
    rsks: dict[int, bytes] = field(repr=False)
    until: int

    def identifier(self, number: int) -> bytes:
        """Return the UID of the board's user in key period `number`."""
        client = self.client
        return bytes(uid(client.user, client.kms, client.period, client.offset, number))

    def flash_records(self) -> dict[str, bytes]:
        """Return the records for the board's key store, by name."""
        rsks = cborlite.encode([[number, rsk] for number, rsk in sorted(self.rsks.items())])
        return {records.PROVISIONING: records.pack_client(self.client), records.RSKS: rsks}

    def write(self, folder: Path) -> list[Path]:
        """Write a script for `mpremote run` and the key caches into the new folder `folder`, private to this user.

        Returns the caches; a board without them makes them itself, in some minutes. Raises BoardNotProvisioned.
        """
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise BoardNotProvisioned(
                f"Cannot make {folder}: {error.strerror}.", "Name a new folder with -o."
            ) from None
        files.write_new(
            folder / SCRIPT, flash_script(self.flash_records(), self._first()).encode(), BoardNotProvisioned
        )
        caches = []
        for number, rsk in sorted(self.rsks.items()):
            path = Path(records.cache_path(f"{folder}/", number))
            for _ in key_cache.build_steps(str(path), self.identifier(number), self.client.z, rsk):
                pass
            path.chmod(0o600)
            caches.append(path)
        return caches

    def _first(self) -> list[str]:
        """Return lines that erase an older profile, and records of another user, before the script saves."""
        user = [self.client.user, self.client.kms]
        return [
            "from cpns import cborlite",
            "",
            f"old = store.load({records.PROVISIONING!r})",
            f"if old is not None and cborlite.decode(old)[1:3] != {user!r}:",
            *(f"    store.erase({name!r})" for name in (records.GMKS, records.QUEUE, records.ANSWER)),
            f"store.erase({records.PROFILE!r})",
        ]


async def fetch(kms: KmsAccess, cms: ServerAccess, clock: Callable[[], int]) -> ValBoard:
    """Return the ValBoard of the user whose tokens `kms` and `cms` have. `clock` returns Unix seconds.

    Raises BoardNotProvisioned.
    """
    try:
        profile = await fetch_profile(cms)
        if profile.user != kms.user_uri:
            raise BoardNotProvisioned(
                f"The token at the CMS is that of {profile.user}.", f"Take that of {kms.user_uri}."
            )
        if not profile.groups:
            raise BoardNotProvisioned(f"The CMS names no group of {profile.user}.", "Add it to one: keycast cms put")
        certificate, rsks = await _keys(kms, clock)
    except KmsFault as fault:
        raise BoardNotProvisioned(f"The KMS gave no keys: {fault}", "See docs/kms.md.") from None
    except MikeyError as error:
        raise BoardNotProvisioned(f"The CMS gave no profile: {error}.", "See docs/gms.md.") from None
    client = records.Client(
        kms.user_uri,
        certificate.kms_uri,
        certificate.key_period,
        certificate.key_offset,
        certificate.pub_auth_key,
        certificate.pub_enc_key,
        dict(sorted(profile.groups.items())),
    )
    return ValBoard(client, rsks, period_bounds(certificate, max(rsks))[1] + 1)


async def _keys(access: KmsAccess, clock: Callable[[], int]) -> tuple[Certificate, dict[int, bytes]]:
    with tempfile.TemporaryDirectory(prefix="keycast-val-") as folder:
        material = KeyMaterial(Path(folder) / "keys")
        try:
            async with KmsClient(access, material, clock) as client:
                certificate = await client.provision()
                await client.provision(period_bounds(certificate, period_number(certificate, clock()) + 1)[0])
            key_sets = material.key_sets(access.kms_uri, access.user_uri)
            material.forget_kms(access.kms_uri)  # overwritten, not only removed
        finally:
            material.close()
    return certificate, {each.period_number: each.rsk for each in key_sets}
