"""The confirmations of a Group Key that the PN GW accepts in a second: CoAP, OSCORE, the proof, and the store."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiocoap  # type: ignore[import-untyped]
import aiocoap.resource  # type: ignore[import-untyped]

from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.virtual_board.loopback import own_port
from tools.bench.home import GATEWAY_ADDRESS, SG_ID, build_home
from tools.bench.load import confirm_deliveries, post_plain
from tools.bench.octets import key_and_confirmation
from tools.bench.rows import Line, Row, Tell
from tools.bench.side_process import side_process

PNES = 1000
ROUNDS = 5
TARGET_PER_S = 1000


def measure(tell: Tell) -> Iterator[Line]:
    """Yield confirmations per second at a whole PN GW, beside plain POSTs at a bare aiocoap server, in the same run."""
    ours, busy_ms = asyncio.run(_confirmations(tell))
    tell("the same number of plain POSTs to aiocoap")
    plain = asyncio.run(_plain_posts())
    yield Row(
        "confirmations over CoAP + OSCORE",
        statistics.median(ours),
        "confirmations/s",
        "plain POST (aiocoap)",
        statistics.median(plain),
        TARGET_PER_S,
        f"{PNES} members of one group, median of {ROUNDS} deliveries; the load comes from a second process",
    )

    yield Row(
        "PN GW's processor time for one confirmation",
        statistics.median(busy_ms),
        "ms",
        note="of the same deliveries, the making of the key and its broadcast included: what is left on a busy machine",
    )


async def _confirmations(tell: Tell) -> tuple[list[float], list[float]]:
    """Return the confirmations a second, and the milliseconds of processor time for one, of each delivery."""
    tell(f"{PNES} PNEs join")
    rates, busy_ms = [], []
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), PNES, DeliveryPolicy(method="broadcast")) as home:
            arguments = (home.pnes, home.gateway, home.broadcast_port)
            async with side_process(confirm_deliveries, *arguments) as pnes:
                await pnes.hear()
                for number in range(ROUNDS):
                    tell(f"delivery {number + 1} of {ROUNDS}")
                    before, busy = home.confirmed(), time.process_time()
                    seconds = await pnes.ask(home.server.update_key(SG_ID))
                    if home.confirmed() - before != PNES:
                        raise AssertionError(f"{home.confirmed() - before} confirmations of {PNES} were good")
                    rates.append(PNES / seconds)
                    busy_ms.append((time.process_time() - busy) * 1000 / PNES)
    return rates, busy_ms


class _Taken(aiocoap.resource.Resource):  # type: ignore[misc]
    """A resource that accepts any POST."""

    async def render_post(self, request: aiocoap.Message) -> aiocoap.Message:
        return aiocoap.Message(code=aiocoap.CHANGED)


async def _plain_posts() -> list[float]:
    site = aiocoap.resource.Site()
    site.add_resource(["cpns"], _Taken())
    address = (GATEWAY_ADDRESS, own_port())
    server = await aiocoap.Context.create_server_context(site, bind=address, transports=["udp6"])
    _, confirmation = key_and_confirmation()
    try:
        async with side_process(post_plain, address, confirmation, PNES) as client:
            return [PNES / await client.ask("again") for _ in range(ROUNDS)]
    finally:
        await server.shutdown()
