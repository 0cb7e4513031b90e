"""KMS, GMS, CMS and VAL clients over HTTPS on loopback: all parts are real, and clients pin the certificate."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from gateway_agent.val_client.server_access import GmsAccess, ServerAccess
from gateway_agent.val_client.servers import Servers
from key_servers.gms.app import GmsConfig
from key_servers.gms.provisioning import KmsOverHttps, NotProvisioned, OwnKeys
from key_servers.gms.values import Affiliation
from keycast.commands import seal
from keycast.demo.seal_house import GMS_URI, KMS_URI, DemoUser, SealHouse, build_seal_house, until
from mikey_sakke.group_configuration import KEY, REVOCATION, NotifyResponse, decode_requests, encode_response
from mikey_sakke.https import client_tls
from mikey_sakke.identifiers import NTP_OFFSET

ALICE, BOB = "sip:alice@example.org", "sip:bob@example.org"
CREW = "sip:crew@gms.example.org"


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[SealHouse]:
    async with build_seal_house(tmp_path, workers=-1) as made:
        await made.gms.management.create_group(CREW, "the crew")
        yield made


async def member(house: SealHouse, uri: str, affiliation: Affiliation = Affiliation.IMPLICIT) -> DemoUser:
    explicit = (CREW,) if affiliation is Affiliation.EXPLICIT else ()
    user = await house.add_user(uri, explicit)
    await house.cms.profiles.put_membership(uri, CREW, GMS_URI)
    await house.gms.management.add_member(CREW, uri, affiliation)
    await house.start(user)
    return user


async def answered(house: SealHouse, key_id: str, purpose: str = KEY, count: int = 1) -> None:
    async with asyncio.timeout(30):
        while True:
            found = await house.gms.management.deliveries(key_id)
            if sum(each.state == "done" for each in found if each.purpose == purpose) == count:
                return
            await asyncio.sleep(0.02)


@pytest.mark.req(
    "SEAL-GMK-01", "SEAL-GMK-03", "SEAL-GMK-04", "SEAL-GMK-19", "SEAL-GMK-20", "SEAL-GMK-37", "SEAL-GMK-41"
)
@pytest.mark.req("MC-GMK-03", "MC-GMK-04", "MC-GMK-05")
async def test_both_ways_of_affiliation_end_with_the_same_gmk(house: SealHouse) -> None:
    alice = await member(house, ALICE)
    bob = await member(house, BOB, Affiliation.EXPLICIT)
    key_id = await house.gms.management.make_key([CREW], text="shift 1")
    await answered(house, key_id, count=2)
    held = [user.client.sending_key(CREW) for user in (alice, bob)]
    assert held[0] and held[1] and held[0].gmk == held[1].gmk and held[0].text == "shift 1"


@pytest.mark.req("SEAL-GMK-36", "SEAL-GMK-45", "SEAL-GMK-46", "SEAL-GMK-47")
async def test_a_profile_update_deletes_the_key(house: SealHouse) -> None:
    alice = await member(house, ALICE)
    await answered(house, await house.gms.management.make_key([CREW]))
    await house.cms.profiles.remove_membership(ALICE, CREW)
    await until(lambda: alice.store.all() == [], "the deletion")


@pytest.mark.req("MC-GMK-22")
async def test_a_revocation_reaches_every_holder(house: SealHouse) -> None:
    alice = await member(house, ALICE)
    key_id = await house.gms.management.make_key([CREW])
    await answered(house, key_id)
    await house.gms.management.revoke_key(key_id)
    await answered(house, key_id, REVOCATION)
    assert alice.client.sending_key(CREW) is None


async def test_the_logs_tell_of_keys_and_profiles_and_hold_none(
    house: SealHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice = await member(house, ALICE)
    key_id = await house.gms.management.make_key([CREW])
    await answered(house, key_id)
    held = alice.client.sending_key(CREW)
    assert held is not None
    secrets = {held.gmk.hex(), held.endpoint_key.hex()}
    masters = json.loads((tmp_path / "kms" / "master_secrets.json").read_text())
    secrets |= {value for value in masters.values() if isinstance(value, str) and len(value) >= 32}
    await house.gms.management.revoke_key(key_id)
    await answered(house, key_id, REVOCATION)
    told = "\n".join(caplog.messages)
    for line in (
        f"keys of '{ALICE}' for key period",
        f"of the profile of {ALICE} handed out",
        f"GMK {key_id} made for {CREW}",
        f"GMK {key_id} of {CREW} has arrived for {ALICE}",
        f"{ALICE} has acknowledged GMK {key_id}",
        f"GMK {key_id} of {CREW} is revoked for {ALICE}",
        f"{ALICE} has acknowledged the revocation of GMK {key_id}",
    ):
        assert line in told, line
    assert len(secrets) > 2 and not [secret for secret in secrets if secret in told]


async def test_who_was_away_gets_the_key_on_coming_back(house: SealHouse) -> None:
    alice = await member(house, ALICE)
    await alice.servers.close()
    key_id = await house.gms.management.make_key([CREW])
    (delivery,) = await house.gms.management.deliveries(key_id)
    assert (delivery.state, delivery.attempts) == ("waiting", 0)
    async with Servers(alice.client, *_accesses(house, alice)):
        await answered(house, key_id)


def _accesses(house: SealHouse, user: DemoUser) -> tuple[ServerAccess, list[GmsAccess]]:
    """The same accesses once more, for a client that starts anew."""
    return user.servers._cms._access, [access for access, _ in user.servers._gmss]


async def test_the_gms_may_be_faster_than_the_cms(house: SealHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await house.add_user(ALICE)
    await house.start(alice)
    await until(lambda: alice.client.profile is not None, "the empty profile")
    monkeypatch.setattr(house.cms.profiles, "_ring", lambda user: None)  # its news come late
    await house.cms.profiles.put_membership(ALICE, CREW, GMS_URI)
    await house.gms.management.add_member(CREW, ALICE, Affiliation.IMPLICIT)
    await answered(house, await house.gms.management.make_key([CREW]))


# strangers at the door


async def knock(house: SealHouse, method: str, path: str, token: str = "", body: bytes = b"") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, house.gms.urls[0] + path, data=body, headers=headers, ssl=client_tls(house.gms.urls[0], house.ca)
        ) as answer,
    ):
        return answer.status, await answer.read()


@pytest.mark.parametrize("token", ["", "x", "0" * 12 + "." + "0" * 64, "a" * 9000])
@pytest.mark.parametrize("path", ["/gms/v1/authorisation", "/gms/v1/responses"])
async def test_who_has_no_token_learns_nothing(house: SealHouse, path: str, token: str) -> None:
    status, octets = await knock(house, "POST", path, token)
    assert status in (401, 400) and ALICE.encode() not in octets
    assert not await house.gms.management.deliveries("00000000")


@pytest.mark.req("SEAL-GMK-38", "SEAL-GMK-42")
async def test_a_user_of_the_gms_gets_nothing_of_other_groups(house: SealHouse) -> None:
    token = await house.gms.management.add_user(BOB)
    await house.gms.management.make_key([CREW])
    assert (await knock(house, "POST", "/gms/v1/authorisation", token))[0] == 200
    quoted = CREW.replace(":", "%3A").replace("@", "%40")
    for path in ("affiliation", "subscription"):
        status, octets = await knock(house, "PUT", f"/gms/v1/groups/{quoted}/{path}", token)
        assert status == 403 and json.loads(octets)["code"] == "not-permitted"
    assert await knock(house, "GET", "/gms/v1/notifications?wait=0", token) == (204, b"")
    await house.gms.management.withdraw_user(BOB)
    assert (await knock(house, "POST", "/gms/v1/authorisation", token))[0] == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"[" * 60_000, 400),
        (b"{" + b" " * 70_000 + b"}", 413),
        (encode_response(NotifyResponse("none", code="malformed", text="no such notification")), 409),
        (encode_response(NotifyResponse("none", b"\x00\x00\x00\x01", bytes(16))), 409),
    ],
)
async def test_wrong_answers_are_refused_with_a_sentence(house: SealHouse, body: bytes, status: int) -> None:
    token = await house.gms.management.add_user(BOB)
    found, octets = await knock(house, "POST", "/gms/v1/responses", token, body)
    assert found == status
    assert {"code", "text"} == json.loads(octets).keys()


async def test_a_notification_is_not_kept_by_caches(house: SealHouse) -> None:
    token = await house.gms.management.add_user(BOB)
    await house.gms.management.add_member(CREW, BOB, Affiliation.IMPLICIT)
    await house.gms.management.authorise(BOB)
    await house.gms.management.make_key([CREW])
    url = house.gms.urls[0] + "/gms/v1/notifications?wait=5"
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
        session.get(url, ssl=client_tls(house.gms.urls[0], house.ca)) as answer,
    ):
        assert answer.headers["Cache-Control"] == "no-store"
        (request,) = decode_requests(await answer.read())
    assert request.user == BOB and request.gms == GMS_URI


async def test_servers_that_are_not_trusted_are_not_asked(house: SealHouse, caplog: pytest.LogCaptureFixture) -> None:
    alice = await house.add_user(ALICE)
    access, gmss = _accesses(house, alice)
    untrusting = ServerAccess(url=access.url, token=access.token)
    async with Servers(alice.client, untrusting, gmss):
        async with asyncio.timeout(10):
            while "does not answer" not in caplog.text:
                await asyncio.sleep(0.02)
    assert alice.client.profile is None
    assert access.token.get_secret_value() not in caplog.text


async def test_a_gms_without_keys_does_not_start(house: SealHouse) -> None:
    link = KmsOverHttps(house.kms.urls[0], KMS_URI, "sip:rogue.example.org", "no token", house.ca, lambda: 0)
    with pytest.raises(NotProvisioned, match="does not know the token"):
        await OwnKeys(link).open(0)
    link = KmsOverHttps("https://127.0.0.1:1", KMS_URI, "sip:rogue.example.org", "no token", house.ca, lambda: 0)
    with pytest.raises(NotProvisioned, match="does not answer"):
        await OwnKeys(link).open(0)


@pytest.mark.req("SEAL-GMK-20")
async def test_the_gms_signs_with_keys_of_the_period(house: SealHouse) -> None:
    token = await house.kms.new_token(GMS_URI)
    now = int(time.time())
    keys = OwnKeys(KmsOverHttps(house.kms.urls[0], KMS_URI, GMS_URI, token, house.ca, lambda: now))
    await keys.open(now)
    period = keys.certificate.key_period
    number = (now + NTP_OFFSET - keys.certificate.key_offset) // period
    assert (await keys.material(now)).number == number
    ends = (number + 1) * period + keys.certificate.key_offset - NTP_OFFSET
    await keys.material(ends - 1)
    assert number + 1 in keys._by_number, "the next period's key is there before it is needed"


def test_keys_travel_over_https_only(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        ServerAccess(url="http://gms.example.org", token=SecretStr("x"))
    with pytest.raises(ValidationError, match="tls_certificate"):
        GmsConfig(state_dir=tmp_path, gms_uri=GMS_URI, listen=["0.0.0.0"])


@pytest.mark.req("SEAL-GMK-48", "SEAL-GMK-32")
def test_the_demo_comes_out_as_it_must() -> None:
    result = CliRunner().invoke(seal.app, ["demo", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.output)
    assert figures["delivered"] == 3 and figures["rekeyed"] and figures["revoked_everywhere"]
    assert figures["removed_holds_key"] is False and figures["wrong_gms_code"] == "wrong-initiator"
