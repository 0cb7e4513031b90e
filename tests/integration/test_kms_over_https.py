"""A KMS and its clients over real HTTPS on loopback, and what stands between them when it is hostile."""

import asyncio
import datetime
import logging
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from gateway_agent.errors import ConfigError
from gateway_agent.seal.key_material import KEPT_AFTER_PERIOD_S, KeyMaterial
from gateway_agent.seal.kms_client import KmsAccess, KmsClient
from gateway_agent.store.errors import StoreDamaged
from key_servers.kms import tls, tuning
from key_servers.kms.app import Kms, ListenFailed, NotPossible, create
from key_servers.kms.config import KmsConfig
from key_servers.kms.store import Role
from mikey_sakke import i_message, kms_values
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.key_parameters import Parameters
from mikey_sakke.kms_exchange import ROOT_PATH, period_bounds, period_number, same_resource
from mikey_sakke.kms_faults import (
    CertificateChanged,
    KmsFault,
    NotAuthorised,
    NotTrusted,
    Refused,
    Unreachable,
)
from mikey_sakke.kms_values import ErrorNumber, Request, Response
from mikey_sakke.kms_xml import REQUEST_MAX, RESPONSE_MAX, decode, encode

KMS_URI = "kms.example.org"
PERIOD = 3600
ALICE, BOB, GMS = "sip:alice@example.org", "sip:bob@example.org", "sip:gms@example.org"
NOW = 1_790_000_000


class Clock:
    """Unix seconds that stand still until told."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@dataclass
class World:
    """A running KMS and everything to make clients of it."""

    folder: Path
    kms: Kms
    clock: Clock
    ca_file: Path

    @property
    def url(self) -> str:
        return self.kms.urls[0]

    async def access(self, user_uri: str, role: Role = Role.USER, **changes: Any) -> KmsAccess:
        token = await self.kms.add_user(user_uri, role)
        values = {"url": self.url, "kms_uri": KMS_URI, "user_uri": user_uri, "token": token, "ca_file": self.ca_file}
        return KmsAccess(**(values | changes))

    def material(self, name: str = "keys") -> KeyMaterial:
        return KeyMaterial(self.folder / f"{name}.sqlite3")

    async def post(self, path: str, body: bytes | None, token: str | None) -> tuple[int, bytes, Any]:
        """Ask as somebody who writes the request by hand."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        context = ssl.create_default_context(cafile=self.ca_file)
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + path, data=body, headers=headers, ssl=context) as response,
        ):
            return response.status, await response.read(), response.headers


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "c.pem", folder / "k.pem"
    tls.make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    return certificate, key


@pytest.fixture
async def world(tmp_path: Path, tls_files: tuple[Path, Path]) -> AsyncIterator[World]:
    certificate, key = tls_files
    config = KmsConfig(state_dir=tmp_path / "kms", port=0, tls_certificate=certificate, tls_key=key)
    create(config, KMS_URI, PERIOD, now=NOW - 86400)
    clock = Clock()
    async with await Kms.open(config, clock=clock) as kms:
        yield World(tmp_path, kms, clock, certificate)


def request_of(world: World, path: str, user_uri: str = ALICE, **changes: Any) -> bytes:
    return encode(replace(Request(user_uri, KMS_URI, NOW, world.url + path), **changes))


def error_of(octets: bytes) -> int:
    response = decode(octets, Response)
    assert response.error is not None and response.error.text.endswith(".")
    return response.error.number


# provisioning


@pytest.mark.req("SEAL-GMK-03", "SEAL-GMK-19", "MC-GMK-04")
async def test_a_user_is_provisioned_before_any_group_key_with_keys_for_this_period(world: World) -> None:
    material = world.material()
    async with KmsClient(await world.access(ALICE), material, world.clock) as client:
        assert client.keys() is None
        await client.refresh()
        keys = client.keys()
        number = period_number(world.kms.certificate, NOW)
        assert keys is not None and keys.periods() == {number}
        assert keys.decryption_key(number) is not None and keys.signing_key(number) is not None
        assert keys.decryption_key(number + 1) is None and keys.signing_key(number - 1) is None
    material.close()


@pytest.mark.req("SEAL-GMK-04", "SEAL-GMK-20", "MC-GMK-05")
async def test_a_gms_is_provisioned_for_its_server_uri_and_what_it_signs_is_opened_by_a_user(world: World) -> None:
    """MC-GMK-05: the identity is one that the operator recorded as authorised to create groups."""
    material = world.material()
    access = [await world.access(GMS, Role.GMS), await world.access(ALICE)]
    clients = [KmsClient(each, material, world.clock) for each in access]
    for client in clients:
        await client.refresh()
    assert [(user.user_uri, user.role) for user in await world.kms.users()] == [(ALICE, Role.USER), (GMS, Role.GMS)]
    gms, alice = (client.keys() for client in clients)
    assert gms is not None and alice is not None
    number = period_number(world.kms.certificate, NOW)
    signing_key = gms.signing_key(number)
    octets = i_message.make(
        gms.kms,
        signing_key,
        GMS,
        ALICE,
        bytes(range(16)),
        bytes.fromhex("01234567"),
        Parameters(0, 1, 0, 0, "", ["sip:group@example.org"]),
        NOW + NTP_OFFSET,
        lambda n: bytes(n),
        4711,
    )
    received = i_message.open_(octets, alice.kms, ALICE, alice.decryption_key, [GMS])
    assert received.key == bytes(range(16)) and received.initiator_uri == GMS
    for client in clients:
        await client.close()
    material.close()


@pytest.mark.req("SEAL-GMK-03")
async def test_the_next_periods_keys_are_fetched_in_time_and_past_ones_are_erased(world: World) -> None:
    material = world.material()
    certificate = world.kms.certificate
    number = period_number(certificate, NOW)
    first, last = period_bounds(certificate, number)
    async with KmsClient(await world.access(ALICE), material, world.clock) as client:
        world.clock.now = first
        wait_s = await client.refresh()
        assert 0 < wait_s <= PERIOD
        world.clock.now = first + wait_s - 1
        await client.refresh()
        assert material.periods(KMS_URI, ALICE) == {number}, "not a second too early"
        world.clock.now = first + wait_s
        await client.refresh()
        assert material.periods(KMS_URI, ALICE) == {number, number + 1}
        world.clock.now = last + KEPT_AFTER_PERIOD_S
        await client.refresh()
        assert material.periods(KMS_URI, ALICE) == {number, number + 1}, "messages may still be on their way"
        old = material.user_keys(KMS_URI, ALICE)
        assert old is not None
        rsk = old._key_sets[number].rsk
        world.clock.now = last + KEPT_AFTER_PERIOD_S + 1
        await client.refresh()
        assert material.periods(KMS_URI, ALICE) == {number + 1}
        keys = client.keys()
        assert keys is not None and keys.decryption_key(number) is None
        assert all(rsk not in path.read_bytes() for path in world.folder.glob("keys.sqlite3*")), "log included"
    material.close()


@pytest.mark.req("SEAL-GMK-03")
async def test_only_keys_of_the_present_and_the_next_period_can_be_had(world: World) -> None:
    material = world.material()
    async with KmsClient(await world.access(ALICE), material, world.clock) as client:
        for moment in (NOW - PERIOD, NOW + 2 * PERIOD, NOW + 100 * 365 * 86400):
            with pytest.raises(Refused) as caught:
                await client.provision(moment)
            assert caught.value.number == ErrorNumber.PERIOD_NOT_SERVED
        assert material.periods(KMS_URI, ALICE) == set()
        await client.provision(NOW + PERIOD)
        assert material.periods(KMS_URI, ALICE) == {period_number(world.kms.certificate, NOW) + 1}
    material.close()


async def test_keys_survive_a_restart_of_the_client_and_of_the_kms(world: World, tls_files: tuple[Path, Path]) -> None:
    access = await world.access(ALICE)
    material = world.material()
    async with KmsClient(access, material, world.clock) as client:
        await client.refresh()
    material.close()
    material = world.material()
    async with KmsClient(access, material, world.clock) as client:
        keys = client.keys()
        assert keys is not None and len(keys.periods()) == 1
        assert world.kms.counters["keyprov"] == 1
        await world.kms.close()
        async with await Kms.open(world.kms._config, clock=world.clock) as again:
            moved = access.model_copy(update={"url": again.urls[0]})
            async with KmsClient(moved, material, world.clock) as later:
                await later.provision(NOW + PERIOD)
                assert len(material.periods(KMS_URI, ALICE)) == 2
    material.close()


async def test_the_key_store_is_private_or_refused(world: World) -> None:
    material = world.material()
    async with KmsClient(await world.access(ALICE), material, world.clock) as client:
        await client.refresh()
        assert {path.stat().st_mode & 0o777 for path in world.folder.glob("keys.sqlite3*")} == {0o600}
    material.close()
    path = world.folder / "keys.sqlite3"
    path.chmod(0o640)
    with pytest.raises(StoreDamaged, match="chmod 600"):
        world.material()
    path.write_bytes(b"other" * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreDamaged, match="KMS gives it again"):
        world.material()


async def test_a_kms_with_a_new_certificate_under_the_old_name_is_not_trusted(
    world: World, tls_files: tuple[Path, Path]
) -> None:
    access, material = await world.access(ALICE), world.material()
    async with KmsClient(access, material, world.clock) as client:
        await client.refresh()
    certificate, key = tls_files
    other = KmsConfig(state_dir=world.folder / "other", port=0, tls_certificate=certificate, tls_key=key)
    create(other, KMS_URI, PERIOD, now=NOW - 86400)
    async with await Kms.open(other, clock=world.clock) as impostor:
        token = SecretStr(await impostor.add_user(ALICE))
        elsewhere = access.model_copy(update={"url": impostor.urls[0], "token": token})
        async with KmsClient(elsewhere, material, world.clock) as client:
            before = material.certificate(KMS_URI)
            with pytest.raises(CertificateChanged):
                await client.provision(NOW + PERIOD)
            assert material.certificate(KMS_URI) == before and len(material.periods(KMS_URI, ALICE)) == 1
            material.forget_kms(KMS_URI)
            await client.provision()
            assert material.certificate(KMS_URI) == impostor.certificate
    material.close()


async def test_certificates_of_other_domains_reach_the_client_once(world: World, tls_files: tuple[Path, Path]) -> None:
    neighbour = KmsConfig(state_dir=world.folder / "neighbour", port=0)
    create(neighbour, "kms.elsewhere.org", PERIOD, now=NOW - 86400)
    material = world.material()
    async with (
        await Kms.open(neighbour, clock=world.clock, listen=False) as elsewhere,
        KmsClient(await world.access(ALICE), material, world.clock) as client,
    ):
        assert await client.fetch_others() == ()
        await world.kms.import_certificate(elsewhere.export_certificate())
        (found,) = await client.fetch_others()
        assert found == replace(elsewhere.certificate, role=kms_values.ROLE_EXTERNAL)
        assert material.certificate("kms.elsewhere.org") == found
        assert await client.fetch_others() == ()
        for document in (world.kms.export_certificate(), b"<x/>", elsewhere.export_certificate()[:-9]):
            with pytest.raises(NotPossible):
                await world.kms.import_certificate(document)
    material.close()


async def test_the_certificate_of_our_own_kms_is_never_replaced_by_anothers(world: World) -> None:
    material = world.material()
    async with KmsClient(await world.access(ALICE), material, world.clock) as client:
        await client.refresh()
        forged = replace(world.kms.certificate, role=kms_values.ROLE_EXTERNAL)
        with pytest.raises(CertificateChanged):
            material.put_others("kms.elsewhere.org", [forged], 9)
        assert material.certificate(KMS_URI) == world.kms.certificate
    material.close()


# who may ask


async def refused(access: KmsAccess, world: World) -> KmsFault:
    material = world.material("refused")
    async with KmsClient(access, material, world.clock) as client:
        with pytest.raises(KmsFault) as caught:
            await client.provision()
        assert client.keys() is None and material.certificate(KMS_URI) is None
    material.close()
    assert access.token.get_secret_value() not in str(caught.value)
    return caught.value


@pytest.mark.req("SEAL-GMK-03")
async def test_a_wrong_token_a_replaced_one_and_an_old_one_get_nothing(world: World) -> None:
    access = await world.access(ALICE)
    token = access.token.get_secret_value()
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    for text in (wrong, "x", "0" * 12 + "." + "0" * 64):
        assert isinstance(await refused(access.model_copy(update={"token": SecretStr(text)}), world), NotAuthorised)
    await world.kms.new_token(ALICE)
    assert isinstance(await refused(access, world), NotAuthorised)
    fresh = access.model_copy(update={"token": SecretStr(await world.kms.new_token(ALICE, days=1))})
    world.clock.now += 86401
    assert isinstance(await refused(fresh, world), NotAuthorised)
    assert (await world.post(f"{ROOT_PATH}init", None, None))[0] == 401


async def test_a_revoked_user_gets_nothing_and_is_told(world: World) -> None:
    access = await world.access(ALICE)
    await world.kms.revoke_user(ALICE)
    fault = await refused(access, world)
    assert isinstance(fault, Refused) and fault.number == ErrorNumber.USER_REVOKED
    again = access.model_copy(update={"token": SecretStr(await world.kms.new_token(ALICE))})
    fault = await refused(again, world)
    assert isinstance(fault, Refused) and fault.number == ErrorNumber.USER_REVOKED


@pytest.mark.req("SEAL-GMK-03", "MC-GMK-05")
async def test_nobody_gets_the_keys_of_another_least_of_all_those_of_the_gms(world: World) -> None:
    token = (await world.access(ALICE)).token.get_secret_value()
    await world.access(GMS, Role.GMS)
    for path in (f"keyprov/{GMS}", f"keyprov/sip%3Agms%40example.org/{'0' * 16}"):
        status, octets, _ = await world.post(ROOT_PATH + path, None, token)
        assert status == 403 and error_of(octets) == ErrorNumber.WRONG_USER
    body = request_of(world, f"{ROOT_PATH}keyprov", GMS)
    status, octets, _ = await world.post(f"{ROOT_PATH}keyprov", body, token)
    assert status == 403 and error_of(octets) == ErrorNumber.WRONG_USER
    impostor = (await world.access(BOB)).model_copy(update={"user_uri": GMS})
    fault = await refused(impostor, world)
    assert isinstance(fault, Refused) and fault.number == ErrorNumber.WRONG_USER
    assert world.kms.counters["keyprov"] == 0


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
    monkeypatch.setattr(tuning, "REQUEST_TIMEOUT_S", 0.05)
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
    assert isinstance(fault, Refused) and fault.number == ErrorNumber.NOT_VALID


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
    access = await world.access(ALICE, ca_file=world.folder / "missing.pem")
    with pytest.raises(ConfigError, match="CA file"):
        KmsClient(access, world.material("x"), world.clock)


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
        return replace(response, message=kms_values.Message(key_provision=provision))

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


# an operator's faults


async def test_what_an_operator_cannot_mean_is_refused(world: World) -> None:
    for uri in ("", "two words", "x" * 2000):
        with pytest.raises(NotPossible):
            await world.kms.add_user(uri)
    config = KmsConfig(state_dir=world.folder / "new")
    for arguments in (("k", 1), ("k", 3600, 3600), ("", 3600)):
        with pytest.raises(NotPossible):
            create(config, *arguments)  # type: ignore[arg-type]
    assert not (world.folder / "new").exists()


async def test_a_port_in_use_is_said_and_the_store_let_go(world: World) -> None:
    port = int(world.url.rsplit(":", 1)[1])
    config = world.kms._config.model_copy(update={"port": port})
    with pytest.raises(ListenFailed, match=str(port)):
        await Kms.open(config)
