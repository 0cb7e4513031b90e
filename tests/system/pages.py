"""The pages for users, and what the tests have in common that type their commands."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from keycast.virtual_board.board import VirtualBoard
from tests.system import namespaces
from tests.system.manual import Desk, Reading
from tests.system.namespaces import HomeNetwork
from tests.waiting import PATIENCE_S
from tools import PROJECT

README, CONTRIBUTING, SECURITY = (PROJECT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))
BOARDS, COMMANDS, FIRMWARE, GATEWAY, GMS, HOME_ASSISTANT, KMS, MIKEY, OPERATE, OPERATORS, UPDATE = (
    PROJECT / "docs" / f"{name}.md"
    for name in (
        "boards",
        "commands",
        "firmware",
        "gateway",
        "gms",
        "home-assistant",
        "kms",
        "mikey",
        "operate",
        "operators",
        "update",
    )
)
PAGES = [README, CONTRIBUTING, SECURITY, *sorted((PROJECT / "docs").glob("*.md"))]

READ: list[tuple[Path, str]] = []


def reads(*sections: tuple[Path, str]) -> pytest.MarkDecorator:
    """The test gets, as `reading`, what somebody types and writes who reads these sections."""
    READ.extend(sections)
    return pytest.mark.parametrize("reading", [Reading(*sections)], ids=[sections[0][0].stem])


@asynccontextmanager
async def home_network(machines: int, first: str = "10.77.0.1") -> AsyncIterator[HomeNetwork]:
    if why := namespaces.missing():
        pytest.skip(why)
    with HomeNetwork(machines, first=first) as network:
        yield network


@asynccontextmanager
async def switched_on(board: VirtualBoard, **how: Any) -> AsyncIterator[VirtualBoard]:
    await board.start(**how)
    try:
        yield board
    finally:
        await board.kill()


def name_the_card(desk: Desk) -> Callable[[], None]:
    """What a person does whose machine has nothing but the virtual cable of a container, as `gateway run` says."""

    def do() -> None:
        configuration = desk.folder / "keycast.toml"
        text = configuration.read_text()
        assert 'interfaces = ["auto"]' in text
        configuration.write_text(text.replace('interfaces = ["auto"]', 'interfaces = ["eth0"]'))

    return do


async def until(desk: Desk, command: str, true: Callable[[Any], bool], timeout_s: float = PATIENCE_S) -> Any:
    """Type a command until what it answers is so."""
    end = time.monotonic() + timeout_s
    while True:
        code, words = await desk.type(f"{command} --json")
        if code == 0 and true(answer := json.loads(words)):
            return answer
        assert time.monotonic() < end, f"{command!r} still answers {code}:\n{words}"
        await asyncio.sleep(1)  # each question is a process that the servers and boards here have to wait for


def keyed(*names: str, above: int = 0) -> Callable[[Any], bool]:
    """Whether a Service Group as `group show` tells it has given all of them its newest key."""

    def found(group: Any) -> bool:
        confirmed = {member["pne_id"]: member["confirmed"] for member in group["members"]}
        return group["version"] > above and all(confirmed.get(name) == group["version"] for name in names)

    return found


def credential_in(text: str) -> str:
    """The credential, in hexadecimal, that a command has printed."""
    return str(re.findall(r"\b[0-9a-f]{64,}\b", text)[-1])
