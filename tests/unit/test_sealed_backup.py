"""A backup as a file: who opens it, what of it is readable, and that no octet of it can be changed unnoticed."""

import io
import json
import stat
import zipfile
from pathlib import Path

import pytest

from private_store import archive, backup_keys, files, sealed
from private_store.errors import StoreUnusable

PASSPHRASE = b"correct horse battery"
ABOUT = {"of": "gateway", "id": "gw.home", "made": "2026-11-30T06:00:00+00:00"}
MEMBERS = {"store/a.db": b"secret of a store " * 9000, "b": b""}


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(sealed, "SCRYPT_LOG2_N", 10)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "home.backup"


def written(path, lock):
    archive.write(path, ABOUT, MEMBERS, lock)
    return path.read_bytes()


def test_a_passphrase_opens_it_and_the_manifest_needs_none(path):
    octets = written(path, sealed.lock_by_passphrase(PASSPHRASE))
    opened = archive.read(path, sealed.with_passphrase(PASSPHRASE))
    assert (opened.about, opened.members, opened.is_plain) == (ABOUT, MEMBERS, False)
    assert archive.manifest(path) == ABOUT and archive.kind_of_lock(path) == "passphrase"
    assert b'"id": "gw.home"' in octets and b"secret of a store" not in octets and PASSPHRASE not in octets
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in repr(opened) and path.read_bytes()[:17] == b"keycast backup 2 "


def test_the_machine_that_makes_it_for_a_recipient_cannot_open_it(path, tmp_path):
    backup_keys.make(tmp_path / "home.key", tmp_path / "home.recipient")
    public = backup_keys.recipient(tmp_path / "home.recipient")
    private = backup_keys.private_key(tmp_path / "home.key")
    octets = written(path, sealed.lock_for(public))
    assert archive.read(path, sealed.with_private_key(private)).members == MEMBERS
    assert private not in octets and private.hex().encode() not in octets
    assert stat.S_IMODE((tmp_path / "home.key").stat().st_mode) == 0o600
    backup_keys.make(tmp_path / "other.key", tmp_path / "other.recipient")
    other = sealed.with_private_key(backup_keys.private_key(tmp_path / "other.key"))
    for unlock, words in (
        (other, "made for another recipient"),
        (sealed.with_passphrase(PASSPHRASE), "name the private key with --key"),
        (sealed.with_private_key(public), "made for another recipient"),
    ):
        with pytest.raises(StoreUnusable, match=words):
            archive.read(path, unlock)


def test_files_of_keys_are_not_taken_for_each_other_and_not_written_over(tmp_path):
    private, public = tmp_path / "home.key", tmp_path / "home.recipient"
    backup_keys.make(private, public)
    with pytest.raises(StoreUnusable, match="not the public file of a recipient"):
        backup_keys.recipient(private)
    with pytest.raises(StoreUnusable, match="not the private file of a recipient"):
        backup_keys.private_key(public)
    assert (private.stat().st_mode & 0o777, public.stat().st_mode & 0o777) == (0o600, 0o644)
    private.chmod(0o640)
    with pytest.raises(StoreUnusable, match="can be read by others"):
        backup_keys.private_key(private)
    private.unlink()
    with pytest.raises(StoreUnusable, match="exists already"):
        backup_keys.make(private, public)
    assert not private.exists()


def test_a_wrong_passphrase_is_called_that(path):
    written(path, sealed.lock_by_passphrase(PASSPHRASE))
    with pytest.raises(StoreUnusable, match=r"does not open. The passphrase is not that of this backup"):
        archive.read(path, sealed.with_passphrase(PASSPHRASE + b"!"))


def parts_of(octets, path):
    """The head, and the chunks with their tags."""
    head = len(sealed.head_of(octets, path).prefix)
    size = sealed.CHUNK + 16
    return octets[:head], [octets[at : at + size] for at in range(head, len(octets), size)]


def sealed_content(size):
    lock = sealed.Lock({"kind": "of this test"}, bytes(32))
    return sealed.seal(ABOUT, bytes(size), lock), sealed.with_key_of(lock)


@pytest.mark.parametrize("size", [0, 1, sealed.CHUNK - 1, sealed.CHUNK, sealed.CHUNK + 1, 3 * sealed.CHUNK])
def test_content_of_every_length_comes_back(size):
    octets, unlock = sealed_content(size)
    head, content = sealed.open_sealed(octets, Path("x"), unlock)
    assert content == bytes(size) and head.about == ABOUT


@pytest.mark.req("SEC-02")
def test_cutting_reordering_and_exchanging_parts_is_noticed():
    octets, unlock = sealed_content(3 * sealed.CHUNK + 5)
    other, _ = sealed_content(3 * sealed.CHUNK + 5)
    head, chunks = parts_of(octets, Path("x"))
    other_head, other_chunks = parts_of(other, Path("x"))
    assert len(chunks) == 4
    wrong = {
        "the last chunk is gone": [head, *chunks[:-1]],
        "all chunks are gone": [head],
        "the first chunk is gone": [head, *chunks[1:]],
        "chunks change places": [head, chunks[1], chunks[0], *chunks[2:]],
        "one chunk comes twice": [head, chunks[0], *chunks],
        "octets follow": [octets, b"x"],
        "the last octet is gone": [octets[:-1]],
        "a chunk of another file": [head, other_chunks[0], *chunks[1:]],
        "the head of another file": [other_head, *chunks],
        "another manifest": [octets.replace(b"gw.home", b"gw.hom3", 1)],
        "another salt": [head.replace(b'"salt": "', b'"salt": "0', 1), *chunks],
    }
    for what, pieces in wrong.items():
        with pytest.raises(StoreUnusable, match="is damaged: it was cut short or changed"):
            sealed.open_sealed(b"".join(pieces), Path("x"), unlock)
            pytest.fail(what)


def test_every_octet_counts():
    octets, unlock = sealed_content(100)
    for at in range(len(octets)):
        changed = bytearray(octets)
        changed[at] ^= 1
        with pytest.raises(StoreUnusable):
            sealed.open_sealed(bytes(changed), Path("x"), unlock)


@pytest.mark.parametrize(
    "hostile",
    [
        {"log2_n": 40},
        {"log2_n": 19},
        {"log2_n": True},
        {"log2_n": "16"},
        {"r": 1 << 20},
        {"p": 1 << 30},
        {"p": 0},
        {"salt": ""},
        {"salt": "zz"},
        {"salt": 7},
        {"wrapped": "00"},
        {"wrapped": None},
        {"kind": "else"},
        {"p": None},
    ],
)
def test_a_hostile_file_costs_no_more_than_the_limit(hostile, monkeypatch):
    """What is asked of scrypt is bounded before it runs."""
    lock = sealed.lock_by_passphrase(PASSPHRASE)
    asked = []
    real = sealed.Scrypt

    def scrypt(**cost):
        asked.append(cost)
        return real(**(cost | {"n": 2, "r": 1, "p": 1}))

    monkeypatch.setattr(sealed, "Scrypt", scrypt)
    octets = sealed.seal(ABOUT, b"", sealed.Lock({**lock.told, **hostile}, lock.key))
    with pytest.raises(StoreUnusable, match=r"damaged|does not open"):
        sealed.open_sealed(octets, Path("x"), sealed.with_passphrase(PASSPHRASE))
    assert asked == [] or "wrapped" in hostile


@pytest.mark.parametrize(
    "octets",
    [
        b"keycast backup 2",
        b"keycast backup 2 \n",
        b"keycast backup 2 -1\n",
        b"keycast backup 2 5\n[]\n",
        b"keycast backup 2 99999999999\n{}",
        b"keycast backup 2 3\n[1]",
        b"keycast backup 2 9\n" + b"[" * 9,
        b"keycast backup 2 2\n{}",
        b"keycast backup 2 " + b"9" * 5000 + b"\n",
        b"keycast backup 2 4\nnull",
        b'keycast backup 2 41\n{"about": {"a": 1}, "lock": {}, "salt": ""}',
    ],
)
def test_a_hostile_head_is_refused_in_a_sentence(octets):
    with pytest.raises(StoreUnusable, match="damaged"):
        sealed.head_of(octets, Path("x"))


@pytest.mark.parametrize("text", ["gw\x1b[2J", "gw\u202e", "a\nb"])
def test_a_manifest_that_a_terminal_would_act_on_is_refused(text, path):
    lock = sealed.Lock({"kind": "of this test"}, bytes(32))
    files.write_new(path, sealed.seal({"of": "gateway", "id": text}, b"", lock))
    with pytest.raises(StoreUnusable, match="damaged"):
        archive.manifest(path)
    path.unlink()
    former(path, {"id": text})
    with pytest.raises(StoreUnusable, match="damaged"):
        archive.manifest(path)


def zipped(*members):
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as made:
        for member, content in members:
            made.writestr(member, content)
    return octets.getvalue()


def link():
    member = zipfile.ZipInfo("identity.key")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped((member, "/etc/passwd"))


def twice():
    with pytest.warns(UserWarning, match="Duplicate"):
        return zipped(("a", b"1"), ("a", b"2"))


@pytest.mark.parametrize(
    "make",
    [
        link,
        twice,
        lambda: zipped(("folder/", b"")),
        lambda: zipped(("a", bytes(5000)), ("b", bytes(5000))),
        lambda: b"",
    ],
    ids=["a link", "a name twice", "a folder", "more than there may be", "no archive"],
)
def test_what_an_archive_may_not_hold_is_refused(make, path, monkeypatch):
    monkeypatch.setattr(archive, "OCTETS_MAX", 8000)
    lock = sealed.Lock({"kind": "of this test"}, bytes(32))
    files.write_new(path, sealed.seal(ABOUT, make(), lock))
    with pytest.raises(StoreUnusable, match="is no backup of keycast, or it is damaged"):
        archive.read(path, sealed.with_key_of(lock))


def test_the_same_files_are_the_same_archive_in_another_sealing(tmp_path):
    assert archive.packed(MEMBERS) == archive.packed(dict(MEMBERS))
    lock = sealed.Lock({"kind": "of this test"}, bytes(32))
    assert sealed.seal(ABOUT, b"x" * 100, lock) != sealed.seal(ABOUT, b"x" * 100, lock)


def former(path, about=(), mode=0o600):
    text = json.dumps({"format": "keycast backup 1", **ABOUT, **dict(about)})
    files.write_new(path, zipped(("keycast-backup.json", text), *MEMBERS.items()))
    path.chmod(mode)


def test_a_backup_of_the_former_release_is_read_and_known_as_one(path):
    former(path)
    opened = archive.read(path, sealed.with_passphrase(b""))
    assert (opened.about, opened.members, opened.is_plain) == (ABOUT, MEMBERS, True)
    assert archive.manifest(path) == ABOUT and archive.kind_of_lock(path) == ""


def test_a_former_backup_that_others_can_read_or_of_no_known_format_is_refused(path, tmp_path):
    former(path, mode=0o644)
    with pytest.raises(StoreUnusable, match=r"read by others\. Run: install -m 600 /.* and name"):
        archive.read(path, sealed.with_passphrase(b""))
    former(tmp_path / "b", {"format": "keycast backup 9"})
    with pytest.raises(StoreUnusable, match="newer keycast"):
        archive.manifest(tmp_path / "b")


def test_a_lock_goes_to_another_process_as_text():
    lock = sealed.lock_by_passphrase(PASSPHRASE)
    assert sealed.Lock.of(lock.text()) == lock and lock.key.hex() not in repr(lock)
    for wrong in ("", "[]", "{}", '{"told": {}, "key": "00"}', '{"told": 7, "key": ""}'):
        with pytest.raises(ValueError):
            sealed.Lock.of(wrong)


@pytest.mark.parametrize("octets", [b"", b"keycast", b"some text\n"])
def test_a_file_that_is_no_backup_is_not_called_one_without_encryption(octets, path):
    path.write_bytes(octets)
    with pytest.raises(StoreUnusable, match="is no backup of keycast"):
        archive.kind_of_lock(path)
