"""The CPNS Server in the gateway's process: the two call each other's handlers with the octets of the messages."""

from cpns.errors import CpnsError
from gateway_agent.core.ports import NoAnswer
from key_servers.cpns_server.app import CpnsServer


class InProcessUplink:
    """`gateway_agent.core.ports.Uplink` to a CPNS Server in the same process."""

    def __init__(self, server: CpnsServer, gateway_id: str) -> None:
        self._server = server
        self._gateway_id = gateway_id

    async def request(self, message: bytes) -> bytes:
        """The Server's answer. Raises NoAnswer where a Server elsewhere would refuse the request as a whole."""
        try:
            return await self._server.handle(self._gateway_id, message)
        except CpnsError as error:
            raise NoAnswer(f"the CPNS Server refused: {error.reason}") from None
