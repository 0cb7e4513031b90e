"""A PostgreSQL server for measurements, in a folder of its own, reached by a Unix socket only."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "keycast"
_PATIENCE_S = 60


class NoPostgres(Exception):
    """There is no PostgreSQL server on this machine."""


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Run a server whose files are in `folder`, and yield its URL. Its commits are synced. Raises NoPostgres."""
    programs = _programs()
    folder.mkdir(mode=0o700)
    data = str(folder / "data")
    # The server refuses to run as root: it takes root for somebody else, to whom root's files belong.
    prefix = ["unshare", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []

    def run(program: str, *words: str) -> None:
        command = [*prefix, str(programs / program), "-D", data, *words]
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S, cwd=folder)

    run("initdb", "-U", _USER, "--auth=trust", "--no-sync", "-E", "UTF8")
    options = f"-c listen_addresses= -c unix_socket_directories={folder}"
    run("pg_ctl", "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://{_USER}@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-m", "immediate", "-w", "stop")


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise NoPostgres("There is no PostgreSQL server on this machine. Debian: sudo apt install postgresql")
    return (found[-1] if found else Path(str(on_path))).parent
