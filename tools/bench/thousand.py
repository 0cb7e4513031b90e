"""A thousand PNEs on one PN GW: one is expelled, 10 % of the broadcasts are lost, all others confirm the new key.

Real: the PN GW with its stores, the CPNS Server in its process, the delivery engine at its ordinary pace, signed
broadcasts to 127.255.255.255, CoAP and OSCORE over UDP, and the portable agent of each PNE with everything it checks.
Simulated: see `pnes` for the PNEs and the losses, `home` for the sessions.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from cpns import messages, numbers
from gateway_agent.core.delivering.policy import DeliveryPolicy
from key_servers.cpns_server.gateways_in_process import Receiver
from tools.bench.home import SG_ID, Home, build_home
from tools.bench.pnes import Air, Heard, fits, live
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.side_process import SideProcess, side_process

PNES = 1000
PROCESSES = 2
LOSS = 0.1
DELIVERIES = 3
TARGET_S, TARGET_COMMITS = 3.0, 20
_LOOK_S = 0.02  # not more often: each look counts a thousand states, in the process that is measured
_SETTLE_S = 1.0
_GIVE_UP_S = 60.0


class _KeyArrivals:
    """The moments at which each version came from the CPNS Server to the PN GW."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}

    def watch(self, receiver: Receiver) -> Receiver:
        """Return a receiver that notes these moments and calls `receiver`."""

        async def receive(message: bytes) -> bytes:
            code, fields = messages.decode(message, 1 << 20)
            if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
                self.at.setdefault(fields[messages.VERSION], time.monotonic())
            return await receiver(message)

        return receive


@dataclass(frozen=True)
class _Delivered:
    """One delivery. Times are in seconds after the key came to the PN GW; `processor` is its processor time."""

    seconds: float
    median_stored: float
    processor: float
    commits: int
    broadcasts: int
    unicasts: int
    received: int


def measure(tell: Tell) -> Iterator[Line]:
    """Yield time to the last confirmation, synced commits and datagrams, as medians over some deliveries."""
    if not fits(PNES):
        yield Skipped("1,000 PNEs", "this machine does not let a process open three sockets for each of them")
        return
    deliveries = asyncio.run(_deliveries(tell))

    def median(name: str) -> float:
        return float(statistics.median(getattr(delivery, name) for delivery in deliveries))

    what = f"{PNES:,} PNEs, {LOSS:.0%} loss"
    note = f"median of {DELIVERIES} deliveries, one PNE expelled each time; they share {PROCESSES} processes"
    yield Row(f"{what}: last confirmation", median("seconds"), "s", target=TARGET_S, note=note)
    yield Row(f"{what}: median PNE has stored the key", median("median_stored"), "s", note=note)
    yield Row(
        f"{what}: processor time of the PN GW",
        median("processor"),
        "s",
        note=f"{note}; the CPNS Server is in its process. Where it is much less than the time, the PNEs were busy",
    )
    yield Row(f"{what}: synced commits of the PN GW", median("commits"), "commits", target=TARGET_COMMITS, note=note)
    yield Row(
        f"{what}: broadcast datagrams", median("broadcasts"), "datagrams", "unicast requests", PNES - 1, note=note
    )
    yield Row(f"{what}: unicast requests to stragglers", median("unicasts"), "requests", note=note)
    yield Row(f"{what}: datagrams the PN GW received", median("received"), "datagrams", note=note)


async def _deliveries(tell: Tell) -> list[_Delivered]:
    arrivals = _KeyArrivals()
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), PNES, DeliveryPolicy(), arrivals.watch) as home:
            tell(f"{PNES} PNEs start and join")
            air = Air(home.gateway[1], home.broadcast_port, LOSS, seed=1)
            async with AsyncExitStack() as stack:
                each = PNES // PROCESSES
                pnes = [
                    await stack.enter_async_context(side_process(live, home.pnes[at : at + each], at, air))
                    for at in range(0, PNES, each)
                ]
                for process in pnes:
                    await process.hear()
                delivered = []
                for number in range(DELIVERIES + 1):
                    tell(f"delivery {number} of {DELIVERIES}")
                    await asyncio.sleep(_SETTLE_S)
                    delivered.append(await _deliver(home, pnes, arrivals, home.pnes[PNES - 1 - 7 * number].pne_id))
                return delivered[1:]  # the first one has the costs of a first use, such as tables that are made then


async def _deliver(home: Home, pnes: Sequence[SideProcess], arrivals: _KeyArrivals, leaver: str) -> _Delivered:
    """Expel `leaver` and wait until all others have confirmed."""
    app = home.app
    before, commits, processor = app.counters.copy(), app.commits, time.process_time()
    old = home.server.show_group(SG_ID).version
    home.server.expel(SG_ID, leaver)
    async with asyncio.timeout(_GIVE_UP_S):
        while (version := home.server.show_group(SG_ID).version) == old or version not in arrivals.at:
            await asyncio.sleep(_LOOK_S)
        while not _finished(home, version):
            await asyncio.sleep(_LOOK_S)
    ended, began = time.monotonic(), arrivals.at[version]
    processor = time.process_time() - processor
    _, states = app.gateway.administration.delivery(SG_ID)
    after = app.counters
    heard: list[Heard] = [await process.ask(version) for process in pnes]
    stored_at = [at for each in heard for at in each.stored_at]
    if states != {"confirmed": len(stored_at)}:
        raise AssertionError(f"{dict(states)} at the PN GW, {len(stored_at)} PNEs have stored the key")
    return _Delivered(
        seconds=ended - began,
        median_stored=statistics.median(stored_at) - began,
        processor=processor,
        commits=app.commits - commits,
        broadcasts=after["broadcast_sent"] - before["broadcast_sent"],
        unicasts=len(stored_at) - (after["confirmations"] - before["confirmations"]),
        received=after["datagrams_received"] - before["datagrams_received"],
    )


def _finished(home: Home, version: int) -> bool:
    delivered, states = home.app.gateway.administration.delivery(SG_ID)
    return delivered == version and states.keys() == {"confirmed"}
