# The application of a virtual board: it reads commands from standard input and writes answers and events to standard
# output, each a JSON object on one line. A command is {"n": 1, "do": "join", "group": "kitchen"}; its answer {"n": 1}
# with further values, or {"n": 1, "error": "NotMember", "reason": "..."}; an event {"event": "key", ...}. Octets are
# hexadecimal text.
import asyncio
import gc
import json
import os
import sys

import air
import console
from radio_memory import memory

_groups = {}  # SG ID -> Group


def _say(values):
    for name, value in values.items():
        if isinstance(value, (bytes, bytearray)):
            values[name] = bytes(value).hex()
    # one write for each line, as print() writes it in pieces
    sys.stdout.write(json.dumps(values) + "\n")


def on_event(name, values):
    if name != "message":  # _listen writes this event, with its data
        _event(name, values)


def _event(name, values):
    event = {"event": name}
    event.update(values)
    _say(event)


async def _listen(group):
    async for message in group:
        _event(
            "message",
            {"group": group.id, "sender": message.sender, "data": message.data, "replayable": message.replayable},
        )


def _take(group):
    if _groups.get(group.id) is not group:
        _groups[group.id] = group
        asyncio.create_task(_listen(group))


async def _entered(node, sg_id, joining):
    # Answer once this board is a member, and not only when the key is there: that is an event of its own
    ended = []

    async def to_its_end():
        try:
            await joining
        except Exception as error:  # noqa: BLE001 - raised below
            ended.append(error)

    asyncio.create_task(to_its_end())
    while True:
        for group in node.groups:
            if group.id == sg_id:
                _take(group)
                return {}
        if ended:
            raise ended[0]
        await asyncio.sleep_ms(20)


async def _do(node, command):
    what = command["do"]
    if what == "join":
        return await _entered(node, command["group"], node.join(command["group"], trust=command.get("trust")))
    if what == "create":
        protection, trust = command.get("protection", 2), command.get("trust")
        return await _entered(node, command["group"], node.create(command["group"], protection, trust=trust))
    if what == "leave":
        await _groups[command["group"]].leave()
        del _groups[command["group"]]
        return {}
    if what == "refresh":
        await _groups[command["group"]].refresh()
        return {}
    if what == "send":
        await _groups[command["group"]].send(bytes.fromhex(command["data"]))
        return {}
    if what == "pair":
        await node.pair(lambda secret: _event("pairing", {"secret": secret}))
        return {}
    if what == "status":
        gc.collect()
        groups = {group.id: group.version for group in node.groups}
        return {
            "groups": groups,
            "heap": gc.mem_alloc(),
            "air": air.counts,
            "radio": memory.lowest,
            "held": memory.held,
        }
    if what == "loss":
        air.set_loss(command["probability"], command["seed"])
        return {}
    if what == "range":
        air.out_of_range = not command["inside"]
        return {}
    raise ValueError("unknown command")


async def _answer(node, command):
    try:
        answer = await _do(node, command)
    except Exception as error:  # noqa: BLE001 - it is told
        answer = {"error": type(error).__name__, "reason": str(error)}
    answer["n"] = command["n"]
    _say(answer)


async def main(node):
    for group in node.groups:
        _take(group)
    folder = os.getenv("BOARD_VAL_CLIENT")
    if folder:
        import board

        from device_agent.val_client.service import ValService

        asyncio.create_task(ValService(node, folder, board.restart, _event).run())
    _event("up", {"groups": {group.id: group.version for group in node.groups}})
    over = asyncio.Event()

    def listener(line):
        if line:
            asyncio.create_task(_answer(node, json.loads(line)))
        else:
            over.set()

    console.listener = listener
    await over.wait()
    raise SystemExit  # the process that runs this board has ended
