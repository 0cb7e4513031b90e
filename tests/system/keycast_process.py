"""`keycast gateway run` and `keycast server run` as processes of their own, steered as a person would steer them."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpns import numbers
from gateway_agent.control_client import ask
from gateway_agent.errors import ControlUnavailable
from keycast.provisioning.board import new_board, told_trust
from keycast.virtual_board.loopback import broadcast_port, own_port
from tests.waiting import PATIENCE_S

KEYCAST = Path(sys.executable).with_name("keycast")
START_S = PATIENCE_S

CONFIG = """
[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"

[message_plane]
listen = ["{address}"]
port = {port}
discovery = {discovery}

[broadcast]
interfaces = {interfaces}
port = {broadcast_port}

[delivery]
method = "{method}"

[uplink]
{uplink}
"""


class Process:
    """A `keycast ... run` that answers on the control socket in `state`; what it prints goes to `log`.

    `prefix` are words that start a program elsewhere; `program` is what stands for the command `keycast`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        state: Path,
        words: Sequence[str],
        prefix: Sequence[str] = (),
        program: Sequence[str] = (str(KEYCAST),),
    ) -> None:
        self.state = state
        self.log = folder / f"{name}.log"
        self._command = [*prefix, *program, *words]
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it answers; fails the test with what it printed if it ends before."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(*self._command, stdout=log, stderr=log)
        async with asyncio.timeout(START_S):
            while True:
                assert self.process.returncode is None, self.log.read_text()[-2000:]
                try:
                    await self.ask("alarms" if "server" in self._command else "trust")
                except ControlUnavailable:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def ask(self, do: str, /, **arguments: Any) -> Any:
        """One command over the control socket; what it answers."""
        return await asyncio.to_thread(ask, self.state, do, **arguments)

    async def kill(self) -> None:
        """SIGKILL: no handler runs, nothing is closed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return await self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    async def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.returncode is None:
            self.process.send_signal(how)
        async with asyncio.timeout(180):
            return await self.process.wait()


class GatewayProcess(Process):
    """A PN GW with a configuration file in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        address: str = "127.0.0.1",
        port: int | None = None,
        interfaces: str = '["lo"]',
        uplink: str = 'kind = "embedded"',
        discovery: bool = False,
        method: str = "auto",
        prefix: Sequence[str] = (),
        program: Sequence[str] = (str(KEYCAST),),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self.port = own_port() if port is None else port
        self.config = folder / "keycast.toml"
        self.config.write_text(
            CONFIG.format(
                address=address,
                port=self.port,
                discovery=str(discovery).lower(),
                interfaces=interfaces,
                broadcast_port=broadcast_port() if "lo" in interfaces else numbers.PORT_BROADCAST,
                method=method,
                uplink=uplink,
            )
        )
        words = ["gateway", "run", "-c", str(self.config)]
        super().__init__(folder, "gateway", folder / "state", words, prefix, program)

    async def new_board(self, pne_id: str, address: str | None = None) -> bytes:
        """Let a new PNE in; the record for its flash, with `address` as the hint where the gateway is.

        Without it: where it listens, which no gateway tells of a loopback address by itself.
        """
        own = f"{self.address}:{self.port}" if address is None else address
        trust = told_trust(await self.ask("trust"), own)
        record, credential = new_board(pne_id, trust)
        await self.ask("board.register", credential=credential.ccs.hex())
        return record
