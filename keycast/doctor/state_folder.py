"""The check of the state folder: whose it is, and who may read what is in it."""

import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from gateway_agent.store.errors import RESTORE_BACKUP
from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings
from private_store import contents
from private_store.errors import StoreUnusable

_OTHERS_ANY, _OTHERS_WRITE = 0o077, 0o022
_PAGE = "docs/gateway.md"
_NAMED_MAX = 5


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield what is wrong with owner and modes of the folder and of the files in it."""
    state = here.state
    if state is None:
        return
    try:
        status = os.lstat(state)
    except FileNotFoundError:
        yield good(f"{state} is not there yet: the first start makes it")
        return
    except OSError as error:
        yield bad(
            f"{state} cannot be looked at: {error.strerror}.", "Look as the user of the gateway, or as root.", _PAGE
        )
        return
    if not stat.S_ISDIR(status.st_mode):
        yield bad(f"{state} is no folder.", "Name the folder itself as gateway.state_dir.", _PAGE)
        return
    found = [*_of_folder(state, status), *_of_files(state, status.st_uid)] or [*_of_lists(state)]
    yield from found or [good(f"{state} belongs to {_user(status.st_uid)} and is private")]


def _of_folder(state: Path, status: os.stat_result) -> Iterator[Finding]:
    if status.st_mode & _OTHERS_WRITE:
        yield bad(f"Others can write to {state}.", f"Run: chmod 700 {shlex.quote(str(state))}", _PAGE)
    elif status.st_mode & _OTHERS_ANY:
        yield warning(
            f"Others can see the names of the files in {state}.", f"Run: chmod 700 {shlex.quote(str(state))}", _PAGE
        )
    if status.st_uid != os.geteuid() and os.geteuid() != 0:
        yield warning(
            f"{state} belongs to {_user(status.st_uid)}, and this command runs as another user.",
            "Run it as that user, or as root.",
            _PAGE,
        )


def _of_files(state: Path, owner: int) -> Iterator[Finding]:
    seen_by_others, of_others = [], []
    for folder, _, names in os.walk(state):
        for name in names:
            path = Path(folder) / name
            try:
                status = os.lstat(path)
            except OSError:  # it was removed meanwhile, as the files beside a database are
                continue
            if stat.S_ISREG(status.st_mode) and status.st_mode & _OTHERS_ANY:
                seen_by_others.append(path)
            if status.st_uid != owner:
                of_others.append(path)
    if seen_by_others:
        yield bad(
            f"Others can read or write files in {state}: {_listed(state, seen_by_others)}.",
            f"Run: chmod -R go= {shlex.quote(str(state))}",
            _PAGE,
        )
    if of_others:
        yield bad(
            f"Files in {state} belong to another user than the folder: {_listed(state, of_others)}. The gateway cannot "
            "use them.",
            f"Run, as root: chown -R {_user(owner)} {shlex.quote(str(state))}",
            _PAGE,
        )


def _of_lists(state: Path) -> Iterator[Finding]:
    """Yield what a start refuses: what was made there once (SEC-37), and is gone or something else now."""
    gone, others = [], []
    for folder, folders, names in os.walk(state):
        if contents.NAME not in (*folders, *names):
            continue
        try:
            made = contents.made(Path(folder))
        except StoreUnusable as fault:
            yield bad(fault.what, fault.next_step, _PAGE)
            continue
        for name in made:
            path = Path(folder) / name
            try:
                status = os.lstat(path)
            except OSError:
                gone.append(path)
                continue
            if stat.S_ISREG(status.st_mode) and not status.st_size:
                gone.append(path)
            elif not (stat.S_ISDIR if name.endswith("/") else stat.S_ISREG)(status.st_mode):
                others.append(path)
    if gone:
        yield bad(f"Missing or empty in {state}, and not so before: {_listed(state, gone)}.", RESTORE_BACKUP, _PAGE)
    if others:
        yield bad(
            f"Something else has the name of a file or folder in {state}: {_listed(state, others)}.",
            f"Put back the right one, or all of it. {RESTORE_BACKUP}",
            _PAGE,
        )


def _listed(state: Path, paths: list[Path]) -> str:
    names = sorted(str(path.relative_to(state)) for path in paths)
    more = len(names) - _NAMED_MAX
    return ", ".join(names[:_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
