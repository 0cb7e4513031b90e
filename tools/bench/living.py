"""A gateway that is watched: what page, MQTT and metrics cost it, and how long Prometheus keeps it from its boards.

Real: the gateway with its stores and onlookers, a browser's stream of events, a reader of /metrics, Mosquitto where it
is installed, and the load of `confirmations` from a second process. The gateways with and without onlookers take turns.
"""

import asyncio
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.observe.onlookers import ONLOOKERS
from keycast.broker import own_broker
from keycast.free_ports import free_port
from keycast.services import garbage
from keycast.virtual_board.loopback import own_port
from tools.bench import looks
from tools.bench.home import SG_ID, Home, PneKeys, build_home
from tools.bench.load import confirm_deliveries
from tools.bench.rows import Line, Row, Tell
from tools.bench.side_process import side_process

PNES = 500
FEW_PNES = 50
ROUNDS = 16
SHARE = 0.9
MEMORY_MIB = 25.0
_UPDATE, _CONFIRMED, _MEMORY = "update", "confirmed", "memory"
_SCRAPE_S = 1.0
_SETTLE_S = 1.0
_SCRAPES = 60  # of /metrics before memory is compared: what grows by each would show


def measure(tell: Tell) -> Iterator[Line]:
    """Yield confirmations per second, memory and the time of /metrics, each beside the same without."""
    on, off = asyncio.run(_confirmations(tell))
    shown = ", ".join(_sections("mqtt://x"))
    yield Row(
        f"confirmations with {shown} on",
        statistics.median(on),
        "confirmations/s",
        "all of it off",
        statistics.median(off),
        SHARE * statistics.median(off),
        f"{PNES} members of one group, median of {ROUNDS} deliveries, in turn; one browser is live, and /metrics is "
        f"read each {_SCRAPE_S:.0f} s",
    )
    tell("memory with and without")
    with_all, without = (asyncio.run(_memory(everything)) for everything in (True, False))
    note = f"resident, the browser is live and /metrics was read {_SCRAPES} times"
    yield Row(f"memory of {shown}", with_all - without, "MiB", target=MEMORY_MIB, note=note)
    tell("snapshots and /metrics")
    yield from looks.measure()


def _sections(broker: str | None) -> dict[str, Any]:
    """Return the sections of every onlooker that there is; `[mqtt]` only with a broker."""
    every: dict[str, Any] = {"web": {"port": own_port()}, "mqtt": {"broker": broker}, "metrics": {}}
    return {name: every[name] for name in ONLOOKERS if name != "mqtt" or (broker and shutil.which("mosquitto"))}


@asynccontextmanager
async def _broker() -> AsyncIterator[str | None]:
    """Run a Mosquitto that lets everybody in, and yield its URL; None where it is not installed."""
    program = shutil.which("mosquitto")
    if program is None:
        yield None
        return
    port = free_port()
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write(f"listener {port} {own_broker.LOOPBACK}\nallow_anonymous true\n")
        file.flush()
        running = subprocess.Popen([program, "-c", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield f"mqtt://{own_broker.LOOPBACK}:{port}"
        finally:
            running.terminate()
            running.wait()


def look_on(link: Connection, url: str, scrapes: int = 1) -> None:
    """Be the browser and the Prometheus of one gateway, until the connection says "end".

    `url` logs in. Says "live" once the stream of events has begun and /metrics was read so many times.
    """
    asyncio.run(_look_on(link, url, scrapes))


async def _look_on(link: Connection, url: str, scrapes: int) -> None:
    import aiohttp

    root = url.partition("/log-in")[0]
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=None)) as session:
        token = url.partition("token=")[2]
        form = await (await session.get(url)).text()
        fields = {"token": token, "form_token": form.partition('name="form_token" value="')[2].partition('"')[0]}
        await session.post(f"{root}/log-in", data=fields, headers={"Origin": root})
        async with session.get(f"{root}/live") as events:
            if events.status != 200:
                raise AssertionError(f"the page is not live: {events.status}")
            reading = asyncio.create_task(_drain(events))
            for _ in range(scrapes):
                await _scrape(session, root)
            link.send("live")
            ended = asyncio.get_running_loop().run_in_executor(None, link.recv)
            while not ended.done():
                await _scrape(session, root)
                await asyncio.wait([ended], timeout=_SCRAPE_S)
            reading.cancel()


async def _scrape(session: Any, root: str) -> None:
    async with session.get(f"{root}/metrics") as answer:
        if answer.status != 200 or b"keycast_build_info" not in await answer.read():
            raise AssertionError(f"/metrics cannot be read: {answer.status}")


async def _drain(events: Any) -> None:
    async for _ in events.content:
        pass


async def _confirmations(tell: Tell) -> tuple[list[float], list[float]]:
    """Return the confirmations a second of a gateway with everything on, and of one without.

    Each is in a process of its own. They take turns, each as often before the other as after it.
    """
    rates: tuple[list[float], list[float]] = ([], [])
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(_broker())
        gateways, loads = [], []
        for number, sections in enumerate((_sections(broker), {})):
            tell(f"{PNES} PNEs join {'a gateway without' if number else 'a gateway that is watched'}")
            gateways.append(await stack.enter_async_context(side_process(live, sections, PNES)))
            there = await gateways[-1].hear()
            if there.url:
                browser = await stack.enter_async_context(side_process(look_on, there.url))
                await browser.hear()
            arguments = (there.pnes, there.gateway, there.broadcast_port)
            loads.append(await stack.enter_async_context(side_process(confirm_deliveries, *arguments)))
            await loads[-1].hear()
        for number in range(ROUNDS + 1):
            tell(f"delivery {number} of {ROUNDS}")
            turns = (0, 1) if number % 2 else (1, 0)
            for gateway, load, found in ((gateways[each], loads[each], rates[each]) for each in turns):
                before = await gateway.ask(_CONFIRMED)
                seconds = await load.ask(await gateway.ask(_UPDATE))
                if (good := await gateway.ask(_CONFIRMED) - before) != PNES:
                    raise AssertionError(f"{good} confirmations of {PNES} were good")
                if number:  # the first of each warms up
                    found.append(PNES / seconds)
    return rates


def _link(home: Home) -> str:
    """Return a URL that logs in to the page of a home."""
    (link,) = [each.commands["web.link"] for each in home.onlookers if "web.link" in each.commands]
    url: str = link()["urls"][0]
    return url


async def _memory(everything: bool) -> float:
    """Return the resident memory, in MiB, of a fresh process with one gateway, which is watched or not."""
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(_broker())
        sections = _sections(broker) if everything else {}
        process = await stack.enter_async_context(side_process(live, sections, FEW_PNES))
        there = await process.hear()
        if there.url:
            browser = await stack.enter_async_context(side_process(look_on, there.url, _SCRAPES))
            await browser.hear()
        await asyncio.sleep(_SETTLE_S)
        return float(await process.ask(_MEMORY))


@dataclass(frozen=True)
class There:
    """A gateway that runs in a process of its own. `url` logs in to its page, "" for none."""

    url: str
    pnes: list[PneKeys]
    gateway: tuple[str, int]
    broadcast_port: int


def live(link: Connection, sections: Mapping[str, Any], pnes: int) -> None:
    """Run a gateway. Say what is There; then, each time it is asked, update the key or say a figure."""
    asyncio.run(_live(link, sections, pnes))


async def _live(link: Connection, sections: Mapping[str, Any], pnes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with build_home(Path(folder), pnes, DeliveryPolicy(method="broadcast"), onlookers=sections) as home:
            garbage.search_rarely()  # as any process that serves
            link.send(There(_link(home) if sections else "", home.pnes, home.gateway, home.broadcast_port))
            answers: dict[str, Callable[[], float]] = {
                _UPDATE: lambda: home.server.update_key(SG_ID),
                _CONFIRMED: home.confirmed,
                _MEMORY: _resident_mib,
            }
            loop = asyncio.get_running_loop()
            while (asked := await loop.run_in_executor(None, link.recv)) in answers:
                link.send(answers[asked]())


def _resident_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024
