"""Makes the gateway a service of systemd: writes its unit if none is installed, enables and starts it."""

import getpass
import os
import shutil
import subprocess
from pathlib import Path

from gateway_agent.errors import GatewayError
from keycast.services import units
from keycast.services.units import BLUETOOTH_DROP_IN, SYSTEM, USER, Unit

_WITHIN_S = 60
_LINGERING = Path("/var/lib/systemd/linger")


class NoService(GatewayError):
    """The gateway cannot become a service here. The text says why, and what the person can do."""

    word = "no-service"


def become(unit: Unit) -> None:
    """Write `unit` where it is not there yet, enable it, and start it or start it anew. Raises NoService."""
    if unit.text:
        _write(unit.path, unit.text)
    if not unit.of_user:
        _write(BLUETOOTH_DROP_IN, unit.bluetooth)
    _systemctl(unit, "daemon-reload")
    _systemctl(unit, "enable", unit.name)
    _systemctl(unit, "restart", unit.name)


def hindrances() -> dict[str, str]:
    """Return why this user cannot have a service on this machine, by the scope of its unit."""
    if shutil.which("systemctl") is None or not units.SYSTEMD_RUNS.is_dir():
        nothing = "systemd, which would start it, does not run on this machine: start the gateway in a terminal."
        return {USER: nothing, SYSTEM: nothing}
    if os.geteuid() != 0:
        return {SYSTEM: "A service of the system is made by root: give the command with sudo, or take one of your own."}
    return {}


def has_to_linger() -> bool:
    """Return whether the services of this user end when the user logs out."""
    return os.geteuid() != 0 and not (_LINGERING / getpass.getuser()).exists()


def lacks_bluetooth() -> bool:
    """Return whether no gateway that is a service of the system may use all of Bluetooth."""
    return not BLUETOOTH_DROP_IN.exists()


def _write(path: Path, text: str) -> None:
    """Write a file of systemd; without a text there is none afterwards."""
    try:
        if not text:
            path.unlink(missing_ok=True)
            return
        if path.exists() and path.read_text() == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.write_text(text)
        unfinished.replace(path)
    except OSError as error:
        raise NoService(f"Cannot write {path}: {error.strerror}.", "Check its folder and disk.") from None


def _systemctl(unit: Unit, *words: str) -> None:
    command = ["systemctl", *(["--user"] if unit.of_user else []), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoService(f"`{' '.join(command)}` did not end: {error}.", "Look into the journal.") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise NoService(f"`{' '.join(command)}` failed: {said}.", f"Try it by hand; the unit is {Path(unit.path)}.")
