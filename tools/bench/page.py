"""The page of a gateway in a real Chromium: how soon it is there, and how soon it shows what has happened."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gateway_agent.core.delivering.policy import DeliveryPolicy
from keycast.services import garbage
from tools.bench.home import SG_ID, build_home
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.side_process import side_process

if TYPE_CHECKING:
    from playwright.async_api import Page

BOARDS = 1000
FEW_BOARDS = 50
LOADS = 15
_SETTLE_S = 0.3  # until what the page before has begun has ended
EXPELLED = 7
LOAD_TARGET = 3.0  # times the static file
TRANSFER_TARGET_KIB = 150.0
PIXEL_TARGET_MS = 500.0
_LOADED = "(() => { const n = performance.getEntriesByType('navigation')[0]; return n.loadEventEnd - n.startTime })()"


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the load of the first page beside a static file of its size, and the time from an event to the page."""
    from tools.pages.chromium import PROGRAM

    if PROGRAM is None:
        yield Skipped("page in Chromium", "no Chromium: apt install chromium")
        return
    loads, static, octets = asyncio.run(_loads(tell))
    ours, peer = statistics.median(loads), statistics.median(static)
    note = f"{BOARDS} boards, cold, headless Chromium, median of {LOADS}, in turn"
    yield Row("load of the first page", ours, "ms", "static file (aiohttp)", peer, LOAD_TARGET * peer, note)
    yield Row("transferred for it", octets / 1024, "KiB", target=TRANSFER_TARGET_KIB, note=note)
    pixels = asyncio.run(_pixels(tell))
    note = f"expel to the new state on the page, {FEW_BOARDS} boards, median of {EXPELLED}"
    yield Row("event to pixel", statistics.median(pixels), "ms", target=PIXEL_TARGET_MS, note=note)


async def _loads(tell: Tell) -> tuple[Sequence[float], Sequence[float], int]:
    """Return the milliseconds of each load, of each load of a static file, and the octets that a load has moved."""
    from tools.pages.chromium import browser, logged_in

    tell(f"{BOARDS} boards join")
    async with side_process(show_home) as gateway, browser() as chromium:
        url, link = await gateway.hear()
        async with logged_in(chromium, link) as page:
            session = await page.context.new_cdp_session(page)
            received: list[float] = []
            session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
            await session.send("Network.enable")

            async def load(address: str) -> float:
                await page.goto("about:blank")
                await asyncio.sleep(_SETTLE_S)
                received.clear()
                await session.send("Network.clearBrowserCache")
                await page.goto(address)
                return float(await page.evaluate(_LOADED))

            await load(url)
            octets = int(sum(received))
            static_url = await gateway.ask(octets)
            tell(f"{LOADS} loads of the page and of a static file, in turn")
            both = [(await load(url), await load(static_url)) for _ in range(LOADS + 1)]
    loads, static = zip(*both[1:], strict=True)  # the first pair warms up
    return loads, static, octets


def show_home(link: Connection) -> None:
    """Run a gateway with its page. Say its URL and one to log in by; hear a number of octets, say a file's URL."""
    asyncio.run(_show_home(link))


async def _show_home(link: Connection) -> None:
    from tools.pages.stage import served, sight_of

    hear = partial(asyncio.get_running_loop().run_in_executor, None, link.recv)
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), BOARDS, DeliveryPolicy(method="broadcast")) as home:
            await _join(home, BOARDS)
            async with served(sight_of(home.app, home.server)) as (url, new_link):
                garbage.search_rarely()  # as any process that serves
                link.send((url, new_link()))
                async with _Static(await hear()) as static_url:
                    link.send(static_url)
                    await hear()


async def _pixels(tell: Tell) -> list[float]:
    """Return the milliseconds from each expulsion to the page that shows it."""
    from tools.pages.chromium import browser, logged_in
    from tools.pages.stage import served, sight_of

    tell(f"{FEW_BOARDS} boards join, {EXPELLED} are expelled")
    times = []
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), FEW_BOARDS, DeliveryPolicy(method="broadcast")) as home:
            await _join(home, FEW_BOARDS)
            async with (
                served(sight_of(home.app, home.server)) as (_, link),
                browser() as chromium,
                logged_in(chromium, link()) as page,
            ):
                await page.get_by_text("Live:").wait_for()
                for number in range(EXPELLED):
                    shown = asyncio.ensure_future(_shows(page, f"of {FEW_BOARDS - number - 1} boards"))
                    await asyncio.sleep(0.5)  # the page is quiet before
                    begun = time.perf_counter()
                    home.server.expel(SG_ID, home.pnes[number].pne_id)
                    await shown
                    times.append((time.perf_counter() - begun) * 1000)
    return times


async def _shows(page: "Page", text: str) -> None:
    await page.wait_for_function("text => document.getElementById('live').textContent.includes(text)", arg=text)


async def _join(home: Any, boards: int) -> None:
    """Make the first boards members of the group, as if each had asked."""
    from cpns import messages, numbers

    for each in home.pnes[:boards]:
        for code, fields in (
            (numbers.GKDK_ASSIGNMENT_REQUEST, {}),
            (numbers.JOIN_REQUEST, {messages.SG_ID: SG_ID}),
        ):
            request = messages.encode(code, {messages.PNE_ID: each.pne_id} | fields)
            await home.app.gateway.handle_pne(each.pne_id, bytes(request))
    while sum(len(each.members) for each in home.app.gateway.administration.groups()) < boards:
        await asyncio.sleep(0.05)


class _Static:
    """A static file of so many octets, which do not compress, on a server of its own."""

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._folder = tempfile.TemporaryDirectory()

    async def __aenter__(self) -> str:
        path = Path(self._folder.name) / "file.html"
        path.write_bytes(b"<!doctype html><title>file</title><p>" + b"x" * self._octets)
        application = web.Application()
        application.router.add_static("/", path.parent)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/file.html"

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()
        self._folder.cleanup()
