"""A PN GW's endpoint in a process of its own, to be stopped and killed: `plane_gateway_child.py FOLDER PORT`.

It sends "child <n>" to the server at 127.0.0.1:PORT every 20 ms and prints each result as a line. It adds the seconds
in the file `ahead` in FOLDER to its time since the start of the machine, by which leases are counted.
"""

import asyncio
import sys
from pathlib import Path

from message_plane import endpoint, holder, session_file
from message_plane.cpns_resource import PATH, uplink_resource
from message_plane.errors import LeaseLost, PlaneError
from message_plane.identity import OwnIdentity
from message_plane.links.udp import UdpLink, host_and_port, place_of


def time_from(file):
    """A clock that is ahead of the machine's by as many milliseconds as stand in `file`."""
    real = holder.boot_milliseconds
    return lambda: real() + int(file.read_text())


def say(*words):
    print(*words, flush=True)


async def handle(peer, payload):
    say("handled", payload.decode())
    return b"\xa0"


async def main(folder, port):
    holder.boot_milliseconds = time_from(folder / "ahead")
    endpoint._HOUSEKEEPING_S = 0.1
    own = await endpoint.Endpoint.open(
        identity=OwnIdentity.load(folder / "home-gw.key"),
        store=session_file.SessionFile(folder / "home-gw.db"),
        resources={"server": {PATH: uplink_resource(handle)}},
        links=[UdpLink([("127.0.0.1", 0)])],
    )
    await own.connect("cpns-server", place_of("127.0.0.1", port))
    say("at", host_and_port(own.places[0])[1])
    for n in range(100_000):
        try:
            await own.request("cpns-server", b"child %d" % n, resource=PATH, timeout_s=1)
            say("answered", n)
        except LeaseLost as lost:
            say("lost", lost)
            if own.failed.done():
                break
        except PlaneError as error:
            say("failed", error)
            if own.failed.done():
                break
        await asyncio.sleep(0.02)
    say("ended", type(own.failed.result()).__name__)
    await own.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
