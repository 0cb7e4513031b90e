"""Secrets in the store: what it holds when an object is signed, what it never holds, and what is random (SEC-08,
SEC-29)."""

import sqlite3

import pytest

from cpns import broadcast_object
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.keys import TreeKeys
from tests.unit.gateway_world import Server, Signer, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


class WatchingSigner(Signer):
    """Looks into the database, as another process would after a power cut at this moment, whenever it signs."""

    def __init__(self, file) -> None:
        super().__init__()
        self._file = file
        self.found: list[tuple[int, list[int], bytes]] = []  # version, versions of the keys, indexes of the GKEK

    def sign(self, data: bytes) -> bytes:
        committed = sqlite3.connect(f"file:{self._file}?mode=ro", uri=True)
        try:
            ((version,),) = committed.execute("SELECT version FROM service_group WHERE sg_id = 'light'")
            keys = [row[0] for row in committed.execute("SELECT version FROM group_key ORDER BY version")]
            indexes = b"".join(row[0] for row in committed.execute("SELECT indexes FROM gkek ORDER BY generation"))
        finally:
            committed.close()
        self.found.append((version, keys, indexes))
        return super().sign(data)


@pytest.mark.req("SEC-29")
async def test_version_key_and_cover_are_committed_before_anything_is_signed(world):
    for i in range(4):
        await world.board(f"b{i}", "light")
    signer = world.trusted_signer = WatchingSigner(world.folder / "gateway.db")
    world.gateway.administration._objects.change_signer(signer)
    for _ in range(3):
        version = await world.server.rekey("light")
        await world.delivered("light")
        assert len(signer.found) >= 1
        for committed, keys, indexes in signer.found:
            assert committed == version and keys[-1] == version
            entries = broadcast_object.parse(world.air[-1]).entries
            assert indexes == b"".join(entries[at : at + 2] for at in range(0, len(entries), 18))
        signer.found.clear()


@pytest.mark.req("SEC-29")
async def test_the_inventory_holds_indexes_and_no_subset_key(world):
    for i in range(7):
        await world.board(f"b{i}", *(["light"] if i % 3 else []))
    await world.server.rekey("light")
    await world.delivered("light")
    (gkek,) = world.store.inventory.gkek("light")
    keys = TreeKeys(world.store.tree_master(1), 6)
    subsets = [subset_index.decode(6, gkek.indexes[at : at + 2]) for at in range(0, len(gkek.indexes), 2)]
    assert subsets
    files = b"".join(path.read_bytes() for path in world.folder.iterdir() if path.is_file())
    assert world.server.group("light").key in files, "the test can see keys that are there"
    assert gkek.indexes in files
    assert not any(keys.subset_key(subset) in files for subset in subsets)
    assert not any(board.records[0].report_key() in files for board in world.boards.values())


@pytest.mark.req("SEC-08")
async def test_the_pn_alias_is_drawn_once_and_is_not_that_of_another_home(world, tmp_path):
    other = World(tmp_path / "other", server=Server(), pn_id="pn.other")
    twin = World(tmp_path / "twin", server=Server())  # of the same name
    aliases = {each.store.pn.get().pn_alias for each in (world, other, twin)}
    assert len(aliases) == 3 and all(0 <= alias < 1 << 32 for alias in aliases)
    before = world.store.pn.get().pn_alias
    await world.restart()
    assert world.store.pn.get().pn_alias == before
    assert (await world.board("lamp")).pn_alias == before
    for each in (other, twin):
        await each.close()
