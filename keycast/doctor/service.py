"""The check of the units of systemd: state, restarts, watchdog."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping

from keycast.doctor.finding import Finding, bad, good, warning
from keycast.doctor.surroundings import Surroundings
from keycast.services import units

_UNITS = ("keycast.service", "keycast-gateway.service")
_SCOPES = {"system": [], "user": ["--user"]}
_ASKED = "LoadState,ActiveState,SubState,Type,WatchdogUSec,NRestarts,Result,UnitFileState,MainPID"
_RESTARTS_MAX = 3
_PAGE = "docs/operate.md"


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield the state of each unit of keycast that is installed."""
    systemctl = shutil.which("systemctl")
    if systemctl is None or not units.SYSTEMD_RUNS.is_dir():
        yield good("systemd does not run here: nothing starts the gateway by itself")
        return
    found = False
    for scope, options in _SCOPES.items():
        for unit in _UNITS:
            told = _asked([systemctl, *options, "show", unit, f"--property={_ASKED}"])
            if told.get("LoadState") == "loaded":
                found = True
                yield judged(unit, scope, told)
    if not found:
        yield warning(
            "No unit of systemd starts the gateway: after a power cut it stays off.",
            "Install one: keycast setup",
            _PAGE,
        )


def judged(unit: str, scope: str, told: Mapping[str, str]) -> Finding:
    """Return the finding about one unit, whose properties systemctl has `told`."""
    state = f"{told.get('ActiveState', '?')} ({told.get('SubState', '?')})"
    log = f"journalctl {'--user ' if scope == 'user' else ''}-u {unit}"
    if told.get("ActiveState") == "failed":
        return bad(f"{unit} has failed: {told.get('Result', '?')}.", f"Look why: {log}", _PAGE)
    if told.get("ActiveState") != "active":
        return warning(f"{unit} is {state}.", f"Start it: systemctl{_user(scope)} enable --now {unit}", _PAGE)
    restarts = int(told.get("NRestarts") or 0)
    if restarts > _RESTARTS_MAX:
        return warning(f"{unit} was restarted {restarts} times.", f"Look why: {log}", _PAGE)
    if told.get("Type") != "notify" or told.get("WatchdogUSec", "0") in ("0", "infinity"):
        return warning(
            f"{unit} is {state}, and nothing restarts it if it stands still: it has no watchdog.",
            "Use the unit of this release (Type=notify, WatchdogSec): keycast setup",
            _PAGE,
        )
    if told.get("UnitFileState") == "disabled":
        step = f"Let it start with the machine: systemctl{_user(scope)} enable {unit}"
        return warning(f"{unit} is {state}, and does not start with the machine.", step, _PAGE)
    return good(f"{unit} is {state}, watchdog {told['WatchdogUSec']}, restarted {restarts} times")


def _user(scope: str) -> str:
    return " --user" if scope == "user" else ""


def _asked(command: list[str]) -> dict[str, str]:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
