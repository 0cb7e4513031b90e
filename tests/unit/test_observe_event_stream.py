"""The stream of events: numbered, kept for a while, and never held up by a reader."""

import asyncio
import dataclasses
import json
import typing

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_agent import event_log
from gateway_agent.core import events
from gateway_agent.observe.event_stream import KEPT, WAITING_MAX, EventStream
from gateway_agent.observe.plain import plain


def joined(number):
    return events.Joined(f"lamp.{number}", "home/lights")


@given(st.lists(st.one_of(st.integers(1, 600), st.just("read")), max_size=12))
@settings(deadline=None)
def test_a_slow_reader_loses_the_oldest_with_a_count_and_holds_up_nobody(steps):
    """Bursts of events come between the reads: what is not lost comes in order, and nothing is lost without a count."""

    async def live():
        stream, read = EventStream(wall_clock=lambda: 7.0), []
        with stream.subscribe() as slow:
            for step in steps:
                if step == "read":
                    while len(read) + slow.lost < stream.number:
                        read.append((await anext(slow)).number)
                    continue
                for _ in range(step):
                    stream(joined(stream.number + 1))  # returns at once: nothing here waits
            waiting = min(stream.number - (read[-1] if read else 0), WAITING_MAX)
            assert len(read) + waiting + slow.lost == stream.number
        async for stamped in slow:
            read.append(stamped.number)
        assert read == sorted(set(read)) and len(read) + slow.lost == stream.number
        assert not stream.number or read[-1] == stream.number  # the newest is never the one that is lost
        assert [each.number for each in stream.recent()] == list(
            range(max(0, stream.number - KEPT) + 1, stream.number + 1)
        )

    asyncio.run(live())


async def test_readers_do_not_see_each_other():
    first = []
    stream = EventStream(first.append)
    stream(joined(0))
    with stream.subscribe() as early:
        stream(joined(1))
        with stream.subscribe() as late:
            stream(joined(2))
            assert [(await anext(early)).number for _ in range(2)] == [2, 3]
            assert (await anext(late)).event == joined(2)
        stream(joined(3))
        assert (await anext(early)).number == 4 and late.lost == early.lost == 0
    assert [each async for each in late] == []
    assert first == [joined(number) for number in range(4)]  # the log, in the order in which they were told


async def test_a_reader_that_waits_is_woken_by_an_event_and_by_the_end():
    stream = EventStream()
    subscription = stream.subscribe()
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    stream(joined(1))
    assert (await waiting).number == 1
    ended = asyncio.ensure_future(anext(subscription, None))
    await asyncio.sleep(0)
    subscription.close()
    assert await ended is None


def example(kind):
    """An event of this class with a value of the right type in each field."""
    values = {int: 0x00010002, float: 1.5, bool: True, str: "wifi", tuple[str, ...]: ("lamp.porch", "lamp.hall")}
    hints = typing.get_type_hints(kind)
    fields = {field.name: values[hints[field.name]] for field in dataclasses.fields(kind)}
    return kind(**fields | ({"kind": "store"} if kind is events.AlarmBegan else {}))


def test_each_event_is_plain_json_with_a_sentence():
    stream = EventStream(wall_clock=lambda: 7.0)
    for kind in typing.get_args(events.Event):
        stream(example(kind))
    told = [plain(each) for each in stream.recent()]
    assert json.loads(json.dumps(told)) == told
    assert len({each["kind"] for each in told}) == len(told)
    for each, stamped in zip(told, stream.recent(), strict=True):
        assert each["text"] == event_log.line(stamped.event) and each["at"] == 7.0
        assert (each["level"] == "warning") == ("code" in each)
        assert ("version_text" in each) == ("version" in each)
    by_kind = {each["kind"]: each for each in told}
    assert by_kind["key-confirmed"]["pne_id"] == "wifi" and by_kind["key-confirmed"]["version_text"] == "1.2"
    assert by_kind["alarm-began"]["alarm"] == "store" and by_kind["alarm-began"]["code"] == "KC1002"
