"""The table of the kinds of links that have a section of their own in a configuration. No other place names them.

A link that shares a radio with a broadcast medium is not in it, such as `gatt`: the medium brings it (`Medium.links` in
`gateway_agent/radios/medium.py`).

A kind is a module of this folder. It has `SECTION`, the model of its section of a configuration, and `link_of`, which
returns the link that such a section describes. The module is imported when a link of its kind is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol, cast

from pydantic import BaseModel

from message_plane.links.link import Link

LINKS: dict[str, str] = {
    "memory": "message_plane.links.memory",
    "udp": "message_plane.links.udp",
}
"""Scheme, with which the places of the link begin -> module."""


class LinkKind(Protocol):
    """The names that the module of a kind must have."""

    SECTION: type[BaseModel]

    def link_of(self, section: Any) -> Link[Any]:
        """Return the link that a section describes, which is not open yet."""
        ...


def kind(scheme: str) -> LinkKind:
    """Return the module of the kind called `scheme`.

    Raises KeyError, and ImportError if a package that it needs is not installed.
    """
    return cast(LinkKind, import_module(LINKS[scheme]))


def links_of(sections: Mapping[str, BaseModel]) -> list[Link[Any]]:
    """Return the links that `sections`, by scheme, describe, in the same order. None is open yet. Raises as `kind`."""
    return [kind(scheme).link_of(section) for scheme, section in sections.items()]
