"""An endpoint with several addresses speaks to a peer from the address that the peer used."""

import pytest

from tests.integration.plane_world import UNCONNECTED, Party, Wire


@UNCONNECTED
@pytest.mark.usefixtures("each_link")
async def test_a_peer_is_asked_from_the_address_that_it_spoke_to(tmp_path):
    """Of several interfaces it may be the only one that leads there."""
    first, second = ("127.0.0.2", 0), ("127.0.0.3", 0)
    gateway, lamp = Party(tmp_path, "gw.home", "gateway"), Party(tmp_path, "lamp", "pne")
    await gateway.start([first, second])
    await lamp.start()
    gateway.knows(lamp)
    lamp.knows(gateway)
    wire = await Wire.open(gateway.endpoint.places[1])  # hears that address only
    try:
        await lamp.endpoint.connect("gw.home", wire.place)
        await lamp.ask("gw.home", b"join")
        before = len(wire.to_client)
        assert await gateway.ask("lamp", b"key") == b"\xa1key"
        assert len(wire.to_client) == before + 1
    finally:
        await wire.close()
        await lamp.stop()
        await gateway.stop()
