"""Air signed broadcasts in a guest with the gateway's BLE medium alone: `air_objects.py SOCKET SENDER ALIAS KEY`.

ALIAS is the PN alias and KEY the frame key under which everything goes out, in hexadecimal digits. Each line that comes
to the Unix socket is an object in hexadecimal digits: it is aired once, one burst. The answer is a JSON object with the
sender's name, interval and rate. The line `stop` ends all airings.
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

from gateway_agent.radios.ble import BleSection, open_medium
from gateway_agent.radios.ble_medium import BleMedium
from gateway_agent.radios.medium import Airing


class OneKey:
    """Implements `medium.HomeOnAir`: a home with one generation."""

    def __init__(self, pn_alias: int, key: bytes) -> None:
        self.pn_alias = pn_alias
        self._key = key

    def frame_keys(self, generation: int | None = None) -> list[bytes]:
        """Return the key, whatever the generation."""
        return [self._key]


async def serve(path: Path, sender: str, home: OneKey) -> None:
    """Open the medium and air what comes to the socket, for ever. `path` exists once the sender is up."""
    section = BleSection.model_validate({"sender": sender, "adapter": "hci0"})
    medium = open_medium(section, Counter())
    assert medium is not None  # the section says so
    is_up = asyncio.Event()

    def look() -> None:
        if medium.up:
            is_up.set()

    medium.open(look, lambda datagram: None, home)
    look()
    await is_up.wait()

    airings: set[Airing] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().strip()
        if line == "stop":
            for each in airings:
                each.stop()
        else:
            airing = medium.air(bytes.fromhex(line))
            airings.add(airing)
            await asyncio.wait([airing.ended])
            airings.discard(airing)
        writer.write(json.dumps(_told(medium)).encode() + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        await asyncio.get_running_loop().create_future()


def _told(medium: BleMedium) -> dict[str, object]:
    sender = medium.sender
    assert sender is not None  # it is up
    return {"sender": sender.name, "interval_ms": sender.interval_ms, "rate": round(1 / sender.frame_s)}


if __name__ == "__main__":
    socket_path, sender_name, alias, frame_key = sys.argv[1:]
    asyncio.run(serve(Path(socket_path), sender_name, OneKey(int(alias, 16), bytes.fromhex(frame_key))))
