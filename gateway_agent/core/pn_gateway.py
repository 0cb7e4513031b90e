"""The PN GW: takes every CPNS message, answers it, and sees to the deliveries."""

from gateway_agent.core.policy import DeliveryPolicy
from gateway_agent.core.ports import Broadcast, Clock, RandomOctets, Signer, Unicast, Uplink
from gateway_agent.store.store import Store


class PnGateway:
    """One PN GW. Composition: see `gateway_agent/app.py`; one instance a process, one process a store."""

    def __init__(
        self,
        *,
        pn_id: str,
        gateway_id: str,
        store: Store,
        uplink: Uplink,
        unicast: Unicast,
        broadcast: Broadcast | None,
        signer: Signer,
        clock: Clock,
        random: RandomOctets,
        policy: DeliveryPolicy,
    ) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        """Continue what a restart interrupted; compare versions with the Server (SEC-02, SEC-28)."""

    async def close(self) -> None:
        """Stop all deliveries; they continue at the next start."""

    async def handle_pne(self, peer_id: str, message: bytes) -> bytes | None:
        """Answer one message of the PNE whose credential authenticated as `peer_id`. Raises cpns.errors.CpnsError."""

    async def handle_server(self, message: bytes) -> bytes:
        """Answer one message of the CPNS Server. Raises cpns.errors.CpnsError."""
        raise NotImplementedError
