"""Many boards that hear an update, in simulated time: when the last one has it, and how much they pull.

Real: the logic of boards (`device_agent.update`, with every hash and signature that they check), the order of an
airing, and the gateway's answers with its turns and limits. Simulated: the clock, the flash, and the radio, which loses
each broadcast for each board by itself. Unicast is not lost, as on Wi-Fi the link layer repeats it.
"""

import asyncio
import contextlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cpns.errors import CpnsError, MalformedMessage, NotAllowed, NotAuthentic, Unknown
from device_agent import provisioning
from device_agent.broadcast_receiver import BroadcastReceiver
from device_agent.key_store import KeyStore
from device_agent.session import NoSession
from device_agent.update.key import RECORD
from device_agent.update.service import NEVER, UpdateService
from device_agent.update.slot_record import SlotRecord
from gateway_agent.store.store import GatewayStore
from gateway_agent.updates.answers import BoardAnswers
from gateway_agent.updates.asking import GAP_S
from gateway_agent.updates.board_reports import BoardReports
from gateway_agent.updates.catalogue import Catalogue, Whom
from gateway_agent.updates.pulls import UpdatePulls
from gateway_agent.updates.schedule import AiringOrder
from gateway_agent.updates.update_file import Update
from gateway_agent.updates.update_key import UpdateKey
from keycast.provisioning.board import Trust, new_board
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from suit import frames
from suit import numbers as n
from suit.class_id import agent, class_id
from tools.bench.pnes import MemoryStorage

GENERATION, FRAME_KEY = 1, bytes(range(16))
VERIFY_MS = 600  # of a signature, on an ESP32
QUEUE = 6  # datagrams that an ESP32 keeps for a socket while the board is busy
_SETTLE_MS = 10_000
_MOST_MS = 3600 * 1000


@dataclass(frozen=True)
class Updated:
    """What became of an offer. `seconds`: when each board had the whole update, after the offer; `airing_s`: how long
    it was aired; `aired`: octets of these datagrams; `pulled`: octets of the pieces that boards pulled, `pulls` of
    them; `wanted`: the pieces that all boards would have pulled without a broadcast."""

    seconds: list[float]
    airing_s: float
    aired: int
    pulled: int
    pulls: int
    wanted: int


class Flash:
    """A `ports.Updates` of a simulated board, in memory: it accepts agents and has room for all of them."""

    def __init__(self, restart: Callable[[], None]) -> None:
        self.restart = restart
        self._record = SlotRecord()

    def classes(self) -> dict[bytes, str]:
        return {class_id(agent(6)): "agent"}

    def state(self) -> Any:
        return self._record

    def room(self, kind: str, size: int) -> None:
        """Accept any size."""

    def begin(self, kind: str, number: int, size: int, digest: bytes, envelope: bytes) -> "Pieces":
        return Pieces(size, envelope)

    def resume(self) -> None:
        """Return None: nothing is collected yet."""


@dataclass
class Pieces:
    """A `ports.Collection` of a simulated board. Its frames were checked, so only their numbers are kept."""

    size: int
    envelope: bytes
    _pages: dict[int, bytes] = field(default_factory=dict)
    _frames: set[int] = field(default_factory=set)

    def put_page(self, index: int, octets: bytes) -> None:
        self._pages[index] = octets

    def page(self, index: int) -> bytes | None:
        return self._pages.get(index)

    def put(self, index: int, octets: bytes) -> None:
        self._frames.add(index)

    def held(self, index: int) -> bool:
        return index in self._frames

    def flush(self) -> None:
        """Do nothing, as do the others: there is no flash."""

    full = close = drop = flush


class _Service(UpdateService):
    def _unload(self) -> None:
        """Keep the modules: on a board they leave the heap."""


class _Board:
    """One board. `whole_ms`: when it had the whole update."""

    def __init__(self, name: str, simulation: "Simulation") -> None:
        self.name = name
        self.whole_ms: int | None = None
        self._simulation = simulation
        self._chance = simulation.chance
        self._busy_until = 0
        self._queue: list[bytes] = []
        self._has_restarted = False
        self.due = NEVER
        self.requests: Any = SimpleNamespace(resources={})
        membership = SimpleNamespace(
            identity=simulation.identity, gkdks=SimpleNamespace(frame_keys={GENERATION: FRAME_KEY})
        )
        parts = simulation.store, simulation, self._chance.randbytes, lambda name, values: None
        self._receiver = BroadcastReceiver(membership, *parts)
        session = SimpleNamespace(ask=self._ask)
        self._service = _Service(  # type: ignore[no-untyped-call]
            Flash(self._restart), simulation.store, membership, session, self.requests, self._receiver, *parts[1:]
        )
        self.settle()

    def hear(self, datagram: bytes) -> None:
        """Take a broadcast, at once or when there is time for it."""
        if self._has_restarted:
            return
        if self._simulation.now() < self._busy_until:
            if len(self._queue) < QUEUE:
                self._queue.append(datagram)
            return
        before = self._receiver.verifications
        _ended(self._receiver.receive(datagram))
        if self._receiver.verifications > before:
            self._busy_until = self._simulation.now() + VERIFY_MS
            self._simulation.at(self._busy_until, self._catch_up)
        self.settle()

    def ask(self) -> None:
        """Take the gateway's request for a report."""
        if self._has_restarted:
            return
        _ended(self.requests.resources[n.PATH]((), b"\x81\x03"))
        self.settle()

    def settle(self) -> None:
        """Note whether the update is whole now, and plan what is due next."""
        collecting = self._service.collecting
        if self.whole_ms is None and collecting and collecting.whole:
            self.whole_ms = max(self._simulation.now(), self._busy_until)
        due = NEVER if self._has_restarted else self._service.due
        if due != self.due and due != NEVER:
            self._simulation.at(due, self._act)
        self.due = due

    def _restart(self) -> None:
        self._has_restarted = True  # it installs, which is not simulated

    def _catch_up(self) -> None:
        queue, self._queue = self._queue, []
        for datagram in queue:
            self.hear(datagram)

    def _act(self) -> None:
        if self._has_restarted or self._simulation.now() < self._service.due:
            return  # it was put off
        self.due = NEVER
        with contextlib.suppress(CpnsError, OSError):  # the agent tells it, and goes on when the next thing is due
            _ended(self._service.act())  # type: ignore[no-untyped-call]
        self.settle()

    def _ask(self, options: object, payload: bytes) -> Generator[None, None, tuple[tuple[()], bytes]]:
        yield from ()
        return (), self._simulation.answer(self.name, payload)


def _ended(flow: Any) -> None:
    for _ in flow or ():
        pass


class Simulation:
    """A gateway with `boards` boards, each of which loses a broadcast with probability `loss`."""

    def __init__(
        self, folder: Path, key: UpdateKey, file: bytes, boards: int, loss: float, pace_s: float, seed: int = 1
    ) -> None:
        """`file` is the update, signed by `key`; `pace_s` the time from one datagram of an airing to the next."""
        self.chance = random.Random(seed)
        self._loss = loss
        self._pace_ms = pace_s * 1000
        self._ms = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = itertools.count()
        self._counters: Counter[str] = Counter()
        self._pulled = self._aired = self._position = 0
        self.identity, self.store = _provisioned(folder, key)
        store = GatewayStore(folder / "store")
        with store.transaction():
            store.pn.create("home", "gw", 1)
            for number in range(boards):
                store.pn.register(f"board.{number}", 1)
        catalogue = Catalogue(store, folder / "updates", key)
        self._catalogue, self._file = catalogue, file
        self._update: Update
        self._order: AiringOrder
        clock: Any = SimpleNamespace(monotonic=lambda: self._ms / 1000, unix=lambda: self._ms // 1000)
        airing: Any = SimpleNamespace(left_s=lambda update_id: self._left_s())
        self._answers = BoardAnswers(
            store=store,
            catalogue=catalogue,
            board_reports=BoardReports(store),
            airing=airing,
            key=b"",
            pulls=UpdatePulls(),
            is_on_bluetooth=lambda pne_id: False,
            clock=clock,
            tell=lambda event: None,
            counters=self._counters,
        )
        self._boards = [_Board(f"board.{number}", self) for number in range(boards)]

    def now(self) -> int:
        """Return the milliseconds since the start: it is the clock of all boards."""
        return self._ms

    def at(self, ms: int, act: Callable[[], None]) -> None:
        """Call `act` at a time."""
        heapq.heappush(self._events, (ms, next(self._count), act))

    def answer(self, pne_id: str, payload: bytes) -> bytes:
        """Return the gateway's answer to a board. Raises as `Session.ask` for its refusals."""
        try:
            octets = self._answers.handle(pne_id, payload)
        except (NotAllowed, NotAuthentic, Unknown):
            raise NotAllowed("the request is refused") from None
        except MalformedMessage:
            raise
        except CpnsError as error:
            raise NoSession(str(error)) from None
        if payload[1:2] == bytes([n.PIECE]):
            self._pulled += len(octets)
        return octets

    def run(self) -> Updated:
        """Let all boards report that they are there, offer the update, and return when the last board has it."""
        self.at(_SETTLE_MS, lambda: None)
        self._until(lambda: self._ms >= _SETTLE_MS)
        began = self._ms
        offer = asyncio.run(self._catalogue.add(self._file, Whom(by_broadcast=True), 0))
        self._update = self._catalogue.update(offer.update_id)
        self._order = AiringOrder(self._update.coded.code, len(self._update.pages))
        for number, board in enumerate(self._boards):
            self.at(began + round(number * GAP_S * 1000), board.ask)
        self.at(began, lambda: self._air(began))
        self._until(lambda: all(board.whole_ms is not None for board in self._boards))
        pulls = self._counters["update_pieces"]
        return Updated(
            [((board.whole_ms or 0) - began) / 1000 for board in self._boards],
            len(self._order) * self._pace_ms / 1000,
            self._aired,
            self._pulled,
            pulls,
            self._update.pieces * len(self._boards),
        )

    def _until(self, ended: Callable[[], bool]) -> None:
        while self._events and not ended():
            self._ms, _, act = heapq.heappop(self._events)
            act()
            if self._ms > _MOST_MS:
                raise TimeoutError("a board has not got the update within an hour")

    def _air(self, began: int) -> None:
        kind, index = self._order.at(self._position)
        body = self._update.piece(kind, index)
        if kind == n.ENVELOPE:
            body = frames.manifest_body(FRAME_KEY, GENERATION, self._update.update_id, body)
        datagram = frames.build(kind, self._update.update_id, index, body)
        self._aired += len(datagram)
        self._position += 1
        for board in self._boards:
            if self.chance.random() >= self._loss:
                board.hear(datagram)
        if self._position < len(self._order):
            self.at(began + round(self._position * self._pace_ms), lambda: self._air(began))

    def _left_s(self) -> float:
        return (len(self._order) - self._position) * self._pace_ms / 1000


def _provisioned(folder: Path, key: UpdateKey) -> tuple[Any, Any]:
    """Return identity and KeyStore, which all boards share."""
    gateway = OwnIdentity.create(folder / "gateway.key", "gw.home", "gateway")
    signing = BroadcastSigningKey.create(folder / "signing.key")
    trust = Trust(gateway.credential, signing.public_key, signing.epoch, "home", "127.0.0.1")
    record, _ = new_board("board", trust)
    store = KeyStore(MemoryStorage())
    store.save(RECORD, key.octets)
    return provisioning.parse(record), store
