"""Applications on a virtual board: the one of the README as it is printed, and faulty ones."""

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

from cpns import cborlite
from cpns.key_ring import KeyRing
from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from tests.system.conftest import house_of
from tests.system.watching import events, join
from tests.waiting import PATIENCE_S
from tools import PROJECT

SG = "home/lights"
README = (PROJECT / "README.md").read_text()
[AS_PRINTED] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "main(node)" in block]


def give(board, folder: Path, source: str) -> None:
    """Make `source` the application of a board that is off."""
    folder.mkdir()
    (folder / "app.py").write_text(textwrap.dedent(source))
    board.app = folder


async def printed(board, text: str, since: int = 0, timeout_s: float = PATIENCE_S) -> None:
    await board.event("print", text=text, since=since, timeout_s=timeout_s)


async def test_readmes_application_runs_as_printed_and_is_told_when_it_is_expelled(tmp_path):
    assert f'node.join("{SG}")' in AS_PRINTED
    async with house_of(tmp_path, 2) as house:
        (lamp, other) = house.boards
        await join(house, SG, [other])
        board = house.boards[lamp]
        await board.kill()
        give(board, tmp_path / "app", AS_PRINTED)
        await board.start(up=False)
        await house.boards[other].event("message", sender=lamp, data=b"light on".hex())
        await house.boards[other].command("send", group=SG, data=b"off".hex())
        await printed(board, f"{other} b'off'")

        await board.kill()  # and once more, with a key from before
        seen = len(house.boards[other].events)
        await board.start(up=False)
        await house.boards[other].event("message", sender=lamp, data=b"light on".hex(), since=seen)

        house.server.expel(SG, lamp)
        await printed(board, "no member any more: expelled")
        assert board.exit_code is None and board.restarts == 0
        record = KeyStore(board.nvs.snapshot()).load(record_name("g", SG))
        assert KeyRing.load(cborlite.decode(record)[4], 0).versions == []
        await board.kill()  # and when the power comes back: no loop of resets
        await board.start(up=False)
        await printed(board, "the application is started again in 30 s; the node goes on")
        assert any(event.get("text", "").startswith("NotAllowed") for event in board.events)
        assert board.exit_code is None
        await board.kill()  # it does not end in order


FAILS_TWICE = """
    import sys
    tries = []
    def on_event(name, values):
        raise ValueError("of on_event")
    async def main(node):
        tries.append(node)
        if len(tries) < 3:
            raise ZeroDivisionError("of main")
        group = await node.join("home/lights")
        print("joined", group.version > 0)
"""


@pytest.mark.parametrize(
    ("source", "told"),
    [(FAILS_TWICE, "ZeroDivisionError"), ("def main(node:\n  pass", "SyntaxError"), ("x = 1", "AttributeError")],
    ids=["raises", "is no Python", "has no main"],
)
async def test_an_applications_error_takes_neither_the_agent_nor_the_keys_down(tmp_path, source, told):
    async with house_of(tmp_path, 2) as house:
        (lamp, other) = house.boards
        before = await join(house, SG, [lamp, other])
        board = house.boards[lamp]
        await board.kill()
        give(board, tmp_path / "app", "import application\napplication.PAUSE_MIN_S = 0.2\n" + textwrap.dedent(source))
        seen = len(board.events)
        await board.start(up=False)
        again = "the application is started again in"
        async with asyncio.timeout(180):
            while not any(again in event.get("text", "") for event in board.events[seen:]):
                await asyncio.sleep(0.05)
        said = [event["text"] for event in events(house, lamp, "print")]
        assert any(told in line for line in said) and any("Traceback" in line for line in said)
        confirmed = house.server.update_key(SG)
        version = await _confirmed(house, lamp, confirmed)
        assert version > before and board.exit_code is None
        await board.kill()


async def _confirmed(house, name, version):
    async with asyncio.timeout(180):
        while True:
            members = {each.pne_id: each.confirmed for each in house.server.show_group(SG).members}
            if members[name] >= version:
                return members[name]
            await asyncio.sleep(0.05)
