"""Real PostgreSQL servers for tests, where one is installed: they can be stopped, killed, copied and promoted."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

USER = "keycast"


def _postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


class PostgresNode:
    """One server in `folder`, reached by a Unix socket only. `durable`: what it acknowledges is on the medium."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        programs = _postgres_programs()
        if programs is None:
            pytest.skip("needs a PostgreSQL server (Debian: sudo apt install postgresql)")
        # The server refuses to run as root: it takes root for somebody else, to whom root's files belong.
        self._prefix = ["unshare", "--map-user=1000", "--map-group=1000"] if os.geteuid() == 0 else []
        self._programs = programs
        self._durable = durable
        self.folder = folder
        self.data = folder / "data"
        self.url = f"postgresql://{USER}@/postgres?host={folder}"

    def make(self) -> None:
        """Make an empty cluster."""
        self._run("initdb", "-D", str(self.data), "-U", USER, "--auth=trust", "--no-sync", "-E", "UTF8")

    def start(self, *settings: str) -> None:
        """Start it, with `settings` (name=value) beside those of every test."""
        every = ["listen_addresses=", f"unix_socket_directories={self.folder}"]
        options = [f"-c {each}" for each in (*every, *settings, *(() if self._durable else ["fsync=off"]))]
        self._control("-o", " ".join(options), "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; with mode immediate, as if it was killed."""
        self._control("-m", mode, "-w", "stop")

    def promote(self) -> None:
        """Let a standby be the primary from now on."""
        self._control("-w", "promote")

    def suspend(self) -> None:
        """Stop all of its processes where they are: it accepts connections, and answers nothing."""
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def standby(self, folder: Path) -> "PostgresNode":
        """Return a standby of this server, made now and not started, that is named `standby` to it."""
        other = PostgresNode(folder, durable=self._durable)
        said = f"host={self.folder} user={USER} application_name=standby"
        self._run("pg_basebackup", "-D", str(other.data), "-R", "-X", "stream", "-c", "fast", "--no-sync", "-d", said)
        return other

    @property
    def runs(self) -> bool:
        return (self.data / "postmaster.pid").exists()

    def _pids(self) -> list[int]:
        first = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        below = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, below)]

    def _control(self, *words: str) -> None:
        self._run("pg_ctl", "-D", str(self.data), *words)

    def _run(self, program: str, *words: str) -> None:
        run = [*self._prefix, str(self._programs / program), *words]
        subprocess.run(run, check=True, capture_output=True, timeout=PATIENCE_S, cwd=self.folder)


@contextmanager
def postgres_node(folder: Path, *settings: str, durable: bool = False) -> Iterator[PostgresNode]:
    """A running PostgreSQL server of our own in `folder`. Skips where none is installed."""
    node = PostgresNode(folder, durable=durable)
    node.make()
    node.start(*settings)
    try:
        yield node
    finally:
        if node.runs:
            node.stop("immediate")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """The URL of such a server."""
    with postgres_node(folder) as node:
        yield node.url
