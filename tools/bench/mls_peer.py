"""MLS (RFC 9420) as a peer: npm's ts-mls, installed from the lock file beside `remove_one.mjs`, run by node."""

import functools
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tools import PROJECT

SOURCES = Path(__file__).with_name("mls")
PLACE = PROJECT / "build" / "bench" / "mls"
_INSTALL_S = 120
_RUN_S = 120


class NotAvailable(Exception):
    """ts-mls is not available here. The text says why, in one sentence."""


@dataclass(frozen=True)
class RemoveOne:
    """The costs of removing one of n members: octets of the commit, milliseconds at the sender and at one receiver."""

    octets: int
    send_ms: float
    receive_ms: float


@functools.cache
def remove_one(members: int) -> RemoveOne:
    """Return these costs in a group of `members`, measured once in a process. Raises NotAvailable."""
    run = _run("node", "remove_one.mjs", str(members), folder=_installed(), timeout_s=_RUN_S)
    return RemoveOne(**json.loads(run.splitlines()[-1]))


@functools.cache
def _installed() -> Path:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise NotAvailable(f"no {program} on this machine")
    PLACE.mkdir(parents=True, exist_ok=True)
    lock = PLACE / "package-lock.json"
    unchanged = lock.exists() and lock.read_bytes() == (SOURCES / lock.name).read_bytes()
    shutil.copytree(SOURCES, PLACE, dirs_exist_ok=True, ignore=shutil.ignore_patterns(lock.name, "node_modules"))
    if not unchanged or not (PLACE / "node_modules" / "ts-mls").is_dir():
        lock.unlink(missing_ok=True)
        shutil.copy(SOURCES / lock.name, PLACE)
        try:
            _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=PLACE, timeout_s=_INSTALL_S)
        except NotAvailable:
            lock.unlink()
            raise
    return PLACE


def _run(*command: str, folder: Path, timeout_s: float) -> str:
    try:
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=True)
    except subprocess.CalledProcessError as error:
        words = [line for line in error.stderr.splitlines() if "error" in line.lower()] or [f"exit {error.returncode}"]
        raise NotAvailable(f"{command[0]} {command[1]}: {words[0].strip()}") from None
    except subprocess.TimeoutExpired:
        raise NotAvailable(f"{command[0]} {command[1]} took longer than {timeout_s:g} s") from None
    return run.stdout
