"""A KMS and its clients over real HTTPS on loopback: provisioning, key periods, and the rights of users."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_agent.store.errors import StoreDamaged
from gateway_agent.val_client.key_material import KEPT_AFTER_PERIOD_S
from gateway_agent.val_client.kms_client import KmsClient
from http_door.errors import ListenFailed
from key_servers.errors import NotPossible
from key_servers.kms.app import KmsServer, create
from key_servers.kms.config import KmsConfig
from key_servers.kms.store import Role
from mikey_sakke import i_message, kms_values
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.key_parameters import Parameters
from mikey_sakke.kms_exchange import ROOT_PATH, period_bounds, period_number
from mikey_sakke.kms_faults import (
    CertificateChanged,
    KmsRefused,
    NotAuthorised,
)
from mikey_sakke.kms_values import ErrorNumber
from tests.integration.kms_https_world import (
    ALICE,
    BOB,
    GMS,
    KMS_URI,
    NOW,
    PERIOD,
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
            with pytest.raises(KmsRefused) as caught:
                await client.provision(moment)
            assert caught.value.number == ErrorNumber.PERIOD_NOT_SERVED
        assert material.periods(KMS_URI, ALICE) == set()
        await client.provision(NOW + PERIOD)
        assert material.periods(KMS_URI, ALICE) == {period_number(world.kms.certificate, NOW) + 1}
    material.close()


async def test_keys_survive_a_restart_of_the_client_and_of_the_kms(world: World) -> None:
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
        async with await KmsServer.open(world.kms._config, clock=world.clock) as again:
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


async def test_a_kms_with_a_new_certificate_under_the_old_name_is_not_trusted(world: World) -> None:
    access, material = await world.access(ALICE), world.material()
    async with KmsClient(access, material, world.clock) as client:
        await client.refresh()
    other = world.kms._config.model_copy(update={"state_dir": world.folder / "other", "port": 0})
    create(other, KMS_URI, PERIOD, now=NOW - 86400)
    async with await KmsServer.open(other, clock=world.clock) as impostor:
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


async def test_certificates_of_other_domains_reach_the_client_once(world: World) -> None:
    neighbour = KmsConfig(state_dir=world.folder / "neighbour", port=0)
    create(neighbour, "kms.elsewhere.org", PERIOD, now=NOW - 86400)
    material = world.material()
    async with (
        await KmsServer.open(neighbour, clock=world.clock, listen=False) as elsewhere,
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
    assert isinstance(fault, KmsRefused) and fault.number == ErrorNumber.USER_REVOKED
    with pytest.raises(NotPossible, match="for ever"):
        await world.kms.new_token(ALICE)


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
    assert isinstance(fault, KmsRefused) and fault.number == ErrorNumber.WRONG_USER
    assert world.kms.counters["keyprov"] == 0


# an operator's faults


async def test_what_an_operator_cannot_mean_is_refused(world: World) -> None:
    for uri in ("", "two words", "x" * 2000):
        with pytest.raises(NotPossible):
            await world.kms.add_user(uri)
    config = KmsConfig(state_dir=world.folder / "new")
    for arguments in (("k", 1), ("k", 3600, 3600), ("", 3600)):
        with pytest.raises(NotPossible):
            create(config, *arguments)
    assert not (world.folder / "new").exists()


async def test_a_port_in_use_is_said_and_the_store_let_go(world: World) -> None:
    port = int(world.url.rsplit(":", 1)[1])
    config = world.kms._config.model_copy(update={"port": port})
    with pytest.raises(ListenFailed, match=rf"TCP port {port} of 127\.0\.0\.1 .*\(process {os.getpid()}\)"):
        await KmsServer.open(config)
