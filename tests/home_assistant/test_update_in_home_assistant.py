"""Updates of a board of the real MicroPython in a real Home Assistant: what its entity shows from an offer to the
confirmation, and when an agent fails; and that it goes with the board."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway_agent.updates.reports import REASONS
from suit import numbers as n
from tests.home_assistant.home_assistant import HomeAssistant, home_assistant, python
from tests.home_assistant.house import BOARD, House, tell, until
from tests.system.failing_agent import agent_that_fails
from tests.system.test_serial_board_run import run
from tests.unit.mosquitto_broker import mosquitto

pytestmark = [pytest.mark.real_time, pytest.mark.timeout(900)]

UPDATE = "sensor.porch_update"
ALARM = "binary_sensor.keycast_gw_home_alarm"
NUMBER, FAILING = 7, 8
NOTHING = {"agent": None, "firmware": None, "offered": None, "reason": None}


class UpdatingHouse:
    """A house whose gateway has an update key, and a person who has the private one."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "passphrase").touch(mode=0o600)
        (folder / "passphrase").write_text("never kept on a gateway\n")
        self._key = (str(folder / "update.key"), "--passphrase-file", str(folder / "passphrase"))

    async def keycast(self, *words: str) -> None:
        code, printed = await run(self.folder, *words)
        assert code == 0, printed

    async def make_key(self) -> None:
        await self.keycast("update", "key", *self._key)

    async def offer(self, number: int, *files: str) -> None:
        file = str(self.folder / f"{number}.suit")
        await self.keycast("update", "sign", *files, "-o", file, "--number", str(number), "--key", *self._key)
        await self.keycast("update", "offer", file, "-c", str(self.folder / "keycast.toml"))


@contextlib.asynccontextmanager
async def watched(running: HomeAssistant) -> AsyncIterator[list[tuple[str, dict[str, Any]]]]:
    """Yield a list that gets each state of the entity with what it shows besides, as it changes."""
    seen: list[tuple[str, dict[str, Any]]] = []

    async def look() -> None:
        while True:
            state, shown = await running.shown(UPDATE)
            now = state, {key: shown.get(key) for key in NOTHING}
            if not seen or seen[-1] != now:
                seen.append(now)
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def test_an_update_of_a_board_in_a_real_home_assistant(tmp_path: Path) -> None:
    python()
    person = UpdatingHouse(tmp_path / "house")
    await person.make_key()
    with mosquitto(tmp_path / "broker") as broker:
        house = House(person.folder, broker.url, update={"key": "update.key.pub"})
        async with home_assistant(tmp_path / "ha", broker.port) as running:

            async def shows(state: str, **more: Any) -> bool:
                states = await running.states()
                if UPDATE not in states:
                    return False
                now, shown = await running.shown(UPDATE)
                return now == state and (NOTHING | more).items() <= shown.items()

            try:
                await house.run_gateway()
                await house.run("board", "board", "run", "porch", "--join", "home/lights")
                tell("a board that is offered nothing is idle", await until(lambda: shows("idle")))

                async with watched(running) as seen:
                    await person.offer(NUMBER)

                    async def offered() -> bool:
                        return any(shown["offered"] == NUMBER for _, shown in seen)

                    tell("the offer is shown", await until(offered))

                    async def confirmed() -> bool:
                        return seen[-1] == ("idle", NOTHING | {"agent": NUMBER})

                    tell("the confirmed update is shown", await until(confirmed))
                print(*seen, sep="\n")
                first, *_ = [shown for _, shown in seen if shown != NOTHING]
                assert first == NOTHING | {"offered": NUMBER}
                assert [state for state, _ in seen if state not in ("idle", "collecting", "waiting", "trial")] == []

                async with watched(running) as seen:
                    await person.offer(FAILING, str(agent_that_fails(tmp_path / "fails")))
                    why = REASONS[n.CRASHED]
                    fell_back = {"agent": NUMBER, "reason": why}
                    tell("a board that went back is shown", await until(lambda: shows("fell-back", **fell_back)))
                print(*seen, sep="\n")

                async def alarm(state: str) -> bool:
                    return (await running.states())[ALARM] == state

                await until(lambda: alarm("on"))
                (sentence,) = (await running.attributes(ALARM))["alarms"]
                assert "porch" in sentence and why in sentence
                await person.keycast("update", "withdraw", "-c", str(person.folder / "keycast.toml"))
                tell("the alarm is gone with the offer", await until(lambda: alarm("off")))

                await house.end("board")
                await house.ask("board.retire", pne_id="porch")

                async def gone() -> bool:
                    return not BOARD & (await running.states()).keys()

                tell("the entities of a board that was retired are gone", await until(gone))
                entities = [each["entity_id"] for each in await running.registry("entity_registry")]
                assert ALARM in entities and not BOARD & set(entities)
                assert "porch" not in [each["name"] for each in await running.registry("device_registry")]
            finally:
                await house.end_all()
        lines = running.log.splitlines()
    assert [line for line in lines if "keycast" in line and ("WARNING" in line or "ERROR" in line)] == []
