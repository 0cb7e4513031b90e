"""A gateway with a board of the real MicroPython in a real Home Assistant: what appears, what the button does, and what
happens when one of the three, gateway, broker and Home Assistant, goes and comes back."""

import signal
from pathlib import Path

import pytest

from tests.home_assistant.home_assistant import home_assistant, python
from tests.home_assistant.house import BOARD, BUTTON, GATEWAY, GROUP, House, tell, until
from tests.unit.mosquitto_broker import mosquitto

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(900)]


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
                before = await house.version()
                await house.ask("group.update", sg_id="home/lights")
                await running.start()
                tell("all is there after a restart of Home Assistant", await until(all_there))
                tell("with the key that was made meanwhile", await until(re_keyed))

                broker.kill()
                tell("unavailable without the broker", await until(all_unavailable))
                broker.start()
                tell("available after the broker has come back", await until(all_there))
                before = await house.version()
                await house.ask("group.update", sg_id="home/lights")
                tell("a key that was made then is shown", await until(re_keyed))

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
