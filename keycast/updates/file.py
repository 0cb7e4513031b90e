"""The file of an update, as a person looks at it."""

from pathlib import Path
from typing import NamedTuple

from cpns.errors import MalformedMessage
from gateway_agent.updates.update_file import OCTETS_MAX
from keycast.hardware.catalogue import all_boards
from private_store import plain_file
from private_store.errors import StoreUnusable
from suit import class_id, envelope
from suit import file as suit_file
from suit import image as images
from suit.labels import TAG_ENVELOPE
from suit.show import Shown, shown

_SIGN = "Make one: keycast update sign"
_TAG = bytes([0xD8, TAG_ENVELOPE])  # with which CBOR begins that has this tag


class UpdateFile(NamedTuple):
    """A file of an update: its envelope, what it says, and the files of its agent with their octets, None for none."""

    envelope: envelope.Envelope
    shown: Shown
    files: list[dict[str, str | int]] | None


def read(path: Path) -> UpdateFile:
    """Return the update in the file `path`. Raises MalformedMessage for one that boards refuse, StoreUnusable."""
    found = suit_file.read(octets(path))
    said = shown(found, class_texts())
    if said.frames_fit is False:
        raise MalformedMessage("the hashes of the frames are not those of the image")
    return UpdateFile(found, said, _files(found))


def octets(path: Path) -> bytes:
    """Return the octets of the file `path`, which begins as an update does. Raises StoreUnusable."""
    found = plain_file.read(path, OCTETS_MAX, missing=_SIGN)
    if not found.startswith(_TAG):
        raise StoreUnusable(f"{path} is no update.", _SIGN)
    return found


def class_texts() -> list[str]:
    """Return the texts of the classes of all boards that this release knows."""
    builds = {each.name for board in all_boards().values() for each in board.firmware}
    agents = [class_id.agent(images.MPY), class_id.agent(images.MPY, val_client=True)]
    return [*agents, *map(class_id.firmware, sorted(builds))]


def _files(found: envelope.Envelope) -> list[dict[str, str | int]] | None:
    if found.image is None:
        return None
    images.require(found)
    if found.kind != envelope.AGENT:
        return None
    return [{"name": name, "octets": octets} for name, octets in images.files(found.image).items()]
