"""A Bluetooth controller that only this process uses, with Bumble as its host.

It is opened again whenever it is lost or does not answer. What uses it, the sender, the scanner and the carrier of
connections, is a list of roles, each of which runs while the controller is there.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from bumble import hci
from bumble.core import BaseBumbleError
from bumble.device import Device
from bumble.host import Host
from bumble.transport.common import TransportSink, TransportSource

from gateway_agent.radios.medium import News

_log = logging.getLogger(__name__)
# What goes wrong comes as an exception, too. A person who pulls a dongle out needs no traceback.
logging.getLogger("bumble").setLevel(logging.CRITICAL)

ANSWER_S = 5.0
"""A controller that does not answer a command for so long is opened again."""
OPEN_S = 30.0
"""A controller that is not open after so long, with its firmware loaded, is given up for now."""
RETRY_MIN_S, RETRY_MAX_S = 1.0, 60.0
CANCEL_AGAIN_S = 2 * ANSWER_S  # what ends in order needs an answer
FAULTS = (BaseBumbleError, OSError, TimeoutError, ValueError, asyncio.InvalidStateError)
"""What Bumble and its transports raise when a controller is not there, goes away or misbehaves."""

Report = hci.HCI_LE_Advertising_Report_Event.Report | hci.HCI_LE_Extended_Advertising_Report_Event.Report


class OpenTransport(Protocol):
    """The two ends of an open transport to a controller, and what closes it."""

    source: TransportSource
    sink: TransportSink

    async def close(self) -> None:
        """Close the transport."""
        ...


class HostDevice(Device):
    """Bumble's device. It passes on each advert as it is, and keeps nothing of those that it has heard."""

    EVENT_REPORT = "report"
    """Of an advert that was heard, with its report."""
    EVENT_SENT = "sent"
    """Of an advertising set that has sent all that it should."""

    def __init__(self, transport: OpenTransport) -> None:
        address = hci.Address.generate_static_address()
        super().__init__(name="", address=address, host=Host(transport.source, transport.sink))

    @property
    def is_extended(self) -> bool:
        """True if the controller has the advertising sets of Bluetooth 5."""
        return bool(self.supports_le_extended_advertising)

    def on_advertising_report(self, report: Report) -> None:
        """Pass on a report."""
        self.emit(self.EVENT_REPORT, report)

    def on_advertising_set_termination(self, *_: Any) -> None:
        """Pass on that a set has ended."""
        self.emit(self.EVENT_SENT)

    async def send_sync_command(self, command: hci.HCI_SyncCommand[Any]) -> Any:
        """Send a command, and return what the controller answers.

        Raises hci.HCI_Error if it refuses, TimeoutError if it does not answer. It waits without `asyncio.wait_for`,
        which in Python 3.11 loses a cancellation that comes together with the answer.
        """
        async with asyncio.timeout(ANSWER_S):
            return await self.host.send_sync_command(command)


OPENING = "It is being opened"
"""The problem of a controller before it is open or has failed for the first time."""
Open = Callable[[], Awaitable[OpenTransport]]
Role = Callable[[HostDevice], Awaitable[None]]
"""A function that uses an open controller until it is cancelled, or raises one of FAULTS if that is gone."""


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks until all of them have ended. Bumble waits in `asyncio.wait_for`, which may lose a cancellation."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        ended, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # it has been seen


class OwnController:
    """The controller behind a transport. `name` is its name for people.

    `device` is None while it is not open. `problem` says in words why it is not, with the next step, "" if it is.
    """

    def __init__(self, name: str, open_transport: Open, remedy: str) -> None:
        """`remedy` is the next step for a person when the controller cannot be opened."""
        self.name = name
        self.device: HostDevice | None = None
        self.problem = OPENING
        self._open = open_transport
        self._remedy = remedy
        self._again = asyncio.Event()
        self._news: News = lambda: None
        self._task: asyncio.Task[None] | None = None

    def start(self, roles: Sequence[Role], news: News) -> None:
        """Begin to open the controller, and run `roles` while it is open. `news` is called on changes of `problem`."""
        self._news = news
        self._task = asyncio.create_task(self._run(roles), name=f"controller {self.name}")

    def reopen(self) -> None:
        """Close the controller, and open it again with a reset."""
        self._again.set()

    async def close(self) -> None:
        """Close the controller for good."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self, roles: Sequence[Role]) -> None:
        loop, pause_s = asyncio.get_running_loop(), RETRY_MIN_S
        while True:
            begun_s = loop.time()
            try:
                await self._serve(roles)
            except FAULTS as fault:
                self._tell(None, f"{self.name}: {str(fault) or type(fault).__name__}. {self._remedy}")
            except Exception as fault:  # noqa: BLE001 - UDP goes on whatever Bumble does
                _log.exception("KC1116 the Bluetooth controller %s", self.name)
                self._tell(None, f"{self.name} failed: {fault}. This is a fault of keycast: please report it.")
            else:
                self._tell(None, OPENING)
            if loop.time() - begun_s > RETRY_MAX_S:  # it has worked for a while
                pause_s = RETRY_MIN_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)

    async def _serve(self, roles: Sequence[Role]) -> None:
        self._again.clear()
        async with asyncio.timeout(OPEN_S):
            transport = await self._open()
        device = HostDevice(transport)
        tasks: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(OPEN_S):
                await device.power_on()
            self._tell(device, "")
            tasks = [asyncio.ensure_future(role(device)) for role in roles]
            tasks += [asyncio.ensure_future(self._again.wait()), asyncio.shield(transport.source.terminated)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and (fault := task.exception()) is not None:
                    raise fault
            if not self._again.is_set():
                raise OSError("the controller is gone")
        finally:
            if transport.source.terminated.done():
                self.device = None  # so that no role waits for an answer
            await end(tasks)
            for connection in list(device.connections.values()):
                device.on_disconnection(connection.handle, hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR)
            device.on_flush()
            await transport.close()

    def _tell(self, device: HostDevice | None, problem: str) -> None:
        self.device = device
        if problem != self.problem:
            if problem:
                _log.warning("KC1117 Bluetooth: %s", problem)
            self.problem = problem
            self._news()
