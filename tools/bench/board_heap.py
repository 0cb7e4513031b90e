"""The smallest heap with which a whole board does all its work: the files of an ESP32 in the real VM, code in ROM.

Garbage is collected when the heap is full, so its fill level says nothing. The measure is a board that gets through,
while one with a little less heap does not. Each try is a new board with an empty flash: EDHOC with the PN GW, a GKDK of
1,024 slots, 8 groups joined, a key of each pulled, a key of each by signed broadcast, one message sent in each group
and one received; then EDHOC again, with all that in the heap, while a stranger sends long forgeries; at last an update
of 100 KiB, whose manifest is pulled and verified, and whose frames are in part broadcast among forged ones and in part
pulled.
"""

import asyncio
import random
import tempfile
from base64 import b64encode
from contextlib import closing
from itertools import count
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from device_agent.key_store import KeyStore
from device_agent.update import key as update_key
from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.updates.offline_key import OfflineKey
from keycast.virtual_board.board import RESET_CODE, BoardEnded, BoardError, VirtualBoard
from keycast.virtual_board.loopback import broadcast_port
from keycast.virtual_board.thief import Sniffer
from suit import class_id, frames
from suit import numbers as n
from suit.build import build
from suit.coded import CodedImage
from suit.envelope import parse
from tools.agent_image import agent_image
from tools.bench.forger import forging
from tools.bench.home import EVERYBODY, PN_ID, Home, build_home
from tools.bench.rows import Tell
from tools.bench.smallest_heap import smallest_heap

GROUPS = [f"home/room{number}" for number in range(8)]
LOW_KIB, HIGH_KIB = 48, 144
_BOARDS = 12
_FIRST_NUMBER = 8001  # its addresses are apart from those of demos and tests
_STEP_S = 20.0
_HANDSHAKE_S = 60.0  # for the first refresh: two requests without answer, a pause, EDHOC
_SPEAKER_KIB = 256
_IMAGE = 100 * 1024
_HEARD = 0.8  # of the frames
_AIR_S = 0.03  # from one to the next
_UPDATE_S = 90.0  # to hear of the update and verify it, or to pull what was not heard


class _Trials:
    """One home, a board that sends messages, and the boards that are tried."""

    def __init__(self, home: Home, sniffer: Sniffer, folder: Path, tell: Tell) -> None:
        self._home = home
        self._sniffer = sniffer
        self._folder = folder
        self._tell = tell
        self._numbers = count()
        self._key = OfflineKey(ec.generate_private_key(ec.SECP256R1()))
        self._number = 0  # of the update that was offered last
        self.in_use: list[int] = []
        self.speaker = self._board()

    async def start(self) -> None:
        """Create the groups and let the sending board join."""
        for sg_id in GROUPS:
            self._home.server.create_group(sg_id, open_to=[PN_ID])
        await self.speaker.start(heap_kib=_SPEAKER_KIB)
        await self._join(self.speaker)

    async def _join(self, board: VirtualBoard) -> None:
        for sg_id in GROUPS:
            await board.command("join", group=sg_id, timeout_s=_STEP_S)

    async def passes(self, heap_kib: int) -> bool:
        """Return True if a new board with this heap does all its work."""
        self._tell(f"a board with {heap_kib} KiB")
        board = self._board()
        try:
            await board.start(heap_kib=heap_kib)
            await self._everything(board)
            await self._update(board, heap_kib)
        except (BoardEnded, BoardError, TimeoutError):
            return False
        finally:
            await board.stop()
        return True

    async def _everything(self, board: VirtualBoard) -> None:
        await self._join(board)
        for sg_id in GROUPS:
            await board.command("refresh", group=sg_id, timeout_s=_STEP_S)
        new = {sg_id: self._home.server.update_key(sg_id) for sg_id in GROUPS}
        for each in (board, self.speaker):
            for sg_id, version in new.items():
                await each.event("key", group=sg_id, version=version, timeout_s=_STEP_S)
        for sg_id in GROUPS:
            await board.command("send", group=sg_id, data=b"light on".hex(), timeout_s=_STEP_S)
            said = f"{sg_id} {new[sg_id]}".encode().hex()
            await self.speaker.command("send", group=sg_id, data=said)
            await board.event("message", data=said, timeout_s=_STEP_S)
        await self._home.app.endpoint.drop(self._pne_id(board))
        async with forging(self._sniffer, board):
            for sg_id in GROUPS:
                await board.command("refresh", group=sg_id, timeout_s=_HANDSHAKE_S)
        status = await board.command("status", timeout_s=_STEP_S)
        self.in_use.append(status["heap"])
        if status["groups"] != new:
            raise BoardError("ValueError", "another version than the newest is held")

    async def _update(self, board: VirtualBoard, heap_kib: int) -> None:
        """Let the board collect an update until it is whole; it may restart once, for a heap that is in one piece."""
        self._number += 1
        air = random.Random(self._number)
        image = agent_image(_IMAGE, self._number)
        file = build("agent", class_id.agent(6), self._number, image, self._key.sign)
        await self._home.app.updates.offer(b64encode(file).decode(), [self._pne_id(board)])
        await board.event("update", state="collecting", timeout_s=_UPDATE_S)
        update_id, coded = parse(file).update_id, CodedImage(image)
        pieces = [(n.PAGE, index, page) for index, page in enumerate(coded.pages())]
        pieces += [(n.FRAME, index, coded.frame(index)) for index in range(coded.code.blocks)]
        for what, index, octets in pieces:
            self._sniffer.send(frames.build(what, update_id, index, air.randbytes(len(octets))))
            if what == n.PAGE or air.random() < _HEARD:
                self._sniffer.send(frames.build(what, update_id, index, octets))
            await asyncio.sleep(_AIR_S)
        try:
            await board.event("update", state="waiting", timeout_s=_UPDATE_S)
        except BoardEnded:
            if await board.ended() != RESET_CODE:
                raise
            await board.start(heap_kib=heap_kib, more={"BOARD_RESET_CAUSE": "2"})
            await board.event("update", state="waiting", timeout_s=_UPDATE_S)

    def _pne_id(self, board: VirtualBoard) -> str:
        return self._home.pnes[board.number - _FIRST_NUMBER].pne_id

    def _board(self) -> VirtualBoard:
        number = next(self._numbers)
        board = VirtualBoard.create(
            self._folder / f"board-{number}", _FIRST_NUMBER + number, self._home.pnes[number].provisioning
        )
        board.have_slots()
        update_key.keep(KeyStore(board.nvs), self._key.public.octets)
        return board


async def smallest(tell: Tell) -> tuple[int, int]:
    """Return the KiB of the smallest heap that passes, and the octets in use at its end after a collection.

    Raises ValueError if HIGH_KIB are not enough, NoVm.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        delivery = DeliveryPolicy(method="broadcast")
        async with build_home(folder, _BOARDS, delivery, slots=1024, broadcast_port=broadcast_port()) as home:
            with closing(Sniffer(EVERYBODY)) as sniffer:
                trials = _Trials(home, sniffer, folder, tell)
                try:
                    await trials.start()
                    kib = await smallest_heap(trials.passes, LOW_KIB, HIGH_KIB)
                    return kib, trials.in_use[-1]
                finally:
                    await trials.speaker.stop()


def measure_smallest(tell: Tell) -> tuple[int, int]:
    """Run `smallest` in an event loop of its own and return its value."""
    return asyncio.run(smallest(tell))
