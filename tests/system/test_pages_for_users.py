"""The pages for users are true: each command in them is typed as it stands, in a fresh folder, and ends with 0."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.system import namespaces
from tests.system.manual import Block, Desk, blocks
from tests.system.namespaces import HomeNetwork
from tools.micropython_vm.vm import PROJECT
from tools.virtual_board.board import Board, BoardError

README = PROJECT / "README.md"
GATEWAY = PROJECT / "docs" / "gateway.md"
MIKEY = PROJECT / "docs" / "mikey.md"
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


async def test_the_messages_of_the_mikey_page(tmp_path: Path) -> None:
    (block,) = typed(MIKEY, "MIKEY-SAKKE messages by hand")
    async with Desk(tmp_path) as desk:
        await desk.follow(MIKEY, block)


@pytest.mark.req("SEC-02", "SEC-33", "SEC-37")
async def test_the_backup_of_the_gateway_page(tmp_path: Path, network: HomeNetwork) -> None:
    """The gateway is killed and its state folder lost between the first block and the others; its board comes back."""
    backup, restore, confirm = typed(GATEWAY, "Backup and loss")
    (unit,) = typed(GATEWAY, "As a service", "ini")
    (service,) = typed(GATEWAY, "As a service")
    (tmp_path / "keycast").symlink_to(PROJECT)
    path = tmp_path / ".config" / "systemd" / "user" / "keycast-gateway.service"
    path.parent.mkdir(parents=True)
    path.write_text(unit.text)
    async with Desk(tmp_path, network.words(GATEWAY_MACHINE)) as desk:
        await desk.type("export KEYCAST_CONFIG=~/keycast.toml")
        await desk.type("keycast gateway init ~/keycast.toml")
        name_the_card(tmp_path / "keycast.toml")
        await desk.follow(GATEWAY, service)
        assert (await desk.type("until keycast status; do sleep 0.1; done"))[0] == 0
        assert (await desk.type("keycast group create home/lights --open-to home"))[0] == 0
        assert (await desk.type("keycast device provision lamp.porch -o porch.py"))[0] == 0
        async with board_of(tmp_path / "porch.py", tmp_path / "board", network) as board:
            await board.command("join", group="home/lights", timeout_s=60)
            await desk.follow(GATEWAY, backup)
            assert (tmp_path / "home.backup").stat().st_mode & 0o777 == 0o600
            await desk.type("kill -9 $(cat ~/.stand-in/keycast-gateway.pid); rm -rf ~/keycast-state")
            before = (await board.command("status"))["groups"]["home/lights"]
            await desk.follow(GATEWAY, restore)
            assert (await desk.type("until keycast group show home/lights; do sleep 0.1; done"))[0] == 0
            assert (await desk.type("keycast status"))[0] == 2
            await desk.follow(GATEWAY, confirm)
            async with asyncio.timeout(90):
                while (await board.command("status"))["groups"].get("home/lights", 0) <= before:
                    with contextlib.suppress(BoardError):
                        await board.command("refresh", group="home/lights", timeout_s=30)
            assert (await desk.type("until keycast status; do sleep 0.1; done"))[0] == 0
        await desk.type("systemctl --user stop keycast-gateway")
