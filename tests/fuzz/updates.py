"""Fuzz targets: files of updates, at the computer that signs them, at the gateway, and on a board."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from cpns.errors import CpnsError
from gateway_agent.updates.update_key import UpdateKey
from keycast.board import faults, image
from keycast.hardware.catalogue import all_boards
from keycast.micropython_vm import romfs
from keycast.updates import file
from message_plane.errors import IdentityError
from private_store.errors import StoreUnusable
from suit import envelope
from suit import image as images
from suit import labels as l
from suit.build import build
from tests.fuzz.files import in_file
from tests.fuzz.portable_parsers import PARSERS
from tests.fuzz.target import Target
from tests.unit import firmware_images

_CHIPS = {board.chip.image_id: board.chip for board in all_boards().values()}
_ROMFS = romfs.image_of(dict.fromkeys(images.NEEDED, b"xy"))
_UPDATE = build("agent", "agent esp32 mpy6", 7, _ROMFS, lambda octets: bytes(64))
_PROGRAM = firmware_images.program(next(iter(_CHIPS)), version="v1.26.0")
_FIRMWARE = build("firmware", "firmware ESP32_GENERIC-OTA", 2**32 - 1, _PROGRAM, lambda octets: bytes(64))
_TRAVELS = envelope.parse(_UPDATE).without_image()
_MANIFESTS = tuple(envelope.parts(octets)[l.MANIFEST] for octets in (_UPDATE, _FIRMWARE))
_PEM = UpdateKey(ec.derive_private_key(7, ec.SECP256R1()).public_key()).pem()


def _envelope(data: bytes) -> None:
    """What is read of an envelope encodes to the same octets, and what travels to boards is read there alike."""
    found = envelope.parse(data)
    travels = found.without_image()
    if found.image is None and travels != data:
        raise AssertionError("an envelope has two forms")
    if envelope.parse(travels).update_id != found.update_id:
        raise AssertionError("boards know the update by another name")


def _application(data: bytes) -> Any:
    return image.application(Path("fw.bin"), data, _CHIPS)


TARGETS = (
    Target("suit-envelope", _envelope, (CpnsError,), (_UPDATE, _FIRMWARE, _TRAVELS)),
    Target("suit-manifest", PARSERS["suit-manifest"], (CpnsError,), _MANIFESTS),
    Target("update-file", in_file(file.read), (CpnsError, StoreUnusable), (_UPDATE, _FIRMWARE, _TRAVELS)),
    Target("update-key-file", in_file(UpdateKey.load), (IdentityError,), (_PEM, b"-----BEGIN PUBLIC KEY-----")),
    Target("romfs-image", images.files, (CpnsError,), (_ROMFS,)),
    Target("firmware-application", _application, (faults.ImageUnusable,), (_PROGRAM,)),
)
