"""The airing of some datagrams on all media at once, repeated as often as each medium requires."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from gateway_agent.radios.care import Care
from gateway_agent.radios.medium import Airing, Repetition

STALLED_TIMES, STALLED_S = 10.0, 10.0
"""A medium has failed if its radio does nothing for so many times the airtime of a datagram plus so many seconds."""


class OnAllMedia:
    """Implements `core.ports.Broadcast` with one task for each medium.

    `networks`: names of the media on which at least one datagram was sent.
    """

    def __init__(
        self,
        datagrams: Sequence[bytes],
        copies: Callable[[Repetition], int],
        gap_s: float,
        ended: "Callable[[OnAllMedia, bool], None]",
    ) -> None:
        """`copies` returns how often the datagrams are sent on a medium with this repetition.

        `gap_s`: least time between two copies, in seconds; a medium may require more. `ended` is called once: with
        False when every medium is done, or with True when the airing is stopped.
        """
        self.networks: tuple[str, ...] = ()
        self._has_ended = False
        self._datagrams = datagrams
        self._copies = copies
        self._gap_s = gap_s
        self._ended = ended
        self._tasks: dict[Care, asyncio.Task[None]] = {}
        self._under_way: dict[Care, Airing] = {}
        self._done: set[Care] = set()

    @property
    def has_gone_out(self) -> bool:
        """True when at least one datagram was sent on at least one medium."""
        return bool(self.networks)

    def is_on(self, care: Care) -> bool:
        """Return True while this medium sends, or waits for the time of the next copy."""
        return care in self._tasks

    def begin(self, media: Iterable[Care]) -> None:
        """Begin to send on these media. If there is none the airing ends, after this method has returned."""
        for care in media:
            self.join(care)
        if not self._tasks:
            asyncio.get_running_loop().call_soon(self._end_if_done)

    def join(self, care: Care) -> None:
        """Begin to send on a medium that is up now, unless it is sending or has sent all copies already."""
        if care not in self._tasks and care not in self._done and not self._has_ended:
            task = self._tasks[care] = asyncio.get_running_loop().create_task(self._send(care))
            task.add_done_callback(lambda _: self._task_ended(care))

    def stop(self) -> None:
        """Stop the airing on all media: nothing is sent after this call (SEC-38). Does nothing if it has ended."""
        if self._has_ended:
            return
        self._has_ended = True
        for care, sending in list(self._under_way.items()):
            with care.guarded():
                sending.stop()
        for task in self._tasks.values():
            task.cancel()
        self._ended(self, True)

    async def _send(self, care: Care) -> None:
        """Send all copies on one medium."""
        with care.guarded():
            repetition, loop = care.medium.repetition, asyncio.get_running_loop()
            for left in range(self._copies(repetition) - 1, -1, -1):
                began = loop.time()
                gone = [await self._send_one(care, datagram) for datagram in self._datagrams]
                if not any(gone):
                    care.fails()
                    return
                care.works()
                if care.medium.name not in self.networks:
                    self.networks += (care.medium.name,)
                if left:
                    await asyncio.sleep(began + max(repetition.gap_s, self._gap_s) - loop.time())
            self._done.add(care)

    async def _send_one(self, care: Care, datagram: bytes) -> bool:
        limit_s = STALLED_TIMES * care.medium.airtime_s(len(datagram)) + STALLED_S
        sending = self._under_way[care] = care.medium.air(datagram)
        try:
            while not sending.ended.done():
                sent = sending.progress()
                await asyncio.wait([sending.ended], timeout=limit_s)
                if not sending.ended.done() and sending.progress() == sent:
                    raise TimeoutError(f"a datagram has not gone out, and nothing else for {limit_s:.0f} s")
            return not sending.ended.cancelled() and sending.ended.result()
        finally:
            sending.stop()
            del self._under_way[care]

    def _task_ended(self, care: Care) -> None:
        del self._tasks[care]
        self._end_if_done()

    def _end_if_done(self) -> None:
        if not self._tasks and not self._has_ended:
            self._has_ended = True
            self._ended(self, False)
