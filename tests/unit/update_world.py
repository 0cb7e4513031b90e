"""Signed updates, and boards in a few lines that report, pull pieces and hear broadcasts."""

import random
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cpns.cborlite import decode, encode
from cpns.numbers import FRAME_UPDATE
from gateway_agent.updates.update_key import UpdateKey
from suit import class_id, envelope, erasure, frames
from suit import numbers as n
from suit.build import build
from tools.agent_image import agent_image

AGENT, OTHER = class_id.agent(6), class_id.agent(7)
FIRMWARE = class_id.firmware("ESP32_GENERIC-OTA")
AGENT_ID, FIRMWARE_ID = class_id.class_id(AGENT), class_id.class_id(FIRMWARE)


class OfflineKey:
    """The key of who signs updates, and its public part."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.public = UpdateKey(self._key.public_key())

    def sign(self, octets: bytes) -> bytes:
        r, s = utils.decode_dss_signature(self._key.sign(octets, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


KEY = OfflineKey()


def image(octets: int, seed: int = 1, *, kind: str = "agent") -> bytes:
    """An image of so many octets, which are random but for what a gateway looks at."""
    if kind == "agent":
        return agent_image(octets, seed)
    description = b"\xe9".ljust(32, b"\0") + b"\x32\x54\xcd\xab"
    return description + random.Random(seed).randbytes(octets - len(description))


def signed(
    number: int, octets: bytes | None = None, *, kind: str = "agent", text: str = "", key: OfflineKey = KEY
) -> bytes:
    """The file of an update; without `octets` its image has 9,000."""
    text = text or {"agent": AGENT, "firmware": FIRMWARE}[kind]
    return build(kind, text, number, image(9000, kind=kind) if octets is None else octets, key.sign)


def id_of(file: bytes) -> bytes:
    return bytes(envelope.parse(file).update_id)


class Board:
    """The update of one board. `ask(octets)` requests the resource of its gateway and returns the body of the answer.

    It collects what it is offered, and runs it when `finish` has made it whole.
    """

    def __init__(self, ask: Any, classes: tuple[bytes, ...] = (AGENT_ID,), key: bytes = KEY.public.octets) -> None:
        self.ask = ask
        self.classes = list(classes)
        self.key = key
        self.agent_number = 0
        self.firmware_number = 0
        self.state, self.wanted, self.detail = n.IDLE, 0, 0
        self.offered = b""
        self.wait_s = 0
        self.frames: dict[int, bytes] = {}
        self.pages: dict[int, bytes] = {}
        self.envelope: bytes | None = None
        self.pulled = 0

    def report_octets(self) -> bytes:
        numbers = [self.agent_number, self.firmware_number, self.state, self.wanted, self.detail]
        return encode([n.REPORT, self.classes, frames.hashed(self.key)[:8] if self.key else b"", *numbers])

    async def report(self) -> bytes:
        """Report; return the ID of the update that is offered."""
        self.offered, number, key, self.wait_s = decode(await self.ask(self.report_octets()))
        self.wanted = number or self.wanted
        self.key = self.key or key
        return self.offered

    async def piece(self, what: int, index: int) -> bytes:
        self.pulled += 1
        return bytes(decode(await self.ask(encode([n.PIECE, self.offered, what, index]))))

    def hear(self, datagram: bytes, frame_keys: dict[int, bytes]) -> None:
        """Take a broadcast frame as a board does: only what a hash that is known stands for."""
        if datagram[0] != FRAME_UPDATE:
            return
        frame = frames.parse(datagram)
        if frame.update_id != self.offered:
            return
        if frame.kind == n.ENVELOPE:
            self.envelope = frames.envelope_of(frame.body, frame.update_id, frame_keys)
        elif frame.kind == n.PAGE and self.envelope is not None:
            if frames.listed(envelope.parse(self.envelope).page_list, frame.index, frame.body):
                self.pages[frame.index] = bytes(frame.body)
        elif frame.kind == n.FRAME:
            page, place = frames.page_of(frame.index)
            if page in self.pages and frames.listed(self.pages[page], place, frame.body):
                self.frames[frame.index] = bytes(frame.body)

    async def finish(self) -> bytes:
        """Pull what is missing; return the image, which it runs from now on."""
        if self.envelope is None:
            self.envelope = await self.piece(n.ENVELOPE, 0)
        found = envelope.parse(self.envelope)
        code = erasure.Code(found.size)
        for page in range(-(-code.frames // n.PAGE_FRAMES)):
            if page not in self.pages:
                self.pages[page] = await self.piece(n.PAGE, page)
            assert frames.listed(found.page_list, page, self.pages[page])
        for block in range(code.blocks):
            if all(code.solve(segment, self.frames.__contains__) is not None for segment in range(code.segments)):
                break
            if block not in self.frames:
                octets = await self.piece(n.FRAME, block)
                page, place = frames.page_of(block)
                assert frames.listed(self.pages[page], place, octets)
                self.frames[block] = octets
        for segment in range(code.segments):
            for block, of in code.solve(segment, self.frames.__contains__):
                self.frames[block] = bytes(erasure.xor(self.frames.__getitem__, of))
        whole = b"".join(self.frames[block] for block in range(code.blocks))[: found.size]
        if found.kind == "agent":
            self.agent_number = found.number
        else:
            self.firmware_number = found.number
        self.state = n.IDLE
        return whole
