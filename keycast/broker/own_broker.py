"""A Mosquitto of our own on this machine, for a demo or a test."""

import asyncio
import os
import pwd
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway_agent.errors import GatewayError

LOOPBACK = "127.0.0.1"
_STARTS_S = 20.0


class NoBroker(GatewayError):
    """There is no Mosquitto on this machine, or it does not start."""


def mosquitto() -> str:
    """Return the path of the program. Raises NoBroker, which says how to install it."""
    found = shutil.which("mosquitto", path=mosquitto_places())
    if found is None:
        raise NoBroker("There is no Mosquitto on this machine.", "Debian: sudo apt install mosquitto")
    return found


def mosquitto_places() -> str:
    """Return the folders in which the program is looked for: PATH, and those of servers, which not everybody's has."""
    return f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


@asynccontextmanager
async def running(configuration: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a Mosquitto with this configuration, whose `listener` is `port`, on the loopback network only.

    It accepts connections when the block begins, and has ended when it ends. Raises NoBroker.
    """
    program = mosquitto()
    here = configuration.with_name("loopback.conf")
    text = configuration.read_text().replace(f"listener {port}\n", f"listener {port} {LOOPBACK}\n")
    # as root it would become another user, who may not read our files
    here.write_text(f"{text}\nuser {pwd.getpwuid(os.geteuid()).pw_name}\n")
    (configuration.parent / "data").mkdir(mode=0o700, exist_ok=True)
    log = configuration.with_name("mosquitto.log")
    with open(log, "ab") as file:
        process = await asyncio.create_subprocess_exec(
            program, "-c", str(here), stdin=asyncio.subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        await _answers(process, port, log)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    end = asyncio.get_running_loop().time() + _STARTS_S
    while True:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            if process.returncode is not None or asyncio.get_running_loop().time() > end:
                last = log.read_text(errors="replace").splitlines()[-1:]
                raise NoBroker(f"Mosquitto does not start: {' '.join(last)}", f"See {log}.") from None
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return
