"""Opening the port of a board that another program has locked, for a moment or for longer."""

import asyncio
import errno
import fcntl
import os
import pty
from collections.abc import Iterator

import pytest

from keycast.board import serial_port

pytestmark = pytest.mark.real_time


@pytest.fixture
def device() -> Iterator[str]:
    ends = pty.openpty()
    yield os.ttyname(ends[1])
    for end in ends:
        os.close(end)


def locked(device: str) -> int:
    end = os.open(device, os.O_RDWR | os.O_NOCTTY)
    fcntl.flock(end, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return end


async def test_a_port_that_a_starting_program_holds_is_opened_when_that_lets_go(device: str) -> None:
    """A program is started with copies of all open files, and closes them when it runs."""
    asyncio.get_running_loop().call_later(0.2, os.close, locked(device))
    (await asyncio.to_thread(serial_port.opened, device, 0.1)).close()


def test_a_port_that_another_program_keeps_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_port, "LOCKED_S", 0.1)
    end = locked(device)
    with pytest.raises(OSError) as refusal:
        serial_port.opened(device, 0.1)
    assert refusal.value.errno == errno.EAGAIN
    os.close(end)
