"""The program of the guest that executes what the host asks for, over the virtio port `bench.control`.

Each line is one JSON object. Requests have a number `n`, which is in the answer. Several may be under way at once.

    {"n": 1, "run": "exit 7", "timeout_s": 60}     -> {"n": 1, "code": 7, "out": "", "err": ""}
    {"n": 2, "start": "bluetoothd -n", "log": F}   -> {"n": 2, "process": 123}
    {"n": 3, "end": 123, "signal": 15}             -> {"n": 3, "code": 0}
    {"n": 4, "ask": SOCKET, "line": TEXT}          -> {"n": 4, "answer": TEXT}
    {"n": 5, "clock": true}                        -> {"n": 5, "clock": seconds of CLOCK_MONOTONIC}

The code 124 says that a command was killed after its time. `{"quit": true}` ends the program and the guest with it.
"""

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from typing import Any

from tools.radio_bench.on_guest.virtio_ports import Port

TIMED_OUT = 124
END_S = 10.0
ANSWER_MAX = 4 << 20


class Agent:
    """Executes requests. `port` is the line to the host."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._started: dict[int, asyncio.subprocess.Process] = {}
        self._writing = asyncio.Lock()

    async def serve(self) -> None:
        """Say that the guest is up, and execute requests until one says to quit."""
        await self._tell({"ready": True})
        tasks = set()
        while True:
            request = json.loads(await asyncio.to_thread(self._port.read_line))
            if request.get("quit"):
                return
            task = asyncio.create_task(self._answer(request))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        try:
            answer = await self._execute(request)
        except Exception as fault:  # noqa: BLE001 - the host is told
            answer = {"fault": repr(fault)}
        await self._tell({"n": request["n"], **answer})

    async def _tell(self, message: dict[str, Any]) -> None:
        async with self._writing:
            await asyncio.to_thread(self._port.write, json.dumps(message).encode() + b"\n")

    async def _execute(self, request: dict[str, Any]) -> dict[str, Any]:
        if "run" in request:
            return await self._run(request["run"], request["timeout_s"])
        if "start" in request:
            with open(request["log"], "ab") as log:
                process = await self._shell("exec " + request["start"], log, log)
            self._started[process.pid] = process
            return {"process": process.pid}
        if "end" in request:
            return {"code": await self._end(self._started.pop(request["end"]), request["signal"])}
        if "ask" in request:
            return {"answer": await _ask(request["ask"], request["line"])}
        return {"clock": time.monotonic()}

    async def _run(self, command: str, timeout_s: float) -> dict[str, Any]:
        pipe = asyncio.subprocess.PIPE
        process = await self._shell(command, pipe, pipe)
        try:
            async with asyncio.timeout(timeout_s):
                out, err = await process.communicate()
        except TimeoutError:
            await self._end(process, signal.SIGKILL)
            return {"code": TIMED_OUT, "out": "", "err": f"it did not end within {timeout_s:g} s"}
        return {"code": process.returncode, "out": out.decode(errors="replace"), "err": err.decode(errors="replace")}

    async def _shell(self, command: str, out: Any, err: Any) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_shell(
            command, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )

    async def _end(self, process: asyncio.subprocess.Process, how: int) -> int:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            async with asyncio.timeout(END_S):
                return await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            return await process.wait()


async def _ask(path: str, line: str) -> str:
    """Send one line to a Unix socket and return the line that comes back, "" if there is no answer."""
    try:
        reader, writer = await asyncio.open_unix_connection(path, limit=ANSWER_MAX)
    except OSError:
        return ""
    try:
        writer.write(line.encode() + b"\n")
        return (await reader.readline()).decode()
    finally:
        writer.close()


if __name__ == "__main__":
    asyncio.run(Agent(Port("bench.control")).serve())
    os._exit(0)  # a thread may wait for the port
