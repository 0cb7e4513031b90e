"""The story of `keycast demo`, step by step, and the figures that it measures. This module prints nothing."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from cpns import broadcast_object, numbers
from cpns.errors import MalformedMessage
from cpns.in_words import version_text
from keycast.demo.house import PN_ID, WIFI, House
from keycast.virtual_board.board import BoardError, VirtualBoard
from keycast.virtual_board.thief import Thief

SG_ID = "home/lights"
_SETTLE_S = 120.0
_LISTEN_S = 1.0
_TRY_AGAIN = ("NoSession", "OSError", "TimeoutError")


@dataclass
class DeliveryFigures:
    """One delivery as seen from outside of the gateway: on the air and at the boards.

    `bytes` are those of the datagrams; `adverts`: different adverts on the air until all boards had the key, None
    without Bluetooth.
    """

    occasion: str
    version: int
    confirmed_count: int
    excluded: list[str]
    bytes: int
    datagrams: int
    method: str
    seconds: float
    adverts: int | None = None


@dataclass
class DemoFigures:
    """The settings and the results of one demo; a result that is not known yet is None."""

    boards: int
    loss: float
    seed: int
    ble: bool = False
    deliveries: list[DeliveryFigures] = field(default_factory=list)
    excluded_could_read: bool | None = None
    pull_refused: bool | None = None
    messages_heard: int = 0
    thief_frames: int = 0
    restarts: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        return asdict(self)


Say = Callable[[str], None]


class Story:
    """The demo in `house`. It calls `say` with a sentence for each step, and fills in `figures` as it goes on."""

    def __init__(self, house: House, figures: DemoFigures, say: Say) -> None:
        self._house = house
        self.figures = figures
        self._say = say
        names = list(house.boards)
        self.members = names[: max(2, len(names) * 3 // 4)]
        self.expelled = self.members[-1]
        self.radios = house.radios
        self._frames: list[bytes] = []
        self._adverts: list[bytes] = []

    async def play(self) -> None:
        """Play the whole story. Raise TimeoutError if a board is still without its key after two minutes."""
        house = self._house
        kinds = Counter(self.radios.values())
        radios = (
            f", {' and '.join(f'{count} with {radio} only' for radio, count in kinds.items())},"
            if house.adverts
            else ""
        )
        self._say(f"{len(house.boards)} boards{radios} run MicroPython and make their sessions (EDHOC, then OSCORE)")
        house.server.create_group(SG_ID, open_to=[PN_ID])
        self._say(f"Service Group {SG_ID} is created at the CPNS Server; {len(self.members)} boards join")
        await self._delivered("members join", self._join_all)
        heard = await self._talk(self.members[0])
        listeners = sum(self.radios[name] == WIFI for name in self.members[1:])  # group messages do not go by advert
        whom = f"{listeners} on Wi-Fi" if house.adverts else f"{listeners}"
        self._say(f"{self.members[0]} says 'light on' under the Group Key: {heard} of {whom} hear it")
        self._say(f"{self.expelled} is thrown out; it keeps its keys and goes on listening")
        await self._delivered("one is expelled", self._expel)
        await self._try_to_read()

    async def _join_all(self) -> list[str]:
        await asyncio.gather(*map(self._join, self.members))
        return self.members

    async def _join(self, name: str) -> None:
        """Join as an application does: try again if the radio lost too much for one try."""
        async with asyncio.timeout(_SETTLE_S):
            while True:
                try:
                    await self._house.boards[name].command("join", group=SG_ID, timeout_s=_SETTLE_S)
                except BoardError as error:
                    if error.kind not in _TRY_AGAIN:
                        raise
                else:
                    return

    async def _expel(self) -> list[str]:
        self._house.server.expel(SG_ID, self.expelled)
        return [name for name in self.members if name != self.expelled]

    async def _delivered(self, occasion: str, cause: Callable[[], Awaitable[list[str]]]) -> None:
        """Let `cause` happen, wait until the members it returns hold the newest key, and take the figures."""
        house = self._house
        self._take_adverts()
        house.sniffer.frames()
        begun = time.monotonic()
        before = self._newest()
        receivers = await cause()
        async with asyncio.timeout(_SETTLE_S):
            while True:
                version = self._newest()
                held = [name for name in receivers if self._held(house.boards[name]) == version]
                if version > before and len(held) == len(receivers) and self._confirmed(version) == len(receivers):
                    break
                await asyncio.sleep(0.02)
        seconds = time.monotonic() - begun
        frames = house.sniffer.frames()
        objects = [frame for frame in frames if _version_of(frame) == version]
        self._frames += frames
        adverts = self._take_adverts()
        excluded = [name for name in house.boards if name not in receivers]
        figures = DeliveryFigures(
            occasion,
            version,
            len(receivers),
            excluded,
            sum(map(len, objects)),
            len(objects),
            "broadcast" if objects else "unicast",
            round(seconds, 3),
            adverts,
        )
        self.figures.deliveries.append(figures)
        what = f"{counted(figures.datagrams, 'datagram')}, {figures.bytes} octets" if objects else "unicast"
        what += f"; {counted(adverts, 'advert')} of 24 octets" if adverts else ""
        self._say(f"version {version_text(version)} is held by {len(receivers)} boards after {seconds:.2f} s ({what})")

    def _take_adverts(self) -> int | None:
        """Record the adverts since the last call for the thief, and return their number; None without Bluetooth."""
        if self._house.adverts is None:
            return None
        heard = self._house.adverts.adverts()
        self._adverts += heard
        return len(heard)

    async def _talk(self, speaker: str) -> int:
        """Send one group message from `speaker`, and return the number of other members that hear it."""
        boards = self._house.boards
        since = {name: len(boards[name].events) for name in self.members}
        await boards[speaker].command("send", group=SG_ID, data=b"light on".hex())
        await asyncio.sleep(_LISTEN_S)
        heard = [
            name
            for name in self.members
            if any(
                event.get("event") == "message" and event.get("data") == b"light on".hex()
                for event in boards[name].events[since[name] :]
            )
        ]
        self.figures.messages_heard = len(heard)
        return len(heard)

    async def _try_to_read(self) -> None:
        """Let the expelled board pull the new key, and let a thief try all keys in its flash on all recorded frames."""
        board = self._house.boards[self.expelled]
        try:
            await board.command("refresh", group=SG_ID)
            self.figures.pull_refused = False
        except BoardError:
            self.figures.pull_refused = True
        self._say(
            f"{self.expelled} asks for the new key: " + ("refused" if self.figures.pull_refused else "IT WAS GIVEN IT")
        )
        newest = self.figures.deliveries[-1].version
        thief = Thief([board.nvs])
        thief.hear(self._frames)
        self._take_adverts()
        thief.hear_adverts(self._adverts, self._house.app.pn_alias)
        self.figures.thief_frames = len(thief.frames)
        readable = thief.readable()
        held = self._held(board)
        self.figures.excluded_could_read = newest in readable or held >= newest
        verdict = "IT COULD READ THE NEW KEY" if self.figures.excluded_could_read else "it cannot read the new key"
        self._say(f"with every key in its flash against {len(thief.frames)} recorded frames: {verdict}")

    def _newest(self) -> int:
        return self._house.server.show_group(SG_ID).version

    def _held(self, board: VirtualBoard) -> int:
        return max((event["version"] for event in board.events if event.get("event") == "key"), default=0)

    def _confirmed(self, version: int) -> int:
        for status in self._house.app.gateway.administration.groups():
            if status.group.sg_id == SG_ID and status.group.version == version:
                return status.states.get("confirmed", 0)
        return 0

    def table(self) -> dict[str, int]:
        """Return the newest version that each board has reported, by PNE ID; 0 for none."""
        return {name: self._held(board) for name, board in self._house.boards.items()}


def counted(count: int, thing: str) -> str:
    """Return a number of things in words: 1 datagram, 2 datagrams."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _version_of(frame: bytes) -> int | None:
    if frame[:1] != bytes([numbers.FRAME_COSE_SIGN1]):
        return None
    try:
        return getattr(broadcast_object.parse(frame), "version", None)
    except MalformedMessage:
        return None
