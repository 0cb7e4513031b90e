"""Fixtures of the tests in the radio bench (docs/radio_bench.md), which only `make radio-test` runs.

KEYCAST_RADIO_BENCH names the image, KEYCAST_RADIO_BENCH_UNTIL the time (seconds since 1970) after which no test begins.
Tests share a guest as long as it is fit, and each has an adapter of its own in it. What is no fault of the product
skips a test with the reason: the guest cannot be had, has ended, its kernel has failed, or its clock has raced.
"""

import asyncio
import os
import time
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tools.radio_bench import image, product
from tools.radio_bench.errors import NoBench
from tools.radio_bench.guest import booted
from tools.radio_bench.suites import suite

IMAGE = os.environ.get("KEYCAST_RADIO_BENCH", "")
LOGS = image.CACHE / "logs" / (IMAGE or "none")
GUEST = pytest.StashKey()

UNTIL = float(os.environ.get("KEYCAST_RADIO_BENCH_UNTIL", "inf"))

collect_ignore_glob = [] if IMAGE else ["test_*.py"]


def pytest_asyncio_loop_factories():
    return {"real time": asyncio.SelectorEventLoop}


def pytest_runtest_setup():
    if time.time() > UNTIL:
        pytest.skip("the time for the radio bench is over")


class Guests:
    """Boots a guest when a test needs one and the last one, if there was any, is not fit any more."""

    def __init__(self):
        self.guest = None
        self._booted = AsyncExitStack()

    async def fit(self):
        """Return a guest that works. Raises NoBench."""
        if self.guest is not None and self.guest.fault:
            await self.close()
        if self.guest is None:
            found = image.image(suite(IMAGE))
            self.guest = await self._booted.enter_async_context(booted(found, product.disk(found), LOGS))
        return self.guest

    async def close(self):
        """Switch the guest off, if there is one."""
        self.guest = None
        await self._booted.aclose()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def guests():
    found = Guests()
    yield found
    await found.close()


@pytest_asyncio.fixture(loop_scope="session")
async def guest(request, guests):
    try:
        running = request.config.stash[GUEST] = await guests.fit()
    except NoBench as reason:
        pytest.skip(str(reason))
    return running


@pytest.fixture
def logs(request):
    """The folder for the logs of one test."""
    folder = LOGS / request.node.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    guest = item.config.stash[GUEST]
    races = guest.races
    try:
        return (yield)
    except NoBench as reason:
        pytest.skip(str(reason))
    except Exception:
        if guest.fault:
            pytest.skip(guest.fault)
        if guest.races > races:
            pytest.skip("the guest's clock did not go with the host's: the processors are too busy")
        raise
