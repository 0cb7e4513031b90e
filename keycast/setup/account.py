"""The account that a gateway runs as: what lies in its state folder, and its passwords, must be that account's.

Root sets up a gateway of another account, such as that of the package. What is made for the gateway is then made as
that account.
"""

import grp
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    uid: int
    gid: int


def account_of(config: Path, state_dir: Path) -> Account | None:
    """Return the account of the gateway with the file `config`, None if it is that of this process.

    It is the owner of the state folder, or else of the file, or the one that the file's group is named after.
    """
    if os.geteuid() != 0:
        return None
    with suppress(OSError):
        status = os.stat(state_dir)
        return Account(status.st_uid, status.st_gid) if status.st_uid else None
    with suppress(OSError, KeyError):
        status = os.stat(config)
        if status.st_uid:
            return Account(status.st_uid, status.st_gid)
        if status.st_gid:
            named = pwd.getpwnam(grp.getgrgid(status.st_gid).gr_name)
            return Account(named.pw_uid, named.pw_gid)
    return None


@contextmanager
def acting_as(account: Account | None) -> Iterator[None]:
    """Let this process, which is root's, act as `account` while the `with` block runs; None changes nothing."""
    if account is None:
        yield
        return
    group = os.getegid()
    os.setegid(account.gid)
    os.seteuid(account.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def name_of(uid: int) -> str:
    """Return the name of a user, for sentences."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"the user {uid}"
