"""Fuzz targets: files, flash records, and the lines of the control socket."""

import contextlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from cpns import numbers
from cpns.errors import CpnsError
from cpns.key_ring import KeyRing
from device_agent import provisioning
from device_agent.end_to_end import entity_user_keys
from device_agent.gkdk_store import GkdkStore
from device_agent.key_store import KeyStore
from gateway_agent.config import load
from gateway_agent.control import ControlSocket
from gateway_agent.errors import ConfigError
from key_servers.errors import SecretFileUnusable
from key_servers.kms import master_secrets
from keycast.board import asking, faults, image
from keycast.hardware import catalogue
from keycast.mikey_form.key_file import read_keys
from keycast.places import HW_CONFIGS
from message_plane.errors import IdentityError
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from private_store import archive, backup_keys, sealed
from private_store.errors import StoreUnusable
from tests.fuzz.datagrams import CCS
from tests.fuzz.portable_parsers import PARSERS, RECORD
from tests.fuzz.target import Target
from tests.unit import firmware_images

PROJECT = Path(__file__).parents[2]


def in_file(read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """`read` as a parser of octets: they stand in a file that only its owner can read."""
    folder = tempfile.TemporaryDirectory()
    path = Path(folder.name) / "file"
    path.touch(mode=0o600)

    def parse(data: bytes) -> None:
        assert folder  # which lives as long as this function
        path.write_bytes(data)
        read(path)

    return parse


_LOCK = sealed.Lock({"kind": "of this target"}, bytes(range(32)))
_ZIP = archive.packed(
    {"keycast-backup.json": b'{"format": "keycast backup 1", "of": "gateway"}', "store/a.db": bytes(99)}
)
_SEALED = sealed.seal({"of": "gateway", "id": "gw"}, _ZIP, _LOCK)
_BACKUPS = (_SEALED, _SEALED[:-17], _ZIP, b"keycast backup 3 2\n{}", b"")
_RECIPIENT = b'{"format": "keycast backup recipient 1", "public_key": "' + b"5a" * 32 + b'"}'


def _read_backup(path: Path) -> None:
    """Whatever the head says, no passphrase is tried: what that may cost has a test of its own."""
    archive.manifest(path)
    archive.read(path, sealed.with_key_of(_LOCK))


class Flash:
    """A `ports.Storage` in memory."""

    def __init__(self, entries: dict[str, bytes]) -> None:
        self._entries = entries

    def get(self, name: str) -> bytes | None:
        return self._entries.get(name)

    def set(self, name: str, octets: bytes) -> None:
        self._entries[name] = bytes(octets)

    def delete(self, name: str) -> None:
        self._entries.pop(name, None)

    def commit(self) -> None:
        """Nothing to do."""


def _flash_copies(name: str, octets: bytes) -> bytes:
    """What stands in a flash as copy 0 of record `name`."""
    flash: dict[str, bytes] = {}
    KeyStore(Flash(flash)).save(name, octets)
    return flash[f"{name}0"]


def _key_store(data: bytes) -> None:
    """The octets stand in copy 0, or in both."""
    for copies in (("gkdk00",), ("gkdk00", "gkdk01")):
        store = KeyStore(Flash(dict.fromkeys(copies, data)))
        GkdkStore(store, 0)
        store.save("gkdk0", RECORD.pack())
        if store.load("gkdk0") != RECORD.pack():
            raise AssertionError("a record that was saved is lost")


async def _echo(**values: Any) -> dict[str, Any]:
    return values


_CONTROL = ControlSocket(Path("control.sock"), {"status": _echo})


def _control(data: bytes) -> None:
    answer = _CONTROL.answer(data)
    try:
        answer.send(None)
    except StopIteration as end:
        if not {"ok", "error"} & json.loads(json.dumps(end.value)).keys():
            raise AssertionError("neither value nor sentence") from None
    else:
        raise AssertionError("nothing here waits")


_RING = KeyRing(numbers.PROTECTION_SEALED, 3)
_PROVISIONING = provisioning.Provisioning("lamp", bytes(31) + b"\x05", CCS).pack()
_CONFIG = b'[gateway]\nid = "g"\npn = "p"\nstate_dir = "s"\n[broadcast]\ninterfaces = ["auto"]\n'
_IDENTITY = b'{"format": "keycast identity 1", "entity_id": "gw", "role": "gateway", "private_key": "%b05"}' % (
    b"0" * 62
)
_SIGNING = b'{"format": "keycast signing key 1", "epoch": 1, "private_key": "%b05"}' % (b"0" * 62)
_SECRETS = (
    b'{"format": "%b", "kms_uri": "k", "period_s": 2592000, "offset_s": 0, "valid_from": 0, "valid_to": 9, '
    b'"ksak": "5", "z": "7"}' % str(master_secrets.FORMAT).encode()
)
_DEEP = b'{"do": "status", "with": ' + b"[" * 3000
_KEY_FILE = PROJECT / "tests" / "vectors" / "mikey_sakke_public.json"
_BOARDS = sorted(HW_CONFIGS.rglob("*.toml"))
_CHIPS = {board.chip.image_id: board.chip for board in catalogue.all_boards().values()}
_ROWS = catalogue.all_boards()["esp32-devkitc"].firmware[1].partitions
_NEXT = b"|next part of the image|"
_PLAIN_IMAGE = (
    firmware_images.program(0, digest=False),
    firmware_images.table(_ROWS[:4], digest=False)[:160],
    firmware_images.program(0, digest=False, version="v1.25.0"),
)
_SUMMED_IMAGE = (firmware_images.program(5), firmware_images.table(_ROWS[:4])[:160], firmware_images.program(5))


def _firmware_image(data: bytes) -> None:
    """The input has the parts of the image without the erased flash between them, which nobody would ever change.

    What comes out stays within the partitions that it names.
    """
    loader, _, rest = data.partition(_NEXT)
    table, _, application = rest.partition(_NEXT)
    for start in (0, 0x1000):
        octets = loader.ljust(0x8000 - start, b"\xff") + table.ljust(0x8000, b"\xff") + application
        with contextlib.suppress(faults.ImageUnusable):
            _stays_in_its_partitions(image.parse(Path("fw.bin"), octets, _CHIPS))


def _stays_in_its_partitions(found: image.FirmwareImage) -> None:
    for part in found.parts[2:]:
        if not any(row.offset <= part.offset and part.offset + len(part.octets) <= row.end for row in found.rows):
            raise AssertionError(f"{part.name} is not in its partition")


def _board_answer(data: bytes) -> None:
    found = asking.of_agent(data)
    if not all(text.isprintable() for text in found if isinstance(text, str)):
        raise AssertionError("what a board says would move the cursor")


TARGETS = (
    Target("provisioning", PARSERS["provisioning"], (CpnsError,), (_PROVISIONING,)),
    Target("entity-user-keys", PARSERS["entity-user-keys"], (CpnsError,), (entity_user_keys.pack(bytes(16)),)),
    Target("key-ring", PARSERS["key-ring"], (CpnsError,), (_RING.dump(0),)),
    Target("key-store", _key_store, (CpnsError,), (_flash_copies("gkdk0", RECORD.pack()),)),
    Target("configuration", load.parse, (ConfigError,), (_CONFIG, b"a = " + b"[" * 3000)),
    Target("control-line", _control, (), (b'{"do": "status", "with": {"a": 1}}\n', b'{"do": []}', _DEEP)),
    Target("backup", in_file(_read_backup), (StoreUnusable,), _BACKUPS),
    Target("backup-recipient", in_file(backup_keys.recipient), (StoreUnusable,), (_RECIPIENT, b"[" * 3000)),
    Target("identity-file", in_file(OwnIdentity.load), (IdentityError,), (_IDENTITY, b"[" * 3000)),
    Target("signing-key-file", in_file(BroadcastSigningKey.load), (IdentityError,), (_SIGNING,)),
    Target("master-secrets", in_file(master_secrets.load), (SecretFileUnusable,), (_SECRETS, b"[" * 3000)),
    Target("mikey-key-file", in_file(read_keys), (typer.BadParameter,), (_KEY_FILE.read_bytes(), b"[" * 3000)),
    Target("board-answer", _board_answer, (), (b'{"pne_id": "lamp", "groups": 2, "cleared": true}', b"[" * 3000)),
    Target(
        "firmware-image",
        _firmware_image,
        (),
        (_NEXT.join(_PLAIN_IMAGE), _NEXT.join(_SUMMED_IMAGE)),
    ),
    Target(
        "hardware-file",
        in_file(catalogue.load),
        (catalogue.BadHardwareFile,),
        (*(path.read_bytes() for path in _BOARDS), b"name = '\xff'", b"a = " + b"[" * 3000),
    ),
)
