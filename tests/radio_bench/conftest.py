"""Fixtures of the tests in the radio bench (docs/radio_bench.md), which only `make radio-test` runs.

KEYCAST_RADIO_BENCH names the image, KEYCAST_RADIO_BENCH_UNTIL the time (seconds since 1970) after which no test begins.
All tests share one guest, and each has an adapter of its own in it. What is no fault of the product skips a test with
the reason: the guest cannot be had, is gone, or its clock has raced.
"""

import asyncio
import os
import time

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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def guest(request):
    try:
        found = image.image(suite(IMAGE))
        async with booted(found, product.disk(found), LOGS) as running:
            request.session.config.stash[GUEST] = running
            yield running
    except NoBench as reason:
        pytest.skip(str(reason))


@pytest.fixture
def logs(request):
    """The folder for the logs of one test."""
    folder = LOGS / request.node.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    guest = item.config.stash.get(GUEST, None)
    races = guest.races if guest is not None else 0
    try:
        return (yield)
    except NoBench as reason:
        pytest.skip(str(reason))
    except Exception:
        if guest is not None and guest.races > races:
            pytest.skip("the guest's clock did not go with the host's: the processors are too busy")
        raise
