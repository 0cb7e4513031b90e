"""The repeated work of a gateway goes on after a turn that ended in a fault, and logs the fault once."""

import asyncio
import logging

from gateway_agent.repeating import Repeating


async def test_a_turn_that_ends_in_a_fault_is_logged_once_and_the_turns_after_it_come(caplog):
    enough, turns = asyncio.Event(), []

    def work():
        turns.append(len(turns))
        if len(turns) in (2, 3, 5):
            raise ZeroDivisionError
        if len(turns) == 6:
            enough.set()

    repeating = Repeating("a look around", 0.001, work)
    repeating.start()
    async with asyncio.timeout(20):
        await enough.wait()
    await repeating.close()
    faults = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(faults) == 2 and all("a look around" in fault.getMessage() for fault in faults)


async def test_the_first_turn_comes_at_once_or_after_a_pause_and_none_after_the_end():
    came = {at_once: asyncio.Event() for at_once in (False, True)}

    async def work(at_once):
        came[at_once].set()
        await asyncio.Event().wait()  # `close` ends a turn in its middle

    both = [Repeating("wait", 3600, lambda at_once=at_once: work(at_once), at_once=at_once) for at_once in came]
    for each in both:
        assert not each.started
        each.start()
    async with asyncio.timeout(20):
        await came[True].wait()
    for each in both:
        await each.close()
        assert not each.started
    assert not came[False].is_set()
