"""A GMK becomes the Group Key of a Service Group in the PN: a real PN GW, boards that hold GKDKs, a real VAL client."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cpns import messages, numbers
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.ports import NoAnswer
from gateway_agent.val_client.bridged_groups import BridgedGroups, group_key
from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_store import GmkStore
from gateway_agent.val_client.uplink import MappedGroup, ValClientUplink
from mikey_sakke.group_configuration import REVOCATION
from tests.unit.gateway_world import PN, Server, World
from tests.unit.seal_world import CREW, GMS, NOW, Clock, KmsSecrets, client_of, notice, profile

SG = f"crew.{PN}"
LAMP, DOOR, RADIO = "lamp", "door", "radio"


@pytest.fixture(scope="module")
def kms() -> KmsSecrets:
    return KmsSecrets()


class Above:
    """Stands where `gateway_world` has its CPNS Server."""

    def __init__(self, uplink: ValClientUplink) -> None:
        self.homes: dict[str, World] = {}
        self.uplink = uplink

    async def answer(self, pn_id: str, message: bytes) -> bytes:
        return await self.uplink.request(message)


class Home:
    """One gateway that is a VAL client."""

    def __init__(self, kms: KmsSecrets, folder: Path, server: Any = None, **mapping: Any) -> None:
        self.kms = kms
        self.folder = folder
        self.clock = Clock()
        self.client: ValClient
        self.gmks: GmkStore
        self.client, self.gmks = client_of(
            kms, folder, self.clock, changed=lambda groups: self.uplink.gmks_changed(groups)
        )
        self.client.apply_profile(profile(crew=GMS))
        self.groups = BridgedGroups(folder / "groups.sqlite3")
        mappings = [MappedGroup(CREW, SG, **mapping)]
        self.uplink = ValClientUplink(self.client, self.groups, PN, mappings, self.handle_server, server)
        self.world = World(folder / "gw", server=Above(self.uplink))  # type: ignore[arg-type]
        self.is_cut = False

    async def handle_server(self, message: bytes) -> bytes:
        if self.is_cut:
            raise NoAnswer("the PN GW does not answer")
        return await self.world.gateway.handle_server(message)

    async def start(self) -> "Home":
        await self.world.start()
        self.uplink.start()
        return self

    async def close(self) -> None:
        await self.uplink.close()
        await self.world.close()
        self.groups.close()
        self.gmks.close()

    async def gmk(self, key_id: int = 1, **more: Any) -> bytes:
        gmk = secrets.token_bytes(16)
        octets = self.kms.i_message(gmk=gmk, key_id=bytes([1, 0, 0, key_id]), **more)
        response = await self.client.take(notice(octets))
        assert response.code == ""
        return gmk

    async def holds(self, pne_id: str, version: int, gmk: bytes) -> None:
        await self.world.until(lambda: version in self.world.boards[pne_id].keys.get(SG, {}))
        assert self.world.boards[pne_id].keys[SG][version] == group_key(gmk, SG, version)

    def version(self) -> int:
        return self.groups.get(SG).version


@pytest_asyncio.fixture
async def home(kms: KmsSecrets, tmp_path: Path) -> AsyncIterator[Home]:
    made = await Home(kms, tmp_path).start()
    yield made
    await made.close()


@pytest.mark.req("SEC-12")
async def test_a_gmk_reaches_the_boards_as_the_group_key(home: Home) -> None:
    for pne_id in (LAMP, DOOR, RADIO):
        await home.world.board(pne_id, SG)
    gmk = await home.gmk()
    for pne_id in (LAMP, DOOR, RADIO):
        await home.holds(pne_id, 1, gmk)
    assert len(home.world.air) >= 1
    for octets in [*home.world.air, *(path.read_bytes() for path in (home.folder / "gw").rglob("*") if path.is_file())]:
        assert gmk not in octets, "the GMK itself must not leave the client"


async def test_a_key_that_was_there_first_goes_to_the_first_member(home: Home) -> None:
    gmk = await home.gmk()
    await home.world.until(lambda: home.groups.get(SG).settled and home.version() == 1)
    await home.world.board(LAMP, SG)
    await home.holds(LAMP, 2, gmk)


@pytest.mark.req("SEC-01", "SEC-12")
async def test_who_leaves_is_shut_out_by_a_new_version_of_the_same_gmk(home: Home) -> None:
    for pne_id in (LAMP, DOOR):
        await home.world.board(pne_id, SG)
    gmk = await home.gmk()
    await home.holds(DOOR, 1, gmk)
    leaver = home.world.boards[DOOR]
    await leaver.leave(SG)
    await home.holds(LAMP, 2, gmk)
    assert 2 not in leaver.keys[SG]
    assert all(leaver.opens(datagram, SG) != group_key(gmk, SG, 2) for datagram in home.world.air)
    assert group_key(leaver.keys[SG][1], SG, 2) != group_key(gmk, SG, 2)


@pytest.mark.req("SEAL-GMK-09", "SEC-03", "SEC-05")
@pytest.mark.req("SEC-31")
async def test_a_name_that_comes_back_where_there_is_no_cpns_server_joins_anew(home: Home) -> None:
    await home.world.board(LAMP, SG)
    home.world.gateway.administration.retire_pne(LAMP, Cause.LOST)
    home.world.gateway.administration.register_pne(LAMP)
    assert (await home.world.boards[LAMP].join(SG))[messages.RESULT] == numbers.RESULT_SUCCESS
    assert not home.world.store.pn.pending_retirements()
    with home.world.store.transaction():
        home.world.store.inventory.remove_member(SG, LAMP)  # as if the answer to the join had been lost
    home.world.gateway.administration.retire_pne(LAMP, Cause.LOST)
    await home.world.gateway.tick()
    assert LAMP not in home.groups.members(SG)


async def test_the_next_gmk_is_the_next_version_and_old_ones_end_at_once(home: Home) -> None:
    await home.world.board(LAMP, SG)
    await home.gmk(1)
    await home.world.until(lambda: home.groups.get(SG).settled)
    home.clock.unix += 1
    second = await home.gmk(2, now=NOW + 1)
    await home.holds(LAMP, 2, second)
    stored = home.world.store.group_keys.newest(SG)
    assert stored.reason == numbers.REASON_LEAVE


@pytest.mark.req("SEAL-GMK-09")
async def test_a_gmk_whose_activation_lies_ahead_waits(home: Home) -> None:
    await home.world.board(LAMP, SG)
    first = await home.gmk(1)
    await home.holds(LAMP, 1, first)
    ahead = await home.gmk(2, activation=NOW + 50)
    await home.uplink.deliver()
    assert home.version() == 1
    home.clock.unix = NOW + 50
    await home.uplink.deliver()
    await home.holds(LAMP, 2, ahead)


@pytest.mark.req("SEAL-GMK-46", "SEAL-GMK-47")
async def test_removal_of_the_gateway_ends_the_group_in_the_pn(home: Home) -> None:
    await home.world.board(LAMP, SG)
    gmk = await home.gmk()
    await home.holds(LAMP, 1, gmk)
    home.client.apply_profile(profile(2))
    await home.world.until(lambda: home.groups.get(SG).settled and not home.groups.get(SG).key_id)
    assert home.world.store.group_keys.newest(SG) is None
    board = home.world.boards[LAMP]
    codes = lambda: [code for code, _ in board.heard_unicast]  # noqa: E731
    await home.world.until(lambda: numbers.DELETE_SERVICE_GROUP_REQUEST in codes(), timeout=5)
    answer = await board.join(SG)
    assert answer[messages.RESULT] == numbers.RESULT_FAIL


@pytest.mark.req("SEAL-GMK-47", "SEC-03")
async def test_back_in_the_group_versions_go_on(home: Home) -> None:
    await home.world.board(LAMP, SG)
    await home.gmk(1)
    await home.world.until(lambda: home.version() == 1 and home.groups.get(SG).settled)
    home.client.apply_profile(profile(2))
    await home.world.until(lambda: home.version() == 2 and home.groups.get(SG).settled)
    home.client.apply_profile(profile(3, crew=GMS))
    await home.world.board(LAMP, SG)
    home.clock.unix += 1
    again = await home.gmk(2, now=NOW + 1)
    await home.world.until(lambda: home.version() >= 3 and home.groups.get(SG).settled)
    await home.holds(LAMP, home.version(), again)


@pytest.mark.req("MC-GMK-22")
async def test_a_revoked_gmk_ends_in_the_pn_too(home: Home) -> None:
    await home.world.board(LAMP, SG)
    gmk = await home.gmk()
    await home.holds(LAMP, 1, gmk)
    octets = home.kms.i_message(gmk=gmk, key_id=bytes([1, 0, 0, 1]), status=0)
    assert (await home.client.take(notice(octets, purpose=REVOCATION, name="n2"))).code == ""
    await home.world.until(lambda: home.world.store.group_keys.newest(SG) is None)


async def test_only_pnes_of_the_mapping_may_join(kms: KmsSecrets, tmp_path: Path) -> None:
    home = await Home(kms, tmp_path, pnes=frozenset({LAMP})).start()
    await home.world.board(LAMP, SG)
    stranger = await home.world.board(DOOR)
    answer = await stranger.join(SG)
    assert answer[messages.RESULT] == numbers.RESULT_FAIL and "may not join" in answer[messages.ERROR_TEXT]
    answer = await stranger.ask(numbers.CREATE_SERVICE_GROUP_REQUEST, {messages.PNE_ID: DOOR, messages.SG_ID: SG})
    assert answer[messages.RESULT] == numbers.RESULT_FAIL
    await home.close()


@pytest.mark.req("SEC-26")
async def test_a_group_whose_keys_this_gateway_makes_is_not_end_to_end(home: Home) -> None:
    board = await home.world.board(LAMP)
    wish = {messages.PNE_ID: LAMP, messages.SG_ID: SG, messages.TRUST: numbers.TRUST_END_TO_END}
    answer = await board.ask(numbers.JOIN_REQUEST, wish)
    assert answer[messages.ERROR] == numbers.ERROR_NOT_ALLOWED and LAMP not in home.groups.members(SG)


async def test_what_is_carried_for_boards_goes_to_the_cpns_server(kms: KmsSecrets, tmp_path: Path) -> None:
    got = []

    async def server(message: bytes) -> bytes:
        got.append(message)
        return b""

    response = {messages.RETURN: "1", messages.PNID: PN, messages.MAC: bytes(8), messages.SGID: "alarm"}
    carried = messages.encode(numbers.S_GROUP_KEY_DELIVERY_RESPONSE, response)
    home = Home(kms, tmp_path, server)
    assert await home.uplink.request(carried) == b"" and got == [carried]
    await home.close()


async def test_what_was_not_acknowledged_is_delivered_after_a_restart(home: Home) -> None:
    await home.world.board(LAMP, SG)
    home.is_cut = True
    gmk = await home.gmk()
    await home.world.until(lambda: home.version() == 1)
    await home.uplink.close()
    assert not home.groups.get(SG).settled
    home.is_cut = False
    home.uplink.start()
    await home.holds(LAMP, 1, gmk)


@pytest.mark.req("SEC-02", "SEC-03")
async def test_after_a_restore_versions_begin_a_new_epoch(home: Home) -> None:
    await home.world.board(LAMP, SG)
    gmk = await home.gmk()
    await home.holds(LAMP, 1, gmk)
    await home.uplink.close()
    home.groups.begin_epoch()
    home.uplink.start()
    await home.holds(LAMP, 0x10001, gmk)


async def test_other_service_groups_go_to_the_cpns_server(kms: KmsSecrets, tmp_path: Path) -> None:
    server = Server()

    async def ask_server(message: bytes) -> bytes:
        return await server.answer(PN, message)

    home = await Home(kms, tmp_path, ask_server).start()
    server.homes[PN] = home.world
    board = await home.world.board(LAMP, SG, "light")
    await server.rekey("light")
    gmk = await home.gmk()
    await home.holds(LAMP, 1, gmk)
    await home.world.until(lambda: 65537 in board.keys.get("light", {}))
    version_list = messages.encode(numbers.VERSION_LIST_REQUEST, {messages.PN_ID: PN})
    _, answer = messages.decode(await home.uplink.request(version_list))
    assert sorted(answer[messages.VERSION_ENTRY]) == sorted([(1, SG), (65537, "light")])
    asked = [fields for code, fields in server.heard if code == numbers.VERSION_LIST_REQUEST]
    assert all(SG not in str(fields.get(messages.VERSION_ENTRY)) for fields in asked)
    await home.close()


async def test_without_a_cpns_server_other_groups_get_no_answer(home: Home) -> None:
    message = messages.encode(
        numbers.JOIN_REQUEST, {messages.PNE_ID: LAMP, messages.SG_ID: "light", messages.PN_ID: PN}
    )
    with pytest.raises(NoAnswer):
        await home.uplink.request(message)


async def nobody(message: bytes) -> bytes:
    raise AssertionError("nothing is delivered before the start")


def test_a_group_is_mapped_once(kms: KmsSecrets, tmp_path: Path) -> None:
    client, store = client_of(kms, tmp_path, Clock())
    groups = BridgedGroups(tmp_path / "groups")
    with pytest.raises(ValueError, match="twice"):
        ValClientUplink(client, groups, PN, [MappedGroup(CREW, SG), MappedGroup(CREW, "other")], nobody)
    store.close()
    groups.close()


async def test_joins_come_while_keys_go_out(home: Home) -> None:
    await home.gmk()
    await asyncio.gather(*(home.world.board(f"b{number}", SG) for number in range(8)))
    await home.world.until(lambda: home.groups.get(SG).settled and len(home.groups.members(SG)) == 8, timeout=5)
    newest = home.version()
    await home.world.until(
        lambda: all(newest in board.keys.get(SG, {}) for board in home.world.boards.values()), timeout=5
    )
