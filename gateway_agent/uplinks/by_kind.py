"""The table of the kinds of uplink, with one line for each kind. No other place names them.

A kind is a module of this folder. It has `SECTION`, the model of `[uplink]` if `kind` in it names the module,
`link_of`, which returns the link that such an uplink brings, if it does, `try_brokers`, which tries that link, and
`open_uplink`, which returns the uplink that such a section describes. The module is imported if the configuration has
`[uplink]`. It must import the parts of its uplink in these functions only, because a configuration is also read without
the extra `gateway`. Each setting of a kind must have a default, because settings of all kinds may be in the file; a
validator of the whole model checks that the settings that a kind needs are there.
"""

from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from gateway_agent.uplinks.uplink import OpenUplink, UplinkSection

if TYPE_CHECKING:
    from gateway_agent.uplinks.broker_trial import BrokerTrial
    from message_plane.endpoint import Endpoint
    from message_plane.links.link import Link

KINDS: dict[str, str] = {
    "embedded": "gateway_agent.uplinks.embedded",
    "mqtt": "gateway_agent.uplinks.mqtt",
    "udp": "gateway_agent.uplinks.udp",
}
"""Value of `kind` -> module."""


class UplinkKind(Protocol):
    """The names that the module of a kind must have."""

    SECTION: type[UplinkSection]

    def link_of(self, section: Any, gateway_id: str, counters: Counter[str]) -> "Link[Any] | None":
        """Return the link of the PN GW `gateway_id` to its Server, not open yet; None if it is that to the boards.

        `counters` counts what the link ignores. Raises GatewayError, PlaneError.
        """
        ...

    async def try_brokers(self, section: Any, gateway_id: str) -> "list[BrokerTrial]":
        """Try each broker on the way to the Server, and send nothing that changes anything; [] if there are none.

        Raises PlaneError for files that cannot be used.
        """
        ...

    def open_uplink(self, section: Any, endpoint: "Endpoint", link: "Any") -> OpenUplink:
        """Return the uplink that a section describes, which sends nothing before it is used. Raises GatewayError.

        `link` is what `link_of` has returned; `endpoint` has opened it.
        """
        ...


def kind(name: str) -> UplinkKind:
    """Return the module of the kind called `name`.

    Raises KeyError, and ImportError if what it needs is not installed.
    """
    return cast(UplinkKind, import_module(KINDS[name]))


def link_of(section: UplinkSection, gateway_id: str, counters: Counter[str]) -> "Link[Any] | None":
    """Return the link that the uplink of `section` brings, None if it brings none. Raises GatewayError, PlaneError."""
    return kind(section.kind).link_of(section, gateway_id, counters)


async def try_brokers(section: UplinkSection, gateway_id: str) -> "list[BrokerTrial]":
    """Return how each broker on the way to the Server treats this PN GW. Raises PlaneError for unusable files."""
    return await kind(section.kind).try_brokers(section, gateway_id)


def open_uplink(section: UplinkSection, endpoint: "Endpoint", link: "Link[Any] | None" = None) -> OpenUplink:
    """Return the uplink that `section` describes, over the sessions of `endpoint`. Raises GatewayError."""
    return kind(section.kind).open_uplink(section, endpoint, link)
