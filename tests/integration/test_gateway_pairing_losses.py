"""A board of `device_agent` and a whole gateway pair over a line that loses one datagram for good (SEC-33)."""

import asyncio
import secrets

import pytest

from device_agent import tuning
from message_plane.cpns_resource import PATH
from tests.integration.plane_world import Wire
from tests.integration.test_plane_with_device import Board
from tests.unit.test_gateway_app import opened
from tests.waiting import until


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize(
    ("name", "lost"), [("lamp", 4), ("lamp", 7), ("lamp", 8), ("board-0a1b2c", 6), ("board-0a1b2c", 14)]
)
async def test_a_pairing_succeeds_at_both_ends_whichever_datagram_is_lost(tmp_path, monkeypatch, name, lost):
    """message_4, the proof of the board, and the last answer; the answer with the name that a new board is given, and
    the last one after it. The person asks once."""
    for limit, ms in (("EXCHANGE_TIMEOUT", 500), ("EDHOC_TIMEOUT", 500), ("PAIRING_PAUSE", 50)):
        monkeypatch.setattr(tuning, limit, ms)
    app = await opened(tmp_path / "gateway")
    board, wire = Board(tmp_path, name), await Wire.open(app.endpoint.places[0])
    seen = []

    def judge(data, towards_server):
        if b"core" not in data:  # a question who is a gateway
            seen.append(towards_server)
        return None if len(seen) == lost and b"core" not in data else data

    wire.judge = judge
    secret = secrets.token_bytes(10)
    told = asyncio.create_task(app.pair("lamp", secret))
    try:
        board.provision()
        board.start(wire.address)
        await asyncio.wait_for(board.agent.pair(secret), 60)
        assert await asyncio.wait_for(told, 5) == "lamp"
        assert board.agent.identity.gateway_id == "gw.home" and len(seen) > lost
        assert board.agent.identity.pne_id == "lamp"
        credential = app.credentials.credential("lamp")
        assert credential.ccs == board.agent.identity.ccs and credential.x == board.credential.x
        await until(lambda: app.endpoint.has_session("lamp"))
        assert (
            await app.endpoint.request("lamp", b"\xa0", resource=PATH) == b"\xa1\xa0"
        )  # over the session of the pairing
    finally:
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)
        await board.stop()
        await wire.close()
        await app.close()
