"""Parts for tests of end-to-end groups at the Server: boards with Entity User Keys behind PN GWs that only carry."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import entity_user_key, uplink_form
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAuthentic
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.values import PneDelivery
from tests.unit.cpns_server_parts import House, PnGw

SG = "alarm"
CONFIG = ServerConfig(listen=["127.0.0.1"], port=0, batching_s=0, rekey_on_join=False)


class Board:
    """A board as far as the Server sees it: it opens what its Entity User Keys open. `held`: version -> Group Key."""

    def __init__(self, name: str, *euks: bytes) -> None:
        self.name = name
        self.euks = list(euks) or [name.encode().ljust(16, b".")]
        self.held: dict[int, bytes] = {}

    def answer(self, request: dict[int, Any], pn_id: str) -> dict[int, Any]:
        """Return the SGroupKeyDeliveryResponse to a request."""
        sg_id, version = request[m.SGID], request[m.VERSION]
        pne_id, wrapped = request[m.GROUP_KEY_INFO]
        response = {
            m.PNID: pn_id,
            m.PNE_ID: self.name,
            m.SGID: sg_id,
            m.VERSION: version,
            m.EUK_ID: request[m.EUK_ID],
        }
        known = [euk for euk in self.euks if entity_user_key.key_id(euk) == request[m.EUK_ID]]
        if not known:
            return response | {m.RETURN: n.RETURN_UNKNOWN_EUK}
        try:
            key = entity_user_key.decrypt(known[0], pne_id, sg_id, version, wrapped)
        except NotAuthentic:
            return response | {m.RETURN: n.RETURN_FAIL, m.ERROR: n.ERROR_NOT_AUTHENTIC}
        self.held[version] = key
        return response | {
            m.RETURN: n.RETURN_SUCCESS,
            m.MAC: entity_user_key.response_mac(key, self.name, sg_id, version),
        }


class EndToEndHouse(House):
    """A Server on its own, worked by hand, with boards that are members of one end-to-end group."""

    boards: dict[str, Board]

    @classmethod
    async def with_group(cls, folder: Path, *pns: str, config: ServerConfig = CONFIG) -> "EndToEndHouse":
        house = await cls.open(folder, config)
        house.boards = {}
        gateways = [house.gateway(name) for name in pns or ("home",)]
        house.server.create_group(SG, open_to=[gateway.pn_id for gateway in gateways], trust="end-to-end")
        return house

    @property
    def version(self) -> int:
        return self.server.show_group(SG).version

    def know(self, board: Board, *, current: int = 0) -> None:
        """The Server has one of the board's Entity User Keys."""
        self.server._entity_user_keys.learnt(board.name, board.euks[current])

    async def member(self, gateway: PnGw, name: str, *, known: bool = True) -> Board:
        """Make a board a member, whose Entity User Key the Server knows unless `known` is False."""
        board = self.boards[name] = Board(name)
        if known:
            self.know(board)
        await self.join(gateway, name, SG)
        return board

    async def send(
        self, gateway: PnGw, response: dict[int, Any], form: str = uplink_form.CBOR
    ) -> dict[int, Any] | None:
        """The PN GW passes on a response; return the fields of the refusal, None if it was taken."""
        message = uplink_form.encode(n.S_GROUP_KEY_DELIVERY_RESPONSE, response, form)
        answer = await self.server.handle(gateway.gateway_id, message)
        if not answer:
            return None
        code, fields = uplink_form.decode(answer)
        assert code == n.S_GROUP_KEY_DELIVERY_RESPONSE and fields[m.RETURN] == n.RETURN_FAIL
        return fields

    async def request_at(self, gateway: PnGw) -> dict[int, Any]:
        """Return the one request that the PN GW was given now."""
        await self.work()
        (request,) = gateway.carried
        gateway.carried = []
        return request

    async def answer_all(self, gateway: PnGw) -> None:
        """Each board that the PN GW has carried something for answers, until nothing new comes."""
        await self.work()
        while gateway.carried:
            carried, gateway.carried = gateway.carried, []
            for request in carried:
                board = self.boards[request[m.GROUP_KEY_INFO][0]]
                assert await self.send(gateway, board.answer(request, gateway.pn_id)) is None
            await self.work()

    def delivery(self, name: str) -> PneDelivery:
        (found,) = [each for each in self.server.show_group(SG).pne_deliveries if each.pne_id == name]
        return found

    def counted(self, name: str) -> int:
        return self.server.counters().get(name, 0)

    def alarms_of(self, kind: str) -> list[tuple[str, str, str]]:
        return [(alarm.pne_id, alarm.sg_id, alarm.gateway_id) for alarm in self.server.alarms() if alarm.kind == kind]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[EndToEndHouse]:
    house = await EndToEndHouse.with_group(tmp_path)
    yield house
    await house.server.close()


@pytest.fixture
def home(house: EndToEndHouse) -> PnGw:
    return house.gateway("home")


@pytest.fixture
async def lamp(house: EndToEndHouse, home: PnGw) -> Board:
    return await house.member(home, "lamp")
