"""The table of links: the only place that names them. A link is loaded when it is asked for.

To add one: write a module in this folder with a subclass of `link.Link`, and a line here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from message_plane.links.link import Link

LINKS = {
    "memory": "message_plane.links.memory.MemoryLink",
    "udp": "message_plane.links.udp.UdpLink",
}


def kind(scheme: str) -> type[Link[Any]]:
    """The class of the link called `scheme`; its `Section` is the model of its section of a configuration.

    Raises KeyError if there is none, and ImportError if what it needs is not installed.
    """
    module, _, name = LINKS[scheme].rpartition(".")
    return cast(type[Link[Any]], getattr(import_module(module), name))


def made(scheme: str, **section: Any) -> Link[Any]:
    """The link called `scheme` with these values of its section. Raises as `kind`, and pydantic's ValidationError."""
    link = kind(scheme)
    return link.of(link.Section(**section))
