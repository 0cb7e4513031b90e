"""The whole way of an update, all of it real: a signed file, a gateway that is killed, boards in the MicroPython VM."""

import asyncio
import json
from contextlib import closing
from pathlib import Path
from random import randbytes
from typing import Any

import pytest
import pytest_asyncio

from cpns import numbers
from device_agent.key_store import KeyStore
from device_agent.update import slot_record
from gateway_agent.updates import airing, reports
from gateway_agent.updates.schedule import AiringOrder
from keycast.virtual_board.board import RESET_CODE, Network, VirtualBoard
from keycast.virtual_board.fleet import Fleet
from keycast.virtual_board.loopback import free_numbers
from keycast.virtual_board.thief import Sniffer
from suit import envelope, frames
from suit import numbers as n
from suit.erasure import Code
from tests.system.failing_agent import agent_that_fails
from tests.system.keycast_process import KEYCAST, GatewayProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

SG = "home/lights"
HALL, KITCHEN, PORCH, GARAGE = ALL = ("lamp.hall", "lamp.kitchen", "lamp.porch", "lamp.garage")
MEMBERS = (KITCHEN, PORCH)
PATIENCE_S = 240  # of a busy machine


async def keycast(*words: object) -> str:
    """What `keycast WORDS` prints; fails the test if it refuses."""
    process = await asyncio.create_subprocess_exec(
        str(KEYCAST), *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, out.decode() + errors.decode()
    return out.decode()


class House:
    """A gateway process and its boards, which are switched on again whenever they reset."""

    def __init__(self, folder: Path, gateway: GatewayProcess) -> None:
        self.folder = folder
        self.gateway = gateway
        self.boards: dict[str, VirtualBoard] = {}
        self._signed = 0

    async def keep_on(self, board: VirtualBoard) -> None:
        while await board.ended(timeout_s=3600) == RESET_CODE:
            await board.start(up=False)

    async def sign(self, *files: Path) -> tuple[int, Path]:
        """The number and the file of a new update: the agent of this release, or the files in a folder."""
        self._signed += 1
        file = self.folder / f"{self._signed}.suit"
        key = ("--key", self.folder / "update.key", "--passphrase-file", self.folder / "passphrase")
        await keycast("update", "sign", *files, "-o", file, "--number", self._signed, *key)
        return self._signed, file

    async def offer(self, file: Path, *to: str) -> None:
        await keycast("update", "offer", file, *to, "-c", self.gateway.config)

    async def status(self) -> dict[str, Any]:
        """What `keycast update status` says of each board that the gateway knows, by name."""
        told = json.loads(await keycast("update", "status", "-c", self.gateway.config, "--json"))
        return {each["pne_id"]: each for each in told["boards"]}

    async def says(self, name: str, **values: object) -> None:
        """Wait until the gateway says so of a board, and see that `keycast update status` does."""
        seen: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not values.items() <= seen.items():
                    await asyncio.sleep(0.2)
                    boards = (await self.gateway.ask("update.status"))["boards"]
                    seen = next(each for each in boards if each["pne_id"] == name)
        except TimeoutError:
            raise AssertionError(f"{seen}\n{self.boards[name].events[-20:]}") from None
        assert values.items() <= (await self.status())[name].items()

    async def event(self, name: str, state: str, number: int) -> None:
        await self.boards[name].event("update", state=state, number=number, timeout_s=PATIENCE_S)

    def record(self, name: str) -> slot_record.SlotRecord:
        return slot_record.load(KeyStore(self.boards[name].nvs.snapshot()))

    async def all_have_a_new_key(self, *names: str) -> None:
        version = await self.gateway.ask("group.update", sg_id=SG)
        for name in names:
            await self.boards[name].event("key", group=SG, version=version, timeout_s=PATIENCE_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("updates")
    passphrase = folder / "passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text("never kept on a gateway\n")
    await keycast("update", "key", folder / "update.key", "--passphrase-file", passphrase)
    gateway = GatewayProcess(folder)
    gateway.config.write_text(gateway.config.read_text() + '\n[update]\nkey = "update.key.pub"\n')
    house = House(folder, gateway)
    await gateway.start()
    try:
        records = [await gateway.new_board(name) for name in ALL]
        await gateway.ask("group.create", sg_id=SG, open_to=["home"])
        first = free_numbers(len(ALL))
        networks = [Network.loopback(number) for number in range(first, first + len(ALL))]
        fleet = Fleet(folder / "boards", records, first=first, networks=networks)
        for board in fleet.boards:
            board.have_slots()
        async with fleet:
            house.boards = dict(zip(ALL, fleet.boards, strict=True))
            care = [asyncio.create_task(house.keep_on(board)) for board in fleet.boards]
            await asyncio.gather(*(house.boards[name].command("join", group=SG, timeout_s=180) for name in MEMBERS))
            await house.all_have_a_new_key(*MEMBERS)
            yield house
            for task in care:
                task.cancel()
    finally:
        await gateway.stop()


@pytest.mark.req("SEC-30")
async def test_an_update_goes_to_one_board_and_another_to_a_group_and_both_are_confirmed(house):
    one, for_one = await house.sign()
    group, for_group = await house.sign()
    await house.offer(for_one, "--board", HALL)
    await house.offer(for_group, "--group", SG)
    await house.says(HALL, agent_number=one, state="idle")
    for name in MEMBERS:
        await house.says(name, agent_number=group, state="idle")
    assert (await house.status())[GARAGE]["agent_number"] == 0
    for name, number in ((HALL, one), (KITCHEN, group), (PORCH, group)):
        record = house.record(name)
        assert (record.good, record.trial, record.agent_number) == (1, 0, number)
    assert house.record(GARAGE).agent_number == 0
    await house.all_have_a_new_key(*MEMBERS)


@pytest.mark.long
@pytest.mark.req("SEC-30", "SEC-10")
async def test_a_broadcast_reaches_all_though_the_gateway_is_killed_and_a_board_removed_in_the_middle(house):
    number, file = await house.sign()
    with closing(Sniffer()) as sniffer:
        await house.offer(file, "--broadcast")
        before = await _aired(sniffer, 60)
        await house.gateway.kill()
        before += _parsed(sniffer)
        await house.gateway.start()
        await _aired(sniffer, 1)
        await house.gateway.ask("board.retire", pne_id=GARAGE)
        for name in (HALL, KITCHEN, PORCH):
            await house.says(name, agent_number=number, state="idle")
        after = _parsed(sniffer)
    wanted = envelope.parse(file.read_bytes())
    code = Code(wanted.size)
    sent = {each.index for each in before + after if each.kind == n.FRAME}
    assert len(sent) >= 1.3 * code.blocks  # no frame was left out
    assert len(before) + len(after) <= len(AiringOrder(code, 3)) + airing.SAVE_EVERY + 1
    assert GARAGE not in await house.status()
    assert (house.record(GARAGE).agent_number, house.record(GARAGE).trial) == (0, 0)
    assert house.record(HALL).good == 2  # the other slot
    await house.all_have_a_new_key(*MEMBERS)


@pytest.mark.long
@pytest.mark.req("SEC-10", "SEC-30")
async def test_a_flood_of_forged_pieces_and_manifests_keeps_no_board_from_its_update(house):
    """In a heap of 96 KiB: a stranger sends them for each piece that is broadcast, and no board starts anew for it."""
    number, file = await house.sign()
    there = HALL, *MEMBERS
    since = {name: len(house.boards[name].events) for name in there}
    with closing(Sniffer()) as sniffer:
        await house.offer(file, "--broadcast")
        flood = asyncio.create_task(_flood(sniffer))
        for name in there:
            await house.says(name, agent_number=number, state="idle")
        flood.cancel()
    for name in there:
        told = house.boards[name].events[since[name] :]
        states = [event["state"] for event in told if event["event"] == "update"]
        assert states == ["collecting", "waiting", "confirmed"], (name, states)
        assert [event["event"] for event in told].count("up") == 1  # with the new agent


@pytest.mark.req("SEC-30")
async def test_an_agent_that_does_not_start_is_left_again_and_the_status_says_why(house):
    before = house.record(KITCHEN)
    number, file = await house.sign(agent_that_fails(house.folder / "fails"))
    await house.offer(file, "--board", KITCHEN)
    await house.says(KITCHEN, state="fell-back", reason=reports.REASONS[n.CRASHED], wanted_number=number)
    record = house.record(KITCHEN)
    assert (record.good, record.trial, record.agent_number) == (before.good, 0, before.agent_number)
    assert (await house.status())[KITCHEN]["offered_number"] == 0  # not once more
    shown = await keycast("update", "status", "-c", house.gateway.config)
    assert f"went back from update {number}" in " ".join(shown.split())
    await house.all_have_a_new_key(*MEMBERS)


@pytest.mark.long
@pytest.mark.req("SEC-30")
async def test_a_board_drops_what_is_withdrawn_while_it_collects_it(house):
    before = house.record(PORCH)
    number, file = await house.sign()
    await house.offer(file, "--board", PORCH)
    await house.event(PORCH, "collecting", number)
    await keycast("update", "withdraw", str(number), "-c", house.gateway.config)
    await house.event(PORCH, "withdrawn", number)
    await house.says(PORCH, state="idle", agent_number=before.agent_number, offered_number=0)
    left = (house.boards[PORCH].folder / "files").glob("update.*")
    assert [path.name for path in left] == [slot_record.MARK]


def _parsed(sniffer: Sniffer) -> list[frames.Frame]:
    return [frames.parse(each) for each in sniffer.frames() if each[:1] == bytes([numbers.FRAME_UPDATE])]


async def _flood(sniffer: Sniffer) -> None:
    """Send forged pages, frames and manifests of each update that is broadcast, 100 in a second."""
    number = 0
    while True:
        for each in _parsed(sniffer)[:2]:  # what is sent here is heard, too
            for kind, size in ((n.FRAME, n.BLOCK), (n.PAGE, n.BLOCK), (n.ENVELOPE, 700)):
                sniffer.send(
                    frames.build(kind, each.update_id, number % 200 if kind == n.FRAME else 0, randbytes(size))
                )
                number += 1
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


async def _aired(sniffer: Sniffer, count: int) -> list[frames.Frame]:
    """Wait until so many datagrams of updates are heard; return them."""
    found = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            found += _parsed(sniffer)
            await asyncio.sleep(0.05)
    return found
