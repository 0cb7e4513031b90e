"""`python -m tools.deb_requirements`: the packages of the Debian package, one `name==version` a line.

They are those that the extras of a gateway need, and what these need, in the versions of requirements.lock.
"""

import re
import tomllib
from importlib.metadata import distribution

from packaging.requirements import Requirement

from tools import PROJECT

EXTRAS = ("gateway", "web", "mqtt", "metrics", "ble", "seal", "postgres", "fast", "board")


def requirements() -> list[str]:
    """Return the lines, in the order of their names. What they need is read from the packages of this environment."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [*project["dependencies"], *(each for extra in EXTRAS for each in extras.get(extra, ()))]
    seen: set[tuple[str, frozenset[str]]] = set()
    names: set[str] = set()
    while waiting:
        wanted = Requirement(waiting.pop())
        key = (_canonical(wanted.name), frozenset(wanted.extras))
        if key in seen or not _applies(wanted, frozenset()):
            continue
        seen.add(key)
        names.add(key[0])
        needed = map(Requirement, distribution(wanted.name).requires or ())
        waiting += [str(each) for each in needed if _applies(each, key[1])]
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    return sorted(line for line in lines if "==" in line and _canonical(line.split("==")[0]) in names)


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or ("",))


if __name__ == "__main__":
    print("\n".join(requirements()))
