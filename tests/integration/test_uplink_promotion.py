"""The database fails and its standby is promoted: no session of before is used any more, the groups are held until an
operator has confirmed their members, and then each home has a newer key."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway_agent.errors import Refused
from key_servers.cpns_server import group_version
from tests.integration.mqtt_street import Street, a_street, brokers, node
from tests.integration.mqtt_uplink_world import SG
from tests.unit.mosquitto_broker import Mosquitto
from tests.unit.postgres_server import PostgresNode
from tests.waiting import PATIENCE_S, until

__all__ = ["brokers", "node"]

pytestmark = pytest.mark.real_time


@pytest.fixture
def standby(node: PostgresNode) -> Iterator[PostgresNode]:
    with tempfile.TemporaryDirectory() as folder:
        standby = node.standby(Path(folder))
        standby.start()
        yield standby
        standby.stop("immediate")


@pytest.mark.req("SEC-03", "SEC-23", "SEC-27")
@pytest.mark.parametrize("is_synchronous", [True, False], ids=["synchronous", "asynchronous"])
async def test_a_standby_is_promoted(
    tmp_path: Path, brokers: list[Mosquitto], node: PostgresNode, standby: PostgresNode, is_synchronous: bool
) -> None:
    await _follows(node, is_synchronous=is_synchronous)
    async with a_street(tmp_path, brokers[:1], f"{node.url},{standby.folder}") as street:
        made_at_first = await _handshakes(street)
        if not is_synchronous:
            standby.stop()  # it hears no more of what is acknowledged
        version = await street.server.update()
        await street.keyed(version)
        node.stop("immediate")
        if not is_synchronous:
            standby.start()
        standby.promote()
        await street.held()
        assert {home.version() for home in street.homes} == {version}
        async with asyncio.timeout(PATIENCE_S):  # sessions of before end, and PN GWs make new ones by themselves
            while await _handshakes(street) < made_at_first + len(street.homes):
                await asyncio.sleep(0.1)
        with pytest.raises(Refused, match="held"):
            await street.server.update()
        confirmed = await street.server.ask("server.confirm-members", sg_id=SG)
        assert group_version.epoch_of(confirmed) == 1
        await street.keyed(confirmed)
        await street.keyed(await street.server.update())


async def _follows(node: PostgresNode, *, is_synchronous: bool) -> None:
    """Wait until the standby follows, as one that each commit waits for if `is_synchronous`."""
    with psycopg.connect(node.url, autocommit=True) as operator:
        if is_synchronous:
            operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            operator.execute("SELECT pg_reload_conf()")
        state = "sync" if is_synchronous else "async"
        asked = "SELECT sync_state FROM pg_stat_replication"
        await until(lambda: operator.execute(asked).fetchall() == [(state,)])


async def _handshakes(street: Street) -> int:
    """How many the Server has finished since its start."""
    return int((await street.server.ask("server.status"))["counters"]["handshakes_done"])
