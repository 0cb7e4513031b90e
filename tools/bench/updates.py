"""An update of the agent for a whole house: octets on the air, pieces pulled, seconds, beside unicast."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from gateway_agent.radios.air import UPDATES_IN_GAP
from gateway_agent.radios.udp_broadcast import UdpBroadcast
from keycast.updates.offline_key import OfflineKey
from suit import class_id
from suit.build import build
from suit.image import MPY
from tools.agent_image import agent_image
from tools.bench import update_steps
from tools.bench.rows import Line, Row, Tell
from tools.bench.update_boards import Simulation, Updated

OCTETS = 100 * 1024
MANY, DRAWS = 1000, 5
LOSS = 0.2
TIMES_ONE = 2.0
COPIES, PULLED = 1.5, 0.02
_PACE_S = UdpBroadcast.repetition.gap_s / UPDATES_IN_GAP


def measure(tell: Tell) -> Iterator[Line]:
    """Yield what it takes to bring 100 KiB to many simulated boards, and what that costs a board. Raises NoVm."""
    yield from _simulated(tell)
    yield from update_steps.measure(tell)


def _simulated(tell: Tell) -> Iterator[Line]:
    tell(f"{MANY:,} boards in simulated time")
    key = OfflineKey(ec.generate_private_key(ec.SECP256R1()))
    file = build("agent", class_id.agent(MPY), 1, agent_image(OCTETS), key.sign)
    found = []
    for seed in range(DRAWS):
        with tempfile.TemporaryDirectory() as folder:
            found.append(Simulation(Path(folder), key.public, file, MANY, LOSS, _PACE_S, seed).run())
    yield from _rows(f"100 KiB to {MANY:,} simulated boards, {LOSS:.0%} loss", found)


def _rows(what: str, found: Sequence[Updated]) -> Iterator[Line]:
    def median(value: Callable[[Updated], float]) -> float:
        return statistics.median(map(value, found))

    note = f"real agents' logic on CPython, clock and radio simulated; median of {len(found)} draws, from the offer on"
    aired, one = median(lambda each: each.aired / OCTETS), found[0]
    yield Row(f"{what}: octets broadcast", aired, "copies", "unicast", len(one.seconds), COPIES, note)
    pulls = median(lambda each: each.pulls / each.wanted * 100)
    yield Row(f"{what}: pieces pulled", pulls, "%", "unicast", 100, PULLED * 100, note)
    yield Row(f"{what}: median board has it", median(lambda each: statistics.median(each.seconds)), "s", note=note)
    last, target = median(lambda each: max(each.seconds)), TIMES_ONE * one.airing_s
    note = f"{note}; at most {TIMES_ONE:g} times as long as the broadcast"
    yield Row(f"{what}: last board has it", last, "s", "broadcast", one.airing_s, target, note)
