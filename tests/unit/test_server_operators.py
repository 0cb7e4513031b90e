"""Commands of operators: each is in the audit log, once, without a secret; policies of groups that change later."""

import contextlib
import inspect
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cpns import messages, numbers
from cpns.errors import MalformedMessage, NotAllowed, Unknown
from key_servers.cpns_server.app import CpnsServer
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.operators.access import Scope
from key_servers.cpns_server.operators.audit_log import DONE, UNKNOWN, EarlierRequest
from key_servers.cpns_server.operators.commands import BY_NAME, COMMANDS
from key_servers.cpns_server.operators.desk import LEFT_OUT, OperatorDesk, UnfinishedRequest
from key_servers.cpns_server.operators.operator import Operator
from key_servers.cpns_server.rest.rates import RequestRate, RequestRates
from key_servers.cpns_server.sqlite_database import FILE_NAME
from key_servers.errors import StoreFailed
from key_servers.https import tokens
from key_servers.known_names import nearest
from tests.unit.cpns_server_parts import HandClock, House
from tests.unit.server_databases import ServerPlace, emptied, place, postgres_url

__all__ = ["place", "postgres_url"]

SG = "home/lights"


@dataclass
class Desk:
    """The desk of a Server of its own."""

    server: CpnsServer
    clock: HandClock

    def __post_init__(self) -> None:
        self.operator = Operator(self.server)
        self._desk = OperatorDesk(self.server, self.operator)

    async def do(self, name: str, who: str = "alice", key: str = "", **arguments: Any) -> Any:
        return await self._desk.perform(BY_NAME[name], arguments, who, "rest", key)

    def log(self) -> list[tuple[str, str, str]]:
        return [(each.operator, each.command, each.result) for each in reversed(self.server.audit.page(1000))]


@pytest.fixture
async def desk(place: ServerPlace) -> AsyncIterator[Desk]:
    clock = HandClock()
    config = ServerConfig(listen=["127.0.0.1"], port=0)
    server = await CpnsServer.open(place.folder, config, clock=clock, database_url=place.url)
    server.register_gateway("gw", "home", is_open=True)
    yield Desk(server, clock)
    await server.close()


def test_every_command_is_a_method_that_takes_what_the_table_says() -> None:
    assert len(BY_NAME) == len(COMMANDS)
    for command in COMMANDS:
        method = getattr(Operator, command.method, None)
        if method is None:
            assert command.method == "back_up"
            continue
        taken = inspect.signature(method).parameters
        is_free = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in taken.values())
        given = set(command.in_path)
        for model in filter(None, (command.body, command.query)):
            given |= set(model.model_fields)
        assert is_free or given <= set(taken), command.name
        assert inspect.getdoc(method), command.name


async def test_a_command_is_in_the_log_with_who_what_when_and_what_came_of_it(desk: Desk) -> None:
    await desk.do("group.create", sg_id=SG)
    desk.clock.advance(60)
    with pytest.raises(NotAllowed):
        await desk.do("group.create", "bob", sg_id=SG)
    await desk.do("group.list")
    assert desk.log() == [("alice", "group.create", DONE), ("bob", "group.create", "not-allowed")]
    newest, oldest = desk.server.audit.page(10)
    assert newest.begun_at - oldest.begun_at == 60 and newest.ended_at == newest.begun_at
    assert (newest.door, newest.arguments) == ("rest", {"sg_id": SG})


async def test_a_secret_is_not_in_the_log(desk: Desk) -> None:
    key = "a5" * 16
    await desk.do("server.admit-board", pne_id="lamp", pn_id="home", entity_user_key=key)
    token = await desk.do("server.add-token", operator="carol", scope="read", days=1)
    assert desk.server.audit.page(10)[-1].arguments["entity_user_key"] == LEFT_OUT
    text = json.dumps([each.arguments for each in desk.server.audit.page(10)])
    assert key not in text and token.partition(".")[2] not in text


async def test_the_log_has_pages(desk: Desk) -> None:
    for number in range(5):
        await desk.do("group.create", sg_id=f"sg.{number}")
    first = await desk.do("server.audit", limit=2)
    second = await desk.do("server.audit", limit=2, before=first[-1].entry)
    last = await desk.do("server.audit", limit=2, before=second[-1].entry)
    assert [each.arguments["sg_id"] for each in (*first, *second, *last)] == [f"sg.{n}" for n in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entry SET operator = 'mallory'",
        "DELETE FROM audit_entry",
        "UPDATE audit_result SET result = 'done'",
        "DELETE FROM audit_result",
    ],
)
async def test_nothing_in_the_log_can_be_changed(desk: Desk, statement: str) -> None:
    with pytest.raises(NotAllowed):
        await desk.do("group.create", sg_id="a b")
    before = desk.log()
    with pytest.raises(StoreFailed), desk.server._store.transaction():
        desk.server._store._write(statement)
    assert desk.log() == before and not desk.server._store.trouble


async def test_a_command_that_cannot_be_written_down_is_not_carried_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise StoreFailed("The disk is full.")

    monkeypatch.setattr(desk.server.audit, "begin", full)
    with pytest.raises(StoreFailed):
        await desk.do("group.create", sg_id=SG)
    assert desk.server.list_groups() == ()


async def test_a_result_that_could_not_be_stored_is_stored_with_the_next_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreFailed("The disk is full.")

    with monkeypatch.context() as while_full:
        while_full.setattr(desk.server.audit, "_write_result", full)
        await desk.do("group.create", sg_id=SG, key="1")
    assert desk.log() == [("alice", "group.create", UNKNOWN)]
    with pytest.raises(UnfinishedRequest):
        await desk.do("group.create", sg_id=SG, key="1")
    await desk.do("group.update", sg_id=SG)
    assert desk.log() == [("alice", "group.create", DONE), ("alice", "group.update", DONE)]
    assert (await desk.do("group.create", sg_id=SG, key="1"))["sg_id"] == SG


async def test_a_request_that_is_repeated_is_carried_out_once(desk: Desk) -> None:
    await desk.do("group.create", sg_id=SG)
    version = await desk.do("group.update", sg_id=SG, key="k")
    assert await desk.do("group.update", sg_id=SG, key="k") == version
    assert await desk.do("group.update", "bob", sg_id=SG, key="k") == version + 1, "the key of somebody else"
    with pytest.raises(NotAllowed, match="another request"):
        await desk.do("group.delete", sg_id=SG, key="k")
    assert desk.server.show_group(SG).version == version + 1
    with pytest.raises(Unknown):
        await desk.do("group.update", sg_id="attic", key="2")
    await desk.do("group.create", sg_id="attic")
    assert await desk.do("group.update", sg_id="attic", key="2"), "a refusal is no answer for ever"


def test_two_processes_write_one_log_and_carry_out_a_request_once(tmp_path: Path, postgres_url: str) -> None:
    emptied(postgres_url)
    place = ServerPlace(tmp_path, postgres_url)
    stores = [place.store(), place.store()]
    begun: list[int | EarlierRequest] = []

    def write(number: int) -> None:
        log = stores[number].audit
        for key in range(20):
            entry = log.begin("alice", "rest", "group.update", {}, str(key), 1)
            begun.append(entry)
            if isinstance(entry, int):
                log.end(entry, DONE, "1", 2)

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, range(2)))
    entries = [each for each in begun if isinstance(each, int)]
    assert len(begun) == 40 and sorted(entries) == list(range(1, 21))
    assert [each.result for each in stores[0].audit.page(100)] == [DONE] * 20
    for store in stores:
        store.close()


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
async def test_text_that_no_database_stores_is_refused(desk: Desk, text: str) -> None:
    for arguments in ({"sg_id": text}, {"sg_id": "attic", "open_to": [text]}):
        with pytest.raises(MalformedMessage):
            await desk.do("group.create", **arguments)
    assert desk.log() == []


async def test_tokens_of_an_operator(desk: Desk) -> None:
    text = await desk.do("server.add-token", operator="bob", scope="operate", days=2)
    token_id, secret = text.split(".")
    stored, scope = desk.server.tokens.find(token_id) or pytest.fail("not stored")
    now = desk.clock().unix
    assert scope is Scope.OPERATE and tokens.fits(secret, stored, now + 2 * 86400)
    assert not tokens.fits(secret, stored, now + 2 * 86400 + 1) and secret not in repr(stored)
    assert [(each.operator, each.scope) for each in await desk.do("server.tokens")] == [("bob", "operate")]
    with pytest.raises(NotAllowed, match="scope is one of"):
        await desk.do("server.add-token", operator="bob", scope="root", days=2)
    with pytest.raises(Unknown, match="'bob'"):
        await desk.do("server.revoke-token", operator="bo")
    await desk.do("server.revoke-token", operator="bob")
    assert desk.server.tokens.find(token_id) is None


async def test_a_backup_holds_the_log_and_no_token(desk: Desk, tmp_path: Path) -> None:
    await desk.do("server.add-token", operator="bob", scope="admin", days=2)
    await desk.do("group.create", sg_id=SG)
    restored = tmp_path / "restored"
    restored.mkdir(mode=0o700)
    (restored / FILE_NAME).touch(mode=0o600)
    (restored / FILE_NAME).write_bytes(desk.server.images()[FILE_NAME])
    store = ServerPlace(restored, None).store()
    assert store.tokens.all() == () and len(store.audit.page(10)) == 2
    store.close()


def test_scopes_include_those_before_them() -> None:
    assert [[one.includes(other) for other in Scope] for one in Scope] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_token_has_its_own_rate_for_each_scope() -> None:
    rates = RequestRates({scope: RequestRate(60, 3) for scope in Scope})
    assert [rates.wait_s("a", Scope.READ, 0.0) for _ in range(4)] == [0, 0, 0, 1.0]
    assert rates.wait_s("a", Scope.ADMIN, 0.0) == rates.wait_s("b", Scope.READ, 0.0) == 0
    assert rates.wait_s("a", Scope.READ, 0.5) == 0.5
    assert rates.wait_s("a", Scope.READ, 1.0) == 0 and rates.wait_s("a", Scope.READ, 1.0) == 1.0
    for _ in range(3):  # not more than the burst, however long it waited
        assert rates.wait_s("a", Scope.READ, 1000.0) == 0
    assert rates.wait_s("a", Scope.READ, 1000.0) > 0


async def test_policies_of_a_group_change_later_and_those_left_out_stay(desk: Desk) -> None:
    before = await desk.do("group.create", sg_id=SG, period_s=3600, rekey_on_join=True)
    after = await desk.do("group.policy", sg_id=SG, rekey_on_join=False)
    assert (after.period_s, after.rekey_on_join, after.batching_s) == (3600, False, None)
    after = await desk.do("group.policy", sg_id=SG, period_s=0, batching_s=0.25)
    assert (after.period_s, after.rekey_on_join, after.batching_s) == (0, False, 0.25)
    assert after.version == before.version
    for wrong in ({"period_s": 59}, {"period_s": -1}, {"batching_s": 61}, {"batching_s": -1}):
        with pytest.raises(NotAllowed):
            await desk.do("group.policy", sg_id=SG, **wrong)
    with pytest.raises(Unknown):
        await desk.do("group.policy", sg_id="attic", period_s=0)
    assert desk.server.show_group(SG) == after


async def test_a_new_period_and_batching_hold_from_now_on(tmp_path: Path) -> None:
    house = await House.open(tmp_path, ServerConfig(batching_s=2.0))
    gateway = house.gateway("home")
    await house.create(gateway, "lamp", SG)
    operator = Operator(house.server)
    operator.set_policy(SG, period_s=600)
    version = house.server.show_group(SG).version
    house.clock.advance(601)
    house.server.work()
    assert house.server.show_group(SG).version == version + 1
    operator.set_policy(SG, period_s=0, batching_s=30)
    house.server.expel(SG, "lamp")
    house.clock.advance(29)
    house.server.work()
    assert house.server.show_group(SG).version == version + 1
    house.clock.advance(2)
    house.server.work()
    assert house.server.show_group(SG).version == version + 2
    await house.server.close()


async def test_a_command_costs_no_more_at_a_server_of_many_homes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other requests wait meanwhile, so the number of statements does not grow with homes and groups."""
    rows, counted = desk.server._store._database.rows, [0]

    def counting(*what: Any) -> list[Any]:
        counted[0] += 1
        return rows(*what)

    monkeypatch.setattr(desk.server._store._database, "rows", counting)

    async def cost(name: str, **arguments: Any) -> int:
        counted[0] = 0
        with contextlib.suppress(Unknown):
            await desk.do(name, **arguments)
        return counted[0]

    async def costs() -> list[int]:
        asked: tuple[tuple[str, dict[str, Any]], ...] = (
            ("group.update", {"sg_id": SG}),
            ("group.show", {"sg_id": SG}),
            ("group.open", {"sg_id": SG, "pn_id": "home"}),
            ("group.policy", {"sg_id": SG, "period_s": 0}),
            ("group.delete", {"sg_id": "attic"}),
            ("server.gateways", {}),
            ("server.pnes", {}),
        )
        return [await cost(name, **arguments) for name, arguments in asked]

    await desk.do("group.create", sg_id=SG, open_to=["home"])
    await join(desk.server, "gw", "home", "lamp")
    few = await costs()
    for number in range(20):
        desk.server.register_gateway(f"gw.{number}", f"pn.{number}", is_open=True)
        await desk.do("group.create", sg_id=f"sg.{number}")
        await desk.do("group.open", sg_id=SG, pn_id=f"pn.{number}")
        await join(desk.server, f"gw.{number}", f"pn.{number}", f"lamp.{number}")
    assert await costs() == few
    assert len(desk.server.show_group(SG).deliveries) == 21


def test_a_mistyped_name_is_compared_with_so_many_names_only() -> None:
    assert nearest("lamp.7", ["lamp.07", *map(str, range(900))]) == "Did you mean 'lamp.07'?"
    assert nearest("lamp.7", ["lamp.07", *map(str, range(1000))]) == ""


async def join(server: CpnsServer, gateway_id: str, pn_id: str, pne_id: str) -> None:
    fields = {messages.PNE_ID: pne_id, messages.SG_ID: SG, messages.PN_ID: pn_id}
    answer = await server.handle(gateway_id, messages.encode(numbers.JOIN_REQUEST, fields))
    assert messages.decode(answer)[1][messages.RESULT] == numbers.RESULT_SUCCESS
