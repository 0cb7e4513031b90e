"""What a board says of itself when a tool asks. The module is imported then, and leaves the heap again."""

import json
import sys

import status
from radio_memory import memory

from device_agent import tuning


def who(node, board, cleared, station, radio, links):
    """Print `keycast: who` and a JSON object in one line.

    `board` is the name of its file in `hw_configs/` or "", `cleared` True if what is erased leaves the flash; `station`
    and `radio` are those of Wi-Fi and Bluetooth, or false, and `links` their ports.Link. The object has, beside `board`
    and `cleared`, the versions of agent and MicroPython, PNE ID, gateway ID, the fingerprints of its own credential and
    of the CPNS Server's or "", the number of groups, the radios, the lowest value of their memory in octets
    (`radio_memory.py`) or null, the number of the update that the agent came with and the slot that it is in, 0 for one
    flashed by cable, how many datagrams were cut, dropped or empty since the start (`links/udp.py`), and the code of
    the state.
    """
    fingerprints = "", ""
    if node.credentials[1]:
        from cpns.fingerprint import fingerprint

        fingerprints = [fingerprint(ccs) for ccs in node.credentials]
        sys.modules.pop("cpns.fingerprint", None)
    record = node.updates.state()
    told = {
        "agent": tuning.SOFTWARE,
        "micropython": "%d.%d.%d" % sys.implementation[1][:3],
        "board": board,
        "pne_id": node.id,
        "gateway_id": node.gateway_id,
        "credential": fingerprints[0],
        "server": fingerprints[1],
        "groups": len(node.groups),
        "radios": (["wifi"] if station else []) + (["ble"] if radio else []),
        "radio_lowest": memory.lowest,
        "cleared": cleared,
        "update": record.agent_number if record.slot() else 0,
        "slot": record.slot(),
        "state": status.code,
    }
    for name in ("cut", "dropped", "empty"):
        told[name] = sum([getattr(link, name, 0) for link in links])
    print("keycast: who", json.dumps(told))
