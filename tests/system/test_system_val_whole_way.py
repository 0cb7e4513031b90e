"""GMKs from the group management server down to two boards of one home, by `keycast gateway run` with `[seal]`:

a board that is a VAL client itself gets its own I_MESSAGE through the gateway, an ordinary one HKDF(GMK) by broadcast.
"""

import asyncio
import datetime
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from device_agent.val_client import records
from gateway_agent.val_client.bridged_groups import group_key
from key_servers.gms.delivery import State
from key_servers.gms.values import Affiliation
from keycast.demo.seal_house import GMS_URI, KMS_URI, SealHouse, build_seal_house
from keycast.demo.val_home import powered
from keycast.virtual_board import board as virtual_board
from keycast.virtual_board.board import BoardError, VirtualBoard
from keycast.virtual_board.loopback import free_numbers
from mikey_sakke.group_configuration import KEY, REVOCATION
from tests.system.keycast_process import GatewayProcess
from tests.typed_command import keycast

HOME, LAMP, BOB = (f"sip:{name}@example.org" for name in ("gw.home", "lamp", "bob"))
CREW, SG = "sip:crew@gms.example.org", "home/crew"

SEAL = """
[seal]
groups = [{{ group = "{group}", sg_id = "{sg}" }}]
kms = {{ url = "{kms}", kms_uri = "{kms_uri}", user_uri = "{home}", token = "{kms_token}", ca_file = "{ca}" }}
cms = {{ url = "{cms}", token = "{home_cms}", ca_file = "{ca}" }}
gms = [{{ url = "{gms}", token = "{home_gms}", ca_file = "{ca}", gms_uri = "{gms_uri}" }}]

[[seal.boards]]
pne = "lamp"
user_uri = "{lamp}"
cms = {{ url = "{cms}", token = "{lamp_cms}", ca_file = "{ca}" }}
gms = [{{ url = "{gms}", token = "{lamp_gms}", ca_file = "{ca}", gms_uri = "{gms_uri}" }}]
"""


@dataclass
class Home:
    """A running gateway, the board `lamp` that is a VAL client and the board `door` that is none."""

    servers: SealHouse
    gateway: GatewayProcess
    lamp: VirtualBoard
    door: VirtualBoard
    kms_token_file: Path

    @property
    def config(self) -> list[str]:
        return ["-c", str(self.gateway.config)]

    async def answered(self, key_id: str, purpose: str, *users: str) -> None:
        states: dict[str, State] = {}
        try:
            async with asyncio.timeout(180):
                while not all(states.get(user) is State.DONE for user in users):
                    await asyncio.sleep(0.1)
                    found = await self.servers.gms.management.deliveries(key_id)
                    states = {each.user: each.state for each in found if each.purpose == purpose}
        except TimeoutError:
            raise AssertionError(f"not answered: {states}; the lamp said last: {self.lamp.events[-20:]}") from None

    async def keyed(self, above: int = 0) -> int:
        """Wait until the door holds a version above `above`; it."""
        async with asyncio.timeout(180):
            while (version := (await self.door.command("status"))["groups"].get(SG, 0)) <= above:
                await asyncio.sleep(0.1)
        return int(version)

    def gmks(self) -> dict[str, bytes]:
        """What the lamp holds; a revoked one is empty."""
        return {gmk.gmk_id.hex(): gmk.gmk for gmk in records.load_gmks(KeyStore(self.lamp.nvs.snapshot()))}

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(180):
            while not condition():
                await asyncio.sleep(0.1)

    def door_holds(self, gmk: bytes, version: int) -> bool:
        """Whether the Group Key of `version` in the door's flash is that of this GMK; only while the door is off."""
        record = KeyStore(self.door.nvs.snapshot()).load(record_name("g", SG))
        return record is not None and group_key(gmk, SG, version) in record


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command that did its work printed."""
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


async def register(servers: SealHouse, user: str) -> dict[str, str]:
    """The user's tokens at the three servers."""
    return {
        "kms": await servers.kms.add_user(user),
        "cms": await servers.cms.profiles.add_user(user),
        "gms": await servers.gms.management.add_user(user),
    }


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Home]:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(build_seal_house(tmp_path / "servers", workers=-1))
        manage = servers.gms.management
        await manage.create_group(CREW, "the crew", rekey_on_removal=True)
        tokens = {}
        for user in (HOME, LAMP, BOB):
            tokens[user] = await register(servers, user)
            await servers.cms.profiles.put_membership(user, CREW, GMS_URI)
            await manage.add_member(CREW, user, Affiliation.IMPLICIT)
        gateway = GatewayProcess(tmp_path / "gateway", method="broadcast")
        gateway.config.chmod(0o600)
        with gateway.config.open("a") as config:
            config.write(
                SEAL.format(
                    group=CREW,
                    sg=SG,
                    kms=servers.kms.urls[0],
                    cms=servers.cms.urls[0],
                    gms=servers.gms.urls[0],
                    kms_uri=KMS_URI,
                    gms_uri=GMS_URI,
                    ca=servers.ca,
                    home=HOME,
                    lamp=LAMP,
                    kms_token=tokens[HOME]["kms"],
                    home_cms=tokens[HOME]["cms"],
                    home_gms=tokens[HOME]["gms"],
                    lamp_cms=tokens[LAMP]["cms"],
                    lamp_gms=tokens[LAMP]["gms"],
                )
            )
        token_file = tmp_path / "lamp.token"
        token_file.touch(mode=0o600)
        token_file.write_text(tokens[LAMP]["kms"])
        first = free_numbers(2)
        await gateway.start()
        stack.push_async_callback(gateway.kill)
        boards = [
            VirtualBoard.create(tmp_path / name, first + n, await gateway.new_board(name))
            for n, name in enumerate(("lamp", "door"))
        ]
        made = Home(servers, gateway, boards[0], boards[1], token_file)
        await provision(made, tmp_path / "lamp-val")
        for board in boards:
            await stack.enter_async_context(powered(board))
        await made.door.event("session")
        async with asyncio.timeout(180):
            while not await joined(made.door):
                await asyncio.sleep(0.5)
        yield made


async def joined(board: VirtualBoard) -> bool:
    """Whether a join was accepted: not before the gateway knows its profile."""
    try:
        await board.command("join", group=SG)
    except BoardError:
        return False
    return True


async def provision(home: Home, folder: Path) -> str:
    """As a person does: one command, then `mpremote`. What the command says."""
    words = ["seal", "board", "lamp", "--kms-token-file", home.kms_token_file, "-o", folder, *home.config]
    answer = said(await asyncio.to_thread(keycast, *words))
    await home.lamp.take_val_files(folder)
    return answer


@pytest.mark.req("SEAL-GMK-35", "SEAL-GMK-36", "SEAL-GMK-47", "SEAL-GMK-48", "MC-GMK-19", "MC-GMK-22")
async def test_one_gmk_reaches_a_val_board_by_its_own_message_and_an_ordinary_board_by_broadcast(home: Home) -> None:
    manage, profiles = home.servers.gms.management, home.servers.cms.profiles
    first = await manage.make_key([CREW])
    await home.answered(first, KEY, HOME, LAMP)
    version = await home.keyed()

    # a GMK is made while the gateway is dead: both boards have it soon after it is back
    await home.gateway.kill()
    second = await manage.remove_member(CREW, BOB)
    assert second is not None
    await home.gateway.start()
    await home.answered(second, KEY, HOME, LAMP)
    await home.answered(first, REVOCATION, HOME, LAMP)
    newer = await home.keyed(above=version)
    held = home.gmks()
    assert held[first] == b"" and len(held[second]) == 16

    # the lamp's user is removed: its board erases the GMK, the door has a key of the next one
    await profiles.remove_membership(LAMP, CREW)
    third = await manage.remove_member(CREW, LAMP)
    assert third is not None
    await home.answered(third, KEY, HOME)
    newest = await home.keyed(above=newer)
    await home.until(lambda: home.gmks() == {})

    await home.door.kill()
    assert not home.door_holds(held[second], newest)


@pytest.mark.req("SEC-12", "SEAL-GMK-34", "MC-GMK-18")
async def test_the_lamp_and_the_door_hold_keys_of_the_same_gmk(home: Home) -> None:
    key_id = await home.servers.gms.management.make_key([CREW])
    await home.answered(key_id, KEY, HOME, LAMP)
    version = await home.keyed()
    gmk = home.gmks()[key_id]
    await home.door.kill()
    assert home.door_holds(gmk, version)
    assert await home.gateway.stop() == 0
    assert "Traceback" not in home.gateway.log.read_text()
    rsks = records.load_rsks(KeyStore(home.lamp.nvs.snapshot())).values()
    kept = [path.read_bytes() for path in home.gateway.state.rglob("*") if path.is_file()]
    assert rsks and kept and not any(rsk in octets for rsk in rsks for octets in kept)


async def test_a_board_that_gets_its_next_keys_keeps_its_gmks(home: Home, tmp_path: Path) -> None:
    key_id = await home.servers.gms.management.make_key([CREW])
    await home.answered(key_id, KEY, LAMP)
    await home.lamp.kill()
    answer = await provision(home, tmp_path / "again")
    assert LAMP in answer and "mpremote run" in answer
    [now, following] = sorted(records.load_rsks(KeyStore(home.lamp.nvs.snapshot())))
    assert following == now + 1 and sorted(home.gmks()) == [key_id]
    async with powered(home.lamp):
        await home.lamp.event("session")
        there = False
        async with asyncio.timeout(180):
            while not there:  # it says so when it has looked for its gateway
                answered = await asyncio.to_thread(keycast, "seal", "boards", "--json", *home.config)
                [shown] = json.loads(said(answered))
                there = shown["there"]
        assert (shown["pne_id"], shown["user"]) == ("lamp", LAMP)
        assert f"{datetime.datetime.fromisoformat(shown['keys_end']):%Y-%m-%d %H:%M} UTC" in answer
        assert "lamp" in said(await asyncio.to_thread(keycast, "seal", "boards", *home.config))
        second = await home.servers.gms.management.make_key([CREW])
        await home.answered(second, KEY, LAMP)
    assert sorted(home.gmks()) == sorted([key_id, second])


async def test_a_gateway_that_dies_while_the_board_works_has_its_answer_afterwards(home: Home) -> None:
    key_id = await home.servers.gms.management.make_key([CREW])
    assert await home.lamp.ended(60) == virtual_board.RESET_CODE  # to open the message with its whole heap
    await home.gateway.kill()
    await home.until(lambda: key_id in home.gmks())
    await home.gateway.start()
    await home.answered(key_id, KEY, LAMP)
    assert (await home.gateway.ask("status"))["counters"]["val.answers.accepted"] >= 1
