"""A gateway with virtual boards of the real MicroPython, steered as a person would; the entities of its devices."""

import asyncio
import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import tomlkit

from gateway_agent.config.load import load
from gateway_agent.control_client import ask
from gateway_agent.errors import GatewayError
from keycast.free_ports import free_port
from tests.system.keycast_process import KEYCAST
from tests.system.test_serial_board_run import environment

PATIENCE_S = 120.0
BUTTON = "button.home_lights_update_key"
GATEWAY = {
    "binary_sensor.keycast_gw_home_alarm",
    "binary_sensor.keycast_gw_home_uplink",
    "sensor.keycast_gw_home_version",
    "update.keycast_gw_home_update",
}
GROUP = {
    "sensor.home_lights_key_version",
    "sensor.home_lights_confirmed",
    "sensor.home_lights_members",
    "sensor.home_lights_key_age",
    "event.home_lights_re_keyed",
    BUTTON,
}
BOARD = {
    "sensor.porch_last_heard",
    "sensor.porch_last_confirmed",
    "sensor.porch_link",
    "sensor.porch_confirmed_version",
    "sensor.porch_update",
}


class House:
    """A gateway with virtual boards in a folder, steered as a person would."""

    def __init__(self, folder: Path, broker_url: str, **more: dict[str, Any]) -> None:
        """`more`: further sections of the configuration, with what they set."""
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}
        words = [str(KEYCAST), "setup", "--yes", "--virtual-boards", "--web", "no", "--service", "no"]
        subprocess.run(words, cwd=folder, env=environment(folder), check=True, capture_output=True, timeout=PATIENCE_S)
        file = folder / "keycast.toml"
        tree = tomlkit.parse(file.read_text())
        for section, settings in {
            "message_plane": {"port": free_port()},
            "broadcast": {"port": free_port()},
            "mqtt": {"broker": broker_url},
            **more,
        }.items():
            tree.setdefault(section, tomlkit.table()).update(settings)
        file.write_text(tomlkit.dumps(tree))
        self._state = load(file).gateway.state_dir

    async def run(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                str(KEYCAST), *words, cwd=self.folder, env=environment(self.folder), stdout=log, stderr=log
            )

    async def run_gateway(self) -> None:
        await self.run("gateway", "gateway", "run")
        await until(self._answers)

    async def end(self, name: str, how: int = signal.SIGINT) -> None:
        process = self._running.pop(name)
        process.send_signal(how)
        await process.wait()

    async def end_all(self) -> None:
        for name in list(self._running)[::-1]:
            with contextlib.suppress(ProcessLookupError):
                await self.end(name)

    async def ask(self, do: str, /, **arguments: Any) -> Any:
        return await asyncio.to_thread(ask, self._state, do, **arguments)

    async def version(self) -> str:
        return str((await self.ask("status"))["groups"][0]["version_text"])

    async def _answers(self) -> bool:
        try:
            return bool(await self.ask("status"))
        except (GatewayError, OSError) as problem:
            printed = (self.folder / "gateway.log").read_text()[-1000:]
            assert self._running["gateway"].returncode is None, f"{problem}\n{printed}"
            return False


async def until(condition: Any) -> float:
    """Wait until the coroutine function `condition` says so; return the seconds that took."""
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.1)
    return time.monotonic() - begun


def tell(what: str, seconds: float) -> None:
    """Print how long something took; `pytest -s` shows it."""
    print(f"{what}: {seconds:.1f} s")
