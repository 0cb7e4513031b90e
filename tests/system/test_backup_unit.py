"""The timer that makes backups: systemd understands it, and its command is one that keycast has."""

import asyncio
import configparser
import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from keycast.copies import making
from keycast.services.home import open_home
from private_store import archive, backup_keys, sealed
from tests.unit.home_world import Home
from tests.waiting import PATIENCE_S

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
GATEWAY, SERVER = "keycast-backup", "keycast-server-backup"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (package systemd)")


def command(name: str) -> list[str]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(UNITS / f"{name}.service")
    return shlex.split(unit["Service"]["ExecStart"])


def analyze(*words: str) -> str:
    assert ANALYZE is not None
    ended = subprocess.run([ANALYZE, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@needs_systemd
@pytest.mark.parametrize("name", [GATEWAY, SERVER])
def test_systemd_understands_the_units(tmp_path: Path, name: str) -> None:
    """With a program of this machine in place of the one that the package installs."""
    units = (UNITS / f"{name}.service", UNITS / f"{name}.timer")
    for path in units:
        text = path.read_text().replace("/usr/bin/keycast", "/bin/true").replace("Documentation=man:keycast(1)\n", "")
        (tmp_path / path.name).write_text(text)
    assert analyze("verify", "--man=no", *(str(tmp_path / path.name) for path in units)) == ""
    told = analyze("security", "--offline=true", "--threshold=20", str(tmp_path / units[0].name))
    assert "Overall exposure level" in told


def done(words: list[str]) -> None:
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_the_command_for_a_server_writes_a_backup(tmp_path: Path) -> None:
    state = tmp_path / "server"

    async def once() -> None:
        server = await CpnsServer.open(state, ServerConfig(id="srv", listen=["127.0.0.1"], port=0))
        await server.close()

    asyncio.run(once())
    backup_keys.make(tmp_path / "home.key", tmp_path / "backup.recipient")
    here = {
        "/usr/bin/keycast": str(Path(sys.executable).with_name("keycast")),
        "/var/lib/keycast-server": str(state),
        "/var/lib/keycast-server-backups": str(tmp_path / "backups"),
        "/etc/keycast/backup.recipient": str(tmp_path / "backup.recipient"),
    }
    done([here.get(word, word) for word in command(SERVER)])
    (made,) = (tmp_path / "backups").iterdir()
    assert archive.manifest(made)["id"] == "srv"


def test_its_command_writes_a_backup_that_only_the_recipient_opens(tmp_path: Path) -> None:
    home = Home(tmp_path)

    async def once() -> None:
        async with open_home(home.config):
            pass

    asyncio.run(once())
    backup_keys.make(tmp_path / "home.key", tmp_path / "backup.recipient")
    here = {
        "/usr/bin/keycast": str(Path(sys.executable).with_name("keycast")),
        "/etc/keycast/keycast.toml": str(home.path),
        "/var/lib/keycast-backups": str(tmp_path / "backups"),
        "/etc/keycast/backup.recipient": str(tmp_path / "backup.recipient"),
    }
    assert here.keys() <= set(command(GATEWAY))
    done([here.get(word, word) for word in command(GATEWAY)])
    (made,) = (tmp_path / "backups").iterdir()
    assert stat.S_IMODE(os.stat(made.parent).st_mode) == 0o700 and archive.kind_of_lock(made) == sealed.RECIPIENT
    unlock = sealed.with_private_key(backup_keys.private_key(tmp_path / "home.key"))
    assert "store/gateway.db" in making.verified(made, unlock).members
