"""The images that updates bring: what is no agent and no firmware is refused by name, before it is offered (SEC-30)."""

import importlib.util
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cpns.errors import MalformedMessage
from gateway_agent.updates import update_file
from keycast.micropython_vm import compile, romfs
from keycast.places import BOARD_FILES
from keycast.updates import file
from suit import class_id, image
from tests.unit import firmware_images
from tests.unit.update_world import KEY, signed

CODE = b"M\x06\x00\x1f"
FILES = dict.fromkeys(image.NEEDED, CODE)
WHOLE = romfs.image_of(FILES)
ODD_NAMES = (b"", b".", b"..", b"a/b", b"\xff", b"a\x1b[2J")
VAL_CLIENT = class_id.agent(image.MPY, val_client=True)


def sentence(act: Callable[[], object]) -> str:
    with pytest.raises(MalformedMessage) as refused:
        act()
    return refused.value.reason


def number(value: int) -> bytes:
    return bytes([0x80 | value >> 7, value & 0x7F]) if value > 0x7F else bytes([value])


def record(kind: int, payload: bytes) -> bytes:
    return number(kind) + number(len(payload)) + payload


def of(*records: bytes) -> bytes:
    """An image with these records."""
    content = b"".join(records)
    return image.MAGIC + number(len(content)) + content


def a_file(name: bytes, content: bytes | None = None) -> bytes:
    return record(image.FILE, number(len(name)) + name + (record(image.VERBATIM, b"x") if content is None else content))


def a_folder(name: bytes, *records: bytes) -> bytes:
    return record(image.DIRECTORY, number(len(name)) + name + b"".join(records))


def test_the_files_in_an_image_are_listed() -> None:
    assert image.files(romfs.image_of({"b.mpy": b"12345", "a/c.mpy": b"", "a/b/d": b"1"})) == {
        "a/b/d": 1,
        "a/c.mpy": 0,
        "b.mpy": 5,
    }
    assert image.files(of(a_file(b"a" * 55))) == {"a" * 55: 1}
    assert image.files(of(record(1, b"filled up"), a_file(b"x"))) == {"x": 1}  # boards pass over a kind of later


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", "is no ROMFS image"),
        (b"\xd2\xcd", "is no ROMFS image"),
        (b"PK\x03\x04", "is no ROMFS image"),
        (WHOLE[:-1], "has 127 octets and says that it has 128"),
        (WHOLE + b"\0", "has 129 octets and says that it has 128"),
        (b"\xd2\xcd\x31\x81", "ends within a number"),
        (of(b"\x05"), "ends within a number"),
        (of(b"\x04\x7f"), "a record that is longer than its folder"),
        (of(a_folder(b"a", b"\x05\x09\x01b")), "a record that is longer than its folder"),
        (of(record(image.FILE, b"\x02a")), "a name that is longer than its record"),
        (of(a_file(b"a", b"\x02\x05abcd")), "a file whose octets are not in its record"),
        (of(a_file(b"a", b"\x02\x03abcd")), "a file whose octets are not in its record"),
        (of(a_file(b"a", b"\x03\x04abcd")), "a file whose octets are not in its record"),
        (of(a_file(b"a"), a_file(b"b"), a_file(b"a")), "has a twice"),
        (of(a_folder(b"d", a_file(b"a")), a_folder(b"d", a_file(b"b"))), "has d twice"),
        (of(a_folder(b"d", a_file(b"a"), a_file(b"a"))), "has d/a twice"),
        *(
            (of(a_file(name)), "a name that cannot be shown")
            for name in (b"", b".", b"..", b"a/b", b"\xff", b"a\x1b[2J")
        ),
        (of(a_folder(b"..", a_file(b"main.py"))), "a name that cannot be shown"),
        (of(record(image.FILE, b"\x01")), "a name that is longer than its record"),
        (of(a_file(b"a" * 56)), "a name of more than 55 octets"),
        (of(a_file("ä".encode() * 28)), "a name of more than 55 octets"),
    ],
)
@pytest.mark.req("SEC-30")
def test_each_image_that_boards_do_not_read_has_its_sentence(octets: bytes, expected: str) -> None:
    assert expected in sentence(lambda: image.files(octets))


def test_folders_inside_each_other_have_an_end() -> None:
    def nested(depth: int) -> bytes:
        return a_file(b"f") if not depth else a_folder(b"d", nested(depth - 1))

    assert image.files(of(nested(image.DEPTH_MAX - 1))) == {"d/" * (image.DEPTH_MAX - 1) + "f": 1}
    assert "too many folders" in sentence(lambda: image.files(of(nested(image.DEPTH_MAX))))


@pytest.fixture(scope="module")
def on_board() -> ModuleType:
    """The module with which a board reads an image that is a file."""
    spec = importlib.util.spec_from_file_location("slot_images", BOARD_FILES / "slot_images.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class _Slot:
    def __init__(self, octets: bytes) -> None:
        self._file = io.BytesIO(octets)

    def read(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


def test_a_board_reads_the_longest_name_and_none_that_is_longer_by_much(on_board: ModuleType) -> None:
    """Before the octets of a file a board reads 64: with a name, its record and its size, of three octets here."""
    content = bytes(romfs.IMAGE_MAX - 200)
    for length, is_read in ((image.NAME_MAX, True), (image.NAME_MAX + 9, False)):
        octets, index = romfs.image_of({"n" * length: content}), bytearray()
        start, end = on_board._numbers(octets[3:11], 0, 1)
        try:
            on_board._add(_Slot(octets), start + 3, start + 3 + end, "", index)
        except IndexError:
            assert not is_read
        else:
            assert is_read and int.from_bytes(index[4:7], "big") == len(octets) - len(content)


@pytest.mark.req("SEC-30")
def test_the_agents_of_this_release_have_what_is_needed() -> None:
    compile.compile_board()
    compile.compile_val_client_board()
    of_board, of_val_client = compile.BOARD_IMAGE.read_bytes(), compile.VAL_CLIENT_IMAGE.read_bytes()
    assert update_file.read(signed(7, of_board), KEY.public).size == len(of_board)
    assert update_file.read(signed(7, of_val_client, text=VAL_CLIENT), KEY.public).size == len(of_val_client)
    lacking = sentence(lambda: update_file.read(signed(7, of_board, text=VAL_CLIENT), KEY.public))
    assert "lacks device_agent/val_client/__init__.mpy: sign the folder" in lacking


def unusable() -> Iterator[tuple[bytes, str, str]]:
    yield b"an agent", "agent", "is no ROMFS image"
    yield WHOLE[:-2], "agent", "says that it has"
    for name in image.NEEDED:
        lacking = {each: CODE for each in image.NEEDED if each != name}
        yield romfs.image_of(lacking), "agent", f"lacks {name}: sign the folder that keycast board files has written"
    yield WHOLE, "firmware", "is no application for an ESP32"
    yield b"\xe9" + bytes(1000), "firmware", "is no application for an ESP32"
    yield bytes(32) + b"\x32\x54\xcd\xab", "firmware", "is no application for an ESP32"


@pytest.mark.parametrize(("octets", "kind", "expected"), list(unusable()))
@pytest.mark.req("SEC-30")
def test_what_is_signed_and_no_agent_or_firmware_is_neither_offered_nor_shown(
    tmp_path: Path, octets: bytes, kind: str, expected: str
) -> None:
    path = tmp_path / "update.suit"
    path.write_bytes(signed(7, octets, kind=kind))
    offered = sentence(lambda: update_file.read(path.read_bytes(), KEY.public))
    assert expected in offered and offered == sentence(lambda: file.read(path))
    assert offered == sentence(lambda: update_file.read(path.read_bytes(), None))


def test_an_application_is_a_firmware(tmp_path: Path) -> None:
    octets = firmware_images.program(0, version="v1.26.0")
    assert update_file.read(signed(7, octets, kind="firmware"), KEY.public).kind == "firmware"
