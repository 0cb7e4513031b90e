"""What a gateway knows of the machine that it runs on: its networks, addresses, brokers and writes."""

from dataclasses import dataclass

from gateway_agent.observe.snapshot import BrokerView, NetworkView


@dataclass(frozen=True, slots=True)
class MachineView:
    """The part of a snapshot that comes neither from the store nor from the core; the fields are as in `Snapshot`."""

    networks: tuple[NetworkView, ...]
    addresses: tuple[str, ...]
    brokers: tuple[BrokerView, ...]
    commits: int
    backed_up_at: int = 0
