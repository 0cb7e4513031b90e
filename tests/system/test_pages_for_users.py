"""The pages for users are true: each command in them is typed as it stands, in a fresh folder, and ends with 0."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.system import namespaces
from tests.system.manual import Block, Desk, blocks
from tests.system.namespaces import HomeNetwork
from tools.micropython_vm.vm import PROJECT
from tools.virtual_board.board import Board

README = PROJECT / "README.md"
GATEWAY = PROJECT / "docs" / "gateway.md"
PAGES = [README, *sorted((PROJECT / "docs").glob("*.md"))]

GATEWAY_MACHINE, BOARD_MACHINE = 1, 2


@pytest.fixture
def network() -> Iterator[HomeNetwork]:
    if why := namespaces.missing():
        pytest.skip(why)
    with HomeNetwork(2) as network:
        yield network


@asynccontextmanager
async def board_of(script: Path, folder: Path, network: HomeNetwork) -> AsyncIterator[Board]:
    """The board that ran the script of `keycast device provision`, switched on."""
    board = Board.create(folder, BOARD_MACHINE, b"", network.board(BOARD_MACHINE))
    await board.run_script(script)
    await board.start()
    try:
        yield board
    finally:
        await board.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_block_says_what_it_is(page: Path) -> None:
    """A block without a language would be typed by nobody."""
    blocks(page)
    fenced = {line for block in blocks(page) for line in range(block.line - 1, block.line + block.text.count("\n") + 1)}
    for number, line in enumerate(page.read_text().splitlines(), 1):
        assert number in fenced or not line.startswith("    "), f"{page.name}, line {number}: a block without a fence"


def typed(page: Path, heading: str, language: str = "sh") -> list[Block]:
    """The blocks of this language under a heading; fails the test if there is none."""
    found = [block for block in blocks(page) if (block.heading, block.language) == (heading, language)]
    assert found, f"{page.name} has no {language} block under {heading!r}"
    return found


def name_the_card(configuration: Path) -> None:
    """What a person does whose machine has nothing but the virtual cable of a container, as `gateway run` says."""
    text = configuration.read_text()
    assert 'interfaces = ["auto"]' in text
    configuration.write_text(text.replace('interfaces = ["auto"]', 'interfaces = ["eth0"]'))


async def test_the_gateway_of_the_readme(tmp_path: Path, network: HomeNetwork) -> None:
    (block,) = typed(README, "A gateway of your own")
    (tmp_path / ".venv").symlink_to(PROJECT / ".venv")
    async with Desk(tmp_path, network.words(GATEWAY_MACHINE)) as desk:
        for line, command in block.lines():
            if command.startswith("keycast group expel"):
                async with board_of(tmp_path / "porch.py", tmp_path / "board", network) as board:
                    await board.command("join", group="home/lights", timeout_s=60)
                    code, words = await desk.type(command)
            else:
                code, words = await desk.type(command)
            assert code == 0, f"README.md, line {line}: {command!r} ended with {code}:\n{words}"
            if command.startswith("keycast gateway init"):
                name_the_card(tmp_path / "keycast.toml")
