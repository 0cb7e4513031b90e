"""One process of a CPNS Server, to be stopped and killed: `server_process_child.py FOLDER BROKER DATABASE`.

It works over the MQTT broker and the PostgreSQL database at these URLs. Leases are short, so that a test need not wait
for them. Each line of its input is a call, as JSON [method of CpnsServer, arguments]; binary arguments are in hex after
"hex:". Each line of its output is JSON: {"result": ...} of a call, and what happened: {"sent": TAG} for a datagram to a
PN GW, {"adopted": [...]} and {"left": [...]} for shards, {"handled": GATEWAY} for a message of a PN GW.
"""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from key_servers.cpns_server.shards import holding, leases

LEASE_S = 8.0  # on a busy machine a process may be late by seconds
leases.LEASE_MS = int(LEASE_S * 1000)  # before the statements are made that hold it
holding.RENEW_EVERY_S = LEASE_S / 3
holding.ALL_AT_START_S = 2 * LEASE_S

from key_servers.cpns_server import gateway_sessions, listening  # noqa: E402
from key_servers.cpns_server.app import CpnsServer  # noqa: E402
from key_servers.cpns_server.config import ServerConfig  # noqa: E402
from message_plane.links.mqtt import MqttLink  # noqa: E402
from message_plane.links.mqtt_section import MqttSection  # noqa: E402
from message_plane.links.mqtt_topics import tag_of  # noqa: E402
from tests.integration.mqtt_uplink_world import SERVER_ID  # noqa: E402


def say(**what):
    print(json.dumps(what), flush=True)


def watch():
    """Tell what is sent, and which shards come and go."""
    send = MqttLink.send
    adopt, let_go = listening.ServedTopics.adopt, listening.ServedTopics.let_go
    opened = gateway_sessions.GatewaySessions.open

    def tell_sent(link, address, datagram):
        say(sent=address.tag)
        send(link, address, datagram)

    async def tell_adopted(topics, held):
        say(adopted=[lease.shard for lease in held])
        await adopt(topics, held)

    async def tell_left(topics, held):
        await let_go(topics, held)
        say(left=[lease.shard for lease in held])

    async def open_and_tell(sessions, links, mqtt, handlers):
        async def handle(gateway_id, message):
            say(handled=gateway_id)
            return await handlers.handle(gateway_id, message)

        await opened(sessions, links, mqtt, dataclasses.replace(handlers, handle=handle))

    MqttLink.send = tell_sent
    listening.ServedTopics.adopt, listening.ServedTopics.let_go = tell_adopted, tell_left
    gateway_sessions.GatewaySessions.open = open_and_tell


async def calls():
    """Yield the calls of the input until its end."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def argument(value):
    return bytes.fromhex(value[4:]) if isinstance(value, str) and value.startswith("hex:") else value


def plain(value):
    if dataclasses.is_dataclass(value):
        return plain(dataclasses.asdict(value))
    if isinstance(value, bytes):
        return value.hex()
    return value


async def main(folder, broker, database):
    watch()
    config = ServerConfig(
        id=SERVER_ID, mqtt=MqttSection(brokers=[broker], user=tag_of(SERVER_ID)), batching_s=0, rekey_on_join=False
    )
    server = await CpnsServer.open(folder, config, database_url=database)
    server.start()
    say(result="ready")
    async for name, *arguments in calls():
        try:
            result = getattr(server, name)(*map(argument, arguments))
            say(result=plain(await result if asyncio.iscoroutine(result) else result))
        except Exception as error:  # noqa: BLE001 - the test is told
            say(error=str(error))
    await server.close()
    say(result="closed")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
