"""A PNE without virtual machine and without GKDK: keys and session of its own, and the messages a test tells it."""

from pathlib import Path

from cpns import messages, numbers
from message_plane.cpns_resource import PATH, board_resource
from message_plane.credentials import Credential
from message_plane.endpoint import Endpoint, Peer
from message_plane.identity import OwnIdentity
from message_plane.links.udp import UdpLink, place_of
from message_plane.session_file import SessionFile
from tests.waiting import PATIENCE_S


class SimulatedPne:
    """Speaks for `pne_id` from a loopback address. `keys` are the Group Keys it was given: (SG ID, version) -> key."""

    def __init__(self, folder: Path, pne_id: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pne_id = pne_id
        self.identity = OwnIdentity.create(folder / f"{pne_id}.key", pne_id, "pne")
        self.sessions = SessionFile(folder / f"{pne_id}.db")
        self.keys: dict[tuple[str, int], bytes] = {}
        self.got: list[int] = []
        self.endpoint: Endpoint
        self._gateway_id = ""

    async def connect(self, gateway: Credential, address: tuple[str, int]) -> None:
        """Make a session with the PN GW at `address`, which knows this PNE's credential."""
        self.sessions.register(gateway)
        self._gateway_id = gateway.entity_id
        self.endpoint = await Endpoint.open(
            identity=self.identity,
            store=self.sessions,
            resources={"gateway": {PATH: board_resource(self._take)}},
            links=[UdpLink([("127.0.0.1", 0)])],
        )
        await self.endpoint.connect(gateway.entity_id, place_of(*address))

    async def ask(self, code: int, fields: dict, timeout_s: float = PATIENCE_S) -> dict:
        """One CPNS message in this PNE's name; the fields of its answer."""
        message = messages.encode(code, {messages.PNE_ID: self.pne_id, **fields})
        answer = await self.endpoint.request(self._gateway_id, message, resource=PATH, timeout_s=timeout_s)
        answered, found = messages.decode(answer)
        assert answered == code + 1
        return dict(found)

    async def close(self) -> None:
        """End it; the session stays on the disk."""
        if hasattr(self, "endpoint"):
            await self.endpoint.close()
        self.sessions.close()

    async def _take(self, peer: Peer, message: bytes) -> bytes:
        code, fields = messages.decode(message)
        self.got.append(code)
        answer = {messages.RESULT: numbers.RESULT_SUCCESS}
        if messages.SG_ID in fields:
            answer[messages.SG_ID] = fields[messages.SG_ID]
        if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
            answer[messages.VERSION] = fields[messages.VERSION]
            self.keys[fields[messages.SG_ID], fields[messages.VERSION]] = fields[messages.GROUP_KEY][0][0]
        return bytes(messages.encode(code + 1, answer))
