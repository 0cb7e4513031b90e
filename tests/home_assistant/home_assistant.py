"""Home Assistant itself, in an environment of its own, with the MQTT integration set up on a broker of the test.

It has another Python than keycast; `make home-assistant` makes the environment, and names its Python in ENVIRONMENT.
"""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from keycast.free_ports import free_port

ENVIRONMENT = "KEYCAST_HOME_ASSISTANT"
STARTS_S = 300.0  # the first start installs packages of its integrations
ENDS_S = 60.0
_HOST = "127.0.0.1"
_CONFIGURATION = """
api:
http:
  server_host: {host}
  server_port: {port}
onboarding:
logger:
  default: warning
"""


def python() -> Path:
    """Return the Python with Home Assistant; skip the test if there is none."""
    named = os.environ.get(ENVIRONMENT)
    if not named:
        pytest.skip("needs Home Assistant: make home-assistant")
    return Path(named)


class HomeAssistant:
    """One Home Assistant with the configuration folder `folder`, and the MQTT broker at `broker_port` of this machine.

    `start` and `stop` may be called again and again: it keeps what it knows in the folder.
    """

    def __init__(self, folder: Path, broker_port: int) -> None:
        self._folder = folder
        self._python = python()
        self._port = free_port()
        self._process: asyncio.subprocess.Process | None = None
        self._token = ""
        storage = folder / ".storage"
        storage.mkdir(parents=True)
        (folder / "configuration.yaml").write_text(_CONFIGURATION.format(host=_HOST, port=self._port))
        (storage / "core.config_entries").write_text(json.dumps(_entries(broker_port)))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{_HOST}:{self._port}"

    @property
    def log(self) -> str:
        """Everything that it has logged."""
        path = self._folder / "output.log"
        return path.read_text(errors="replace") if path.exists() else ""

    async def start(self) -> None:
        """Start it, and return when it answers a person who is logged in. Fails the test if it never does."""
        with (self._folder / "output.log").open("ab") as log:
            words = [str(self._python), "-m", "homeassistant", "--config", str(self._folder)]
            self._process = await asyncio.create_subprocess_exec(*words, stdout=log, stderr=log)
        async with asyncio.timeout(STARTS_S):
            while True:
                assert self._process.returncode is None, self.log[-3000:]
                try:
                    if not self._token:
                        self._token = await self._first_person()
                    await self._get("/api/states")
                    return
                except (aiohttp.ClientError, KeyError):
                    await asyncio.sleep(0.5)

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, and return when it has ended."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            try:
                async with asyncio.timeout(ENDS_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def states(self) -> dict[str, str]:
        """Return the state of each entity, by its ID."""
        return {each["entity_id"]: each["state"] for each in await self._get("/api/states")}

    async def shown(self, entity_id: str) -> tuple[str, dict[str, Any]]:
        """Return the state of an entity, and what it shows besides."""
        found = await self._get(f"/api/states/{entity_id}")
        return found["state"], found["attributes"]

    async def attributes(self, entity_id: str) -> dict[str, Any]:
        """Return what an entity shows besides its state."""
        return (await self.shown(entity_id))[1]

    async def call(self, domain: str, service: str, **data: Any) -> None:
        """Call a service, as a person does who presses a button: `call("button", "press", entity_id=...)`."""
        path = f"/api/services/{domain}/{service}"
        async with self._session() as session, session.post(self.url + path, json=data) as answer:
            answer.raise_for_status()

    async def registry(self, name: str) -> list[dict[str, Any]]:
        """Return the entries of "device_registry" or "entity_registry", over the WebSocket that its own page uses."""
        async with self._session() as session, session.ws_connect(f"{self.url}/api/websocket") as socket_:
            await socket_.receive_json()
            await socket_.send_json({"type": "auth", "access_token": self._token})
            assert (await socket_.receive_json())["type"] == "auth_ok"
            await socket_.send_json({"id": 1, "type": f"config/{name}/list"})
            found: list[dict[str, Any]] = (await socket_.receive_json())["result"]
            return found

    async def _first_person(self) -> str:
        client = f"{self.url}/"
        person = {"client_id": client, "name": "test", "username": "test", "password": "test", "language": "en"}
        async with aiohttp.ClientSession() as session:
            made = await (await session.post(f"{self.url}/api/onboarding/users", json=person)).json()
            grant = {"grant_type": "authorization_code", "code": made["auth_code"], "client_id": client}
            token: str = (await (await session.post(f"{self.url}/auth/token", data=grant)).json())["access_token"]
        return token

    async def _get(self, path: str) -> Any:
        async with self._session() as session, session.get(self.url + path) as answer:
            answer.raise_for_status()
            return await answer.json()

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._token}"})


@asynccontextmanager
async def home_assistant(folder: Path, broker_port: int) -> AsyncIterator[HomeAssistant]:
    """Yield a Home Assistant that runs, and end it at the end."""
    running = HomeAssistant(folder, broker_port)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()


def _entries(broker_port: int) -> dict[str, Any]:
    then = "2026-01-01T00:00:00+00:00"
    entry = {
        "entry_id": "01JKEYCAST0000000000000000",
        "domain": "mqtt",
        "title": "mqtt",
        "data": {"broker": _HOST, "port": broker_port},
        "options": {},
        "version": 1,
        "minor_version": 2,
        "source": "user",
        "unique_id": None,
        "disabled_by": None,
        "discovery_keys": {},
        "subentries": [],
        "pref_disable_new_entities": False,
        "pref_disable_polling": False,
        "created_at": then,
        "modified_at": then,
    }
    return {"version": 1, "minor_version": 5, "key": "core.config_entries", "data": {"entries": [entry]}}
