"""The supervision of one medium: its exceptions are handled here, and its recovery is carried out here."""

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gateway_agent.radios import recovery
from gateway_agent.radios.medium import Heard, HomeOnAir, Medium, Step

_log = logging.getLogger(__name__)

FAILURES_TOLD = 3
STEP_MAX_S = 60.0
"""A step that takes longer counts as ended, and the next one is tried after it."""


class Care:
    """Observes whether a medium works, and executes the steps of its recovery while it does not."""

    def __init__(self, medium: Medium, is_back: "Callable[[Care], None]", counters: Counter[str]) -> None:
        """`is_back` is called when a medium that could not send may be able to again.

        `counters` counts `media_failed`: datagrams that no network of the medium has sent, and exceptions of it.
        """
        self.medium = medium
        self._told = ""
        self._failures = 0  # since the last datagram that was sent
        self._is_back = is_back
        self._counters = counters
        self._ladder = recovery.Ladder(len(medium.steps))
        self._timer: asyncio.TimerHandle | None = None
        self._step: asyncio.Task[None] | None = None
        self._was_up: bool | None = None

    @property
    def is_up(self) -> bool:
        """True if the medium says that it can send; False also if it raises an exception."""
        with self.guarded():
            return self.medium.up
        return False

    @property
    def told(self) -> str:
        """A sentence for a person if all steps have failed and the medium is down or refuses datagrams, else "".

        A medium that is up counts as refusing after FAILURES_TOLD failures in a row.
        """
        return self._told if self._told and (not self.is_up or self._failures >= FAILURES_TOLD) else ""

    def open(self, heard: Heard, home: HomeOnAir) -> None:
        """Open the medium, which begins to listen and to watch its radio."""
        with self.guarded():
            self.medium.open(self._look, heard, home)
        self._look()

    def works(self) -> None:
        """Note that the medium has sent a datagram."""
        self._failures = 0
        self._take(recovery.MediumWorks())

    def fails(self, why: str = "") -> None:
        """Note that the medium has failed to send. `why`: the reason in words; by default that of `Medium.health`."""
        self._counters["media_failed"] += 1
        self._failures += 1
        self._take(recovery.MediumFailed(why or self._why()))

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Suppress each exception that a call of the medium raises inside of the context, and count it as a failure."""
        try:
            yield
        except Exception as fault:  # noqa: BLE001 - an exception of one radio must not stop the others
            if not self._ladder.why:
                _log.exception("KC1118 %s failed", self.medium.name)
            self.fails(str(fault) or type(fault).__name__)

    async def close(self) -> None:
        """Cancel the recovery, also during a step, and close the medium."""
        if self._timer is not None:
            self._timer.cancel()
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)
        with self.guarded():
            await self.medium.close()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        was_up, self._was_up = self._was_up, self.is_up
        if self._was_up and was_up is False:
            self._take(recovery.MediumWorks())
            self._is_back(self)
        elif not self._was_up and was_up is not False:
            self._take(recovery.MediumFailed(self._why()))

    def _why(self) -> str:
        try:
            problems = [f"{each.interface}: {each.problem}" for each in self.medium.health() if each.problem]
        except Exception as fault:  # noqa: BLE001 - as in `guarded`
            problems = [str(fault)]
        return ", ".join(problems) or "it is down"

    def _take(self, event: recovery.Event) -> None:
        loop = asyncio.get_running_loop()
        ladder = replace(self._ladder, steps=len(self.medium.steps))  # a medium may find another radio meanwhile
        self._ladder, actions = recovery.step(ladder, event, loop.time())
        for action in actions:
            if isinstance(action, recovery.Wait):
                if self._timer is not None:
                    self._timer.cancel()
                at, waited = action.until, recovery.Waited()
                self._timer = None if at is None else loop.call_at(at, self._take, waited)
            elif isinstance(action, recovery.TakeStep):
                self._step = loop.create_task(self._take_step(self.medium.steps[action.number]))
            else:
                self._told = self._in_vain(action.why) if isinstance(action, recovery.TellPerson) else ""

    async def _take_step(self, step: Step) -> None:
        _log.debug("%s does not work (%s): trying to %s", self.medium.name, self._ladder.why, step.what)
        try:
            taken = step.take() if self._ladder.why else None  # the medium may work again by now
            if inspect.isawaitable(taken):
                async with asyncio.timeout(STEP_MAX_S):
                    await taken
        except (Exception, asyncio.CancelledError) as error:  # the next step is tried
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise  # this task was cancelled, not something that the step waits for
            _log.debug("%s: it is in vain to %s: %s", self.medium.name, step.what, error)
        self._step = None
        self._take(recovery.StepEnded())
        if self._ladder.why and self.is_up:  # only a datagram shows whether it can send
            self._is_back(self)

    def _in_vain(self, why: str) -> str:
        steps = ", ".join(step.what for step in self.medium.steps)
        tried = f" It was tried in vain to {steps}." if steps else ""
        return f"Nothing goes out by {self.medium.name}: {why}.{tried}"
