"""What is offered outlives the process, and a kill between any two steps leaves an offer whole or none."""

import asyncio
import errno
import itertools
import os
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from cpns.errors import CpnsError, NotAllowed, NotAuthentic, Unknown
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from gateway_agent.updates.catalogue import Catalogue, Whom
from gateway_agent.updates.update_key import UpdateKey
from tests.unit.update_world import KEY, OfflineKey, id_of, image, signed

FIVE, SIX = signed(5), signed(6)
ALL = Whom()


def opened(folder: Path, key: UpdateKey = KEY.public) -> tuple[GatewayStore, Catalogue]:
    store = GatewayStore(folder / "store")
    if store.pn.get() is None:
        with store.transaction():
            store.pn.create("home", "gw", 1)
            for name in ("lamp", "door"):
                store.pn.register(name, 1)
    catalogue = Catalogue(store, folder / "updates", key)
    catalogue.open()
    return store, catalogue


def numbers(catalogue: Catalogue) -> list[int]:
    return sorted(each.number for each in catalogue.offers)


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder / "updates")) if (folder / "updates").exists() else set()


def is_whole(folder: Path, catalogue: Catalogue) -> bool:
    """Each offer has its file, which is right, and there is no other one."""
    assert all(catalogue.update(each.update_id).number == each.number for each in catalogue.offers)
    return names(folder) == {f"{each.update_id.hex()}.suit" for each in catalogue.offers}


async def test_offers_outlive_the_process(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, Whom(by_broadcast=True), 100)
    await catalogue.add(SIX, Whom(frozenset({"lamp"}), frozenset({"home/lights"})), 200)
    catalogue.moved(id_of(FIVE), 7, save=True)
    catalogue.moved(id_of(FIVE), 9, save=False)
    before = catalogue.offers
    store.close()
    store, again = opened(tmp_path)
    assert [each.position for each in before] == [9, 0]
    assert [(each.number, each.boards, each.groups, each.by_broadcast) for each in again.offers] == [
        (each.number, each.boards, each.groups, each.by_broadcast) for each in before
    ]
    assert again.offer(id_of(FIVE)).position == 7  # type: ignore[union-attr]
    assert is_whole(tmp_path, again)
    store.close()


async def test_files_are_private(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, ALL, 100)
    (path,) = (tmp_path / "updates").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    store.close()


async def test_a_file_that_is_refused_is_not_even_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(SIX, ALL, 100)
    written: list[bytes] = []
    monkeypatch.setattr(catalogue, "_write", lambda update_id, octets: written.append(update_id))
    with pytest.raises(NotAllowed, match="update 6 is offered there"):
        await catalogue.add(FIVE, ALL, 200)
    assert written == []
    store.close()


async def test_what_is_replaced_or_withdrawn_leaves_no_file(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, ALL, 100)
    await catalogue.add(SIX, ALL, 200)
    assert numbers(catalogue) == [6] and is_whole(tmp_path, catalogue)
    with pytest.raises(NotAllowed):
        await catalogue.add(FIVE, ALL, 300)
    assert numbers(catalogue) == [6] and is_whole(tmp_path, catalogue)
    await catalogue.withdraw(id_of(SIX))
    assert numbers(catalogue) == [] and is_whole(tmp_path, catalogue)
    with pytest.raises(Unknown):
        await catalogue.withdraw(id_of(SIX))
    await catalogue.add(SIX, ALL, 400)  # its file comes back with it
    assert numbers(catalogue) == [6] and is_whole(tmp_path, catalogue)
    store.close()


async def test_one_update_offered_twice_is_one_offer(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await asyncio.gather(
        catalogue.add(FIVE, Whom(frozenset({"lamp"})), 100),
        catalogue.add(FIVE, Whom(frozenset({"door"})), 100),
    )
    assert [each.boards for each in catalogue.offers] == [{"lamp", "door"}] and is_whole(tmp_path, catalogue)
    store.close()


async def test_a_board_that_is_gone_is_forgotten_here_and_after_a_restart(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, Whom(frozenset({"lamp", "door"})), 100)
    catalogue.forget(boards=["lamp"])
    assert [each.boards for each in catalogue.offers] == [{"door"}]
    with store.transaction():
        store.pn.set_retired("door")
    store.close()
    store, again = opened(tmp_path)
    assert again.offers == [] and is_whole(tmp_path, again)
    assert store.updates.offers() == []
    store.close()


async def test_a_group_that_is_deleted_is_forgotten_here_and_after_a_restart(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    with store.transaction():
        store.inventory.ensure_group("home/lights")
    lights = frozenset({"home/lights"})
    await catalogue.add(FIVE, Whom(frozenset(), lights | {"home/new"}, by_broadcast=True, sealed_for="home/lights"), 9)
    await catalogue.add(signed(5, kind="firmware"), Whom(groups=lights), 9)
    with store.transaction():
        store.inventory.mark_deleted("home/lights")
    store.close()
    store, again = opened(tmp_path)
    assert [(each.kind, each.groups, each.by_broadcast, each.sealed_for) for each in again.offers] == [
        ("agent", {"home/new"}, False, "")  # of that one the gateway has never heard: it may come
    ]
    again.forget(groups=["home/new"])
    assert again.offers == [] and is_whole(tmp_path, again)
    store.close()


async def test_a_board_that_is_retired_while_its_update_is_checked_is_offered_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, catalogue = opened(tmp_path)
    write = catalogue._write

    def meanwhile(update_id: bytes, octets: bytes) -> None:
        write(update_id, octets)
        loop.call_soon_threadsafe(retire)

    def retire() -> None:
        with store.transaction():
            store.pn.set_retired("lamp")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(catalogue, "_write", meanwhile)
    with pytest.raises(Unknown, match="were removed meanwhile"):
        await catalogue.add(FIVE, Whom(frozenset({"lamp"})), 100)
    assert catalogue.offers == [] and is_whole(tmp_path, catalogue)
    assert (await catalogue.add(FIVE, Whom(frozenset({"lamp", "door"})), 100)).boards == {"door"}
    store.close()


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "other", "open", "link"])
async def test_a_file_that_is_not_as_it_was_is_not_offered(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, ALL, 100)
    store.close()
    (path,) = (tmp_path / "updates").iterdir()
    if damage == "gone":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(FIVE[:-100])
    elif damage == "changed":
        path.write_bytes(FIVE.replace(image(9000)[-50:], bytes(50)))
    elif damage == "other":
        path.write_bytes(SIX)
    elif damage == "open":
        path.chmod(0o644)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    store, again = opened(tmp_path)
    assert again.offers == [] and is_whole(tmp_path, again)
    assert "KC1414" in caplog.text and "keycast update offer" in caplog.text
    assert "Run:" not in caplog.text and not path.exists()  # nothing is to be done about the file: it is erased
    await again.add(FIVE, ALL, 100)
    assert numbers(again) == [5] and is_whole(tmp_path, again)
    store.close()


async def test_what_no_offer_needs_is_erased_at_the_start_beside_what_cannot_be(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, ALL, 100)
    store.close()
    for number in range(4):
        (tmp_path / "updates" / f"{number:016x}.suit").write_bytes(SIX)
        (tmp_path / "updates" / f"{number + 8:016x}.suit").mkdir()
    (tmp_path / "updates" / f".{id_of(SIX).hex()}.suit.unfinished").write_bytes(SIX[:100])
    store, again = opened(tmp_path)
    left = [path for path in (tmp_path / "updates").iterdir() if not path.is_dir()]
    assert numbers(again) == [5] and [path.name for path in left] == [f"{id_of(FIVE).hex()}.suit"]
    store.close()


@pytest.mark.req("SEC-30")
async def test_another_key_in_the_configuration_ends_what_the_old_one_has_signed(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    with pytest.raises(NotAuthentic):
        await catalogue.add(signed(9, key=OfflineKey()), ALL, 100)
    assert names(tmp_path) == set()
    await catalogue.add(FIVE, ALL, 100)
    store.close()
    store, again = opened(tmp_path, OfflineKey().public)
    assert again.offers == [] and is_whole(tmp_path, again)
    store.close()


@pytest.mark.parametrize("when", ["file", "row"])
@pytest.mark.parametrize("why", [errno.ENOSPC, errno.EROFS])
async def test_a_disk_that_takes_nothing_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, why: int
) -> None:
    store, catalogue = opened(tmp_path)
    await catalogue.add(FIVE, ALL, 100)

    def full(*_: object) -> None:
        raise OSError(why, os.strerror(why))

    with monkeypatch.context() as broken:
        if when == "file":
            broken.setattr(os, "fsync", full)
        else:
            store.database._file.connection.set_authorizer(
                lambda action, table, *_: sqlite3.SQLITE_DENY if table == "update_offer" else sqlite3.SQLITE_OK
            )
        with pytest.raises(StoreFailed):
            await catalogue.add(SIX, ALL, 200)
        store.database._file.connection.set_authorizer(None)
    assert numbers(catalogue) == [5] and is_whole(tmp_path, catalogue)
    await catalogue.add(SIX, ALL, 200)
    assert numbers(catalogue) == [6] and is_whole(tmp_path, catalogue)
    store.close()


def until_killed(folder: Path, step: int, work: Callable[[Catalogue], Coroutine[Any, Any, object]]) -> bool:
    """Do `work` in a process that is killed at its `step`-th call to the disk; return whether it was."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = itertools.count(step, -1)

    def at_each(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*values: Any, **named: Any) -> Any:
            if not next(left):
                os._exit(9)
            return call(*values, **named)

        return counted

    try:
        store, catalogue = opened(folder)
        for name in ("fsync", "rename", "unlink", "open"):
            setattr(os, name, at_each(getattr(os, name)))
        store.database._file.connection.set_trace_callback(at_each(lambda sql: None))
        asyncio.run(work(catalogue))  # type: ignore[arg-type]
    except BaseException:  # noqa: BLE001 - nothing of this process may go on in pytest
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize(
    ("work", "after"),
    [
        (lambda catalogue: catalogue.add(SIX, ALL, 200), [6]),
        (lambda catalogue: catalogue.add(SIX, Whom(frozenset({"lamp"})), 200), [5, 6]),
        (lambda catalogue: catalogue.withdraw(id_of(FIVE)), []),
    ],
    ids=["replaced", "added", "withdrawn"],
)
def test_killed_at_any_step_there_is_the_old_offer_or_the_new_one(tmp_path: Path, work: Any, after: list[int]) -> None:
    seen = []
    for step in itertools.count():
        folder = tmp_path / str(step)
        folder.mkdir()
        store, catalogue = opened(folder)
        asyncio.run(catalogue.add(FIVE, ALL, 100))
        store.close()
        was_killed = until_killed(folder, step, work)
        store, again = opened(folder)
        assert is_whole(folder, again)
        seen.append(numbers(again))
        store.close()
        if not was_killed:
            break
    assert len(seen) > 5 and seen[0] == [5] and seen[-1] == after
    assert all(each in ([5], after) for each in seen)
    assert seen == sorted(seen, key=lambda each: each == after)  # it has happened from one step on


async def test_a_refusal_is_a_sentence(tmp_path: Path) -> None:
    store, catalogue = opened(tmp_path)
    with pytest.raises(CpnsError, match="image"):
        await catalogue.add(SIX.replace(image(9000)[:50], bytes(50)), ALL, 100)
    assert catalogue.offers == [] and names(tmp_path) == set()
    store.close()
