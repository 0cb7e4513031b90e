"""The check of the release of keycast, and of the Python that it runs with."""

import platform
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec

from keycast.doctor.finding import Finding, good, warning
from keycast.doctor.surroundings import Surroundings

_NEEDED = {"aiocoap": "gateway", "lakers": "gateway", "zeroconf": "gateway"}
_NEEDED_BY_SECTION = {
    "ble": {"bumble": "ble", "bleak": "ble"},
    "seal": {"aiohttp": "seal", "lxml": "seal"},
    "web": {"aiohttp": "web", "jinja2": "web", "segno": "web"},
    "mqtt": {"aiomqtt": "mqtt"},
    "metrics": {"aiohttp": "metrics", "jinja2": "metrics", "prometheus_client": "metrics"},
}


def look(here: Surroundings) -> Iterator[Finding]:
    """Yield the releases, and what the configuration needs and is not installed."""
    own = version("keycast")
    yield good(f"keycast {own}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}")
    running = None if here.status is None else here.status.get("release")
    if running is not None and running != own:
        yield warning(
            f"The running gateway is keycast {running}: it was not restarted since this one was installed.",
            "Restart it.",
            "docs/operate.md",
        )
    wanted = dict(_NEEDED)
    for section, packages in _NEEDED_BY_SECTION.items():
        if getattr(here.config, section, None) is not None:
            wanted |= packages
    missing = sorted({extra for package, extra in wanted.items() if find_spec(package) is None})
    if missing:
        extras = ",".join(missing)
        yield warning(
            f"Packages of the extras {extras} are not installed, and the configuration needs them.",
            f"Install them: {sys.executable} -m pip install 'keycast[{extras}]'",
            "docs/operate.md",
        )
