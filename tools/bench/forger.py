"""A stranger who hears a home's network and sends the forgeries that take boards the most room to refuse."""

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from cpns import broadcast_object, cborlite, group_message, numbers, tuning
from device_agent.coap.message import CON, Message
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.thief import Sniffer

_GAP_S = 0.01
_OSCORE, _URI_PATH = 9, 11
_REQUEST_PAYLOAD = 1400  # octets
_ENTRY = 18  # octets of an entry of a broadcast object, in a tree of at most 2,048 slots


@asynccontextmanager
async def forging(sniffer: Sniffer, victim: VirtualBoard) -> AsyncIterator[None]:
    """Send, inside the `async with`, 100 datagrams a second: group messages, broadcast objects and requests in turn.

    They are as long as possible. Broadcasts have all names of the last one of their kind, so that boards check them up
    to the tag, or the entries, before it refuses. The requests to `victim` have a random kid. Raises MalformedMessage
    if no group message or no broadcast object was heard since the last `sniffer.frames()`.
    """
    frames = sniffer.frames()
    message = _messages_like(_last(frames, numbers.FRAME_GROUP_MESSAGE))
    key = _objects_like(_last(frames, numbers.FRAME_COSE_SIGN1))

    def to_victim(datagram: bytes) -> None:
        mouth.sendto(datagram, (victim.network.address, victim.network.port))

    async def speak() -> None:
        while True:
            for datagram, send in ((message(), sniffer.send), (key(), sniffer.send), (_request(), to_victim)):
                send(datagram)
                await asyncio.sleep(_GAP_S)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        speaking = asyncio.create_task(speak())
        try:
            yield
        finally:
            speaking.cancel()


def _request() -> bytes:
    options = [(_OSCORE, bytes([0x09]) + secrets.token_bytes(3)), (_URI_PATH, b"cpns")]
    request = Message(CON, 2, secrets.randbelow(1 << 16), secrets.token_bytes(4), options, bytes(_REQUEST_PAYLOAD))
    octets: bytes = request.encode()
    return octets


def _last(frames: Iterable[bytes], kind: int) -> bytes:
    return ([b""] + [frame for frame in frames if frame[0] == kind])[-1]


def _messages_like(frame: bytes) -> Callable[[], bytes]:
    heard = group_message.parse(frame)
    group = group_message.Group("", heard.pn_alias, heard.sg_alias, heard.mode)
    sender = group_message.Sender(group, "stranger")
    sender.start(heard.version, secrets.token_bytes(8))

    def forged() -> bytes:
        if sender.must_reserve():
            sender.reserved(sender.reserve())
        octets: bytes = sender.protect(heard.version, secrets.token_bytes(16), bytes(tuning.GROUP_MESSAGE_MAX))
        return octets

    return forged


def _objects_like(frame: bytes) -> Callable[[], bytes]:
    heard = broadcast_object.parse(frame)
    assert isinstance(heard, broadcast_object.Received)
    head = [numbers.GROUP_KEY_DELIVERY_REQUEST, heard.pn_alias, heard.sg_alias, heard.generation, heard.version + 1]
    entry = heard.entries[:2] + bytes(_ENTRY - 2)
    room = tuning.BROADCAST_OBJECT_MAX - 130

    def forged() -> bytes:
        entries = entry + secrets.token_bytes(room // _ENTRY * _ENTRY - _ENTRY)
        payload = cborlite.encode([*head, 0, numbers.REASON_PERIODIC, secrets.token_bytes(16), entries])
        octets: bytes = broadcast_object.FRAME_HEAD + cborlite.encode(payload) + broadcast_object.SIGNATURE_HEAD
        return octets + secrets.token_bytes(64)

    return forged
