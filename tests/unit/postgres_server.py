"""A real PostgreSQL server for tests, where one is installed."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server of our own in `folder`, reached by a Unix socket only; gives its URL. Skips without one."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server installed (Debian: postgresql)")
    prefix: list[str] = []
    user = pwd.getpwuid(os.geteuid()).pw_name
    if os.geteuid() == 0:  # the server refuses to run as root
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("runs as root and there is no user postgres to run the server as")
        user, prefix = "postgres", ["runuser", "-u", "postgres", "--"]
        for each in (folder, *folder.parents):
            if each.stat().st_uid == 0 and len(each.parts) > 2:
                each.chmod(each.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres")
    data, sockets = folder / "data", folder

    def command(*words: str) -> None:
        subprocess.run([*prefix, *words], check=True, capture_output=True, timeout=60, cwd=folder)

    command(str(programs / "initdb"), "-D", str(data), "-U", user, "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c fsync=off"
    control = str(programs / "pg_ctl")
    command(control, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://{user}@/postgres?host={sockets}"
    finally:
        command(control, "-D", str(data), "-m", "immediate", "-w", "stop")
