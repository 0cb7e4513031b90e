"""Every SQLite file of the product: commits reach the disk before they count, deleted data is overwritten."""

import pytest

from tests.unit.private_world import STORES, closed, sqlite_file

OFF, FULL, MEMORY = 0, 2, 2  # of SQLite's own numbers


@pytest.mark.req("SEC-23", "SEC-29")
@pytest.mark.parametrize("name", STORES)
async def test_commits_are_synced_and_deleted_octets_overwritten(tmp_path, name):
    store = STORES[name](tmp_path)
    file = sqlite_file(store)
    other = file.connect()
    for connection in (file.connection, other):
        wanted = ("synchronous", "journal_mode", "secure_delete", "temp_store", "foreign_keys", "trusted_schema")
        found = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}
        assert found["synchronous"] >= FULL and found["journal_mode"] == "wal" and found["secure_delete"] != OFF
        assert found["temp_store"] == MEMORY, "nothing spills into files that nobody overwrites"
        assert found["foreign_keys"] and not found["trusted_schema"]
    other.close()
    closed(store)
