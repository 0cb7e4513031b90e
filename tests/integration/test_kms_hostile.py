"""Hostile requests to a KMS and hostile answers to its client: each fault has its own error, and nothing is stored."""

import asyncio
import datetime
import logging
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from gateway_agent.errors import ConfigError
from gateway_agent.val_client.kms_client import KmsClient
from gateway_agent.val_client.server_access import KmsAccess
from http_door import tls
from http_door import tuning as door_tuning
from key_servers.kms import tuning
from mikey_sakke import kms_values
from mikey_sakke.kms_exchange import ROOT_PATH, ntp_text, same_resource
from mikey_sakke.kms_faults import (
    KmsRefused,
    NotTrusted,
    Unreachable,
)
from mikey_sakke.kms_values import ErrorNumber, Response
from mikey_sakke.kms_xml import REQUEST_MAX, RESPONSE_MAX, decode, encode
from tests.integration.kms_https_world import (
    ALICE,
    BOB,
    KMS_URI,
    NOW,
    World,
    error_of,
    refused,
    request_of,
    running,
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running(tmp_path) as started:
        yield started


# what the KMS reads


async def test_a_request_without_a_document_is_answered(world: World) -> None:
    """What one deployed client sends while the security extension is off."""
    token = (await world.access(ALICE)).token.get_secret_value()
    path = f"{ROOT_PATH}keyprov/sip%3Aalice%40example.org"
    status, octets, headers = await world.post(path, None, token)
    response = decode(octets, Response)
    assert status == 200 and headers["Cache-Control"] == "no-store"
    assert response.message and response.message.key_provision
    assert response.message.key_provision.key_sets[0].user_uri == ALICE
    assert same_resource(response.client_req_url, world.url + path)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"kms_uri": "kms.elsewhere.org"}, ErrorNumber.WRONG_KMS),
        ({"user_uri": BOB}, ErrorNumber.WRONG_USER),
        ({"client_req_url": "https://kms.example.org/other"}, ErrorNumber.WRONG_URL),
        ({"time": NOW - 301}, ErrorNumber.WRONG_TIME),
        ({"time": NOW + 301}, ErrorNumber.WRONG_TIME),
        ({"version": "2.0"}, ErrorNumber.BAD_REQUEST),
    ],
)
async def test_each_wrong_field_of_a_request_is_its_own_error(
    world: World, change: dict[str, Any], number: ErrorNumber
) -> None:
    token = (await world.access(ALICE)).token.get_secret_value()
    path = f"{ROOT_PATH}init"
    status, octets, _ = await world.post(path, request_of(world, path, **change), token)
    assert status in (400, 403) and error_of(octets) == number


BY_HAND = """<?xml version="1.0"?>
<KmsRequest xmlns="urn:3gpp:ns:mcsecKMSInterface:1.0" Version="1.0.0"><UserUri>sip:alice@example.org</UserUri>
<KmsUri>kms.example.org</KmsUri>{client}<Time>{time}</Time><ClientReqUrl>{url}</ClientReqUrl></KmsRequest>"""


def written(seconds: int, zone: str = "") -> str:
    return datetime.datetime.fromtimestamp(NOW + seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S") + zone


@pytest.mark.parametrize(
    ("posted", "document", "number"),
    [
        ("keyprov/sip%3Aalice%40example.org", {"url": "keyprov"}, None),
        ("keyprov/sip%3Aalice%40example.org", {"url": "keyprov/"}, None),
        ("keyprov", {"url": "keyprov/sip:alice@example.org"}, None),
        (f"keyprov/sip%3Aalice%40example.org/{ntp_text(NOW)}", {"url": "keyprov/sip:alice%40example.org"}, None),
        ("init", {"client": "<ClientId>handset</ClientId><DeviceId/>"}, None),
        ("init", {"time": written(2 * 3600 + 5)}, None),
        ("init", {"time": written(-9 * 3600 - 30 * 60)}, None),
        ("init", {"time": written(14 * 3600)}, None),
        ("init", {"time": written(2 * 3600 + 5, "+02:00")}, None),
        # where it is lost
        ("keyprov/sip%3Aalice%40example.org", {"url": "keyprov/sip%3Abob%40example.org"}, ErrorNumber.WRONG_URL),
        ("keyprov", {"url": "init"}, ErrorNumber.WRONG_URL),
        ("keyprov", {"url": ""}, ErrorNumber.WRONG_URL),
        ("keyprov/sip%3Abob%40example.org", {"url": "keyprov"}, ErrorNumber.WRONG_USER),
        ("init", {"time": written(2 * 3600 + 5, "Z")}, ErrorNumber.WRONG_TIME),
        ("init", {"time": written(2 * 3600 + 400)}, ErrorNumber.WRONG_TIME),
        ("init", {"time": written(15 * 3600)}, ErrorNumber.WRONG_TIME),
        ("init", {"time": written(-86400)}, ErrorNumber.WRONG_TIME),
    ],
)
async def test_what_deployed_clients_write_is_answered_where_no_protection_is_lost(
    world: World, posted: str, document: dict[str, str], number: ErrorNumber | None
) -> None:
    token = (await world.access(ALICE)).token.get_secret_value()
    url = f"{world.url}{ROOT_PATH}{document.get('url', posted)}"
    body = BY_HAND.format(**({"client": "", "time": written(0)} | document | {"url": url}))
    status, octets, _ = await world.post(ROOT_PATH + posted, body.encode(), token)
    if number is None:
        assert status == 200 and decode(octets, Response).message
    else:
        assert status in (400, 403) and error_of(octets) == number


async def test_hostile_documents_are_refused_and_the_kms_goes_on(world: World) -> None:
    access = await world.access(ALICE)
    token = access.token.get_secret_value()
    path = f"{ROOT_PATH}init"
    good = request_of(world, path)
    entity = good.replace(b"<KmsRequest", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><KmsRequest')
    for body in (
        entity.replace(b"kms.example.org</KmsUri>", b"&e;</KmsUri>"),
        good[:-20],
        b"<a>" * 1000,
        b"\xff\xfe<\x00",
        good.replace(b"mcsec", b"other"),
        b"x",
    ):
        status, octets, _ = await world.post(path, body, token)
        assert status == 400 and error_of(octets) == ErrorNumber.BAD_REQUEST
        assert b"root:" not in octets
    status, octets, _ = await world.post(path, b" " * (REQUEST_MAX + 1), token)
    assert status == 413 and error_of(octets) == ErrorNumber.BAD_REQUEST
    assert (await world.post(path, good, token))[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("other", 404),
        ("keyprov/sip:alice@example.org/xyz", 400),
        ("keyprov/sip:alice@example.org/0123456789ABCDEF0", 400),
        ("keyprov/sip:alice@example.org/0123456789ABCDEF/0", 404),
        ("certcache/-1", 400),
        ("certcache/x", 400),
        ("certcache/" + "9" * 19, 400),
        ("certcache/\u0660", 400),
        ("keyprov/" + "a" * 2000, 414),
        ("certcache/999999999999999999", 200),
    ],
)
async def test_paths_that_name_nothing_are_refused(world: World, path: str, status: int) -> None:
    token = (await world.access(ALICE)).token.get_secret_value()
    assert (await world.post(ROOT_PATH + path, None, token))[0] == status


async def test_only_post_is_answered(world: World) -> None:
    context = ssl.create_default_context(cafile=world.ca_file)
    async with aiohttp.ClientSession() as session, session.get(f"{world.url}{ROOT_PATH}init", ssl=context) as response:
        assert response.status == 405


async def test_a_request_that_does_not_come_to_its_end_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_tuning, "REQUEST_TIMEOUT_S", 0.05)
    token = (await world.access(ALICE)).token.get_secret_value()
    host, port = world.url.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=world.ca_file)
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    head = f"POST {ROOT_PATH}init HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 99\r\n\r\n<"
    writer.write(head.encode())
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_one_user_cannot_keep_the_kms_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [(await world.access(uri)).token.get_secret_value() for uri in (ALICE, BOB)]
    path = f"{ROOT_PATH}certcache"
    statuses = [(await world.post(path, None, tokens[0]))[0] for _ in range(tuning.REQUESTS_PER_HOUR_MAX + 1)]
    assert statuses == [200] * tuning.REQUESTS_PER_HOUR_MAX + [429]
    assert (await world.post(path, None, tokens[1]))[0] == 200


async def test_a_kms_whose_certificate_is_over_issues_nothing(world: World) -> None:
    access = await world.access(ALICE)
    world.clock.now = NOW + tuning.CERTIFICATE_DAYS * 86400
    later = access.model_copy(update={"token": SecretStr(await world.kms.new_token(ALICE))})
    fault = await refused(later, world)
    assert isinstance(fault, KmsRefused) and fault.number == ErrorNumber.NOT_VALID


async def test_a_store_that_fails_is_an_error_of_the_kms_and_not_its_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    token = (await world.access(ALICE)).token.get_secret_value()
    with sqlite3.connect(world.folder / "kms" / "kms.sqlite3") as broken:
        broken.execute("ALTER TABLE kms_certificates RENAME TO elsewhere")
    status, octets, _ = await world.post(f"{ROOT_PATH}certcache", None, token)
    assert status == 500 and error_of(octets) == ErrorNumber.FAILED and b"sqlite" not in octets
    broken.execute("ALTER TABLE elsewhere RENAME TO kms_certificates")
    broken.close()
    assert (await world.post(f"{ROOT_PATH}certcache", None, token))[0] == 200


async def test_neither_log_nor_answer_holds_a_secret(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access, material = await world.access(ALICE), world.material()
    async with KmsClient(access, material, world.clock) as client:
        await client.refresh()
        await world.post(f"{ROOT_PATH}init", b"<x", access.token.get_secret_value())
        keys = client.keys()
        assert keys is not None
        (key_set,) = keys._key_sets.values()
        secrets = (key_set.ssk.hex(), key_set.rsk.hex()[2:40], access.token.get_secret_value().split(".")[1])
        shown = caplog.text + repr(access) + repr(keys) + repr(client.__dict__) + repr(world.kms.counters)
        assert "handed out" in caplog.text and all(secret not in shown for secret in secrets)
    material.close()


async def test_refusals_do_not_fill_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(30):
        await world.post(f"{ROOT_PATH}init", None, None)
    assert len([line for line in caplog.records if "refused" in line.message]) == 1
    assert world.kms.counters["refused.unauthenticated"] == 30


# what the client meets


async def test_a_kms_without_the_pinned_certificate_is_not_trusted(world: World, tmp_path: Path) -> None:
    access = await world.access(ALICE)
    certificate, key = tmp_path / "c2.pem", tmp_path / "k2.pem"
    tls.make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    for ca_file in (certificate, None):
        assert isinstance(await refused(access.model_copy(update={"ca_file": ca_file}), world), NotTrusted)
    by_name = access.model_copy(update={"url": world.url.replace("127.0.0.1", "localhost")})
    assert isinstance(await refused(by_name, world), NotTrusted), "the certificate has another name"
    assert world.kms.counters == {}


async def test_a_kms_that_does_not_answer_is_unreachable(world: World, unused_tcp_port: int) -> None:
    access = await world.access(ALICE, url=f"https://127.0.0.1:{unused_tcp_port}")
    assert isinstance(await refused(access, world), Unreachable)


@pytest.mark.parametrize("url", ["http://kms.example.org", "ftp://127.0.0.1", "https://", "https://h/path", "x"])
def test_keys_are_never_asked_for_in_clear(url: str) -> None:
    with pytest.raises(ValidationError):
        KmsAccess(url=url, kms_uri=KMS_URI, user_uri=ALICE, token=SecretStr("t"))


async def test_a_ca_file_that_is_none_is_said(world: World) -> None:
    (world.folder / "empty.pem").touch()
    access = await world.access(ALICE)
    for name, sentence in (("missing.pem", r"There is no file .*missing\.pem"), ("empty.pem", "CA file")):
        wrong = access.model_copy(update={"ca_file": world.folder / name})
        with closing(world.material(name)) as material, pytest.raises(ConfigError, match=sentence):
            KmsClient(wrong, material, world.clock)


Answer = Callable[[bytes], web.Response]


@pytest.fixture
async def between(world: World) -> AsyncIterator[Callable[[str, Answer], Awaitable[str]]]:
    """A proxy on loopback that asks the KMS and gives its answers to `tamper` for one word of the path."""
    runners: list[web.AppRunner] = []

    async def start(word: str, tamper: Answer) -> str:
        async def handle(request: web.Request) -> web.StreamResponse:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            # the KMS has to be shown the URL it is asked at; the path is the same
            _, octets, _ = await world.post(request.path_qs, await request.read(), token)
            return tamper(octets) if f"/{word}" in request.path else web.Response(body=octets)

        application = web.Application()
        application.router.add_post("/{tail:.*}", handle)
        runner = web.AppRunner(application, access_log=None)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


def document(change: Callable[[Response], Response]) -> Answer:
    return lambda octets: web.Response(body=encode(change(decode(octets, Response))))


def key_set_with(**changes: Any) -> Answer:
    def change(response: Response) -> Response:
        assert response.message and response.message.key_provision
        (key_set,) = response.message.key_provision.key_sets
        provision = kms_values.KeyProvision((replace(key_set, **changes),))
        return replace(response, message=kms_values.KmsMessage(key_provision=provision))

    return document(change)


TAMPERED: list[tuple[str, Answer, str]] = [
    ("init", lambda octets: web.Response(body=octets[:-5]), "not-well-formed"),
    ("init", lambda octets: web.Response(body=b" " * (RESPONSE_MAX + 5)), "too-large"),
    ("init", lambda octets: web.Response(status=302, headers={"Location": "https://192.0.2.1/"}), "wrong-status"),
    ("init", lambda octets: web.Response(status=502, text="<html>"), "wrong-status"),
    ("init", lambda octets: web.Response(status=500, body=octets), "wrong-status"),
    ("init", document(lambda response: replace(response, user_uri=BOB)), "wrong-user"),
    ("keyprov", document(lambda response: replace(response, kms_uri="kms.elsewhere.org")), "wrong-kms"),
    ("keyprov", document(lambda response: replace(response, time=NOW - 1000)), "wrong-time"),
    ("keyprov", document(lambda response: replace(response, message=None)), "missing-element"),
    ("keyprov", key_set_with(user_uri=BOB), "wrong-user"),
    ("keyprov", key_set_with(period_number=1), "wrong-period-number"),
    ("keyprov", key_set_with(uid=bytes(32)), "wrong-uid"),
    ("keyprov", key_set_with(ssk=bytes(31) + b"\x01"), "wrong-signing-key"),
    ("keyprov", key_set_with(rsk=bytes(257)), "wrong-decryption-key"),
    ("keyprov", key_set_with(revoked=True), "revoked"),
    ("keyprov", key_set_with(valid_to=NOW - 1), "not-valid"),
]


@pytest.mark.req("SEAL-GMK-19")
@pytest.mark.parametrize(("word", "tamper", "code"), TAMPERED, ids=[f"{word}-{code}" for word, _, code in TAMPERED])
async def test_a_tampered_response_is_its_own_error_and_nothing_of_it_is_stored(
    world: World, between: Callable[[str, Answer], Awaitable[str]], word: str, tamper: Answer, code: str
) -> None:
    access = await world.access(ALICE)
    url = await between(word, tamper)
    assert (await refused(access.model_copy(update={"url": url}), world)).code == code
