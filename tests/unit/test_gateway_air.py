"""All media together: each repeats by its own pacing, none stops another, and one that comes back joins in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import pairwise

import pytest

from gateway_agent.radios import by_kind
from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.care import STEP_MAX_S
from gateway_agent.radios.medium import Airing, Medium, Repetition, Step
from gateway_agent.radios.udp_broadcast import UdpBroadcast
from tests.unit.scripted_medium import ScriptedHome, ScriptedMedium

MANY = 1000


class Aired:
    """An airing on all media, and whether its end was told."""

    def __init__(self, air: AllMedia, *datagrams: bytes, listeners: int = 1) -> None:
        self.ended = asyncio.Event()
        self.began = asyncio.get_running_loop().time()
        self.on_all_media = air.air(datagrams or (b"key",), listeners, self.ended.set)

    def moments(self, medium: ScriptedMedium) -> list[float]:
        """When datagrams left the medium, in seconds after the airing began."""
        return [round(at - self.began, 3) for at, _ in medium.left]


Open = Callable[..., AllMedia]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    airs: list[AllMedia] = []

    def make(*media: Medium, counters: Counter[str] | None = None) -> AllMedia:
        airs.append(AllMedia(media, counters))
        airs[-1].open(lambda frame: None, ScriptedHome())
        return airs[-1]

    yield make
    for air in airs:
        await air.close()


@pytest.mark.parametrize(("listeners", "copies"), [(0, 1), (1, 1), (19, 1), (21, 2), (100, 2), (1024, 3)])
def test_a_home_gets_one_datagram_and_a_thousand_boards_three(listeners: int, copies: int) -> None:
    assert UdpBroadcast.repetition.copies(listeners) == copies
    assert Repetition(gap_s=1.0, loss=0.0).copies(listeners) == 1
    assert Repetition(gap_s=1.0, loss=0.999).copies(MANY) == 8


@pytest.mark.req("CPNS-GKM-71")
async def test_each_medium_repeats_at_its_own_pace_and_the_airing_ends_with_the_slowest(opened: Open) -> None:
    quick, slow = ScriptedMedium(gap=0.31, loss=0.1), ScriptedMedium(name="slow", airtime=3.0, gap=1.0, loss=0.05)
    aired = Aired(opened(quick, slow), listeners=MANY)
    await aired.ended.wait()
    assert aired.moments(quick) == [0.0, 0.31, 0.62]
    assert aired.moments(slow) == [3.0, 6.0, 9.0]


async def test_the_datagrams_of_one_copy_follow_each_other(opened: Open) -> None:
    slow = ScriptedMedium(airtime=3.0, gap=10.0, loss=0.1)
    aired = Aired(opened(slow), b"one", b"two", listeners=21)
    await aired.ended.wait()
    assert slow.begun == [b"one", b"two"] * 2 and aired.moments(slow) == [3.0, 6.0, 13.0, 16.0]


@pytest.mark.req("SEC-38")
@pytest.mark.parametrize("after_s", [0.0, 0.5, 2.9, 3.5])
async def test_nothing_leaves_any_medium_after_a_stop(opened: Open, after_s: float) -> None:
    quick, slow = ScriptedMedium(gap=0.31, loss=0.5), ScriptedMedium(name="slow", airtime=3.0, loss=0.5)
    aired = Aired(opened(quick, slow), listeners=MANY)
    await asyncio.sleep(after_s)
    left = len(quick.left) + len(slow.left)
    aired.on_all_media.stop()
    await asyncio.sleep(60)
    assert len(quick.left) + len(slow.left) == left and not aired.ended.is_set()


@pytest.mark.req("SEC-38")
async def test_a_stop_reaches_the_radio_before_it_returns(opened: Open) -> None:
    slow = ScriptedMedium(airtime=3.0)
    air = opened(slow)
    aired = Aired(air)
    await asyncio.sleep(1.0)
    aired.on_all_media.stop()
    assert slow.taken_back == [b"key"] and not air._airings
    aired.on_all_media.stop()
    assert slow.taken_back == [b"key"]


@pytest.mark.req("SEC-38")
async def test_a_radio_that_cannot_stop_is_asked_again_and_keeps_no_other_on_the_air(opened: Open) -> None:
    class Busy(ScriptedMedium):
        def air(self, datagram: bytes) -> Airing:
            sending, asked = super().air(datagram), [False]

            def stop() -> None:
                if not asked[0]:
                    asked[0] = True
                    raise OSError("the bus is busy")
                sending.stop()

            sending.ended.add_done_callback(lambda ended: ended.cancelled() or airing.end(ended.result()))
            airing = Airing(stop)
            return airing

    busy, slow, counters = Busy(name="busy", airtime=3.0), ScriptedMedium(airtime=3.0), Counter[str]()
    aired = Aired(opened(busy, slow, counters=counters))
    await asyncio.sleep(1.0)
    aired.on_all_media.stop()
    assert slow.taken_back == [b"key"] and counters["media_failed"] == 1
    await asyncio.sleep(60)
    assert busy.taken_back == [b"key"] and not busy.left and not slow.left


@pytest.mark.req("SEC-38")
async def test_an_airing_ends_once() -> None:
    taken_back: list[bool] = []
    for ways in (("stop", "stop"), ("stop", "end"), ("end", "stop")):
        airing = Airing(lambda: taken_back.append(True))
        for way in ways:
            airing.stop() if way == "stop" else airing.end(True)
        assert airing.ended.cancelled() == (ways[0] == "stop")
    assert len(taken_back) == 2


@pytest.mark.req("CPNS-GKM-71")
@pytest.mark.parametrize("how", ["down", "refuses", "stalls", "raises", "cannot say"])
async def test_a_medium_that_is_broken_stops_no_other(opened: Open, how: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(ScriptedMedium):
        def networks(self) -> list[str]:
            if how == "cannot say":
                raise OSError("the adapter is gone")
            return super().networks()

        health = airtime_s = networks  # type: ignore[assignment]

    broken = Broken(name="broken") if how == "cannot say" else ScriptedMedium(name="broken")
    broken.refuses, broken.stalls = how == "refuses", how == "stalls"
    broken.fault = OSError("the adapter is gone") if how == "raises" else None
    wifi, counters = ScriptedMedium(gap=0.31, loss=0.1), Counter[str]()
    air = opened(broken, wifi, counters=counters)
    if how == "down":
        broken.up = False
    for _ in range(2):
        aired = Aired(air, listeners=MANY)
        await aired.ended.wait()
        assert aired.on_all_media.has_gone_out
    assert len(wifi.left) == 6 and not broken.left
    assert air.costs([100])[-1].unicast_s == 0.0 and "scripted" in air.networks()
    assert bool(counters["media_failed"]) == (how != "down")
    assert caplog.text.count("broken failed") == (how in ("stalls", "raises", "cannot say"))


async def test_where_no_medium_takes_it_the_airing_ends_and_says_so(opened: Open) -> None:
    down, refusing = ScriptedMedium(), ScriptedMedium(name="other")
    down.up, refusing.refuses = False, True
    for media in ((), (down,), (down, refusing)):
        aired = Aired(opened(*media))
        assert not aired.ended.is_set()  # not before the caller knows of the airing
        await aired.ended.wait()
        assert not aired.on_all_media.has_gone_out


async def test_a_medium_that_comes_back_joins_the_airing_and_is_told_of(opened: Open) -> None:
    gone, slow = ScriptedMedium(name="gone"), ScriptedMedium(name="slow", airtime=3.0)
    gone.up = False
    air, told = opened(gone, slow), []
    air.follow(lambda: told.append(len(gone.left)))
    assert len(air.costs([])) == 1
    aired = Aired(air)
    await asyncio.sleep(1.0)
    gone.up = True
    gone.up = True  # which is no news
    await aired.ended.wait()
    assert aired.moments(gone) == [1.0] and aired.moments(slow) == [3.0]
    assert told == [0] and len(air.costs([])) == 2


async def test_what_a_medium_hears_is_handed_on() -> None:
    medium, heard = ScriptedMedium(), []
    air = AllMedia([medium])
    air.open(heard.append, ScriptedHome())
    medium.heard(b"frame")
    assert heard == [b"frame"]
    await air.close()
    assert medium.is_closed


@pytest.mark.req("SEC-15")
async def test_a_signed_delete_goes_out_three_times_whoever_listens(opened: Open) -> None:
    medium, began = ScriptedMedium(gap=0.31, loss=0.0), asyncio.get_running_loop().time()
    await opened(medium).delete(b"deleted")
    assert [round(at - began, 3) for at, _ in medium.left] == [0.0, 1.0, 2.0]
    await opened().delete(b"nowhere")


async def test_beacons_of_a_group_keep_their_distance(opened: Open) -> None:
    medium = ScriptedMedium(gap=0.31, loss=0.5)
    air = opened(medium)
    assert air.beacon("light", lambda: b"1") and air.beacon("door", lambda: b"2")
    assert not air.beacon("light", lambda: b"3")
    await asyncio.sleep(1.0)
    assert air.beacon("light", lambda: b"4")
    await asyncio.sleep(10)
    assert [datagram for _, datagram in medium.left] == [b"1", b"2", b"4"]
    medium.up = False
    assert not air.beacon("light", lambda: b"5")


async def test_steps_are_taken_in_turn_then_a_person_is_told_until_it_works(opened: Open) -> None:
    taken: list[str] = []

    async def reset() -> None:
        taken.append("reset")
        raise OSError("no such adapter")

    medium = ScriptedMedium(name="ble")
    medium.steps = (Step("register again", lambda: taken.append("register")), Step("reset the adapter", reset))
    air = opened(medium)
    medium.up = False
    await asyncio.sleep(0)
    assert taken == ["register"] and air.told() == {"ble": ""}
    await asyncio.sleep(30)
    assert taken[:4] == ["register", "reset", "register", "reset"]
    told = "Nothing goes out by ble: ble: scripted. It was tried in vain to register again, reset the adapter."
    assert air.told() == {"ble": told}
    medium.up = True
    assert air.told() == {"ble": ""}
    taken.clear()
    await asyncio.sleep(3600)
    assert not taken


@pytest.mark.parametrize("how", ["hangs", "is cancelled"])
async def test_a_step_that_never_ends_keeps_no_other_back(opened: Open, how: str) -> None:
    taken: list[str] = []

    async def reset() -> None:
        taken.append("reset")
        answer = asyncio.get_running_loop().create_future()
        if how == "is cancelled":  # as a bus does whose connection is lost
            answer.cancel()
        await answer

    medium = ScriptedMedium(name="ble")
    medium.steps = (Step("reset the adapter", reset), Step("register again", lambda: taken.append("register")))
    air = opened(medium)
    medium.up = False
    await asyncio.sleep(3 * STEP_MAX_S)
    assert taken[:4] == ["reset", "register"] * 2
    assert "in vain to reset the adapter, register again" in air.told()["ble"]


async def test_what_refuses_is_tried_again_after_each_step(opened: Open) -> None:
    medium = ScriptedMedium()
    medium.steps = (Step("open it anew", lambda: None),)
    air, back = opened(medium), []
    air.follow(lambda: back.append(asyncio.get_running_loop().time()))
    medium.refuses = True
    aired = Aired(air)
    await asyncio.sleep(60)
    assert 3 <= len(back) <= 6 and all(later - earlier > 1 for earlier, later in pairwise(back))
    assert air.told() == {"scripted": ""}, "one datagram may be refused"
    for _ in range(2):
        aired = Aired(air)
        await aired.ended.wait()
    assert "in vain to open it anew" in air.told()["scripted"]
    medium.refuses = False
    aired = Aired(air)
    await aired.ended.wait()
    assert air.told() == {"scripted": ""}
    back.clear()
    await asyncio.sleep(3600)
    assert not back


def test_a_kind_of_media_is_one_line_that_names_its_section() -> None:
    for name in by_kind.KINDS:
        assert by_kind.kind(name).SECTION.__doc__
    nothing = by_kind.kind("broadcast").SECTION(interfaces=[])  # type: ignore[call-arg]
    assert by_kind.kind("broadcast").open_medium(nothing, Counter()) is None
