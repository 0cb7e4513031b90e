"""The gateway in a guest: `keycast gateway run` from the installed wheel, steered over its control socket."""

import asyncio
import json
import signal
import time
from typing import Any

from gateway_agent.control_client import SOCKET_FILE
from keycast.provisioning.board import new_board, told_trust
from tools.radio_bench.guest import Guest

START_S = 120
_KEYCAST = "python3 /opt/keycast/site/bin/keycast"
_CONFIG = """
[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"

[message_plane]
discovery = false
{listen}

{broadcast}

[delivery]
method = "broadcast"

[ble]
sender = "{sender}"
adapter = "hci0"

[uplink]
kind = "embedded"
"""


class Refusal(Exception):
    """The gateway refused a command. The text is what it answered."""


class GuestGateway:
    """A PN GW in a guest, with an embedded CPNS Server. Its files are in /run/NAME; `log` is what it prints."""

    def __init__(self, guest: Guest, name: str) -> None:
        self._guest = guest
        self._folder = f"/run/{name}"
        self.log = f"/tmp/{name}.log"
        self._process = 0

    async def start(self, sender: str, *, interface: str = "") -> None:
        """Start it with a sender of BLE; with Wi-Fi on `interface`, if that is not empty. Wait until it answers."""
        broadcast = f'[broadcast]\ninterfaces = ["{interface}"]' if interface else "[broadcast]\ninterfaces = []"
        config = _CONFIG.format(listen="", broadcast=broadcast, sender=sender)
        await self._guest.run(f"mkdir -p {self._folder} && cat > {self._folder}/keycast.toml <<'END'\n{config}END")
        self._process = await self._guest.start(f"{_KEYCAST} gateway run -c {self._folder}/keycast.toml", self.log)
        ends = time.monotonic() + START_S
        while not await self._answer("trust"):
            if time.monotonic() > ends or (await self._guest.run(f"kill -0 {self._process}", check=False)).code:
                raise Refusal(f"the gateway does not start: {await self._guest.text(self.log)}")
            await asyncio.sleep(0.2)

    async def stop(self) -> int:
        """End it as a service manager does; return its exit code."""
        return await self._guest.end(self._process, signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a crash does."""
        await self._guest.end(self._process, signal.SIGKILL)

    async def ask(self, do: str, /, **arguments: Any) -> Any:
        """Send one command over the control socket; return what it answers. Raises Refusal."""
        answer = json.loads(await self._answer(do, **arguments) or '{"error": "the gateway does not answer"}')
        if "error" in answer:
            raise Refusal(answer["error"])
        return answer["ok"]

    async def new_board(self, pne_id: str) -> bytes:
        """Let a new PNE in; return the record for its flash. It has no address of the gateway."""
        record, credential = new_board(pne_id, told_trust(await self.ask("trust")))
        await self.ask("board.register", credential=credential.ccs.hex())
        return record

    async def _answer(self, do: str, **arguments: Any) -> str:
        return await self._guest.ask(f"{self._folder}/state/{SOCKET_FILE}", json.dumps({"do": do, "with": arguments}))
