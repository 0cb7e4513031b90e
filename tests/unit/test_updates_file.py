"""The signed file of an update, as a gateway checks it before it offers anything."""

from pathlib import Path

import pytest

from cpns.cborlite import Tag, append_head, decode, encode
from cpns.errors import CpnsError, MalformedMessage, NotAuthentic
from gateway_agent.updates import update_file
from keycast.updates import file as shown
from suit import labels as l
from suit import numbers as n
from suit.coded import CodedImage
from suit.envelope import FRAMES_URI, IMAGE_URI
from tests.unit.update_world import AGENT_ID, FIRMWARE_ID, KEY, OfflineKey, image, signed

IMAGE = image(5000)


def changed(file: bytes, **parts: object) -> bytes:
    """The file with parts replaced, or taken out where None stands."""
    value = decode(file, len(file)).value
    for name, part in parts.items():
        value[f"#{name}"] = part
    return bytes(encode(Tag(107, {key: part for key, part in value.items() if part is not None})))


def test_a_file_is_read_whole() -> None:
    found = update_file.read(signed(7, IMAGE), KEY.public)
    assert (found.number, found.kind, found.class_id, found.size) == (7, "agent", AGENT_ID, 5000)
    assert IMAGE not in found.envelope and len(found.envelope) <= n.ENVELOPE_MAX
    assert found.piece(n.ENVELOPE, 0) == found.envelope
    assert b"".join(found.piece(n.FRAME, index) for index in range(5))[:5000] == IMAGE
    assert found.piece(n.PAGE, 0) == CodedImage(IMAGE).pages()[0]
    assert update_file.read(signed(2, kind="firmware"), None).class_id == FIRMWARE_ID


@pytest.mark.parametrize(
    ("what", "index"),
    [(n.ENVELOPE, 1), (n.PAGE, 1), (n.PAGE, -1), (n.FRAME, 8), (n.FRAME, -1), (3, 0), (-1, 0)],
)
def test_a_piece_that_it_does_not_have(what: int, index: int) -> None:
    with pytest.raises(IndexError):
        update_file.read(signed(7, IMAGE), KEY.public).piece(what, index)


def test_the_longest_image_is_offered() -> None:
    file = signed(7, image(n.IMAGE_MAX, kind="firmware"), kind="firmware")
    assert len(update_file.read(file, KEY.public).pages) == 36
    assert len(file) <= update_file.OCTETS_MAX


@pytest.mark.req("SEC-30")
def test_an_update_by_another_key_is_refused() -> None:
    file = signed(7, IMAGE, key=OfflineKey())
    with pytest.raises(NotAuthentic, match=r"another key than that of \[update\]"):
        update_file.read(file, KEY.public)
    assert update_file.read(file, None).number == 7  # a gateway without the key leaves that to the boards


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (b"", "CBOR"),
        (b"no update", "."),
        (bytes(update_file.OCTETS_MAX + 1), "more than"),
        (bytes(update_file.OCTETS_MAX), "longer than any image"),
        (signed(7, IMAGE)[:-1], "CBOR: truncated"),
        (signed(7, IMAGE) + b"\0", "CBOR: octets after the end"),
        (changed(signed(7, IMAGE), image=None), "the file has no image"),
        (changed(signed(7, IMAGE), image=IMAGE[:-1]), "does not have the size"),
        (changed(signed(7, IMAGE), image=image(5000, seed=2)), "does not have the digest"),
        (changed(signed(7, IMAGE), frames=bytes(16)), "does not have the digest"),
        (changed(signed(7, IMAGE), frames=None), "lacks"),
    ],
)
def test_every_other_file_is_refused_with_a_sentence(file: bytes, sentence: str) -> None:
    with pytest.raises(MalformedMessage, match=sentence):
        update_file.read(file, KEY.public)


def test_hashes_that_are_signed_but_not_those_of_the_image_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as lying:
        lying.setattr(CodedImage, "page_list", lambda self: bytes(16))
        file = signed(7, IMAGE)
    assert decode(file, len(file)).value[FRAMES_URI] == bytes(16)
    assert decode(file, len(file)).value[IMAGE_URI] == IMAGE
    with pytest.raises(MalformedMessage, match="hashes in the file are not those of its image"):
        update_file.read(file, KEY.public)


def test_an_update_of_another_maker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr("suit.build.VENDOR", bytes(16))
        file = signed(7, IMAGE)
    with pytest.raises(MalformedMessage, match="for boards of another maker"):
        update_file.read(file, KEY.public)


def of_components(count: int, *, said: int | None = None) -> bytes:
    """A file whose manifest has, or says that it has, so many components."""
    value = decode(signed(7, IMAGE), n.IMAGE_MAX).value
    manifest = decode(value[l.MANIFEST])
    paths = bytearray()
    append_head(paths, 0x80, count if said is None else said)
    common = b"\xa2\x02" + paths + b"\x81\x41a" * count + b"\x04\x40"
    return bytes(encode(Tag(107, value | {l.MANIFEST: encode(manifest | {l.COMMON: common})})))


@pytest.mark.parametrize("count", [3, 23, 24, 255, 341, 10_000, 100_000])
@pytest.mark.req("SEC-30")
def test_a_manifest_with_more_components_than_boards_read_is_refused_for_them(tmp_path: Path, count: int) -> None:
    """Without decoding any, as a manifest for boards is short."""
    sentence = f"the manifest has {count} components, and boards read 2"
    path = tmp_path / "update.suit"
    path.write_bytes(of_components(count))
    for read in (lambda: update_file.read(path.read_bytes(), KEY.public), lambda: shown.read(path)):
        with pytest.raises(MalformedMessage) as refused:
            read()
        assert refused.value.reason == sentence


def test_a_manifest_that_is_refused_for_something_else_is_told_so() -> None:
    file = of_components(10_000)
    for octets, sentence in (
        (of_components(2), "not the one whose digest is signed"),
        (file.replace(b"\x02\x99\x27\x10", b"\x02\x59\x27\x10"), "not the one whose digest is signed"),
        (bytes(encode(Tag(107, {l.MANIFEST: b"\xa1\x03"}))), "lacks its element 2"),
        (bytes(encode(Tag(107, {l.MANIFEST: b"\xa2\x01"}))), "lacks its element 2"),
        (bytes(encode(Tag(107, {l.MANIFEST: b"\xa1\x03\x45\xa1\x02\x9b\0\0"}))), "lacks its element 2"),
        (file[: file.index(b"\x99\x27\x10") + 3], "the manifest has 10000 components, and boards read 2"),
        (file[: file.index(b"\x99\x27\x10") + 2], "truncated"),
        (bytes(encode(Tag(107, {l.MANIFEST: b"\xbf\x03\xff"}))), "lacks its element 2"),
        (bytes(encode(Tag(107, {l.MANIFEST: b"\xa2\x01\x81\x01\x03\x40"}))), "lacks its element 2"),
    ):
        with pytest.raises(MalformedMessage, match=sentence):
            update_file.read(octets, KEY.public)


def test_a_file_with_any_octet_changed_is_refused() -> None:
    file = signed(7, image(300))
    for at in range(len(file)):
        broken = file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]
        with pytest.raises(CpnsError):
            update_file.read(broken, KEY.public)
