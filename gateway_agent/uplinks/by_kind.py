"""The kinds of uplink, one line each. No other place names them.

A kind is a module of this folder. It has `SECTION`, the model of `[uplink]` where `kind` in it names the module, and
`open_uplink`, which makes the uplink that such a section asks for. The module is imported when the configuration has
`[uplink]`; what an uplink is made of, when it is opened: a configuration is read without the extra `gateway`. Each
setting of a kind has a default, as all may stand side by side in the file; what a kind needs, its model demands as a
whole.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway_agent.uplinks.uplink import OpenUplink, UplinkSection

if TYPE_CHECKING:
    from message_plane.endpoint import Endpoint

KINDS: dict[str, str] = {
    "embedded": "gateway_agent.uplinks.embedded",
    "udp": "gateway_agent.uplinks.udp",
}
"""Value of `kind` -> module."""


class UplinkKind(Protocol):
    """What the module of a kind has."""

    SECTION: type[UplinkSection]

    def open_uplink(self, section: Any, endpoint: "Endpoint") -> OpenUplink:
        """Return the uplink that a section asks for; nothing is sent before its `start`. Raises GatewayError."""
        ...


def kind(name: str) -> UplinkKind:
    """Return the module of the kind called `name`.

    Raises KeyError, and ImportError if what it needs is not installed.
    """
    return cast(UplinkKind, import_module(KINDS[name]))


def open_uplink(section: UplinkSection, endpoint: "Endpoint") -> OpenUplink:
    """Return the uplink that `section` asks for, over the sessions of `endpoint`. Raises GatewayError."""
    return kind(section.kind).open_uplink(section, endpoint)
