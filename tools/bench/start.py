"""From the start of the process to READY: a gateway with a thousand boards, beside the import of two packages."""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from gateway_agent.config.load import load
from keycast.free_ports import free_port
from keycast.services.home import open_home
from message_plane.identity import OwnIdentity
from tools.bench.rows import Line, Row, Tell

BOARDS, ROUNDS = 1000, 3
TIMES = 4.0
_START_S = 120
_CONFIG = """[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"
[message_plane]
listen = ["127.0.0.1"]
port = {port}
discovery = false
[broadcast]
interfaces = ["lo"]
[uplink]
kind = "embedded"
"""


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the median seconds from start to READY=1, as the service manager hears it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tell(f"letting {BOARDS:,} boards in")
        asyncio.run(_let_in(_configured(folder)))
        ours, peers = [], []
        for number in range(ROUNDS):
            tell(f"start {number + 1} of {ROUNDS}")
            peers.append(_import_s())
            ours.append(_ready_s(folder))
    peer_s = statistics.median(peers)
    note = f"median of {ROUNDS}; at most {TIMES:g} times the peer"
    yield Row(
        f"start to READY, {BOARDS:,} boards",
        statistics.median(ours),
        "s",
        "import aiohttp, aiocoap",
        peer_s,
        TIMES * peer_s,
        note,
    )


def _configured(folder: Path) -> Path:
    path = folder / "keycast.toml"
    path.write_text(_CONFIG.format(port=free_port()))
    return path


async def _let_in(config: Path) -> None:
    async with open_home(load(config)) as home:
        for number in range(BOARDS):
            key = ec.generate_private_key(ec.SECP256R1())
            home.app.register(OwnIdentity(f"board.{number}", "pne", key).credential)


def _import_s() -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", "import aiohttp, aiocoap"], check=True)
    return time.monotonic() - begun


def _ready_s(folder: Path) -> float:
    heard_at = str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(heard_at)
        manager.settimeout(_START_S)
        words = [str(Path(sys.executable).with_name("keycast")), "gateway", "run", "-c", str(folder / "keycast.toml")]
        begun = time.monotonic()
        process = subprocess.Popen(
            words,
            env=os.environ | {"NOTIFY_SOCKET": heard_at},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert manager.recv(4096).startswith(b"READY=1")
            return time.monotonic() - begun
        finally:
            process.terminate()
            process.wait()
            os.unlink(heard_at)
