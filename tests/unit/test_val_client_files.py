"""The private files of a VAL client: which users may read them, traces of deleted rows, the effect of a full disk."""

import asyncio
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from cpns import messages, numbers
from gateway_agent.core.ports import NoAnswer
from gateway_agent.store.errors import FAULTS, StoreDamaged, StoreFailed
from gateway_agent.val_client.bridged_groups import BridgedGroups
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.key_material import KeyMaterial
from gateway_agent.val_client.server_access import ServerAccess
from gateway_agent.val_client.servers import Servers
from gateway_agent.val_client.uplink import MappedGroup, ValClientUplink
from private_store.sqlite_file import SqliteFile
from tests.unit.seal_world import ALICE, CREW, GMS, Clock, KmsSecrets, client_of, notice, profile

FILES = [GmkStore, KeyMaterial, BridgedGroups]


@pytest.fixture(scope="module")
def kms() -> KmsSecrets:
    return KmsSecrets()


def rows_in(path: Path) -> SqliteFile:
    table = "CREATE TABLE row (octets BLOB);\n"
    return SqliteFile(path, [table], holds="rows", remedy="", faults=FAULTS, erase_always=True)


def file_of(store: Any) -> SqliteFile:
    found = store._file
    assert isinstance(found, SqliteFile)
    return found


def may_write(store: Any, may: bool) -> None:
    file_of(store).rows(f"PRAGMA query_only = {'OFF' if may else 'ON'}")


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_private_from_its_beginning(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "file"
    kind(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kind(path).close()
    path.chmod(0o640)
    with pytest.raises(StoreDamaged, match="can be read by others"):
        kind(path)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_somebody_else_is_refused(kind: Callable[[Path], Any], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"no database" * 100)
    path.chmod(0o600)
    with pytest.raises(StoreDamaged, match="cannot be read"):
        kind(path)
    path.unlink()
    newer = kind(path)
    file_of(newer).rows("PRAGMA user_version = 2")
    newer.close()
    with pytest.raises(StoreDamaged, match="newer keycast"):
        kind(path)


def test_what_was_erased_is_in_no_file(tmp_path: Path) -> None:
    secret = secrets.token_bytes(300)
    file = rows_in(tmp_path / "file")
    with file.transaction():
        file.rows("INSERT INTO row VALUES (?)", secret)
    assert secret in (tmp_path / "file").read_bytes()
    with file.transaction():
        file.rows("DELETE FROM row")
    assert not any(secret in each.read_bytes() for each in tmp_path.iterdir())
    file.close()


def test_a_transaction_on_a_full_disk_changes_nothing_and_the_next_one_may(tmp_path: Path) -> None:
    file = rows_in(tmp_path / "file")
    file.rows("PRAGMA max_page_count = 2")
    with pytest.raises(StoreFailed, match="full"), file.transaction():
        for _ in range(100):
            file.rows("INSERT INTO row VALUES (?)", bytes(1000))
    assert file.rows("SELECT count(*) FROM row") == [(0,)]
    file.rows("PRAGMA max_page_count = 1000")
    with file.transaction():
        file.rows("INSERT INTO row VALUES (?)", bytes(1000))
    assert file.rows("SELECT count(*) FROM row") == [(1,)]
    file.close()


async def test_a_key_that_cannot_be_stored_is_not_answered_and_is_taken_when_it_comes_again(
    kms: KmsSecrets, tmp_path: Path
) -> None:
    client, store = client_of(kms, tmp_path, Clock())
    client.apply_profile(profile(crew=GMS))
    request = notice(kms.i_message())
    may_write(store, False)
    with pytest.raises(StoreFailed):
        await client.take(request)
    assert store.all() == []
    may_write(store, True)
    assert (await client.take(request)).code == "" and len(store.all()) == 1
    store.close()


async def test_connections_outlast_a_full_disk(
    kms: KmsSecrets, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Client:
        user, profile = ALICE, None
        ticks = 0

        def tick(self) -> None:
            self.ticks += 1
            raise StoreFailed("The file cannot be used: full.", "")

    client = Client()
    servers = Servers(client, ServerAccess(url="http://127.0.0.1:1", token=SecretStr("t")), [])  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway_agent.val_client.servers.EXPIRY_LOOK_S", 0.001)
        async with servers, asyncio.timeout(10):
            while client.ticks < 3:
                await asyncio.sleep(0.001)
    assert "full" in caplog.text and "ended by a fault" not in caplog.text


async def nobody(message: bytes) -> bytes:
    raise AssertionError("nothing is delivered before the start")


async def test_an_uplink_that_cannot_write_gives_no_answer(kms: KmsSecrets, tmp_path: Path) -> None:
    client, store = client_of(kms, tmp_path, Clock())
    client.apply_profile(profile(crew=GMS))
    groups = BridgedGroups(tmp_path / "groups")
    uplink = ValClientUplink(client, groups, "pn", [MappedGroup(CREW, "pn/crew")], nobody)
    join = messages.encode(numbers.JOIN_REQUEST, {messages.SG_ID: "pn/crew", messages.PNE_ID: "lamp"})
    may_write(groups, False)
    with pytest.raises(NoAnswer, match="cannot be used"):
        await uplink.request(join)
    may_write(groups, True)
    code, fields = messages.decode(await uplink.request(join))
    assert (code, fields[messages.RESULT]) == (numbers.JOIN_RESPONSE, numbers.RESULT_SUCCESS)
    groups.close()
    store.close()
