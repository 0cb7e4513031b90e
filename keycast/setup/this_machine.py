"""What `keycast setup` finds on this machine before it asks: networks and Bluetooth adapters. Nothing is changed."""

from dataclasses import dataclass, field

from gateway_agent.net import interfaces
from gateway_agent.net.interfaces import Interface
from gateway_agent.radios import adapters
from gateway_agent.radios.ble_sender import NoSender
from keycast.setup import becoming_a_service


@dataclass(frozen=True)
class ThisMachine:
    """The IPv4 networks of this machine, the names of its Bluetooth adapters, and why it starts no service.

    `no_service`: scope of a unit (`keycast.services.units`) -> why this user cannot have such a service here.
    """

    networks: list[Interface] = field(default_factory=list)
    adapters: list[str] = field(default_factory=list)
    no_service: dict[str, str] = field(default_factory=dict)

    @property
    def automatic(self) -> list[Interface]:
        """The networks that "auto" stands for now."""
        return interfaces.matching([interfaces.AUTO], self.networks)

    @property
    def others(self) -> list[tuple[Interface, str]]:
        """The networks that can be named beside "auto", each with the reason why "auto" leaves it out."""
        return [(each, each.left_out) for each in self.networks if each.broadcast and each.left_out]

    @property
    def address(self) -> str:
        """An address of this machine on the home network, "" if it has none now."""
        return next((each.address for each in self.automatic if not each.standstill), "")


def look() -> ThisMachine:
    """Return what is here now."""
    try:
        found = [each.name for each in adapters.look()]
    except (OSError, NoSender):  # no Bluetooth in this kernel or container: then there is nothing to ask
        found = []
    return ThisMachine(interfaces.every_interface(), found, becoming_a_service.hindrances())
