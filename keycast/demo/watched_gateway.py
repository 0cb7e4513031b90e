"""A PN GW in the hands of an attacker: all that passes it, and all that it stores, is searched for keys."""

from collections import Counter
from typing import Any

from cpns import messages, numbers
from cpns.errors import CpnsError
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from message_plane.resource import Answer
from message_plane.session import Peer


class WatchedGateway(GatewayApp):
    """A PN GW as any other. `passed` are the messages that it got and answered, as it read them, in order."""

    def __init__(
        self, config: GatewayConfig, identity: OwnIdentity, signing_key: BroadcastSigningKey, counters: Counter[str]
    ) -> None:
        super().__init__(config, identity, signing_key, counters)
        self.passed: list[bytes] = []

    async def _handle_pne(self, peer: Peer, message: bytes) -> bytes | None:
        self.passed.append(message)
        answer = await super()._handle_pne(peer, message)
        self.passed.append(answer or b"")
        return answer

    async def _handle_server(self, peer: Peer, message: bytes) -> Answer:
        self.passed.append(message)
        answer = await super()._handle_server(peer, message)
        self.passed.append(answer.body or b"")
        return answer

    def wrapped_keys(self, sg_id: str) -> list[tuple[bytes, dict[int, Any]]]:
        """Return the messages of the CPNS Server that hold a wrapped key of this Service Group, with their fields."""
        found = []
        for message in self.passed:
            try:
                code, fields = messages.decode(message)
            except CpnsError:
                continue
            if code == numbers.S_GROUP_KEY_DELIVERY_REQUEST and fields[messages.SGID] == sg_id:
                found.append((message, fields))
        return found

    def holds(self, octets: bytes) -> bool:
        """Return True if `octets` stand in a message that passed it, or in a file of its state folder."""
        files = [path for path in self.config.gateway.state_dir.rglob("*") if path.is_file()]
        return any(octets in message for message in self.passed) or any(octets in path.read_bytes() for path in files)
