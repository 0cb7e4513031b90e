"""One update of an end-to-end group, beside the same update of an ordinary group by broadcast and by unicast.

Real: a CPNS Server of its own with its stores, and a PN GW with its stores, between them CoAP and OSCORE over UDP; the
PN GW's signed broadcasts, and the portable agent of each PNE with everything it checks. Server and PN GW share one
processor here. Simulated: see `pnes` for the PNEs, `home` for their sessions; no broadcast is lost.
"""

import asyncio
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway_agent.core.delivering.policy import DeliveryPolicy
from tools.bench.home import END_TO_END_SG_ID, SG_ID, Home, build_home
from tools.bench.pnes import Air, Heard, fits, live
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.side_process import SideProcess, side_process

SIZES = (8, 64, 1000)
UPDATES = {8: 3, 64: 3, 1000: 1}  # one of so many is as good as several
PROCESSES = 2
_LOOK_S = 0.01
_SETTLE_S = 0.3
_GIVE_UP_S = 120.0
_NO_VERSION = 0  # PNEs are asked for their datagrams only

Method = Literal["broadcast", "unicast"]


@dataclass(frozen=True)
class _Updated:
    """One update: seconds until the last PNE has shown that it has the key, datagrams to PNEs and from them, and
    datagrams between Server and PN GW."""

    seconds: float
    on_the_air: int
    on_the_uplink: int


def measure(tell: Tell) -> Iterator[Line]:
    """Yield seconds and datagrams of one update for each size, as medians over some updates."""
    if not fits(max(SIZES)):
        yield Skipped(f"{max(SIZES):,} PNEs", "this machine does not let a process open three sockets for each of them")
        return
    for size in SIZES:
        tell(f"{size:,} PNEs, end-to-end and broadcast")
        ours, broadcast = asyncio.run(_updates(size, "broadcast", (END_TO_END_SG_ID, SG_ID)))
        tell(f"{size:,} PNEs, unicast")
        (unicast,) = asyncio.run(_updates(size, "unicast", (SG_ID,)))
        what = f"one update, {size:,} PNEs, end-to-end"
        until = "until the last proof is at the Server, or the last confirmation at the PN GW"
        note = f"median of {UPDATES[size]}, {until}"
        air = "to PNEs and from them, with acknowledgements and confirmations; a broadcast counts once"
        yield Row(f"{what}: all have it", ours.seconds, "s", "by broadcast", broadcast.seconds, note=note)
        yield Row(f"{what}: all have it (unicast)", ours.seconds, "s", "by unicast", unicast.seconds, note=note)
        yield Row(f"{what}: datagrams", ours.on_the_air, "datagrams", "by broadcast", broadcast.on_the_air, note=air)
        yield Row(
            f"{what}: datagrams (unicast)", ours.on_the_air, "datagrams", "by unicast", unicast.on_the_air, note=air
        )
        yield Row(
            f"{what}: datagrams of Server and PN GW",
            ours.on_the_uplink,
            "datagrams",
            "one key for all",
            broadcast.on_the_uplink,
            note="with acknowledgements, answers and delivery reports",
        )


async def _updates(size: int, method: Method, sg_ids: Sequence[str]) -> list[_Updated]:
    """Return the median update of each group, where an ordinary one goes by `method`."""
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), size, DeliveryPolicy(method=method), elsewhere=True) as home:
            air = Air(home.gateway[1], home.broadcast_port, 0.0, seed=1)
            async with AsyncExitStack() as stack:
                each = size // PROCESSES
                pnes = [
                    await stack.enter_async_context(side_process(live, home.pnes[at : at + each], at, air))
                    for at in range(0, size, each)
                ]
                for process in pnes:
                    await process.hear()
                return [await _median(home, pnes, sg_id, UPDATES[size]) for sg_id in sg_ids]


async def _median(home: Home, pnes: Sequence[SideProcess], sg_id: str, updates: int) -> _Updated:
    await _update(home, pnes, sg_id)  # has the costs of a first use
    measured = [await _update(home, pnes, sg_id) for _ in range(updates)]
    return sorted(measured, key=lambda update: update.seconds)[updates // 2]


async def _update(home: Home, pnes: Sequence[SideProcess], sg_id: str) -> _Updated:
    await asyncio.sleep(_SETTLE_S)
    before, opened, begun = await _datagrams(home, pnes), _opened(home), time.monotonic()
    version = home.server.update_key(sg_id)
    async with asyncio.timeout(_GIVE_UP_S):
        while not (_opened(home) - opened >= len(home.pnes) if sg_id != SG_ID else _confirmed(home, version)):
            await asyncio.sleep(_LOOK_S)
    seconds = time.monotonic() - begun
    await asyncio.sleep(_SETTLE_S)
    after = await _datagrams(home, pnes)
    return _Updated(seconds, after[0] - before[0], after[1] - before[1])


def _opened(home: Home) -> int:
    return home.server.counters().get("keys_opened", 0)


def _confirmed(home: Home, version: int) -> bool:
    delivered, states = home.app.gateway.administration.delivery(SG_ID)
    return delivered == version and states == {"confirmed": len(home.pnes)}


async def _datagrams(home: Home, pnes: Sequence[SideProcess]) -> tuple[int, int]:
    """Return how many datagrams there were to PNEs and from them, and between Server and PN GW."""
    heard: list[Heard] = [await process.ask(_NO_VERSION) for process in pnes]
    sent = sum(each.unicasts_sent for each in heard)
    on_the_air = home.app.counters["broadcast_sent"] + sent + sum(each.unicasts_received for each in heard)
    at_gateway, at_server = home.app.counters["datagrams_received"], home.server.counters()["datagrams_received"]
    return on_the_air, at_gateway - sent + at_server
