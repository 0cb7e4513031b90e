"""`python -m tools.radio_bench`: measure in the radio bench, run its tests, or run commands in a guest."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gateway_agent.radios.virtual_air.air import VirtualAir
from tools import PROJECT
from tools.radio_bench import deliveries, image, product
from tools.radio_bench.adapter import BLUETOOTHD_LOG, Adapter, AirLog
from tools.radio_bench.errors import NoBench
from tools.radio_bench.guest import Guest, booted
from tools.radio_bench.house import AIR_LOG, house
from tools.radio_bench.suites import SUITES, suite

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Images = Annotated[list[str] | None, typer.Option("--image", help=f"One of {', '.join(SUITES)}; may be repeated.")]
OneImage = Annotated[str, typer.Option("--image", help=f"One of {', '.join(SUITES)}.")]

SENDERS = (("mgmt", True), ("mgmt", False), ("bluez", True))
"""Of each measurement: the sender, and whether the controller is one of Bluetooth 5, else of 4."""
_TESTS = PROJECT / "tests" / "radio_bench"
_LAST_S = 60.0  # between the end of the time for tests and the end of the process that runs them
_AGAIN_S = 150.0  # what another guest and some tests need
_FAILED = "FAILED"


@app.command()
def measure(
    image_name: OneImage = "bookworm",
    loss: Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of the adverts that a board misses.")] = 0.3,
) -> None:
    """Print how long Group Keys take from real BlueZ to a board, beside a forger. Logs stay in .cache/radio_bench."""
    try:
        asyncio.run(_measure(image_name, loss))
    except NoBench as reason:
        sys.exit(f"radio bench: {reason}")


@app.command()
def test(
    images: Images = None,
    limit_s: Annotated[
        float, typer.Option(help="Seconds for all images; tests that are left then are skipped.")
    ] = 3600,
) -> None:
    """Run the tests of the radio bench in these images, or all; tell what is skipped and why.

    A test that fails is run again in another guest, and has failed if it fails there, too. Where no time is left for
    that the result says so, and the exit code is 0.
    """
    ends = time.time() + limit_s
    if why := image.missing():
        print(f"radio bench: skipped: it {why}")
        return
    results = {}
    for name in images or SUITES:
        results[name] = _tests(name, ends)
        if results[name] == _FAILED and time.time() + _AGAIN_S > ends:
            results[name] = "failed in one guest, and no time is left for another"
        elif results[name] == _FAILED:
            print(f"radio bench: {name}: what failed is run again in another guest")
            results[name] = _tests(name, ends, "--last-failed")
    for name, result in results.items():
        print(f"radio bench: {name}: {result}")
    sys.exit(_FAILED in results.values())


@app.command()
def run(
    commands: list[str],
    image_name: OneImage = "bookworm",
    bluetooth_4: Annotated[bool, typer.Option("--bluetooth-4", help="The adapter has no advertising sets.")] = False,
) -> None:
    """Boot a guest with an adapter and bluetoothd, and run shell commands in it, one after the other."""
    try:
        sys.exit(asyncio.run(_run(commands, image_name, extended=not bluetooth_4)))
    except NoBench as reason:
        sys.exit(f"radio bench: {reason}")


def _tests(image_name: str, ends: float, *options: str) -> str:
    """Run the tests in one image until the time `ends`; return the result in words, which is _FAILED if one failed."""
    environment = os.environ | {"KEYCAST_RADIO_BENCH": image_name, "KEYCAST_RADIO_BENCH_UNTIL": str(ends)}
    cache = image.CACHE / "pytest" / image_name
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-rsfE",
        "--durations=5",
        "-o",
        f"cache_dir={cache}",
        *options,
        str(_TESTS),
    ]
    try:
        code = subprocess.run(words, cwd=PROJECT, env=environment, timeout=max(0.0, ends - time.time()) + _LAST_S)
    except subprocess.TimeoutExpired:
        return "skipped: it did not end in time"
    return "ok" if code.returncode == 0 else _FAILED


async def _measure(image_name: str, loss: float) -> None:
    console, folder = Console(), image.CACHE / "logs" / image_name
    found = image.image(suite(image_name))
    async with booted(found, product.disk(found), folder) as guest:
        system = (await guest.run("uname -r; /usr/libexec/bluetooth/bluetoothd -v")).out.split()
        console.print(f"{image_name}: Linux {system[0]}, BlueZ {system[1]}, booted in {guest.boot_s:.1f} s")
        table = Table(title="From the first advert until a board has the object, beside a forger")
        for column in ("sender", "interval", "rows", "seconds", "adverts", "on air", "loss"):
            table.add_column(column, justify="left" if column == "sender" else "right")
        for sender, extended in SENDERS:
            name = sender if extended else f"{sender}, Bluetooth 4"
            logs = folder / name.replace(", ", "-").replace(" ", "-")
            told, rows = await _deliver(guest, logs, sender, extended, loss)
            for each in rows:
                figures = (f"{each.seconds:.2f}", str(each.adverts), str(each.pdus), f"{loss:.0%}")
                table.add_row(name, f"{told['interval_ms']:.0f} ms", str(each.rows), *figures)
        console.print(table)
        await _whole_way(console, guest, folder / "whole-way", loss)
        races = f"; its clock raced {guest.races} times, so measure again" if guest.races else ""
        console.print(f"logs of the air, of bluetoothd and of the guest: {folder.relative_to(PROJECT)}{races}")


async def _deliver(
    guest: Guest, logs: Path, sender: str, extended: bool, loss: float
) -> tuple[dict[str, object], list[deliveries.Delivery]]:
    logs.mkdir(parents=True, exist_ok=True)
    air = VirtualAir()
    adapter = Adapter(guest, air)
    with tempfile.TemporaryDirectory(prefix="bench.") as place, AirLog(air, logs / AIR_LOG):
        await adapter.plug(extended=extended)
        await adapter.start_bluetoothd("-E")
        try:
            rows, told = await deliveries.measure(guest, air, sender, Path(place), loss)
        finally:
            await guest.keep(logs, BLUETOOTHD_LOG, deliveries.AIRING_LOG)
            await adapter.end_bluetoothd()
            await adapter.unplug()
    return told, rows


async def _whole_way(console: Console, guest: Guest, logs: Path, loss: float) -> None:
    """Deliver keys of the running gateway to boards without Wi-Fi."""
    begun = time.monotonic()
    async with house(guest, logs, "mgmt", boards=2, loss=loss) as home:
        sessions_s = time.monotonic() - begun
        await home.join("kitchen")
        begun = time.monotonic()
        version = await home.update("kitchen")
        told = await home.keyed("kitchen", version)
        keyed_s = time.monotonic() - begun
        await home.confirmed("kitchen")
        confirmed_s = time.monotonic() - begun
        console.print(
            f"keycast gateway run, 2 boards without Wi-Fi: sessions after {sessions_s:.0f} s from nothing; a new key "
            f"after {keyed_s:.2f} s ({sum(each['broadcast'] for each in told)} by advert), confirmed after "
            f"{confirmed_s:.2f} s"
        )


async def _run(commands: list[str], image_name: str, *, extended: bool) -> int:
    found, air = image.image(suite(image_name)), VirtualAir()
    folder = image.CACHE / "logs" / image_name
    async with booted(found, product.disk(found), folder) as guest:
        adapter = Adapter(guest, air)
        with AirLog(air, folder / AIR_LOG):
            await adapter.plug(extended=extended)
            await adapter.start_bluetoothd("-E")
            code = 0
            for command in commands:
                ran = await guest.run(command, 3600, check=False)
                sys.stdout.write(ran.out)
                sys.stderr.write(ran.err)
                code = code or ran.code
            await guest.keep(folder, BLUETOOTHD_LOG)
            await adapter.end_bluetoothd()
            await adapter.unplug()
    return code


if __name__ == "__main__":
    app()
