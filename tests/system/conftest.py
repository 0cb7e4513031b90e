"""Fixtures of the system tests: the wall clock, by which processes go, and houses that live as long as one test."""

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from key_servers.cpns_server.config import ServerConfig
from keycast.demo.house import House, build_house

# A key follows its cause at once: the window that gathers leaves is tested where it is kept.
AT_ONCE = ServerConfig(batching_s=0.1)


def house_of(folder: Path, boards: int, **how: object) -> AbstractAsyncContextManager[House]:
    """A house whose Server makes a key as soon as there is a reason."""
    return build_house(folder, boards=boards, server_config=AT_ONCE, **how)  # type: ignore[arg-type]


def pytest_asyncio_loop_factories() -> dict[str, type[asyncio.SelectorEventLoop]]:
    return {"real time": asyncio.SelectorEventLoop}
