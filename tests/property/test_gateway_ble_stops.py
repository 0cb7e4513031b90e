"""Airings by BLE under random stops, while the adapter comes and goes: what was stopped is not on the air (SEC-38)."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpns import advert
from gateway_agent.radios.medium import Airing
from tests.unit.scripted_medium import ScriptedHome
from tests.unit.scripted_sender import BleRadio, ScriptedSender
from tests.unit.test_gateway_ble_medium import key_object
from tests.virtual_time import run

KEY = b"the frame key..."
HOME = ScriptedHome({2: KEY})
OBJECTS = [key_object(entries, version=65537 + number) for number, entries in enumerate((1, 2, 6, 1))]
NAMES = [advert.identification(each) for each in OBJECTS]

steps = st.one_of(
    st.tuples(st.just("air"), st.integers(0, len(OBJECTS) - 1)),
    st.tuples(st.just("stop"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["down", "up", "busy", "free"]), st.just(0)),
)


def objects_of(payloads: list[bytes]) -> set[int]:
    """The objects that payloads are rows of."""
    rows = [advert.opened(KEY, payload[4:]) for payload in payloads]
    return {NAMES.index(row[1][1:3]) for row in rows if row is not None}


@pytest.mark.req("SEC-38")
@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.lists(steps, max_size=40))
def test_only_what_is_under_way_is_on_the_air(instances: int, script: list[tuple[str, int]]) -> None:
    run(_play(instances, script))


async def _play(instances: int, script: list[tuple[str, int]]) -> None:
    radio = BleRadio(ScriptedSender(frame_s=0.02, instances=instances))
    radio.medium.open(lambda: None, lambda frame: None, HOME)
    airings: list[tuple[int, Airing]] = []
    for what, value in script:
        if what == "air":
            airings.append((value, radio.medium.air(OBJECTS[value])))
        elif what == "stop" and airings:
            try:
                airings[value % len(airings)][1].stop()
            except OSError:
                assert radio.sender.withdraw_fault is not None
        elif what == "wait":
            await asyncio.sleep(value / 100)
        elif what in ("down", "up"):
            radio.sender.up = what == "up"
        elif what in ("busy", "free"):
            radio.sender.withdraw_fault = OSError("the bus is busy") if what == "busy" else None
        under_way = {each for each, airing in airings if not airing.ended.done()}
        assert objects_of(radio.sender.places) <= under_way
        assert len(radio.medium._under_way) == sum(not airing.ended.done() for _, airing in airings)
    radio.sender.withdraw_fault = None
    for _, airing in airings:
        airing.stop()
    sent = len(radio.sender.sent)
    assert not objects_of(radio.sender.places)
    await asyncio.sleep(10)
    assert len(radio.sender.sent) == sent and not radio.medium._under_way and not len(radio.medium._schedule)
    await radio.medium.close()
