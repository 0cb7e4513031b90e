"""The units of systemd by which a gateway is a service, for this very installation of keycast.

They are made of the unit of the Debian package, so that all gateways are watched and confined alike. A service of a
user has of its sandbox what needs no right of root: a manager of a user can change no mounts, and may make no
namespaces on a hardened machine, where the gateway would not start then.
"""

import getpass
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keycast import places

NAME = "keycast-gateway.service"
SYSTEMD_RUNS = Path("/run/systemd/system")  # is there if systemd has started this machine
USER, SYSTEM = "user", "system"
_OF_USER = Path(".config/systemd/user")
_OF_SYSTEM = Path("/etc/systemd/system")
_BLUETOOTH = "bluetooth.conf"
BLUETOOTH_DROP_IN = _OF_SYSTEM / f"{NAME}.d" / _BLUETOOTH

_PACKAGED = Path("/usr/lib/systemd/system") / NAME
PACKAGED_CONFIG = Path("/etc/keycast/keycast.toml")

_HEAD = "# Made by keycast setup, of the unit that the Debian package of keycast has."
_WITHOUT_ROOT = {
    *("Description", "StartLimitIntervalSec", "StartLimitBurst"),
    *(
        "Type",
        "NotifyAccess",
        "ExecStart",
        "WorkingDirectory",
        "UMask",
        "TimeoutStartSec",
        "TimeoutStopSec",
        "WatchdogSec",
    ),
    *("Restart", "RestartSec", "RestartPreventExitStatus"),
    *("KeyringMode", "LockPersonality", "MemoryDenyWriteExecute", "NoNewPrivileges"),
    *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID"),
    *("SystemCallArchitectures", "SystemCallErrorNumber", "SystemCallFilter"),
    *("WantedBy",),
}
"""What of the unit a manager of a user can apply everywhere."""
_OF_PACKAGE = frozenset(("Documentation", "Group", "StateDirectory", "StateDirectoryMode"))
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))


@dataclass(frozen=True)
class Unit:
    """A unit: the `name` that systemctl knows it by, its file and its text, "" if a package has installed it.

    `of_user` is True for a service of the user who calls this. `bluetooth` is the text of BLUETOOTH_DROP_IN, by which
    the gateway may use all of Bluetooth, "" for none; only a service of the system can have it.
    """

    name: str
    path: Path
    text: str
    of_user: bool
    bluetooth: str = ""


def unit_of(scope: str, config: Path, state: Path, *, bluetooth: bool = False) -> Unit:
    """Return the unit of a gateway with the configuration file `config` and the folder `state`, absolute paths.

    `scope` is USER for a service of this user; with SYSTEM the system starts it, as the owner of that file. For the
    file of the package it is the unit of the package. With `bluetooth` the gateway brings keys by Bluetooth LE, too.
    """
    drop_in = (places.UNITS / _BLUETOOTH).read_text() if bluetooth and scope == SYSTEM else ""
    if scope == SYSTEM and config == PACKAGED_CONFIG and _PACKAGED.exists():
        return Unit(NAME, _PACKAGED, "", of_user=False, bluetooth=drop_in)
    command = f"{_word(_program())} gateway run -c {_word(str(config))}"
    own = {"ExecStart": command.replace("$", "$$")}
    own["WorkingDirectory"] = str(config.parent).replace("%", "%%")
    if scope == USER:
        text = _made(own | {"WantedBy": "default.target"}, lambda name: name in _WITHOUT_ROOT)
        return Unit(NAME, Path.home() / _OF_USER / NAME, text, of_user=True)
    own["User"] = _owner(config)
    own |= {"ProtectHome": "read-only", "ReadWritePaths": _word(str(state))}  # both may be in a home folder
    if any(path.is_relative_to(each) for path in (config, state, Path(_program())) for each in _TEMPORARY):
        own["PrivateTmp"] = "no"
    text = _made(own, lambda name: name not in _OF_PACKAGE)
    return Unit(NAME, _OF_SYSTEM / NAME, text, of_user=False, bluetooth=drop_in)


def _made(own: Mapping[str, str], is_kept: Callable[[str], bool]) -> str:
    """Return the unit of the package with the settings `own`, and of its others those that are kept; no comments."""
    lines, missing = [_HEAD], dict(own)
    for line in (places.UNITS / NAME).read_text().splitlines():
        name, is_setting, value = line.partition("=")
        if line.startswith("["):
            if line == "[Install]":
                lines += [f"{each}={value}" for each, value in missing.items() if each != "WantedBy"]
            lines += ["", line]
        elif is_setting and not line.startswith("#") and (name in own or is_kept(name)):
            lines.append(f"{name}={missing.pop(name, value)}")
    return "\n".join(lines) + "\n"


def _program() -> str:
    """Return the command `keycast` of this installation."""
    beside = Path(sys.executable).with_name("keycast")
    return str(beside) if beside.exists() else shutil.which("keycast") or str(beside)


def _owner(config: Path) -> str:
    """Return the user who owns a configuration file, or will own it: root writes it for the owner of the folder."""
    if config.exists():
        return config.owner()
    return config.parent.owner() if os.geteuid() == 0 else getpass.getuser()


def _word(path: str) -> str:
    """Return a path as one word of a setting (systemd.syntax(7)), in which % has a meaning."""
    text = path.replace("%", "%%")
    if not any(each in text for each in " \t;'\"\\"):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
