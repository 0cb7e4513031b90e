"""A cancellation that comes together with what a task waits for ends the task: a gateway would not stop otherwise."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

from dbus_fast import MessageType

from gateway_agent.radios.bluez_bus import Bluez
from gateway_agent.radios.mgmt_socket import MgmtSocket

Ask = Callable[[asyncio.Future[object]], Awaitable[object]]


async def is_cancelled_with_the_answer(ask: Ask, answer: object) -> bool:
    """Cancel a task that asks in the moment in which its answer comes; return True if it is cancelled."""
    awaited: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(ask(awaited))
    for _ in range(3):  # what the task itself begins has begun to wait
        await asyncio.sleep(0)
    awaited.set_result(answer)
    task.cancel()
    await asyncio.wait([task])
    return task.cancelled()


async def test_a_call_to_bluetoothd() -> None:
    async def ask(awaited: asyncio.Future[object]) -> object:
        async def call(message: object) -> object:
            return await awaited

        return await Bluez(SimpleNamespace(call=call)).call("/", "org.bluez.Adapter1", "Any")  # type: ignore[arg-type]

    assert await is_cancelled_with_the_answer(ask, SimpleNamespace(message_type=MessageType.METHOD_RETURN, body=[]))


async def test_a_command_to_the_management_socket() -> None:
    class Scripted(MgmtSocket):
        def write(self, opcode: int, index: int, parameters: bytes) -> "asyncio.Future[bytes]":
            return self.awaited

    ours, theirs = socket.socketpair()
    scripted = Scripted(lambda event: None, lambda why: None, lambda: ours)

    async def ask(awaited: asyncio.Future[object]) -> object:
        scripted.awaited = awaited  # type: ignore[attr-defined]
        return await scripted.ask(1)

    assert await is_cancelled_with_the_answer(ask, b"")
    scripted.close()
    theirs.close()
