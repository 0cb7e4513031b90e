"""An old state of the gateway is put back; two gateways want the same state. Real processes, real boards."""

import asyncio
import contextlib
import shutil
import sys

import pytest

from device_agent import provisioning
from device_agent.key_store import KeyStore
from keycast.virtual_board.board import BoardError, Network, VirtualBoard
from keycast.virtual_board.loopback import free_numbers
from keycast.virtual_board.thief import Sniffer, Thief
from tests.system.keycast_process import GatewayProcess
from tests.system.wire import Wire
from tests.typed_command import keycast
from tests.waiting import PATIENCE_S

SG = "home/lights"
LEASE_S = 2
SHORT_LEASE = f"from message_plane import lease; lease.LEASE_MS = {LEASE_S * 1000}; "
SHORT_LEASE += "from keycast import main; main()"


class Home:
    """A gateway process, boards behind wires that watch the nonces, and everything that was on the air."""

    def __init__(self, folder, **how):
        self.folder = folder
        self.gateway = GatewayProcess(folder, **how)
        self.wires, self.boards = [], {}
        self.sniffer = Sniffer()
        self.frames = []

    async def add(self, name):
        """A new board, switched on."""
        wire = await Wire.open((self.gateway.address, self.gateway.port))
        self.wires.append(wire)
        record = await self.gateway.new_board(name, wire.address)
        number = free_numbers(1)
        board = VirtualBoard.create(self.folder / name, number, record, Network.loopback(number))
        await board.start()
        self.boards[name] = board
        return board

    async def keyed(self, names, *, above=0, timeout_s=PATIENCE_S):
        """Wait until these boards, and no others, are members and hold the newest key; its version."""
        async with asyncio.timeout(timeout_s):
            while True:
                view = await self.gateway.ask("group.show", sg_id=SG)
                members = {m["pne_id"]: m["confirmed"] for m in view["members"] if m["state"] == "member"}
                held = {(await self.boards[name].command("status"))["groups"].get(SG, 0) for name in names}
                settled = held | set(members.values()) == {view["version"]} and not view["update_pending"]
                if settled and set(members) == set(names) and view["version"] > above:
                    return view["version"]
                await asyncio.sleep(0.1)

    def listen(self):
        self.frames += self.sniffer.frames()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder, **how):
        home = cls(folder, **how)
        try:
            await home.gateway.start()
            home.sniffer.pn_alias = (await home.gateway.ask("status"))["pn_alias"]
            yield home
        finally:
            await home._close()

    async def _close(self):
        await asyncio.gather(*(board.stop() for board in self.boards.values()))
        await self.gateway.stop()
        for wire in self.wires:
            wire.close()
        self.sniffer.close()


@pytest.fixture
async def home(tmp_path):
    async with Home.open(tmp_path) as home:
        yield home


@pytest.fixture
async def home_with_a_short_lease(tmp_path):
    """The same with a lease of the sessions that lapses in 2 s of pause, not in 10 s."""
    async with Home.open(tmp_path, program=[sys.executable, "-c", SHORT_LEASE]) as home:
        yield home


def copy_of_the_gateway(state, folder):
    """What a person saves while the gateway is stopped. The CPNS Server's state, here beside it, stays as it is."""
    shutil.copytree(state / "store", folder / "store")
    for file in state.glob("sessions.db*"):
        shutil.copy2(file, folder)


def put_back(folder, state):
    shutil.rmtree(state / "store")
    for file in state.glob("sessions.db*"):
        file.unlink()
    shutil.copytree(folder / "store", state / "store")
    for file in folder.glob("sessions.db*"):
        shutil.copy2(file, state)


@pytest.mark.req("SEC-02", "SEC-04")
async def test_a_snapshot_put_back_readmits_nobody_and_uses_no_number_twice(home, tmp_path):
    for n in range(4):
        await home.add(f"lamp.{n}")
    await home.gateway.ask("group.create", sg_id=SG, open_to=["home"])
    await asyncio.gather(*(board.command("join", group=SG, timeout_s=180) for board in home.boards.values()))
    old = await home.keyed(list(home.boards))

    await home.gateway.stop()
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    copy_of_the_gateway(home.gateway.state, snapshot)
    await home.gateway.start()
    await home.gateway.ask("group.expel", sg_id=SG, pne_id="lamp.3")
    present = ["lamp.0", "lamp.1", "lamp.2"]
    last_read = (await home.keyed(present, above=old)) - 1
    newcomer = await home.add("lamp.4")
    await newcomer.command("join", group=SG, timeout_s=180)
    present.append("lamp.4")
    before = await home.keyed(present, above=last_read + 1)

    await home.gateway.kill()
    put_back(snapshot, home.gateway.state)
    home.listen()

    # unannounced: the gateway notices from the Server's versions and keeps still
    await home.gateway.start()
    async with asyncio.timeout(180):
        while (await home.gateway.ask("status"))["stopped"] is None:
            await asyncio.sleep(0.1)
    assert "keycast gateway restore" in (await home.gateway.ask("status"))["stopped"]
    await home.gateway.ask("group.update", sg_id=SG)
    await asyncio.sleep(2)
    with pytest.raises(BoardError):
        await home.boards["lamp.3"].command("refresh", group=SG, timeout_s=180)
    await home.gateway.stop()

    # announced: a new generation, sessions anew, members as the Server knows them, a new key
    restored = await asyncio.to_thread(keycast, "gateway", "restore", "-c", home.gateway.config)
    assert restored.returncode == 0, restored.stderr
    await home.gateway.start()
    credential = newcomer_credential(newcomer)
    await home.gateway.ask("board.register", credential=credential.hex())
    await rejoined(newcomer)
    version = await home.keyed(present, above=before)
    updated = await home.gateway.ask("group.update", sg_id=SG)
    assert await home.keyed(present, above=version) == updated

    home.listen()
    removed = home.boards["lamp.3"]
    assert (await removed.command("status"))["groups"].get(SG, 0) <= last_read
    thief = Thief([removed.nvs])
    thief.hear(home.frames)
    assert [seen for seen in thief.readable() if seen > last_read] == []
    assert all(wire.watch.reused == [] for wire in home.wires)


async def rejoined(board):
    """Its new registration ended its membership: it is told so when it asks, and joins."""
    async with asyncio.timeout(180):
        while not any(event["event"] == "expelled" for event in board.events):
            with contextlib.suppress(BoardError):
                await board.command("refresh", group=SG)
            await asyncio.sleep(0.5)
    await board.command("join", group=SG)


def newcomer_credential(board):
    """Its credential came to the gateway after the snapshot, so a person lets it in again."""
    return provisioning.parse(KeyStore(board.nvs.snapshot()).load(provisioning.RECORD)).ccs


@pytest.mark.req("SEC-23")
async def test_a_paused_gateway_keeps_its_state_and_goes_on_when_it_wakes(home_with_a_short_lease):
    """A second process gets neither store nor sessions, and the first has lost nothing."""
    home = home_with_a_short_lease
    for n in range(3):
        await home.add(f"lamp.{n}")
    await home.gateway.ask("group.create", sg_id=SG, open_to=["home"])
    await asyncio.gather(*(board.command("join", group=SG, timeout_s=180) for board in home.boards.values()))
    before = await home.keyed(list(home.boards))
    home.gateway.pause()
    try:
        await asyncio.sleep(LEASE_S + 1)  # longer than the lease of the sessions lasts
        for word in ("run", "restore"):
            second = await asyncio.to_thread(keycast, "gateway", word, "-c", home.gateway.config)
            assert second.returncode == 1 and "Traceback" not in second.stderr
        assert "already uses the state folder" in second.stderr
    finally:
        home.gateway.resume()
    version = await home.gateway.ask("group.update", sg_id=SG)
    assert await home.keyed(list(home.boards), above=before) == version
    assert all(wire.watch.reused == [] for wire in home.wires)
