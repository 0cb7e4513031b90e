"""Send datagrams by GATT from a guest to a board that sends them back: `gatt_echo.py COMPANY ADDRESS SIZE...`.

The gateway's link is used with its scanner and connections by bluetoothd, and nothing else of the gateway. For each
size it prints a line: octets, and milliseconds there and back. The last line is a JSON object with what was counted.
The exit code is 1 if a datagram does not come back.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter

from gateway_agent.radios.ble_reception import BleReception
from gateway_agent.radios.bleak_carrier import BluezCarrier
from gateway_agent.radios.bleak_scanner import BluezScanner
from message_plane.links.gatt import GattLink

TRIES = 6
ANSWER_S = 15.0


async def main(company_id: int, bluetooth: str, sizes: list[int]) -> int:
    """Send a datagram of each size, and again if it does not come back in time; return the exit code."""
    counters: Counter[str] = Counter()
    received: asyncio.Queue[bytes] = asyncio.Queue()
    scanner = BluezScanner(lambda: "hci0", company_id, counters)
    link = GattLink(BluezCarrier(scanner), counters=counters)
    reception = BleReception(link.advertised, counters)
    await link.open(lambda datagram, _: received.put_nowait(datagram))
    reception.listen(scanner)
    address = await link.find(f"gatt:{bluetooth}")

    async def comes_back(datagram: bytes) -> None:
        async with asyncio.timeout(ANSWER_S):
            while await received.get() != datagram:
                pass  # an answer to an earlier try

    async def echo(datagram: bytes) -> float | None:
        for _ in range(TRIES):
            began = time.monotonic()
            link.send(address, datagram)
            try:
                await comes_back(datagram)
                return time.monotonic() - began
            except TimeoutError:
                continue
        return None

    try:
        for size in sizes:
            seconds = await echo(os.urandom(size))
            if seconds is None:
                print(f"{size} octets have not come back; {scanner.problem or 'the radio works'}; {dict(counters)}")
                return 1
            print(size, round(seconds * 1000), flush=True)
        print(json.dumps(counters))
        return 0
    finally:
        await link.close()
        await reception.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2], [int(size) for size in sys.argv[3:]])))
