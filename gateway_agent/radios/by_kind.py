"""The kinds of broadcast media, one line each. No other place names them.

A kind is a module of this folder. It has `SECTION`, the model of its section of the configuration, and `open_medium`,
which makes the medium that such a section asks for, or returns None where it asks for none. The module is imported when
the configuration has its section.
"""

from collections import Counter
from importlib import import_module
from typing import Any, Protocol, cast

from gateway_agent.config.section import Section
from gateway_agent.radios.medium import Medium

KINDS: dict[str, str] = {
    "broadcast": "gateway_agent.radios.udp_broadcast",
}
"""Name of the section -> module."""


class MediumKind(Protocol):
    """What the module of a kind has."""

    SECTION: type[Section]

    def open_medium(self, section: Any, counters: Counter[str]) -> Medium | None:
        """Return the medium that a section asks for.

        Raises GatewayError, with what a person can do, where there is none.
        """
        ...


def kind(name: str) -> MediumKind:
    """Return the module of the kind with this section. Raises KeyError."""
    return cast(MediumKind, import_module(KINDS[name]))


def open_media(config: object, counters: Counter[str]) -> list[Medium]:
    """Return the media that a configuration asks for. It has an attribute, a section or None, for some of the kinds.

    Raises GatewayError.
    """
    sections = {name: getattr(config, name, None) for name in KINDS}
    media = [kind(name).open_medium(section, counters) for name, section in sections.items() if section is not None]
    return [medium for medium in media if medium is not None]
