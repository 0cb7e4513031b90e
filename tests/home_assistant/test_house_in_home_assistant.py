"""A gateway with a board of the real MicroPython in a real Home Assistant: what appears, what the button does, and what
happens when one of the three, gateway, broker and Home Assistant, goes and comes back."""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from gateway_agent.config.load import load
from gateway_agent.control import ask
from gateway_agent.errors import GatewayError
from tests.home_assistant.home_assistant import home_assistant, python
from tests.system.keycast_process import KEYCAST
from tests.system.test_serial_board_run import environment
from tests.unit.mosquitto_broker import mosquitto

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(900)]

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


def free_port() -> int:
    """A UDP port that nobody has, as a gateway on this machine may have those of the protocol."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


class House:
    """A gateway with a virtual board, steered as a person would."""

    def __init__(self, folder: Path, broker_url: str) -> None:
        folder.mkdir()
        self._folder = folder
        self._running: dict[str, asyncio.subprocess.Process] = {}
        words = [str(KEYCAST), "setup", "--yes", "--virtual-boards", "--web", "no", "--service", "no"]
        subprocess.run(words, cwd=folder, env=environment(folder), check=True, capture_output=True, timeout=PATIENCE_S)
        file = folder / "keycast.toml"
        tree = tomlkit.parse(file.read_text())
        for section, settings in {
            "message_plane": {"port": free_port()},
            "broadcast": {"port": free_port()},
            "mqtt": {"broker": broker_url},
        }.items():
            tree.setdefault(section, tomlkit.table()).update(settings)
        file.write_text(tomlkit.dumps(tree))
        self._state = load(file).gateway.state_dir

    async def run(self, name: str, *words: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = await asyncio.create_subprocess_exec(
                str(KEYCAST), *words, cwd=self._folder, env=environment(self._folder), stdout=log, stderr=log
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
            printed = (self._folder / "gateway.log").read_text()[-1000:]
            assert self._running["gateway"].returncode is None, f"{problem}\n{printed}"
            return False


async def until(condition: Any) -> float:
    """Wait until the coroutine function `condition` says so; return the seconds that took."""
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.1)
    return time.monotonic() - begun


async def test_a_house_in_a_real_home_assistant(tmp_path: Path) -> None:
    python()
    with mosquitto(tmp_path / "broker") as broker:
        house = House(tmp_path / "house", broker.url)
        async with home_assistant(tmp_path / "ha", broker.port) as running:

            async def all_there() -> bool:
                states = await running.states()
                return all(states.get(name, "unavailable") != "unavailable" for name in GATEWAY | GROUP | BOARD)

            async def all_unavailable() -> bool:
                states = await running.states()
                return all(states[name] == "unavailable" for name in GATEWAY | GROUP | BOARD)

            async def state(name: str) -> str:
                return (await running.states())[name]

            def tell(what: str, seconds: float) -> None:
                print(f"{what}: {seconds:.1f} s")

            try:
                await house.run_gateway()
                await house.run("board", "board", "run", "porch", "--join", "home/lights")
                tell("all entities are there, from the start of a board that is new", await until(all_there))
                for name, value in sorted((await running.states()).items()):
                    print(" ", name, value)

                async def shown() -> bool:
                    key = await house.version()
                    return (
                        await state("sensor.home_lights_key_version") == key
                        and await state("sensor.porch_confirmed_version") == key
                        and await state("sensor.home_lights_confirmed") == "1"
                    )

                tell("the first key is shown as confirmed", await until(shown))
                assert await state("binary_sensor.keycast_gw_home_alarm") == "off"
                assert await state("binary_sensor.keycast_gw_home_uplink") == "on"
                assert await state("update.keycast_gw_home_update") == "off"
                assert await state("sensor.porch_link") in ("unicast", "wifi")
                devices = {each["name"]: each for each in await running.registry("device_registry")}
                for behind in ("home/lights", "porch"):
                    assert devices[behind]["via_device_id"] == devices["keycast gw.home"]["id"]

                before = await house.version()
                await running.call("button", "press", entity_id=BUTTON)

                async def re_keyed() -> bool:
                    return await house.version() != before and await shown()

                tell("the button has re-keyed the board, and it is shown", await until(re_keyed))
                event = await running.attributes("event.home_lights_re_keyed")
                assert event["event_type"] in ("re-keyed", "delivered")
                assert event["version"] == await house.version()

                await house.end("gateway", signal.SIGKILL)
                tell("unavailable after kill -9 of the gateway", await until(all_unavailable))
                await house.run_gateway()
                tell("available after its start", await until(all_there))

                await running.stop()
                await house.ask("group.update", sg_id="home/lights")
                await running.start()
                tell("all is there after a restart of Home Assistant", await until(all_there))
                tell("with the key that was made meanwhile", await until(shown))

                broker.kill()
                tell("unavailable without the broker", await until(all_unavailable))
                broker.start()
                tell("available after the broker has come back", await until(all_there))
                await house.ask("group.update", sg_id="home/lights")
                tell("a key that was made then is shown", await until(shown))

                await house.end("board")
                await house.ask("board.retire", pne_id="porch")

                async def board_gone() -> bool:
                    return not BOARD & (await running.states()).keys()

                tell("a board that was retired is gone", await until(board_gone))
                await house.ask("group.delete", sg_id="home/lights")

                async def group_gone() -> bool:
                    return not GROUP & (await running.states()).keys()

                tell("a group that was deleted is gone", await until(group_gone))
                await running.stop()
                await running.start()

                async def gateway_there() -> bool:
                    states = await running.states()
                    return all(name in states and states[name] != "unavailable" for name in GATEWAY)

                await until(gateway_there)
                assert not (BOARD | GROUP) & (await running.states()).keys()
            finally:
                await house.end_all()
        lines = running.log.splitlines()
    assert [line for line in lines if "keycast" in line and ("WARNING" in line or "ERROR" in line)] == []
