"""A PN GW's endpoint in a process of its own, to be stopped and killed: `plane_gateway_child.py FOLDER PORT LEASE_MS`.

Sends "child <n>" to the server at 127.0.0.1:PORT every 20 ms and prints what came of it, a line each.
"""

import asyncio
import sys
from pathlib import Path

from message_plane import endpoint, session_store
from message_plane.cpns_resource import PATH, cpns_resource
from message_plane.errors import LeaseLost, PlaneError
from message_plane.identity import OwnIdentity


def say(*words):
    print(*words, flush=True)


async def handle(peer, payload):
    say("handled", payload.decode())
    return b"\xa0"


async def main(folder, port, lease_ms):
    session_store.LEASE_MS = lease_ms
    endpoint._HOUSEKEEPING_S = lease_ms / 4000
    own = await endpoint.Endpoint.open(
        identity=OwnIdentity.load(folder / "home-gw.key"),
        store=session_store.SessionStore(folder / "home-gw.db"),
        resources={PATH: cpns_resource(handle)},
        bind=[("127.0.0.1", 0)],
    )
    await own.connect("cpns-server", "127.0.0.1", port)
    say("at", own.addresses[0][1])
    for n in range(100_000):
        try:
            await own.request("cpns-server", b"child %d" % n, resource=PATH, timeout_s=1)
            say("sent", n)
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


asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
