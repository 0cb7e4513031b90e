"""Who has no token of the REST interface, or one of too small a scope: what they send changes nothing, shows nothing,
and is quoted in no log.
"""

import asyncio
import gzip
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from http_door import tuning as https_tuning
from http_door.admission import Limits
from key_servers.cpns_server.rest.paths import ROOT_PATH
from tests.integration.rest_world import PATH, SG, RestWorld, rest_world

pytestmark = pytest.mark.real_time


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[RestWorld]:
    async with rest_world(tmp_path, limits=Limits(first_request_s=1.0, idle_s=1.0)) as world:
        yield world


async def raw(world: RestWorld, octets: bytes) -> bytes:
    """What is answered to these octets, until the Server ends the connection."""
    there = urlsplit(world.rest.urls[0])
    reader, writer = await asyncio.open_connection(there.hostname, there.port)
    try:
        writer.write(octets)
        return await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def statuses(answer: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"HTTP/1\.[01] (\d{3})", answer)]


def shown(world: RestWorld) -> Any:
    return world.server.list_groups(), world.server.gateways(), world.server.pnes()


# One request is one request


DOUBTFUL = {
    "both lengths": "Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    "a length with a sign": "Content-Length: +%d\r\n\r\n",
    "a length below zero": "Content-Length: -%d\r\n\r\n",
    "an encoding that is none": "Content-Length: %d\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "a blank before the colon": "Content-Length : %d\r\n\r\n",
    "a folded line": "X: y\r\n Content-Length: %d\r\n\r\n",
    "a bare line feed": "X: y\nContent-Length: %d\r\n\r\n",
    "a chunk of a wrong length": "Transfer-Encoding: chunked\r\nX: %d\r\n\r\n-1\r\n\r\n",
}


@pytest.mark.parametrize("headers", DOUBTFUL.values(), ids=DOUBTFUL.keys())
async def test_no_request_is_hidden_in_the_body_of_another(world: RestWorld, headers: str) -> None:
    """A proxy may see one request where the Server sees two: what it takes for a body must be one, or be refused."""
    hidden = f"DELETE {ROOT_PATH}{PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.token['admin']}\r\n\r\n"
    head = f"GET {ROOT_PATH}groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.token['read']}\r\n"
    before = shown(world)
    answer = await raw(world, (head + headers.replace("%d", str(len(hidden))) + hidden).encode())
    assert shown(world) == before
    assert len(statuses(answer)) <= 2 and set(statuses(answer)) <= {200, 400, 403}


PATHS = [
    f"{ROOT_PATH}../v1/{PATH}",
    f"{ROOT_PATH}%2e%2e/v1/groups",
    f"/{ROOT_PATH}groups",
    f"{ROOT_PATH}groups/",
    f"{ROOT_PATH}groups/home/lights",
    f"{ROOT_PATH}groups/home%252Flights",
    f"{ROOT_PATH}groups/home%2flights/../../gateways",
    f"{ROOT_PATH}groups/%00",
    f"{ROOT_PATH}groups/%ff%fe",
    f"{ROOT_PATH}groups/%",
    f"{ROOT_PATH}groups;x=y",
    f"{ROOT_PATH}GROUPS",
    f"{ROOT_PATH}groups/{'a' * 7000}",
    f"{ROOT_PATH}groups%0d%0aX:%20y",
    f"http://elsewhere.example{ROOT_PATH}nothing",
    "*",
    "/",
    "",
]


@pytest.mark.parametrize("verb", ["DELETE", "POST", "PUT", "PATCH"])
async def test_no_spelling_of_a_path_needs_a_smaller_scope(world: RestWorld, verb: str) -> None:
    before = shown(world)
    rest = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.token['read']}\r\nContent-Length: 2\r\n"
    rest += "Content-Type: application/json\r\nConnection: close\r\n\r\n{}"
    for answer in await asyncio.gather(*(raw(world, f"{verb} {path} {rest}".encode()) for path in PATHS)):
        assert set(statuses(answer)) <= {400, 403, 404, 405}
        assert b"Traceback" not in answer and b"aiohttp" not in answer and b"Python" not in answer
    assert shown(world) == before


@pytest.mark.parametrize(
    "header", ["X-HTTP-Method-Override: DELETE", "X-Original-URL: /cpns/v1/gateways", "X-Method: PUT"]
)
async def test_no_header_changes_what_a_request_is(world: RestWorld, header: str) -> None:
    name, value = header.split(": ")
    status, answer = await world.ask("GET", PATH, token="read", headers={name: value})
    assert status == 200 and answer["sg_id"] == SG


# Who is no operator


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer undefined",
        "Basic {admin}",
        "Bearer {admin}x",
        "Bearer {admin} {admin}",
        "Bearer {upper}",
        "Bearer {id}.",
        "Bearer {id}.{zeros}",
        "bearer\t{admin}",
        "Token {admin}",
        "Bearer \u0967" * 9,
    ],
)
async def test_what_is_nearly_a_token_is_none(world: RestWorld, authorization: str) -> None:
    admin = world.token["admin"]
    words = {"admin": admin, "upper": admin.upper(), "id": admin.partition(".")[0], "zeros": "0" * 64}
    head = f"GET {ROOT_PATH}groups HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization.format(**words)}\r\n\r\n"
    answer = await raw(world, head.encode())
    assert statuses(answer) == [401] and SG.encode() not in answer


@pytest.mark.parametrize("where", ["query", "cookie", "body", "other header"])
async def test_a_token_counts_in_its_header_only_so_that_no_page_in_a_browser_can_send_it(
    world: RestWorld, where: str
) -> None:
    token = world.token["admin"]
    how: dict[str, Any] = {
        "query": {"params": {"access_token": token}},
        "cookie": {"cookies": {"Authorization": f"Bearer {token}", "token": token}},
        "body": {"data": {"access_token": token}},
        "other header": {"headers": {"X-Authorization": f"Bearer {token}", "Proxy-Authorization": f"Bearer {token}"}},
    }[where]
    async with world.http.request("POST", f"{world.rest.urls[0]}{ROOT_PATH}groups", **how) as answer:
        assert answer.status == 401 and token not in await answer.text()
    assert [group.sg_id for group in world.server.list_groups()] == [SG]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_what_a_page_may_send_without_being_asked_is_no_command(world: RestWorld, kind: str) -> None:
    url, headers = f"{world.rest.urls[0]}{ROOT_PATH}groups", {"Authorization": f"Bearer {world.token['admin']}"}
    headers |= {"Content-Type": kind} if kind else {}
    async with world.http.post(
        url, data=json.dumps({"sg_id": "made"}).encode(), headers=headers, skip_auto_headers=["Content-Type"]
    ) as answer:
        assert answer.status in (400, 415)
    assert [group.sg_id for group in world.server.list_groups()] == [SG]


async def test_no_page_of_another_origin_may_read_an_answer(world: RestWorld) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    async with world.http.options(f"{world.rest.urls[0]}{ROOT_PATH}{PATH}", headers=headers) as answer:
        assert answer.status in (401, 403, 404, 405)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    url = f"{world.rest.urls[0]}{ROOT_PATH}groups"
    async with world.http.get(url, headers=headers | {"Authorization": f"Bearer {world.token['read']}"}) as answer:
        assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# Sizes and times


HUGE = {
    "a line": lambda: b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "a header": lambda: b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "many headers": lambda: b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % each for each in range(50_000)) + b"\r\n",
    "a header without end": lambda: b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000,
    "a length": lambda: (
        b"POST /cpns/v1/groups HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n" + b"x" * 100_000
    ),
}


@pytest.mark.parametrize("octets", HUGE.values(), ids=HUGE.keys())
async def test_huge_heads_of_strangers_are_refused_soon(world: RestWorld, octets: Any) -> None:
    answer = await raw(world, octets())
    assert set(statuses(answer)) <= {400, 401, 413, 431} and len(answer) < 4096
    assert (await world.ask("GET", PATH))[0] == 200


async def test_a_body_above_the_limit_is_refused_and_one_that_does_not_come_is_given_up(
    world: RestWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(https_tuning, "REQUEST_TIMEOUT_S", 0.5)
    assert (await world.ask("POST", "groups", {"sg_id": "x" * 300_000}))[0] == 413
    head = f"POST {ROOT_PATH}groups HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.token['admin']}\r\n"
    answer = await raw(world, f"{head}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{{".encode())
    assert statuses(answer)[:1] == [408]
    assert [group.sg_id for group in world.server.list_groups()] == [SG]


async def test_a_body_that_is_small_when_sent_and_large_when_read_is_refused(world: RestWorld) -> None:
    octets = gzip.compress(b'{"sg_id": "' + b"a" * 50_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {world.token['admin']}"}
    async with world.http.post(f"{world.rest.urls[0]}{ROOT_PATH}groups", data=octets, headers=headers) as answer:
        assert answer.status in (400, 413, 415)
    assert [group.sg_id for group in world.server.list_groups()] == [SG]


@pytest.mark.parametrize("depth", [1000, 100_000])
async def test_a_deep_body_is_no_fault_of_the_program(world: RestWorld, depth: int) -> None:
    body = b'{"sg_id": ' + b"[" * depth + b"]" * depth + b"}"
    headers = {"Authorization": f"Bearer {world.token['admin']}", "Content-Type": "application/json"}
    async with world.http.post(f"{world.rest.urls[0]}{ROOT_PATH}groups", data=body, headers=headers) as answer:
        assert answer.status == 400


# Scopes, and what may be seen with which


async def test_a_token_of_scope_read_sees_no_key_and_no_secret(world: RestWorld) -> None:
    euk, credential = "ab" * 16, world.credential("lamp", "pne")
    new = {"pne_id": "lamp", "pn_id": "home", "credential": credential, "entity_user_key": euk}
    assert (await world.ask("POST", "pnes", new))[0] == 201
    keys = [row[0].hex() for row in world.server._store._database.rows("SELECT key FROM group_keys")]
    assert keys
    private = world.server._require_sessions().identity.private_octets().hex()
    document = await world.ask("GET", "openapi.json", token="read")
    paths = [path for path, verbs in document[1]["paths"].items() if "get" in verbs]
    seen = []
    for path in paths:
        path = path.removeprefix(ROOT_PATH).replace("{sg_id}", "home%2Flights").replace("{pne_id}", "lamp")
        seen.append((await world.ask("GET", path, token="admin"))[1])
    told = json.dumps(seen).lower()
    secrets = [*keys, private, euk, *(token.partition(".")[2] for token in world.token.values())]
    assert len(seen) > 5 and not [secret for secret in secrets if secret in told]


async def test_the_audit_log_and_the_log_hold_no_token_and_no_key(
    world: RestWorld, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    euk = "cd" * 16
    token = world.token["admin"]
    await world.ask("POST", "pnes", {"pne_id": "lamp", "pn_id": "home", "entity_user_key": euk})
    await world.ask("POST", "pnes", {"pne_id": token, "pn_id": "nowhere", "entity_user_key": euk})
    await world.ask("POST", "pnes", {"pne_id": "lamp", "pn_id": "home", "entity_user_key": euk + "00"})
    await world.ask("POST", "pnes", {"pne_id": "lamp", "pn_id": "home", "entity_user_key": euk}, token="read")
    await raw(world, b"GET /%s HTTP/1.1\r\nX\r\n\r\n" % token.encode())
    await raw(world, f"GET /\x00{token} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    secret = token.partition(".")[2]
    entries = [entry for entry in world.server.audit.page(1000) if entry.arguments.get("pne_id") != token]
    assert entries and euk not in str(world.server.audit.page(1000)) and secret not in str(entries)
    assert secret not in caplog.text and euk not in caplog.text
    rows = world.server._store._database.rows("SELECT * FROM operator_token")
    assert rows and secret not in str(rows)


async def test_the_same_request_key_does_not_stand_for_another_secret(world: RestWorld) -> None:
    headers = {"Idempotency-Key": "once"}
    first = {"pne_id": "lamp", "pn_id": "home", "entity_user_key": "11" * 16}
    assert (await world.ask("POST", "pnes", first, headers=headers))[0] == 201
    assert (await world.ask("POST", "pnes", first, headers=headers))[0] == 201
    other = first | {"entity_user_key": "22" * 16}
    assert (await world.ask("POST", "pnes", other, headers=headers))[0] == 409


async def test_request_keys_of_one_operator_say_nothing_about_those_of_another(world: RestWorld) -> None:
    headers = {"Idempotency-Key": "once"}
    assert (await world.ask("POST", "groups", {"sg_id": "one"}, headers=headers))[0] == 201
    assert (await world.ask("POST", "groups", {"sg_id": "one"}, token="operate", headers=headers))[0] == 409
    assert (await world.ask("POST", "groups", {"sg_id": "two"}, token="operate", headers=headers))[0] == 201
