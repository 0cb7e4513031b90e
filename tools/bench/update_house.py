"""An update for a hundred virtual boards: by broadcast at 20 % loss, then the same boards by unicast without loss.

Real: the gateway, and the boards in the MicroPython VM with the heap of an ESP32, up to the restart into the update,
which is random octets and not installed. As the boards share the processors of one machine, the broadcast goes at a
quarter of its pace; its seconds are told for the ordinary one. Keys are delivered meanwhile, and before.
"""

import asyncio
import base64
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite, numbers
from device_agent import session
from device_agent.key_store import KeyStore
from device_agent.update import key
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.radios import air
from keycast.updates.offline_key import OfflineKey
from keycast.virtual_board.board import HEAP_KIB, RESET_CODE, BoardEnded, VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import broadcast_port
from keycast.virtual_board.thief import Sniffer
from suit import class_id
from suit import numbers as n
from suit.build import build
from suit.image import MPY
from tools.agent_image import agent_image
from tools.bench.home import EVERYBODY, SG_ID, Home, build_home
from tools.bench.rows import Line, Row, Tell

OCTETS = 100 * 1024
BOARDS = 100
LOSS = 0.2
COPIES, PULLED = 1.5, 0.02
KEYS = 5
KEY_TIMES = 2.0
SLOWER = 4
RESTARTS_MAX = 4  # of a board while it collects one update: one for its heap, and more are a fault
_FIRST_NUMBER = 9001  # its addresses are apart from those of demos and tests
_SLOTS = 1024
_SAMPLE = 8  # boards whose heap is looked at
_LOOK_S = 0.2
_SETTLE_S = 3.0  # for boards that lose the broadcast of a key
_STEP_S = 300.0
_GIVE_UP_S = 1800.0


@dataclass
class _Found:
    """What was measured of one way of an update: seconds to the last board's restart, and what boards pulled.

    `restarts`: how often boards restarted while they collected, as their heap had no room in one piece.
    """

    seconds: float = 0.0
    aired_s: float = 0.0
    pieces: int = 0
    copies: float = 0.0
    key_s: list[float] = field(default_factory=list)
    heap: int = 0
    restarts: int = 0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield octets, pulled pieces and seconds beside unicast, the latency of keys, and the heap. Raises NoVm."""
    without, by_air, unicast = asyncio.run(_measured(tell))
    what = f"100 KiB to {BOARDS} boards in the VM, {LOSS:.0%} loss"
    note = "of all datagrams, also of unicast; the peer: the same boards in the same run, without loss"
    wanted = unicast.pieces or 1
    yield Row(f"{what}: octets broadcast", by_air.copies, "copies", "unicast", unicast.copies, COPIES, note)
    yield Row(f"{what}: pieces pulled", by_air.pieces / wanted * 100, "%", "unicast", 100, PULLED * 100, note)
    pause = "the broadcast at its ordinary pace, and what boards needed after it; the machine's processors are shared"
    yield Row(f"{what}: last board restarts into it", by_air.seconds, "s", "unicast", unicast.seconds, note=pause)
    before, during = statistics.median(without), statistics.median(by_air.key_s)
    note = f"until half of the boards have it, at the same loss; median of {len(without)} and {len(by_air.key_s)} keys"
    yield Row("re-key during the broadcast", during, "s", "re-key without", before, KEY_TIMES * before, note)
    both = by_air.restarts + unicast.restarts
    note = "by broadcast and by unicast together; their seconds are in those of the update"
    yield Row("restarts of boards for a heap in one piece while they collect", both, "restarts", note=note)
    note = f"after a collection, the most of {_SAMPLE} boards; the VM has {HEAP_KIB} KiB"
    yield Row("board: heap in use while it collects", by_air.heap / 1024, "KiB", target=HEAP_KIB, note=note)


class _House:
    """A home, and boards that have the key of `signer` and a session, but know no group yet."""

    def __init__(self, home: Home, fleet: Fleet, signer: OfflineKey) -> None:
        self._home = home
        self._boards = fleet.boards
        self._signer = signer
        for board, keys in zip(fleet.boards, home.pnes, strict=True):
            store = KeyStore(board.nvs)
            key.keep(store, signer.public.octets)
            store.save(session.RECORD, cborlite.encode([keys.secret, keys.salt, keys.sender_id, keys.recipient_id, 0]))
            board.have_slots()

    async def all(self, do: str, **values: Any) -> None:
        """Send each board a command, a few at a time."""
        gate = asyncio.Semaphore(16)

        async def one(board: VirtualBoard) -> None:
            async with gate:
                await board.command(do, timeout_s=_STEP_S, **values)

        await asyncio.gather(*map(one, self._boards))

    async def lose(self, loss: float) -> None:
        """Have each board lose datagrams from now on."""
        for seed, board in enumerate(self._boards, 1):
            await board.command("loss", probability=loss, seed=seed, timeout_s=_STEP_S)

    async def key_s(self) -> float:
        """Make a key; return the seconds until half of the boards that run have it. The others get it later."""
        began = time.monotonic()
        version = self._home.server.update_key(SG_ID)
        arrivals = [
            asyncio.create_task(board.event("key", group=SG_ID, version=version, timeout_s=_STEP_S))
            for board in self._boards
            if board.running
        ]
        half = len(arrivals) // 2
        for arrival in asyncio.as_completed(arrivals):
            with suppress(BoardEnded):
                await arrival
                half -= 1
            if half <= 0:
                break
        took = time.monotonic() - began
        for task in arrivals:
            task.cancel()
        await asyncio.gather(*arrivals, return_exceptions=True)
        await asyncio.sleep(_SETTLE_S)
        return took

    async def offer(self, number: int, *, broadcast: bool) -> None:
        """Offer an update of random octets to all boards."""
        image = agent_image(OCTETS, number)
        file = build("agent", class_id.agent(MPY), number, image, self._signer.sign)
        await self._home.app.updates.offer(base64.b64encode(file).decode(), broadcast=broadcast)

    async def all_restart(self, number: int, loss: float) -> int:
        """Return, when each board has the whole update and restarts for it, how often boards restarted before.

        They are off then, and have forgotten the update. Those that restart before lose datagrams as until then.
        """
        boards = enumerate(self._boards, 1)
        restarts = sum(await asyncio.gather(*(kept_on(board, number, loss=loss, seed=seed) for seed, board in boards)))
        for board in self._boards:
            for file in (board.folder / "files").glob("update.*"):
                file.unlink()
        return restarts

    async def heap(self) -> int:
        """Return the octets of heap in use at some boards, the most."""
        told = []
        for board in [board for board in self._boards if board.running][:_SAMPLE]:
            with suppress(BoardEnded):  # it restarts
                told.append(await board.command("status", timeout_s=_STEP_S))
        return max(int(each["heap"]) for each in told)

    def pieces(self) -> int:
        """Return how many pieces boards have pulled so far."""
        return self._home.app.counters["update_pieces"]

    def aired_percent(self) -> int:
        """Return how much of the broadcast has gone out."""
        (offer,) = self._home.app.updates.status()["offers"]
        return int(offer.aired_percent)  # type: ignore[union-attr]


async def kept_on(board: VirtualBoard, number: int, **how: Any) -> int:
    """Start a board again until it has the whole update `number` and restarts for that. Return how often that was.

    A board restarts while it collects if its heap has no room in one piece, and goes on then. `how` is for
    `VirtualBoard.start`. Raises AssertionError if it ends otherwise, or restarts again and again.
    """
    restarts, whole = 0, {"event": "update", "state": "waiting", "number": number}
    while True:
        code = await board.ended(timeout_s=_GIVE_UP_S)
        if code != RESET_CODE:
            raise AssertionError(f"{board} ended with {code}")
        if any(whole.items() <= event.items() for event in board.events):
            return restarts
        restarts += 1
        if restarts > RESTARTS_MAX:
            raise AssertionError(f"{board} restarts again and again without the whole update")
        await board.start(up=False, **how)


async def _measured(tell: Tell) -> tuple[list[float], _Found, _Found]:
    """Return the seconds of keys without a broadcast, and what was found by broadcast and by unicast."""
    signer = OfflineKey(ec.generate_private_key(ec.SECP256R1()))
    delivery = DeliveryPolicy()
    with tempfile.TemporaryDirectory() as name, patch.object(air, "UPDATES_IN_GAP", air.UPDATES_IN_GAP / SLOWER):
        folder = Path(name)
        async with build_home(folder, BOARDS, delivery, slots=_SLOTS, broadcast_port=broadcast_port()) as home:
            records = [each.provisioning for each in home.pnes]
            fleet = Fleet(folder / "boards", records, first=_FIRST_NUMBER)
            house = _House(home, fleet, signer)
            tell(f"{BOARDS} boards start and join")
            async with fleet:
                await house.all("join", group=SG_ID)
                await house.lose(LOSS)
                tell("keys without a broadcast")
                await house.key_s()
                without = [await house.key_s() for _ in range(KEYS)]
                by_air = await _by_air(house, tell)
            tell("the same by unicast")
            async with fleet:
                return without, by_air, await _unicast(house)


async def _by_air(house: _House, tell: Tell) -> _Found:
    found = _Found()
    tell("an update by broadcast")
    began, pieces = time.monotonic(), house.pieces()
    await house.offer(1, broadcast=True)
    aired = asyncio.create_task(_ended(house))
    restarted = asyncio.create_task(house.all_restart(1, LOSS))
    for _ in range(KEYS):
        found.key_s.append(await house.key_s())
    found.heap = await house.heap()
    ended, octets = await aired
    found.restarts = await restarted
    found.aired_s = ended - began
    found.seconds = time.monotonic() - ended + found.aired_s / SLOWER
    found.pieces = house.pieces() - pieces
    found.copies = octets / OCTETS
    return found


async def _ended(house: _House) -> tuple[float, int]:
    """Return the moment at which the broadcast has ended, and its octets."""
    octets = percent = 0
    with closing(Sniffer(EVERYBODY)) as sniffer:
        while percent < 100:
            await asyncio.sleep(_LOOK_S)
            percent = house.aired_percent()
            octets += sum(len(each) for each in sniffer.frames() if each[0] == numbers.FRAME_UPDATE)
    return time.monotonic(), octets


async def _unicast(house: _House) -> _Found:
    found = _Found()
    began, pieces = time.monotonic(), house.pieces()
    await house.offer(2, broadcast=False)
    found.restarts = await house.all_restart(2, 0.0)
    found.seconds = time.monotonic() - began
    found.pieces = house.pieces() - pieces
    found.copies = found.pieces * n.BLOCK / OCTETS
    return found
