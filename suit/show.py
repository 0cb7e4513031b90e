"""What an update says of itself, for a person: all of it can be read without any key."""

import re
from dataclasses import dataclass

from suit import class_id
from suit import numbers as n
from suit.coded import CodedImage
from suit.envelope import Envelope
from suit.erasure import Code

# Names in draft-ietf-suit-manifest-33 and the documents that extend it, of what boards do not read
_ELEMENTS = {
    1: "delegation",
    4: "reference URI",
    5: "manifest component ID",
    8: "image loading",
    9: "image invocation",
    14: "CoSWID",
    15: "dependency resolution",
    16: "payload fetch",
    18: "candidate verification",
    23: "text",
    24: "uninstall",
}
_COMMANDS = {
    4: "use before",
    5: "component slot",
    6: "check content",
    11: "process dependency",
    14: "abort",
    15: "try each",
    18: "write",
    21: "fetch, outside of install",
    22: "copy",
    23: "invoke",
    24: "device identifier",
    31: "swap",
    32: "run sequence",
}
_PARAMETERS = {
    5: "component slot",
    12: "strict order",
    13: "soft failure",
    18: "content",
    19: "encryption info",
    22: "source component",
    23: "invoke args",
    24: "device ID",
}
_NAMES = {"element": _ELEMENTS, "command": _COMMANDS, "parameter": _PARAMETERS}
_NUMBERED = re.compile(r"\b(element|command|parameter) (\d+)\b")


@dataclass(frozen=True)
class Shown:
    """An update in words and numbers.

    `for_boards` is the text of its class if that is known here, else None. `travels_octets` are those that every board
    gets, `frames_count` all coded frames of the image. `frames_fit`: the hashes are those of the image's frames, None
    without an image.
    """

    update_id: str
    kind: str
    number: int
    for_boards: str | None
    is_ours: bool
    class_id: str
    image_octets: int
    digest: str
    travels_octets: int
    frames_count: int
    pages_count: int
    frames_fit: bool | None


def shown(update: Envelope, class_texts: list[str]) -> Shown:
    """Return what an update says. `class_texts` are those of the boards that are known."""
    known = {class_id.class_id(text): text for text in class_texts}
    image: bytes | None = update.image
    return Shown(
        update.update_id.hex(),
        update.kind,
        update.number,
        known.get(update.class_id),
        update.vendor_id == class_id.VENDOR,
        update.class_id.hex(),
        update.size,
        update.digest.hex(),
        len(update.without_image()),
        Code(update.size).frames,
        len(update.page_list) // n.HASH,
        None if image is None else CodedImage(image).page_list() == update.page_list,
    )


def named(reason: str) -> str:
    """Return the reason of a refusal with the names of the numbers in it, as the document of the manifest has them."""

    def with_name(found: re.Match[str]) -> str:
        name = _NAMES[found[1]].get(int(found[2]))
        return found[0] if name is None else f"{found[0]} ({name})"

    return _NUMBERED.sub(with_name, reason)
