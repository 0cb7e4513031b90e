"""The credential that a gateway accepts for its CPNS Server: that of the configured name, and only one (SEC-31)."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keycast.program import program
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "keycast.toml"
    uplink = '[uplink]\nkind = "udp"\nserver_id = "server.far"\nhost = "192.0.2.1"\n'
    path.write_text(f'[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "state"\n{uplink}')
    return path


def trust(config: Path, entity_id: str, key: str, *options: str) -> Any:
    path = config.parent / f"{key}.key"
    identity = OwnIdentity.load(path) if path.exists() else OwnIdentity.create(path, entity_id, "server")
    words = ["gateway", "trust-server", identity.credential.ccs.hex(), "-c", str(config), *options]
    return CliRunner().invoke(program(["gateway"]), words, env={"COLUMNS": "200"})


def trusted(config: Path) -> list[str]:
    store = SessionFile(config.parent / "state" / "sessions.db")
    try:
        return [credential.ccs.hex() for credential in store.registered()]
    finally:
        store.close()


@pytest.mark.req("SEC-31")
def test_the_server_that_the_configuration_names_is_trusted_and_another_key_for_it_needs_replace(config: Path) -> None:
    assert trust(config, "server.far", "a").exit_code == 0
    first = trusted(config)
    assert len(first) == 1
    assert trust(config, "server.far", "a").exit_code == 0, "the same once more changes nothing"
    refused = trust(config, "server.far", "b")
    assert refused.exit_code == 1 and "--replace" in refused.output and trusted(config) == first
    assert trust(config, "server.far", "b", "--replace").exit_code == 0
    assert len(trusted(config)) == 1 and trusted(config) != first


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", ["server.near", "gw.home"])
def test_a_name_that_nobody_wrote_down_is_not_trusted(config: Path, name: str) -> None:
    refused = trust(config, name, "a")
    assert refused.exit_code == 1 and "server.far" in refused.output and trusted(config) == []
