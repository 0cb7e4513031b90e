"""A Server that works as fast as it can until it is killed. Run by `test_server_crash.py`.

Every key that leaves it is printed before the PN GW answers: "SG ID, version, digest of the key". Arguments: state
folder, seed of what happens (not of the keys), URL of a PostgreSQL database if it is not the only process.
"""

import asyncio
import hashlib
import random
import sys
from contextlib import suppress
from pathlib import Path

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateways_in_process import InProcessGateways
from key_servers.errors import ServerError

GROUPS = [f"sg{i}" for i in range(3)]
PNES = [f"pne{i}" for i in range(4)]


def say(sg_id: str, version: int, key: bytes) -> None:
    print(sg_id, version, hashlib.sha256(key).hexdigest(), flush=True)


async def receive(message: bytes) -> bytes:
    code, fields = m.decode(message, 131072)
    answer = {m.RESULT: n.RESULT_SUCCESS, m.SG_ID: fields[m.SG_ID]}
    if code == n.GROUP_KEY_DELIVERY_REQUEST:
        ((key, _),) = fields[m.GROUP_KEY]
        say(fields[m.SG_ID], fields[m.VERSION], key)
        answer[m.VERSION] = fields[m.VERSION]
    return bytes(m.encode(code + 1, answer))


async def main(state_dir: Path, seed: int, url: str | None = None) -> None:
    chance = random.Random(seed)
    gateways = InProcessGateways({"gw": receive})
    server = await CpnsServer.open(state_dir, ServerConfig(batching_s=0), gateways=gateways, database_url=url)
    server.register_gateway("gw", "pn", is_open=True)
    known = {view.sg_id for view in server.list_groups()}
    in_the_way = () if url is None else (CpnsError, ServerError)  # what another process may have done before
    for sg_id in GROUPS:
        if sg_id not in known:
            with suppress(*in_the_way):
                server.create_group(sg_id, open_to=["pn"])
    while True:
        with suppress(*in_the_way):
            await act(server, chance)
        server.work()
        await server.idle()


async def act(server: CpnsServer, chance: random.Random) -> None:
    sg_id, pne_id = chance.choice(GROUPS), chance.choice(PNES)
    kind = chance.random()
    if kind < 0.3:
        server.update_key(sg_id)
    elif kind < 0.4:
        server.delete_group(sg_id)
        server.create_group(sg_id, open_to=["pn"])
    elif kind < 0.5:
        pull = m.encode(n.KEY_PULL_REQUEST, {m.SG_ID: sg_id, m.VERSION: 0})
        _, fields = m.decode(await server.handle("gw", pull))
        if m.GROUP_KEY in fields:
            say(sg_id, fields[m.VERSION], fields[m.GROUP_KEY][0][0])
    else:
        code = n.JOIN_REQUEST if kind < 0.8 else n.LEAVE_REQUEST
        await server.handle("gw", m.encode(code, {m.PNE_ID: pne_id, m.SG_ID: sg_id}))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
