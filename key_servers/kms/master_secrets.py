"""The file of a KMS's master secrets: JSON, mode 0600, never written over, refused when others can read it."""

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from key_servers.errors import SecretFileUnusable
from key_servers.kms.issuer import MasterSecrets
from private_store import contents, files, folders

FORMAT = "keycast kms master secrets 1"
_REMEDY = "Put back your copy of it. Without one all keys must change: keycast kms init in another state folder."

_Secret = Annotated[str, Field(pattern=r"^[0-9a-f]{1,256}$", repr=False)]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    format: str
    kms_uri: str
    period_s: int
    offset_s: int
    valid_from: int
    valid_to: int
    ksak: _Secret
    z: _Secret


def create(path: Path, secrets: MasterSecrets) -> None:
    """Write new master secrets. Raise SecretFileUnusable, in particular if the file is there already."""
    stored = _Stored(
        format=FORMAT,
        kms_uri=secrets.kms_uri,
        period_s=secrets.period,
        offset_s=secrets.offset,
        valid_from=secrets.valid_from,
        valid_to=secrets.valid_to,
        ksak=f"{secrets.ksak:x}",
        z=f"{secrets.z:x}",
    )
    folders.make(path.parent, SecretFileUnusable)
    with contents.keeping(path, _REMEDY, SecretFileUnusable):
        files.write_new(path, (json.dumps(stored.model_dump(), indent=1) + "\n").encode(), SecretFileUnusable)


def load(path: Path) -> MasterSecrets:
    """Read master secrets. Raises SecretFileUnusable; its text never quotes the file."""
    with contents.keeping(path, _REMEDY, SecretFileUnusable):
        octets = files.read(path, SecretFileUnusable, missing="Make it: keycast kms init")
    try:
        stored = _Stored.model_validate(json.loads(octets))
        if stored.format != FORMAT:
            raise ValueError("another format")
        return MasterSecrets(
            stored.kms_uri,
            stored.period_s,
            stored.offset_s,
            stored.valid_from,
            stored.valid_to,
            int(stored.ksak, 16),
            int(stored.z, 16),
        )
    except (ValidationError, ValueError, RecursionError):
        raise SecretFileUnusable(f"{path} holds no master secrets.", "Put back the right file.") from None
