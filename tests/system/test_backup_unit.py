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

from keycast.copies import making
from keycast.services.home import open_home
from private_store import archive, backup_keys, sealed
from tests.unit.home_world import Home

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
SERVICE, TIMER = UNITS / "keycast-backup.service", UNITS / "keycast-backup.timer"
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed (package systemd)")


def command() -> list[str]:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read(SERVICE)
    return shlex.split(unit["Service"]["ExecStart"])


def analyze(*words: str) -> str:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_systemd
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """With a program of this machine in place of the one that the package installs."""
    for path in (SERVICE, TIMER):
        text = path.read_text().replace("/usr/bin/keycast", "/bin/true").replace("Documentation=man:keycast(1)\n", "")
        (tmp_path / path.name).write_text(text)
    assert analyze("verify", "--man=no", *(str(tmp_path / path.name) for path in (SERVICE, TIMER))) == ""
    told = analyze("security", "--offline=true", "--threshold=20", str(tmp_path / SERVICE.name))
    assert "Overall exposure level" in told


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
    words = [here.get(word, word) for word in command()]
    assert len(here.keys() & set(command())) == len(here)
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "backups").iterdir()
    assert stat.S_IMODE(os.stat(made.parent).st_mode) == 0o700 and archive.kind_of_lock(made) == sealed.RECIPIENT
    unlock = sealed.with_private_key(backup_keys.private_key(tmp_path / "home.key"))
    assert "store/gateway.db" in making.verified(made, unlock).members
