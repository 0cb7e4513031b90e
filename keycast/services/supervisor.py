"""The service manager that started this process, which systemd is on most machines.

It passes a socket in NOTIFY_SOCKET and expects datagrams there (sd_notify(3)): READY=1 when the process serves, STATUS=
with a sentence for `systemctl status`, WATCHDOG=1 again and again while it works, STOPPING=1. A process that was
started by a person has no such socket, and all of this does nothing.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

from keycast.services import garbage

_log = logging.getLogger(__name__)

NOT_CONFIGURED = 78
"""Exit code of a service whose configuration is wrong (EX_CONFIG of sysexits.h): it is not started again."""
STATUS_EVERY_S = 20.0
"""Seconds between two looks at the status, or a third of the time of the watchdog if there is one."""
_SENDING_S = 1.0

Sentence = Callable[[], str]
"""A function that returns a sentence for a person."""


def no_trouble() -> str:
    """Return "": nothing is known that a restart could mend."""
    return ""


def tell(*assignments: str) -> None:
    """Send assignments such as "READY=1" to the service manager, if one expects them.

    NOTIFY_SOCKET is a path or, with "@" in the place of its first octet, a name of the abstract namespace (unix(7)).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = f"\0{address[1:]}" if address.startswith("@") else address
    lines = (each.replace("\n", " ") for each in assignments)
    try:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender:
            sender.settimeout(_SENDING_S)
            sender.sendto("\n".join(lines).encode(), os.fsencode(name))
    except OSError as error:
        _log.warning("KC1901 the service manager cannot be told %s: %s", assignments[0], error)


def watchdog_s() -> float:
    """Return the seconds within which the service manager must hear WATCHDOG=1 again, 0 if it does not watch."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    is_ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if is_ours and microseconds.isascii() and microseconds.isdigit() else 0.0


def nothing() -> None:
    """Do nothing."""


async def serve(
    status: Sentence,
    *failures: "asyncio.Future[Any] | None",
    trouble: Sentence = no_trouble,
    begun: Callable[[], None] = nothing,
) -> None:
    """Tell the service manager that this process serves now, and go on until it is `interrupted`.

    `status` returns what `systemctl status` shows. While `trouble` returns a sentence, that is shown in its place and
    the watchdog hears nothing, so that the service manager restarts the process after the time of its unit. The same
    happens if the event loop stands still, as this runs on it. `begun` is called once Ctrl-C ends this in order.
    """
    end = asyncio.create_task(interrupted(*failures))
    await asyncio.sleep(0)  # it is ready to be interrupted before it says so
    text = status()
    tell("READY=1", f"STATUS={text}", "WATCHDOG=1")
    garbage.search_rarely()
    begun()
    telling = asyncio.create_task(_keep_telling(status, trouble, text))
    try:
        await asyncio.wait([end, telling], return_when=asyncio.FIRST_COMPLETED)
        await (telling if telling.done() else end)  # only a fault ends `telling`
    finally:
        tell("STOPPING=1", "STATUS=it ends")
        end.cancel()
        telling.cancel()


async def interrupted(*failures: "asyncio.Future[Any] | None") -> None:
    """Wait for SIGINT or SIGTERM, or until one of `failures` is done; then raise its result, which is an exception."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    failed = [failure for failure in failures if failure is not None]
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait([stopped, *failed], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    for failure in failed:
        if failure.done():
            raise failure.result()


async def _keep_telling(status: Sentence, trouble: Sentence, told: str) -> None:
    every_s = min(watchdog_s() / 3 or STATUS_EVERY_S, STATUS_EVERY_S)
    while True:
        await asyncio.sleep(every_s)
        wrong = trouble()
        text = wrong or status()
        news = [f"STATUS={text}"] if text != told else []
        if not wrong:
            news.append("WATCHDOG=1")
        if news:
            tell(*news)
        told = text
