"""The story of `keycast demo`, step by step, and the figures that it measures. This module prints nothing."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cpns import broadcast_object, numbers
from cpns.errors import MalformedMessage
from cpns.in_words import version_text
from keycast.demo.house import WIFI, House
from keycast.virtual_board.board import BoardError
from keycast.virtual_board.thief import Thief

SG_ID = "home/lights"
_SETTLE_S = 120.0
_LISTEN_S = 1.0
_TRY_AGAIN = ("NoSession", "OSError", "TimeoutError")


@dataclass
class DeliveryFigures:
    """One delivery as seen from outside of the gateway: on the air and at the boards.

    `bytes` are those of the datagrams; `adverts`: different adverts on the air until all boards had the key, None
    without Bluetooth. Of an end-to-end group the datagrams are the messages that the gateway carried.
    """

    sg_id: str
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
    homes: int = 1
    uplink: str = "embedded"
    trust: str = "gateway"
    deliveries: list[DeliveryFigures] = field(default_factory=list)
    excluded_could_read: bool | None = None
    pull_refused: bool | None = None
    messages_heard: int = 0
    thief_frames: int = 0
    restarts: int = 0

    @property
    def good(self) -> bool:
        """True if the board that was thrown out got no new key in any way."""
        return self.excluded_could_read is False and bool(self.pull_refused)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        return asdict(self)


Say = Callable[[str], None]


class Story:
    """The demo in `houses`, whose boards are all in one Service Group, wherever they are.

    It calls `say` with a sentence for each step, and fills in `figures` as it goes on. `sg_ids` are the Service Groups
    in it, `home_of` the PN of each board.
    """

    sg_ids: tuple[str, ...] = (SG_ID,)

    def __init__(self, houses: Sequence[House], figures: DemoFigures, say: Say) -> None:
        self._houses = houses
        self._server = houses[0].server
        self.figures = figures
        self._say = say
        rows = itertools.zip_longest(*(house.boards for house in houses))  # boards live in the houses by turns
        names = [name for row in rows for name in row if name is not None]
        self.boards = {name: house.boards[name] for name in names for house in houses if name in house.boards}
        self.home_of = {name: house.pn_id for name in names for house in houses if name in house.boards}
        self.radios = {name: house.radios[name] for name in names for house in houses if name in house.radios}
        self.members = names[: max(2, len(names) * 3 // 4)]
        self.expelled = self.members[-1]
        self._frames: list[bytes] = []
        self._adverts: list[list[bytes]] = [[] for _ in houses]

    async def play(self) -> None:
        """Play the whole story. Raise TimeoutError if a board is still without its key after two minutes."""
        kinds = Counter(self.radios.values())
        radios = (
            f", {' and '.join(f'{count} with {radio} only' for radio, count in kinds.items())},"
            if self._has_adverts
            else ""
        )
        behind = f" behind {len(self._houses)} PN GWs" if len(self._houses) > 1 else ""
        self._say(
            f"{len(self.boards)} boards{radios}{behind} run MicroPython and make their sessions (EDHOC, then OSCORE)"
        )
        self._server.create_group(SG_ID, open_to=self._pn_ids)
        of_all = f", for the boards of {' and '.join(self._pn_ids)}" if len(self._houses) > 1 else ""
        self._say(f"Service Group {SG_ID} is created at the CPNS Server{of_all}; {len(self.members)} boards join")
        await self._delivered(SG_ID, "members join", self._join_all)
        await self._talk(SG_ID, self.members[0], "light on")
        self._say(f"{self.expelled} is thrown out; it keeps its keys and goes on listening")
        await self._delivered(SG_ID, "one is expelled", self._expel)
        await self._try_to_read()

    @property
    def _pn_ids(self) -> list[str]:
        return [house.pn_id for house in self._houses]

    @property
    def _has_adverts(self) -> bool:
        return any(house.adverts is not None for house in self._houses)

    async def _join_all(self, sg_id: str, **how: Any) -> list[str]:
        await asyncio.gather(*(self._join(sg_id, name, **how) for name in self.members))
        return self.members

    async def _join(self, sg_id: str, name: str, **how: Any) -> None:
        """Join as an application does: try again if the radio lost too much for one try."""
        async with asyncio.timeout(_SETTLE_S):
            while True:
                try:
                    await self.boards[name].command("join", group=sg_id, timeout_s=_SETTLE_S, **how)
                except BoardError as error:
                    if error.kind not in _TRY_AGAIN:
                        raise
                else:
                    return

    async def _expel(self, sg_id: str) -> list[str]:
        self._server.expel(sg_id, self.expelled)
        return [name for name in self.members if name != self.expelled]

    async def _delivered(self, sg_id: str, occasion: str, cause: Callable[[str], Awaitable[list[str]]]) -> None:
        """Let `cause` happen, wait until the members it returns hold the newest key, and take the figures."""
        self._take_adverts()
        for house in self._houses:
            house.sniffer.frames()
        begun = time.monotonic()
        before = self._newest(sg_id)
        receivers = await cause(sg_id)
        async with asyncio.timeout(_SETTLE_S):
            while True:
                version = self._newest(sg_id)
                held = [name for name in receivers if self._held(sg_id, name) == version]
                confirmed = self._confirmed(sg_id, version)
                if version > before and len(held) == len(receivers) == confirmed:
                    break
                await asyncio.sleep(0.02)
        seconds = time.monotonic() - begun
        objects, method = self._on_the_air(sg_id, version)
        adverts = self._take_adverts()
        excluded = [name for name in self.boards if name not in receivers]
        figures = DeliveryFigures(
            sg_id,
            occasion,
            version,
            len(receivers),
            excluded,
            sum(map(len, objects)),
            len(objects),
            method,
            round(seconds, 3),
            adverts,
        )
        self.figures.deliveries.append(figures)
        what = f"{counted(figures.datagrams, 'datagram')}, {figures.bytes} octets" if objects else "unicast"
        what += f"; {counted(adverts, 'advert')} of 24 octets" if adverts else ""
        of_group = f"{sg_id}: " if len(self.sg_ids) > 1 else ""
        held_by = f"version {version_text(version)} is held by {len(receivers)} boards after {seconds:.2f} s"
        self._say(f"{of_group}{held_by} ({what})")

    def _on_the_air(self, sg_id: str, version: int) -> tuple[list[bytes], str]:
        """Return what has brought the key of this version to boards, as far as it was heard, and the way it went."""
        frames = [frame for house in self._houses for frame in house.sniffer.frames()]
        self._frames += frames
        objects = [frame for frame in frames if _version_of(frame) == version]
        return objects, "broadcast" if objects else "unicast"

    def _take_adverts(self) -> int | None:
        """Record the adverts since the last call for the thief, and return their number; None without Bluetooth."""
        if not self._has_adverts:
            return None
        count = 0
        for house, adverts in zip(self._houses, self._adverts, strict=True):
            heard = [] if house.adverts is None else house.adverts.adverts()
            adverts += heard
            count += len(heard)
        return count

    async def _talk(self, sg_id: str, speaker: str, text: str) -> None:
        """Send one group message from `speaker`, and count the other members that hear it."""
        boards, data = self.boards, text.encode()
        near = [name for name in self.members if self.home_of[name] == self.home_of[speaker]]
        since = {name: len(boards[name].events) for name in near}
        await boards[speaker].command("send", group=sg_id, data=data.hex())
        await asyncio.sleep(_LISTEN_S)
        heard = [
            name
            for name in near
            if any(
                event.get("event") == "message" and event.get("data") == data.hex()
                for event in boards[name].events[since[name] :]
            )
        ]
        self.figures.messages_heard = len(heard)
        # group messages do not go by advert
        listeners = sum(self.radios[name] == WIFI for name in near if name != speaker)
        whom = f"{listeners} on Wi-Fi" if self._has_adverts else f"{listeners}"
        where = " in its home" if len(self._houses) > 1 else ""
        self._say(f"{speaker} says '{text}' under the Group Key: {len(heard)} of {whom}{where} hear it")

    async def _try_to_read(self) -> None:
        """Let the expelled board pull the new key, and let a thief try all keys in its flash on all recorded frames."""
        board = self.boards[self.expelled]
        self.figures.pull_refused = await self._pull_refused(SG_ID)
        self._say(
            f"{self.expelled} asks for the new key: " + ("refused" if self.figures.pull_refused else "IT WAS GIVEN IT")
        )
        newest = self._newest(SG_ID)
        thief = Thief([board.nvs])
        thief.hear(self._frames)
        self._take_adverts()
        for house, adverts in zip(self._houses, self._adverts, strict=True):
            thief.hear_adverts(adverts, house.app.pn_alias)
        self.figures.thief_frames = len(thief.frames)
        readable = thief.readable()
        held = self._held(SG_ID, self.expelled)
        self.figures.excluded_could_read = newest in readable or held >= newest
        verdict = "IT COULD READ THE NEW KEY" if self.figures.excluded_could_read else "it cannot read the new key"
        self._say(f"with every key in its flash against {len(thief.frames)} recorded frames: {verdict}")

    async def _pull_refused(self, sg_id: str) -> bool:
        """Let the expelled board ask for a newer key; return True if it is refused."""
        try:
            await self.boards[self.expelled].command("refresh", group=sg_id)
        except BoardError:
            return True
        return False

    def _newest(self, sg_id: str) -> int:
        return self._server.show_group(sg_id).version

    def _held(self, sg_id: str, name: str) -> int:
        keys = [event for event in self.boards[name].events if event.get("event") == "key"]
        return max((event["version"] for event in keys if event["group"] == sg_id), default=0)

    def _confirmed(self, sg_id: str, version: int) -> int:
        return sum(
            status.states.get("confirmed", 0)
            for house in self._houses
            for status in house.app.gateway.administration.groups()
            if status.group.sg_id == sg_id and status.group.version == version
        )

    def table(self, sg_id: str) -> dict[str, int]:
        """Return the newest version that each board has reported, by PNE ID; 0 for none."""
        return {name: self._held(sg_id, name) for name in self.boards}


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
