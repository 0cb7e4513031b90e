"""The Entity User Keys of PNEs at the Server: learnt, provisioned, used, erased (SEC-25)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpns import entity_user_key
from cpns.errors import NotAllowed
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.sqlite_database import FILE_NAME, SqliteServerDatabase
from key_servers.cpns_server.store import ServerStore
from private_store import files

A, B, C, D = (letter * 16 for letter in (b"a", b"b", b"c", b"d"))


class Kept:
    """Entity User Keys in a store; `changed` lists the PNEs that got another one."""

    def __init__(self, folder: Path) -> None:
        self.store = ServerStore(SqliteServerDatabase(folder))
        self.changed: list[str] = []
        self.keys = EntityUserKeys(self.store, self.changed.append)

    def of(self, pne_id: str) -> tuple[bytes, bytes | None] | None:
        keys = self.keys.of(pne_id)
        return None if keys is None else (keys.current, keys.previous)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.store.close()


@pytest.mark.req("SEC-25")
def test_the_key_before_is_kept_until_the_new_one_was_used(kept: Kept) -> None:
    kept.keys.learnt("lamp", A)
    assert kept.of("lamp") == (A, None)
    kept.keys.learnt("lamp", B)
    assert kept.of("lamp") == (B, A)
    kept.keys.used("lamp", entity_user_key.key_id(A))  # a message that was on its way
    kept.keys.used("lamp", entity_user_key.key_id(C))
    assert kept.of("lamp") == (B, A)
    kept.keys.used("lamp", entity_user_key.key_id(B))
    assert kept.of("lamp") == (B, None)
    assert kept.changed == ["lamp"] * 2, "a use changes nothing for those who send"


@pytest.mark.req("SEC-25")
def test_a_key_that_was_never_used_does_not_take_the_place_of_the_one_that_the_pne_surely_has(kept: Kept) -> None:
    kept.keys.learnt("lamp", A)
    for each in (B, C, D):
        kept.keys.learnt("lamp", each)
        assert kept.of("lamp") == (each, A)


def test_a_request_on_the_same_session_changes_nothing(kept: Kept) -> None:
    kept.keys.learnt("lamp", A)
    commits = kept.store.commits
    for _ in range(3):
        kept.keys.learnt("lamp", A)
    assert kept.of("lamp") == (A, None) and kept.changed == ["lamp"] and kept.store.commits == commits


def test_a_provisioned_key_takes_the_place_of_another_one_by_a_persons_word_only(kept: Kept) -> None:
    kept.keys.provisioned("lamp", A)
    kept.keys.provisioned("lamp", A)
    assert kept.of("lamp") == (A, None) and kept.changed == ["lamp"]
    with pytest.raises(NotAllowed, match="--replace"):
        kept.keys.provisioned("lamp", B)
    kept.keys.learnt("lamp", C)
    kept.keys.provisioned("lamp", A)  # the same command once more
    assert kept.of("lamp") == (C, A)
    for key in (A, C):
        assert not kept.keys.would_replace("lamp", key, replace=True)
    assert kept.keys.would_replace("lamp", B, replace=True) and kept.of("lamp") == (C, A)
    kept.keys.forget("lamp")
    kept.keys.provisioned("lamp", B)
    assert kept.of("lamp") == (B, None)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_a_key_of_another_length_is_none(kept: Kept, length: int) -> None:
    with pytest.raises(NotAllowed, match="16 octets"):
        kept.keys.provisioned("lamp", bytes(length))
    assert kept.keys.of("lamp") is None


def test_a_change_that_is_undone_is_not_told(kept: Kept) -> None:
    with pytest.raises(ZeroDivisionError), kept.store.transaction():
        kept.keys.learnt("lamp", A)
        raise ZeroDivisionError
    assert kept.keys.of("lamp") is None and kept.changed == []


@pytest.mark.req("SEC-25", "SEC-29")
def test_what_was_used_up_or_forgotten_is_in_no_octet_of_the_files_and_no_key_shows(kept: Kept, tmp_path: Path) -> None:
    for each in (A, B):
        kept.keys.learnt("lamp", each)
    kept.keys.provisioned("door", C)
    kept.keys.learnt("bell", D)
    shown = repr([kept.keys.of(name) for name in ("lamp", "door", "bell")])
    assert not any(key.decode() in shown for key in (A, B, C, D))
    kept.keys.used("lamp", entity_user_key.key_id(B))
    kept.keys.forget("door")
    kept.keys.forget("nobody")
    octets = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert [key in octets for key in (A, B, C, D)] == [False, True, False, True]


@pytest.mark.req("SEC-02", "SEC-03")
def test_a_backup_has_no_key_and_an_older_copy_of_the_store_uses_the_provisioned_ones_only(
    kept: Kept, tmp_path: Path
) -> None:
    for each in (A, C):
        kept.keys.learnt("lamp", each)
    kept.keys.provisioned("door", B)
    copy = tmp_path / "copy"
    copy.mkdir(mode=0o700)
    files.write_new(copy / FILE_NAME, image := kept.store.image())
    assert not any(key in image for key in (A, B, C))
    with contextlib.closing(ServerStore(SqliteServerDatabase(copy))) as store:
        assert store.learnt_entity_user_keys() == ("lamp",) and store.entity_user_key("door") is None
    kept.keys.disown_learnt()
    drawn, previous = kept.of("lamp") or (b"", None)
    assert drawn not in (A, B, C) and len(drawn) == 16 and previous is None
    assert kept.of("door") == (B, None)
    octets = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert A not in octets and C not in octets
    kept.keys.disown_learnt()
    assert (kept.of("lamp") or drawn)[0] != drawn, "what is in a copy is drawn anew each time"
