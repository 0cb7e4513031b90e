"""A stranger who hears the broadcast plane and sends what takes boards the most room to refuse."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cpns import group_message, numbers, tuning
from tools.virtual_board.thief import Sniffer

_GAP_S = 0.02


@asynccontextmanager
async def forging(sniffer: Sniffer) -> AsyncIterator[None]:
    """Meanwhile 50 group messages a second, as long as they get, with all the names that the last one heard has.

    Only the tag tells them from a member's. Raises MalformedMessage if none was heard since `sniffer.frames()`.
    """
    messages = [frame for frame in sniffer.frames() if frame[0] == numbers.FRAME_GROUP_MESSAGE]
    heard = group_message.parse(messages[-1] if messages else b"")
    group = group_message.Group("", heard.pn_alias, heard.sg_alias, heard.mode)
    sender = group_message.Sender(group, "stranger")
    sender.start(heard.version, secrets.token_bytes(8))

    async def speak() -> None:
        while True:
            if sender.must_reserve():
                sender.reserved(sender.reserve())
            sniffer.send(sender.protect(heard.version, secrets.token_bytes(16), bytes(tuning.GROUP_MESSAGE_MAX)))
            await asyncio.sleep(_GAP_S)

    speaking = asyncio.create_task(speak())
    try:
        yield
    finally:
        speaking.cancel()
