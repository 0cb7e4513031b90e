"""The table of the kinds of broadcast media, with one line for each kind. No other place names them.

A kind is a module of this folder. It has `SECTION`, the model of its section of the configuration, and `open_medium`,
which returns the medium that such a section describes, or None if it describes none. The module is imported if the
configuration has its section, and imports the parts of its medium in `open_medium` only, as every command reads the
configuration. The section of `[broadcast]`, which every configuration has, is a module of its own.
"""

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway_agent.config.section import Section

if TYPE_CHECKING:
    from gateway_agent.radios.medium import Medium

KINDS: dict[str, str] = {
    "ble": "gateway_agent.radios.ble",
    "broadcast": "gateway_agent.radios.udp_broadcast",
}
"""Name of the section -> module."""


class MediumKind(Protocol):
    """The names that the module of a kind must have."""

    SECTION: type[Section]

    def open_medium(self, section: Any, counters: Counter[str]) -> "Medium | None":
        """Return the medium that a section describes, None if it describes none.

        Raises GatewayError, with a next step for a person, if the medium is not there.
        """
        ...


def kind(name: str) -> MediumKind:
    """Return the module of the kind with this section. Raises KeyError."""
    return cast(MediumKind, import_module(KINDS[name]))


def open_media(config: object, counters: Counter[str]) -> "list[Medium]":
    """Return the media that a configuration describes. Its attributes named like kinds are sections or None.

    Raises GatewayError.
    """
    sections = {name: getattr(config, name, None) for name in KINDS}
    media = [kind(name).open_medium(section, counters) for name, section in sections.items() if section is not None]
    return [medium for medium in media if medium is not None]
