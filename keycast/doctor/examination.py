"""Makes all checks, one after the other. A check that fails itself is told as a finding and stops no other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from keycast.doctor.finding import Finding, Grade, warning
from keycast.doctor.surroundings import Surroundings

CHECKS: dict[str, str] = {
    "version": "keycast.doctor.release",
    "configuration": "keycast.doctor.configuration",
    "folder": "keycast.doctor.state_folder",
    "disk": "keycast.doctor.disk",
    "clock": "keycast.doctor.time_of_day",
    "gateway": "keycast.doctor.process",
    "service": "keycast.doctor.service",
    "interfaces": "keycast.doctor.networks",
    "ports": "keycast.doctor.ports",
    "firewall": "keycast.doctor.firewall",
    "broadcast": "keycast.doctor.own_broadcast",
    "discovery": "keycast.doctor.discovery",
    "Server": "keycast.doctor.server",
    "broker": "keycast.doctor.brokers",
    "alarms": "keycast.doctor.alarms",
    "boards": "keycast.doctor.boards",
    "backup": "keycast.doctor.backups",
}
"""Name of the check -> module, which has a function `look(here)` that yields findings, at least one."""


@dataclass(frozen=True, slots=True)
class Checked:
    """One finding of the check with this name."""

    check: str
    finding: Finding


def examine(here: Surroundings, checks: Iterable[str] = CHECKS) -> Iterator[Checked]:
    """Make the checks of these names, and yield each finding as soon as it is known."""
    for check in checks:
        try:
            look: Callable[[Surroundings], Iterable[Finding]] = import_module(CHECKS[check]).look
            for finding in look(here):
                yield Checked(check, finding)
        except Exception as error:  # noqa: BLE001 - the person is told, and the other checks are made
            yield Checked(check, _failed(check, error))


def worst(found: Iterable[Checked]) -> Grade:
    """Return the worst grade of all findings."""
    return max((each.finding.grade for each in found), key=list(Grade).index, default=Grade.GOOD)


def _failed(check: str, error: Exception) -> Finding:
    why = str(error) or type(error).__name__
    if isinstance(error, ImportError):
        return warning(
            f"This check needs a package that is not installed: {why}.",
            "Install keycast with the extra gateway: pip install 'keycast[gateway]'",
            "docs/gateway.md",
        )
    return warning(
        f"The check of the {check} could not be made ({type(error).__name__}): {why}",
        "Tell us, with: keycast doctor --bundle FILE",
        "docs/troubleshooting.md",
    )
