"""The units of systemd by which a gateway is a service, for this very installation of keycast."""

import getpass
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

NAME = "keycast-gateway.service"
USER, SYSTEM = "user", "system"
_OF_USER = Path(".config/systemd/user")
_OF_SYSTEM = Path("/etc/systemd/system")

_PACKAGED = Path("/usr/lib/systemd/system") / NAME
_PACKAGED_CONFIG = Path("/etc/keycast/keycast.toml")

_TEXT = """\
[Unit]
Description=keycast PN GW
{after}StartLimitIntervalSec=60
StartLimitBurst=4

[Service]
Type=notify
NotifyAccess=main
{account}ExecStart={program} gateway run -c {config}
UMask=0077
TimeoutStartSec=300
WatchdogSec=60
Restart=on-failure
RestartSec=15
RestartPreventExitStatus=2 78
NoNewPrivileges=yes

[Install]
WantedBy={target}
"""
_AFTER = "After=network-online.target bluetooth.service\nWants=network-online.target\n"
_ACCOUNT = "User={user}\nAmbientCapabilities=CAP_NET_ADMIN\nCapabilityBoundingSet=CAP_NET_ADMIN\n"


@dataclass(frozen=True)
class Unit:
    """A unit: the `name` that systemctl knows it by, its file and its text, "" if a package has installed it.

    `of_user` is True for a service of the user who calls this.
    """

    name: str
    path: Path
    text: str
    of_user: bool


def unit_of(scope: str, config: Path) -> Unit:
    """Return the unit of a gateway with the configuration file `config`, an absolute path.

    `scope` is USER for a service of this user; with SYSTEM the system starts it, as the owner of that file. For the
    file of the package it is the unit of the package.
    """
    if scope == SYSTEM and config == _PACKAGED_CONFIG and _PACKAGED.exists():
        return Unit(NAME, _PACKAGED, "", of_user=False)
    how = {"program": _quoted(_program()), "config": _quoted(str(config))}
    if scope == USER:
        text = _TEXT.format(after="", account="", target="default.target", **how)
        return Unit(NAME, Path.home() / _OF_USER / NAME, text, of_user=True)
    user = config.owner() if config.exists() else getpass.getuser()
    account = _ACCOUNT.format(user=user)
    text = _TEXT.format(after=_AFTER, account=account, target="multi-user.target", **how)
    return Unit(NAME, _OF_SYSTEM / NAME, text, of_user=False)


def _program() -> str:
    """Return the command `keycast` of this installation."""
    beside = Path(sys.executable).with_name("keycast")
    return str(beside) if beside.exists() else shutil.which("keycast") or str(beside)


def _quoted(path: str) -> str:
    """Return a path as one word of ExecStart (systemd.service(5)), in which % and $ have a meaning."""
    text = path.replace("%", "%%").replace("$", "$$")
    return f'"{text}"' if any(each in text for each in " \t;'") else text
