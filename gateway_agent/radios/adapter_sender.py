"""What the senders on an adapter of this machine have in common: the watch over it, and the steps of recovery.

A sender looks for an adapter at the start and whenever something has changed. The steps do it, too, from mild to harsh.
"""

import asyncio
import fcntl
import logging
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from gateway_agent.radios.ble_sender import Take
from gateway_agent.radios.medium import News, Step

_log = logging.getLogger(__name__)

_HCI_UP, _HCI_DOWN = 0x400448C9, 0x400448CA  # HCIDEVUP, HCIDEVDOWN
_AF_BLUETOOTH, _BTPROTO_HCI = 31, 1

Restart = Callable[[int], None]
"""A function that resets the adapter of this number, as `restart_driver` does."""


def restart_driver(number: int) -> None:
    """Close and open an adapter in the kernel, which resets its controller. Waits for it. Raises OSError."""
    with socket.socket(_AF_BLUETOOTH, socket.SOCK_RAW, _BTPROTO_HCI) as sock:
        fcntl.ioctl(sock, _HCI_DOWN, number)
        fcntl.ioctl(sock, _HCI_UP, number)


class AdapterSender(ABC):
    """The part of a `ble_sender.BleSender` that finds its adapter and keeps it working."""

    def __init__(self, wanted: str, restart: Restart) -> None:
        """`wanted`: the name of an adapter, or "auto" for the first one that can advertise."""
        self.steps = (
            Step("register its adverts again", self._register_again),
            Step("switch the adapter off and on", self._power_cycle),
            Step("reset the adapter", self._reset),
        )
        self._wanted = wanted
        self._restart = restart
        self._problem = "it has not begun"
        self._may_switch_on = True  # an adapter that is off
        self._changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._take: Take = lambda: None
        self._news: News = lambda: None

    @property
    @abstractmethod
    def adapter(self) -> str:
        """The name of the adapter that is used, "" while there is none."""

    @property
    def up(self) -> bool:
        """True while the adapter accepts adverts of the sender."""
        return not self._problem

    @property
    def problem(self) -> str:
        """Why nothing goes on the air, with the next step; "" if nothing is wrong."""
        return self._problem

    def start(self, take: Take, news: News) -> None:
        """Begin to use the adapter, which is switched on if it is off, and to watch it."""
        self._take, self._news = take, news
        self._changed.set()
        self._watch = asyncio.get_running_loop().create_task(self._follow())

    # What a sender does in its own way

    @abstractmethod
    async def _attach(self) -> None:
        """Find an adapter and begin to send on it; tell whether that was possible. Raises nothing."""

    @abstractmethod
    async def _detach(self) -> None:
        """Stop sending, and take the adverts back as far as that is possible."""

    @abstractmethod
    async def _forget(self) -> None:
        """Prepare for an `_attach` that finds nothing of what was before."""

    @abstractmethod
    async def _switch_off(self) -> None:
        """Switch the adapter off. It is called while there is one."""

    # Shared

    async def _follow(self) -> None:
        """Look for the adapter at the start and whenever something has changed that concerns it."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            async with self._one_at_a_time:
                await self._attach()

    async def _register_again(self) -> None:
        async with self._one_at_a_time:
            if not self.up:  # what was under way may have helped
                await self._forget()
                await self._attach()

    async def _power_cycle(self) -> None:
        async with self._one_at_a_time:
            await self._detach()
            try:
                if self.adapter:
                    await self._switch_off()
            finally:
                self._may_switch_on = True
                await self._attach()  # also in vain, as events are heard then

    async def _reset(self) -> None:
        async with self._one_at_a_time:
            await self._detach()
            try:
                if self.adapter:
                    number = int(self.adapter.removeprefix("hci"))
                    await asyncio.get_running_loop().run_in_executor(None, self._restart, number)
            finally:
                self._may_switch_on = True
                await self._attach()

    def _none_found(self) -> str:
        """Return that the adapter is not there, with the next step."""
        if self._wanted == "auto":
            return "there is no Bluetooth adapter. Next: plug one in"
        return f"there is no adapter {self._wanted}. Next: plug it in, or change adapter in [ble]"

    def _tell_of_fault(self, fault: Exception) -> None:
        """Log an exception that nobody expected, as it must not end the watch over the adapter, and tell of it."""
        _log.exception("KC1111 the adapter cannot be used")
        self._tell(f"it failed: {fault or type(fault).__name__}. This is a fault of keycast: please report it")

    def _tell(self, problem: str) -> None:
        was_up, self._problem = self.up, problem
        if was_up != self.up:
            self._news()


async def ended(task: "asyncio.Task[None] | None") -> None:
    """Cancel a task, if there is one, and return when it has ended."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
