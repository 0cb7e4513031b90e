"""Virtual time: the properties on which the other tests rely."""

import asyncio
import threading
import time

import pytest

from tests.integration.plane_world import Foreigner


async def test_an_hour_passes_as_soon_as_nothing_is_to_be_done_and_timers_keep_their_order():
    loop, begun, order = asyncio.get_running_loop(), time.monotonic(), []
    before = loop.time()

    async def wait(seconds):
        await asyncio.sleep(seconds)
        order.append(loop.time() - before)

    await asyncio.gather(*map(wait, (3600, 0.001, 60, 1)))
    assert order == pytest.approx([0.001, 1, 60, 3600])
    assert time.monotonic() - begun < 60


async def test_no_timer_is_due_while_a_task_computes_or_an_executor_works():
    loop = asyncio.get_running_loop()
    before, timer_is_due = loop.time(), threading.Event()
    timer = loop.call_later(0.001, timer_is_due.set)
    time.sleep(0.01)
    await asyncio.sleep(0)
    assert not await asyncio.to_thread(timer_is_due.wait, 0.05)
    assert loop.time() == before
    await asyncio.sleep(0.001)
    assert timer_is_due.is_set() and not timer.cancelled()


async def test_a_datagram_on_loopback_is_there_before_the_next_timer():
    one, two = await Foreigner.open(), await Foreigner.open()
    (place,) = two.link.places
    for number in range(200):
        await one.send(b"%d" % number, place)
        assert (await asyncio.wait_for(two.received.get(), 0.000001))[0] == b"%d" % number
    await one.close()
    await two.close()


async def test_time_goes_on_when_an_executor_has_failed_or_its_work_is_given_up():
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 // 0)
    go_on = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(go_on.wait))
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await asyncio.sleep(1)
    go_on.set()


async def test_another_process_is_refused():
    with pytest.raises(RuntimeError, match="mark the test real_time"):
        await asyncio.create_subprocess_exec("true")


@pytest.mark.real_time
async def test_a_test_may_ask_for_the_wall_clock():
    begun = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - begun >= 0.02
    assert await (await asyncio.create_subprocess_exec("true")).wait() == 0
