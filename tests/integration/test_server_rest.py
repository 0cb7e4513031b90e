"""The REST interface of a CPNS Server over real sockets: what each resource does, and what is refused."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import messages, numbers
from key_servers.cpns_server.operators.access import Scope
from key_servers.cpns_server.operators.commands import COMMANDS
from key_servers.cpns_server.rest import document
from key_servers.cpns_server.rest.door import BODY_MAX
from key_servers.cpns_server.rest.paths import ROOT_PATH
from key_servers.cpns_server.rest.rates import RequestRate
from key_servers.cpns_server.values import Moment
from tests.integration.rest_world import PATH, SG, RestWorld, rest_world
from tests.unit.postgres_server import postgres

DAY_S = 86400

REFUSED: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", "groups", {"data": b"{"}, 400, "malformed"),
    ("POST", "groups", {"data": b"\xff"}, 400, "malformed"),
    ("POST", "groups", {"data": b"[" * 50_000}, 400, "malformed"),
    ("POST", "groups", {"data": b""}, 400, "malformed"),
    ("POST", "groups", {"data": b'{"sg_id": "\\ud800"}'}, 400, "malformed"),
    ("POST", "groups", {"json": {}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "colour": 1}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x" * 65}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "period_s": "60"}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "period_s": True}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "period_s": 10**30}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "policy": "shut"}}, 400, "malformed"),
    ("POST", "groups", {"json": {"sg_id": "x", "period_s": 59}}, 409, "not-allowed"),
    ("POST", "groups", {"json": {"sg_id": "a b"}}, 409, "not-allowed"),
    ("POST", "groups", {"json": {"sg_id": "a\u200bb"}}, 422, "malformed-message"),
    ("POST", "groups", {"json": {"sg_id": "a\0b"}}, 422, "malformed-message"),
    ("POST", "groups", {"json": {"sg_id": SG}}, 409, "not-allowed"),
    ("POST", "groups", {"json": {"sg_id": "x", "open_to": ["attic"]}}, 404, "unknown"),
    ("POST", "groups", {"data": b"x" * (BODY_MAX + 1)}, 413, "too-large"),
    ("POST", "groups", {"data": bytes(1024 * 1024)}, 413, "too-large"),
    ("POST", "groups", {"data": b"<a/>", "headers": {"Content-Type": "application/xml"}}, 415, "not-json"),
    ("POST", f"{PATH}/update", {"json": {"key": "00"}}, 400, "malformed"),
    ("POST", f"{PATH}/update", {"headers": {"Idempotency-Key": "x" * 65}}, 400, "malformed"),
    ("GET", "groups?limit=1", {}, 400, "malformed"),
    ("GET", "audit?limit=0", {}, 400, "malformed"),
    ("GET", "audit?limit=1001", {}, 400, "malformed"),
    ("GET", "audit?before=x", {}, 400, "malformed"),
    ("GET", "groups/attic", {}, 404, "unknown"),
    ("GET", "groups/%00", {}, 422, "malformed-message"),
    ("GET", "groups/" + "x" * 5000, {}, 404, "unknown"),
    ("PUT", f"{PATH}/members/fridge", {}, 404, "unknown"),
    ("DELETE", f"{PATH}/members/fridge", {}, 404, "not-member"),
    ("DELETE", "pnes/fridge", {}, 404, "unknown"),
    ("POST", "gateways/gw.attic/block", {}, 404, "unknown"),
    ("POST", f"{PATH}/confirm-members", {"json": {}}, 409, "not-allowed"),
    ("POST", "restore", {"json": {"epochs": 17}}, 400, "malformed"),
    ("GET", "nothing", {}, 404, "no-resource"),
    ("GET", "groups/../../../etc/passwd", {}, 404, "no-resource"),
    ("PUT", "groups", {}, 405, "no-method"),
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RestWorld]:
    async with rest_world(tmp_path) as opened:
        yield opened


async def join(world: RestWorld, pne_id: str) -> None:
    fields = {messages.PNE_ID: pne_id, messages.SG_ID: SG, messages.PN_ID: "home"}
    await world.server.handle("gw.home", messages.encode(numbers.JOIN_REQUEST, fields))


async def test_groups_from_their_making_to_their_end(world: RestWorld) -> None:
    status, view = await world.ask("POST", "groups", {"sg_id": "home/doors", "open_to": ["home"], "period_s": 3600})
    assert (status, view["version_text"], view["open_to"], view["period_s"]) == (201, "0.1", ["home"], 3600)
    status, found = await world.ask("GET", "groups", token="read")
    assert (status, [each["sg_id"] for each in found["groups"]]) == (200, ["home/doors", SG])
    status, view = await world.ask("PATCH", "groups/home%2Fdoors", {"rekey_on_join": False, "batching_s": 5})
    assert (status, view["rekey_on_join"], view["batching_s"], view["period_s"]) == (200, False, 5, 3600)
    assert await world.ask("POST", "groups/home%2Fdoors/update") == (200, {"version": 2})
    assert await world.ask("DELETE", "groups/home%2Fdoors") == (204, None)
    assert (await world.ask("DELETE", "groups/home%2Fdoors"))[0] == 404


async def test_members_and_deliveries_of_a_group(world: RestWorld) -> None:
    await join(world, "lamp")
    status, found = await world.ask("GET", f"{PATH}/members", token="read")
    assert status == 200 and [(each["pne_id"], each["state"]) for each in found["members"]] == [("lamp", "member")]
    status, found = await world.ask("GET", f"{PATH}/deliveries", token="read")
    assert status == 200 and [each["gateway_id"] for each in found["deliveries"]] == ["gw.home"]
    assert await world.ask("DELETE", f"{PATH}/members/lamp") == (200, {"was": "member"})
    assert (await world.ask("DELETE", f"{PATH}/members/lamp"))[0] == 404
    assert await world.ask("PUT", f"{PATH}/members/lamp") == (204, None)
    assert await world.ask("PUT", f"{PATH}/open-to/home") == (204, None)
    assert await world.ask("PUT", f"{PATH}/open-to/home") == (204, None)


async def test_gateways_and_pnes(world: RestWorld) -> None:
    cabin = {"gateway_id": "gw.cabin", "pn_id": "cabin", "credential": world.credential("gw.cabin", "gateway")}
    assert await world.ask("POST", "gateways", cabin | {"is_open": False}) == (201, None)
    assert await world.ask("POST", "pnes", {"pne_id": "door", "pn_id": "cabin"}) == (201, None)
    assert await world.ask("GET", "pnes") == (200, {"pnes": [{"pne_id": "door", "pn_id": "cabin"}]})
    assert await world.ask("POST", "pnes/door/move", {"pn_id": "home"}) == (204, None)
    assert await world.ask("DELETE", "pnes/door") == (204, None)
    new = {"new_gateway_id": "gw2.cabin", "credential": world.credential("gw2.cabin", "gateway")}
    assert await world.ask("POST", "gateways/gw.cabin/replace", new) == (204, None)
    assert await world.ask("POST", "gateways/gw.home/block") == (204, None)
    _, found = await world.ask("GET", "gateways")
    shown = {each["gateway_id"]: (each["pn_id"], each["blocked"]) for each in found["gateways"]}
    assert shown == {"gw.cabin": ("cabin", True), "gw2.cabin": ("cabin", False), "gw.home": ("home", True)}
    assert (await world.ask("POST", "gateways", cabin | {"credential": "00"}))[0] == 409


async def test_alarms_and_a_restore(world: RestWorld) -> None:
    world.server._alarms.set("silent", "gw.home", "", "It is silent.", world.server.now())
    _, found = await world.ask("GET", "alarms", token="read")
    assert [(each["kind"], each["gateway_id"]) for each in found["alarms"]] == [("silent", "gw.home")]
    assert (await world.ask("POST", "alarms/dismiss", {"kind": "quiet"}))[0] == 404
    assert await world.ask("POST", "alarms/dismiss", {"kind": "silent", "gateway_id": "gw.home"}) == (204, None)
    assert await world.ask("POST", "restore", {}) == (200, {"held": [SG]})
    status, told = await world.ask("POST", f"{PATH}/confirm-members", {"expel": []})
    assert (status, told["version"] >> 16) == (200, 1)
    status, told = await world.ask("GET", "status", token="read")
    assert (status, told["alarms"], told["counters"]["rest_refused.unknown"]) == (200, [], 1)
    status, told = await world.ask("GET", "credential", token="read")
    assert (status, bytes.fromhex(told["credential"])) == (200, world.server.credential())


async def test_what_was_done_over_rest_is_in_the_audit_log(world: RestWorld) -> None:
    await world.ask("POST", f"{PATH}/update", token="operate")
    await world.ask("POST", "groups/attic/update", token="operate")
    await world.ask("POST", f"{PATH}/update", token="read")
    assert world.commands() == [
        ("operate.operator", "group.update", "done"),
        ("operate.operator", "group.update", "unknown"),
        ("read.operator", "group.update", "not-permitted"),
    ]
    assert (await world.ask("GET", "audit", token="operate"))[0] == 403
    status, page = await world.ask("GET", "audit?limit=1")
    assert (status, [each["entry"] for each in page["entries"]]) == (200, [3])
    _, page = await world.ask("GET", "audit?limit=1&before=3")
    assert page["entries"][0]["arguments"] == {"sg_id": "attic"}


async def test_a_command_wants_its_scope_and_a_token(world: RestWorld) -> None:
    before = world.server.list_groups()
    for command in (each for each in COMMANDS if each.path):
        path = command.path.format(**dict.fromkeys(command.in_path, "x"))
        for lower in (each for each in Scope if not each.includes(command.scope)):
            assert (await world.ask(command.verb, path, token=lower))[0] == 403, command.name
        for wrong in ("", "x", "0" * 12 + "." + "0" * 64, world.token["admin"][:-1] + "x"):
            status, told = await world.ask(command.verb, path, token=wrong)
            assert (status, told["code"]) == (401, "not-authorised"), command.name
    assert world.server.list_groups() == before


async def test_a_token_ends_with_its_time_and_with_its_operator(
    world: RestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await world.ask("GET", "groups"))[0] == 200
    world.operator.revoke_token("read.operator")
    assert (await world.ask("GET", "groups", token="read"))[0] == 401
    now = world.server.now()
    monkeypatch.setattr(world.server, "now", lambda: Moment(now.monotonic, now.unix + 365 * DAY_S))
    assert (await world.ask("GET", "groups"))[0] == 401
    assert world.server.counters()["rest_refused.unauthenticated"] == 2


async def test_what_is_refused_has_a_code_and_a_sentence_and_changes_nothing(world: RestWorld) -> None:
    before = world.server.list_groups(), world.server.gateways(), world.server.pnes()
    for verb, path, how, status, code in REFUSED:
        headers = {"Content-Type": "application/json"} if "data" in how else {}
        body, more = how.get("json"), {name: value for name, value in how.items() if name == "data"}
        counted = world.server.counters().get(f"rest_refused.{code}", 0)
        told = await world.ask(verb, path, body, headers=headers | how.get("headers", {}), **more)
        assert (told[0], told[1]["code"], set(told[1])) == (status, code, {"code", "text"}), (verb, path[:80], told)
        assert len(told[1]["text"]) > 10 and world.server.counters()[f"rest_refused.{code}"] == counted + 1
        assert (world.server.list_groups(), world.server.gateways(), world.server.pnes()) == before, (verb, path[:80])


async def test_a_long_key_is_not_sent_back(world: RestWorld) -> None:
    status, told = await world.ask("POST", "groups", {"sg_id": "x", "y" * 200_000: 1})
    assert (status, told["code"]) == (400, "malformed") and len(told["text"]) < 400


async def test_an_xml_bomb_is_no_json(world: RestWorld) -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>'
    told = await world.ask("POST", "groups", data=bomb, headers={"Content-Type": "application/json"})
    assert (told[0], told[1]["code"]) == (400, "malformed")


async def test_a_request_that_is_repeated_is_carried_out_once(world: RestWorld) -> None:
    again = {"headers": {"Idempotency-Key": "a"}}
    first = await world.ask("POST", f"{PATH}/update", **again)
    assert await world.ask("POST", f"{PATH}/update", **again) == first == (200, {"version": 2})
    made = await world.ask("POST", "groups", {"sg_id": "home/doors"}, headers={"Idempotency-Key": "b"})
    assert await world.ask("POST", "groups", {"sg_id": "home/doors"}, headers={"Idempotency-Key": "b"}) == made
    assert (await world.ask("POST", "groups", {"sg_id": "home/x"}, headers={"Idempotency-Key": "b"}))[0] == 409
    assert [each.sg_id for each in world.server.list_groups()] == ["home/doors", SG]


async def test_a_token_that_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    async with rest_world(tmp_path, {scope: RequestRate(1, 2) for scope in Scope}) as world:
        for _ in range(2):
            assert (await world.ask("GET", "groups"))[0] == 200
        url = f"{world.rest.urls[0]}{ROOT_PATH}groups"
        headers = {"Authorization": f"Bearer {world.token['admin']}"}
        async with world.http.get(url, headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (429, "too-many")
            assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert (await world.ask("POST", f"{PATH}/update"))[0] == 200, "another scope has its own rate"
        assert (await world.ask("GET", "groups", token="read"))[0] == 200, "another token has its own rate"


@pytest.mark.real_time
async def test_a_lost_database_answers_503_with_nothing_half_done(tmp_path: Path) -> None:
    database = tmp_path / "postgres"
    database.mkdir()
    with postgres(database) as url:
        stack = rest_world(tmp_path, database_url=url)
        world = await stack.__aenter__()
        assert (await world.ask("POST", f"{PATH}/update"))[0] == 200
    # PostgreSQL has stopped without a word
    try:
        for verb, path, body in (
            ("POST", "groups", {"sg_id": "home/doors"}),
            ("POST", f"{PATH}/update", None),
            ("GET", "groups", None),
            ("GET", "audit", None),
        ):
            status, told = await world.ask(verb, path, body)
            assert (status, set(told)) == (503, {"code", "text"})
    finally:
        await stack.__aexit__(None, None, None)


async def test_a_store_that_fails_between_answers_503_and_says_so_in_the_log(
    world: RestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise world.server._store._database._file.failed(OSError("disk is full"))  # type: ignore[attr-defined]

    before = world.server.show_group(SG)
    with monkeypatch.context() as while_full:
        while_full.setattr(world.server._store, "put_group", full)
        status, told = await world.ask("POST", f"{PATH}/update")
        assert (status, told["code"]) == (503, "store-failed") and "disk" not in told["text"]
    assert world.server.show_group(SG) == before
    assert world.commands() == [("admin.operator", "group.update", "store-failed")]


async def test_a_fault_of_the_program_is_told_without_its_text(
    world: RestWorld, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("what nobody may read")

    monkeypatch.setattr(world.server, "update_key", broken)
    status, told = await world.ask("POST", f"{PATH}/update")
    assert (status, told["code"]) == (500, "fault")
    assert "RuntimeError at test_server_rest.py" in caplog.text and "nobody" not in caplog.text + told["text"]
    assert world.commands() == [("admin.operator", "group.update", "fault")]


async def test_the_document_names_every_resource(world: RestWorld) -> None:
    status, told = await world.ask("GET", "openapi.json", token="read")
    assert (status, told) == (200, json.loads(json.dumps(document.made()))) and told["openapi"].startswith("3.1")
    operations = {each["operationId"] for path in told["paths"].values() for each in path.values()}
    assert operations == {each.name for each in COMMANDS if each.path} | {"document"}
    text = json.dumps(told)
    assert all(f"#/components/schemas/{name}" in text for name in told["components"]["schemas"])


CHECKED = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 422]  # 422: which characters a name may have is no pattern
"""


@pytest.mark.real_time
async def test_schemathesis_finds_nothing_that_the_document_does_not_say(world: RestWorld, tmp_path: Path) -> None:
    """Requests that the document allows, and others, each against every check; the same ones in each run."""
    (tmp_path / "checked.toml").write_text(CHECKED)
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("--config-file", str(tmp_path / "checked.toml"), "run", f"{world.rest.urls[0]}{ROOT_PATH}openapi.json"),
        *("--header", f"Authorization: Bearer {world.token['admin']}"),
        *(
            "--seed",
            "1",
            "--phases",
            "coverage,fuzzing",
            "--max-examples",
            "3",
            "--generation-database",
            "none",
            "--no-color",
        ),
        # a deleted group is shown until all gateways know
        *("--exclude-checks", "use_after_free", "--suppress-health-check", "all"),
    ]
    run = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await run.communicate()
    assert run.returncode == 0, said.decode()[-3000:]
    assert len(world.server.audit.page(1000)) > 100, "it has reached the commands"
