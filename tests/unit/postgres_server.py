"""A real PostgreSQL server for tests, where one is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

USER = "keycast"


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
        pytest.skip("needs a PostgreSQL server (Debian: sudo apt install postgresql)")
    # The server refuses to run as root: it takes root for somebody else, to whom root's files belong.
    prefix = ["unshare", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
    data, sockets = folder / "data", folder

    def command(*words: str) -> None:
        subprocess.run([*prefix, *words], check=True, capture_output=True, timeout=60, cwd=folder)

    command(str(programs / "initdb"), "-D", str(data), "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={sockets} -c fsync=off"
    control = str(programs / "pg_ctl")
    command(control, "-D", str(data), "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://{USER}@/postgres?host={sockets}"
    finally:
        command(control, "-D", str(data), "-m", "immediate", "-w", "stop")
