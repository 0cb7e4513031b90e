"""Both databases of the CPNS Server for tests: a SQLite file, and a schema in a PostgreSQL server of our own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from key_servers.cpns_server.databases import open_database
from key_servers.cpns_server.store import ServerStore
from tests.unit.postgres_server import postgres


class ServerPlace:
    """Where a Server keeps its store: a folder, or a PostgreSQL database by its URL."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.url = url

    def store(self) -> ServerStore:
        return ServerStore(open_database(self.folder, self.url))


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    """The URL of a PostgreSQL server that the tests of a module share."""
    with tempfile.TemporaryDirectory() as folder, postgres(Path(folder)) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> ServerPlace:
    """An empty place of each kind."""
    if request.param == "sqlite":
        return ServerPlace(tmp_path, None)
    url = request.getfixturevalue("postgres_url")
    emptied(url)
    return ServerPlace(tmp_path, url)


def emptied(url: str) -> None:
    """Remove all that the CPNS Server has stored in the database, from which every process must be gone."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS cpns_server CASCADE")
