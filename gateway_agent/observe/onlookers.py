"""The onlookers of a gateway: parts that show it, and without which it is what it is. One line for each.

An onlooker is a module. It has `SECTION`, the model of its section of the configuration, `EXTRA`, and `open_onlooker`;
importing the module imports no package of that extra, as every command reads the configuration. An onlooker that fails
stops no key: it raises an alarm, and tries again.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway_agent.config.section import Section
from gateway_agent.errors import GatewayError

if TYPE_CHECKING:
    from gateway_agent.control import Command
    from gateway_agent.observe.sight import Sight

ONLOOKERS: dict[str, str] = {
    "web": "gateway_agent.web.onlooker",
    "mqtt": "gateway_agent.home_assistant.onlooker",
    "metrics": "gateway_agent.observe.metrics_onlooker",
}
"""Name of the section -> module."""


class Onlooker(Protocol):
    """A part that shows a gateway, from `start` to `close`."""

    @property
    def commands(self) -> "Mapping[str, Command]":
        """Functions for the control socket, by the names of their commands; most onlookers have none."""
        ...

    async def start(self) -> None:
        """Begin to show the gateway. What cannot be opened becomes an alarm, and is tried again."""
        ...

    async def close(self) -> None:
        """Stop, and release everything. Does nothing before `start`."""
        ...


class OnlookerKind(Protocol):
    """The names that the module of an onlooker must have. `EXTRA`: the packages of its extra, by name of the module."""

    SECTION: type[Section]
    EXTRA: tuple[str, ...]

    def open_onlooker(self, section: Any, sight: "Sight") -> Onlooker | None:
        """Return the onlooker that a section describes, None if another section's onlooker does its work."""
        ...


def kind(name: str) -> OnlookerKind:
    """Return the module of the onlooker with this section. Raises KeyError."""
    return cast(OnlookerKind, import_module(ONLOOKERS[name]))


def require_packages(config: object) -> None:
    """Raise GatewayError if a package that a section of the configuration needs is not installed."""
    for name in _wanted(config):
        if missing := [each for each in kind(name).EXTRA if find_spec(each) is None]:
            raise GatewayError(
                f"The section [{name}] needs {' and '.join(missing)}, not installed with keycast.",
                f"Run: {sys.executable} -m pip install 'keycast[{name}]'",
            )


def open_onlookers(config: object, sight: "Sight") -> list[Onlooker]:
    """Return the onlookers of a configuration, not started. Its attributes named like sections are sections or None."""
    opened = [kind(name).open_onlooker(getattr(config, name), sight) for name in _wanted(config)]
    return [each for each in opened if each is not None]


def _wanted(config: object) -> list[str]:
    return [name for name in ONLOOKERS if getattr(config, name, None) is not None]
