"""The kinds of links, one line each. No other place names them.

A kind is a module of this folder. It has `SECTION`, the model of its section of a configuration, and `link_of`, which
makes the link that such a section describes. The module is imported when a link of its kind is wanted.
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
"""Scheme, which begins the places of the link -> module."""


class LinkKind(Protocol):
    """What the module of a kind has."""

    SECTION: type[BaseModel]

    def link_of(self, section: Any) -> Link[Any]:
        """Return the link that a section describes. It is not open yet."""
        ...


def kind(scheme: str) -> LinkKind:
    """Return the module of the kind called `scheme`.

    Raises KeyError, and ImportError if what it needs is not installed.
    """
    return cast(LinkKind, import_module(LINKS[scheme]))


def links_of(sections: Mapping[str, BaseModel]) -> list[Link[Any]]:
    """Return the links that `sections` describe, by scheme, in this order; none is open yet. Raises as `kind`."""
    return [kind(scheme).link_of(section) for scheme, section in sections.items()]
