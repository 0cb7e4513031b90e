"""What was made in a folder of `keycast server broker-files`, which its file `register.json` says."""

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from key_servers.errors import SecretFileUnusable
from message_plane.links.mqtt_topics import shard_of, tag_of
from private_store import files

NAME = "register.json"
OCTETS_MAX = 64 * 1024 * 1024
TRIAL = "trial"
"""The process of the CPNS Server that `broker-test` is."""
_FORMAT = "keycast broker files 1"
_FILE_NAME = re.compile(r"(?![0-9a-f]{32}$)[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BrokerEntry(_Stored):
    """One broker: its names, the first of which names its folder, its TCP port, and where its files will lie."""

    names: list[str]
    port: int
    at: str

    @property
    def folder(self) -> str:
        """The name of its folder in `brokers`."""
        return re.sub(r"[^A-Za-z0-9.-]", "-", self.names[0])

    @property
    def url(self) -> str:
        """The URL that gateways and the CPNS Server are given."""
        host = self.names[0]
        return f"mqtts://[{host}]:{self.port}" if ":" in host else f"mqtts://{host}:{self.port}"


class GatewayEntry(_Stored):
    """One PN GW. `serial` (hex) is the number of its certificate, empty without an authority of our own."""

    gateway_id: str
    serial: str = ""
    revoked_at: int | None = None

    @property
    def tag(self) -> str:
        """The name in its certificate."""
        return tag_of(self.gateway_id)

    @property
    def shard(self) -> int:
        """The shard in its topics."""
        return shard_of(self.gateway_id)

    @property
    def folder(self) -> str:
        """The name of its folder in `gateways`: its entity ID, or its tag where that is no name of a file."""
        return self.gateway_id if _FILE_NAME.fullmatch(self.gateway_id) else self.tag


class Register(_Stored):
    """What was made. `revoked`: serial number (hex) -> Unix time. `written`: text file -> SHA-256 of its content."""

    format: str = _FORMAT
    server_id: str
    has_authority: bool
    processes: int = 0
    brokers: list[BrokerEntry] = []
    gateways: list[GatewayEntry] = []
    revoked: dict[str, int] = {}
    written: dict[str, str] = {}

    @property
    def server_tag(self) -> str:
        """The tag of the CPNS Server."""
        return tag_of(self.server_id)

    def server_user(self, process: int | str) -> str:
        """Return the name in the certificate of a process of the CPNS Server: 1, 2, ..., or TRIAL.

        Each has its own, as a broker keeps one connection a name.
        """
        return self.server_tag if process == 1 else f"{self.server_tag}-{process}"


def read(folder: Path) -> Register | None:
    """Return the register of a folder; None if it has none. Raises SecretFileUnusable for one that is no such file."""
    path = folder / NAME
    if not os.path.lexists(path):
        return None
    octets = files.read(path, SecretFileUnusable, most=OCTETS_MAX)
    try:
        register = Register.model_validate_json(octets)
        if register.format != _FORMAT:
            raise ValueError
    except (ValidationError, ValueError):
        raise SecretFileUnusable(f"{path} is damaged, or of a newer keycast.", "Put back a copy of it.") from None
    return register
