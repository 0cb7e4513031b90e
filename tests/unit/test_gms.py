"""The GMS: which users get which GMK, when, and with what result. Clients are real; only HTTP is left out."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from gateway_agent.val_client.client import ValClient
from key_servers.errors import NotPossible
from key_servers.gms import tuning
from key_servers.gms.courier import ResponseRefused
from key_servers.gms.management import NotPermitted
from key_servers.gms.provisioning import NotProvisioned, OwnKeys
from key_servers.gms.values import Affiliation, KeyState
from mikey_sakke import i_message
from mikey_sakke import message as mikey
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key
from mikey_sakke.group_configuration import KEY, REVOCATION, NotifyResponse, UserProfile
from mikey_sakke.identifiers import NTP_OFFSET, guk_id
from mikey_sakke.kms_values import KeySet
from tests.unit.seal_world import (
    ALICE,
    BOARD,
    BOB,
    CAROL,
    CREW,
    GMS,
    NOW,
    PERIOD,
    Clock,
    GmsInside,
    KmsSecrets,
    client_of,
    notice,
    profile,
)


@pytest.fixture(scope="module")
def kms() -> KmsSecrets:
    return KmsSecrets()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def gms(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> AsyncIterator[GmsInside]:
    made = await GmsInside.open(kms, tmp_path, clock)
    await made.management.create_group(CREW, "the crew")
    await made.management.create_group(BOARD, "the board")
    yield made
    await made.close()


@pytest.fixture
def alice(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> Iterator[ValClient]:
    client, store = client_of(kms, tmp_path, clock)
    with closing(store):
        client.apply_profile(profile(crew=GMS, board=GMS))
        yield client


@pytest.fixture
def bob(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> Iterator[ValClient]:
    client, store = client_of(kms, tmp_path, clock, BOB)
    with closing(store):
        client.apply_profile(profile(user=BOB, crew=GMS, board=GMS))
        yield client


@pytest.mark.req("SEAL-GMK-01", "SEAL-GMK-05", "SEAL-GMK-17", "SEAL-GMK-18", "SEAL-GMK-21", "SEAL-GMK-22")
@pytest.mark.req("SEAL-GMK-39", "MC-GMK-01", "MC-GMK-02", "MC-GMK-06", "MC-GMK-07")
async def test_a_member_gets_the_gmk_and_the_record_in_a_notification(gms: GmsInside, alice: ValClient) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW], text="shift 1")
    (answer,) = await gms.serve(alice)
    assert answer.code == "" and answer.key_id.hex() == key_id
    assert [(record.uri, record.name) for record in gms.asked[0].groups] == [(CREW, "the crew")]
    key = alice.sending_key(CREW)
    assert key is not None and (key.key_id.hex(), key.text, key.groups) == (key_id, "shift 1", (CREW,))
    assert await gms.states(key_id) == {(ALICE, KEY): "done"}
    assert await gms.serve(alice) == []


@pytest.mark.req(
    "SEAL-GMK-02", "SEAL-GMK-10", "SEAL-GMK-11", "SEAL-GMK-12", "SEAL-GMK-13", "SEAL-GMK-14", "SEAL-GMK-15"
)
@pytest.mark.req("SEAL-GMK-23", "SEAL-GMK-24", "SEAL-GMK-25", "SEAL-GMK-26", "MC-GMK-08", "MC-GMK-09", "MC-GMK-10")
@pytest.mark.req("MC-GMK-11")
async def test_each_message_is_for_one_user_from_the_gms(
    gms: GmsInside, kms: KmsSecrets, alice: ValClient, bob: ValClient
) -> None:
    for user in (ALICE, BOB):
        await gms.user(user, CREW)
    key_id = bytes.fromhex(await gms.management.make_key([CREW], text="shift 1"))
    await gms.serve(alice)
    await gms.serve(bob)
    texts = {request.user: request.i_message for request in gms.asked}
    number = kms.kms.number_at(NOW + 2208988800)
    for user in (ALICE, BOB):
        parsed = mikey.parse(texts[user])
        assert parsed.identity(mikey.ROLE_INITIATOR_UID).octets == kms.kms.uid(GMS, number)
        assert parsed.identity(mikey.ROLE_RESPONDER_UID).octets == kms.kms.uid(user, number)
        keys = kms.user_keys(user)
        received = i_message.open_(texts[user], kms.kms, user, keys.decryption_key, [GMS])
        assert received.key_id == key_id
        assert received.guk_id == parsed.csb_id == guk_id(key_id, received.key, user)
        assert received.parameters.text == "shift 1"
        assert b"shift 1" not in texts[user] and CREW.encode() not in texts[user]
    held = [client.sending_key(CREW) for client in (alice, bob)]
    assert held[0] and held[1] and held[0].gmk == held[1].gmk
    assert held[0].endpoint_key != held[1].endpoint_key and held[0].guk_id != held[1].guk_id
    for swapped in (notice(texts[BOB]), notice(texts[BOB], user=BOB)):
        assert (await alice.take(swapped)).code == "wrong-receiver"


@pytest.mark.req("SEAL-GMK-16")
def test_the_end_point_specific_key_depends_on_the_service_the_user_and_the_gmk() -> None:
    gmk, name = bytes(range(16)), b"\x01\x02\x03\x04"
    # the last 16 octets of KDF(GMK, FF, service, user URI, GUK-ID), written out (TS 33.220 annex B)
    text = b"\xff" + b"".join(
        part + len(part).to_bytes(2, "big") for part in (b"group-management", ALICE.encode(), name)
    )
    first = endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, ALICE, name)
    assert first == hmac.digest(gmk, text, "sha256")[-16:]
    others = [
        endpoint_key(gmk, "configuration-management", ALICE, name),
        endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, BOB, name),
        endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, ALICE, name[::-1]),
        endpoint_key(gmk[::-1], SERVICE_GROUP_MANAGEMENT, ALICE, name),
    ]
    assert len({first, *others}) == 5


@pytest.mark.req("SEAL-GMK-06", "SEAL-GMK-07")
async def test_one_gmk_serves_several_groups(gms: GmsInside, alice: ValClient, bob: ValClient) -> None:
    await gms.user(ALICE, CREW, BOARD)
    await gms.user(BOB, CREW)
    key_id = await gms.management.make_key([CREW, BOARD])
    await gms.serve(alice)
    await gms.serve(bob)
    for group in (CREW, BOARD):
        key = alice.sending_key(group)
        assert key is not None and key.key_id.hex() == key_id
    assert bob.sending_key(CREW) is not None
    assert bob.sending_key(BOARD) is None, "only groups the user is in are named to it"


@pytest.mark.req("SEAL-GMK-06", "SEAL-GMK-07", "Q-22")
async def test_who_joins_another_group_of_the_key_is_told_of_it(gms: GmsInside, alice: ValClient) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW, BOARD])
    await gms.serve(alice)
    await gms.management.add_member(BOARD, ALICE, Affiliation.IMPLICIT)
    (answer,) = await gms.serve(alice)
    assert answer.code == ""
    key = alice.sending_key(BOARD)
    assert key is not None and key.key_id.hex() == key_id


@pytest.mark.req("SEAL-GMK-37", "SEAL-GMK-38", "SEAL-GMK-40")
async def test_implicit_affiliation_waits_for_the_authorisation(gms: GmsInside, alice: ValClient) -> None:
    await gms.management.add_user(ALICE)
    await gms.management.add_member(CREW, ALICE, Affiliation.IMPLICIT)
    await gms.management.make_key([CREW])
    assert await gms.serve(alice) == []
    await gms.management.authorise(ALICE)
    (answer,) = await gms.serve(alice)
    assert answer.code == "" and alice.sending_key(CREW) is not None


@pytest.mark.req("SEAL-GMK-41", "SEAL-GMK-42", "SEAL-GMK-43", "SEAL-GMK-44")
async def test_explicit_affiliation_goes_step_by_step(gms: GmsInside, alice: ValClient) -> None:
    await gms.management.add_user(ALICE)
    await gms.management.add_member(CREW, ALICE, Affiliation.EXPLICIT)
    await gms.management.make_key([CREW])
    with pytest.raises(NotPermitted, match="not authorised"):
        await gms.management.affiliate(ALICE, CREW)
    with pytest.raises(NotPermitted, match="not authorised"):
        await gms.management.subscribe(ALICE, CREW)
    await gms.management.authorise(ALICE)
    with pytest.raises(NotPermitted, match="not affiliated"):
        await gms.management.subscribe(ALICE, CREW)
    await gms.management.affiliate(ALICE, CREW)
    assert await gms.serve(alice) == []
    await gms.management.subscribe(ALICE, CREW)
    (answer,) = await gms.serve(alice)
    assert answer.code == "" and alice.sending_key(CREW) is not None


@pytest.mark.req("SEAL-GMK-38", "SEAL-GMK-42")
async def test_nothing_goes_out_after_the_authorisation_has_ended(
    gms: GmsInside, alice: ValClient, clock: Clock
) -> None:
    await gms.user(ALICE, CREW)
    clock.unix += tuning.AUTHORISATION_S
    await gms.management.make_key([CREW])
    assert await gms.serve(alice) == []


@pytest.mark.req("SEAL-GMK-42")
async def test_a_stranger_gets_nothing(gms: GmsInside) -> None:
    await gms.management.make_key([CREW])
    with pytest.raises(NotPermitted):
        await gms.management.authorise(CAROL)
    with pytest.raises(NotPossible):
        await gms.management.add_member(CREW, CAROL, Affiliation.IMPLICIT)
    await gms.management.add_user(CAROL)
    await gms.management.authorise(CAROL)
    with pytest.raises(NotPermitted, match="not on the list"):
        await gms.management.affiliate(CAROL, CREW)
    assert await gms.courier.fetch(CAROL, 0) == []


@pytest.mark.req("SEAL-GMK-48", "SEC-01")
async def test_a_removal_changes_the_key_for_those_who_stay(gms: GmsInside, alice: ValClient, bob: ValClient) -> None:
    for user in (ALICE, BOB):
        await gms.user(user, CREW)
    old = await gms.management.make_key([CREW])
    await gms.serve(alice)
    await gms.serve(bob)
    new = await gms.management.remove_member(CREW, BOB)
    assert new is not None and new != old
    answers = await gms.serve(alice)
    assert [answer.code for answer in answers] == ["", ""]
    assert [request.purpose for request in gms.asked[-2:]] == [KEY, REVOCATION]
    assert await gms.serve(bob) == []
    key = alice.sending_key(CREW)
    assert key is not None and key.key_id.hex() == new
    assert alice.receiving_keys(CREW) == [key], "the old one was revoked"


@pytest.mark.req("SEAL-GMK-48")
async def test_a_group_whose_profile_says_so_keeps_its_key(gms: GmsInside, alice: ValClient) -> None:
    await gms.management.create_group("sip:open@gms.example.org", rekey_on_removal=False)
    await gms.user(ALICE, "sip:open@gms.example.org")
    await gms.user(BOB, "sip:open@gms.example.org")
    key_id = await gms.management.make_key(["sip:open@gms.example.org"])
    assert await gms.management.remove_member("sip:open@gms.example.org", BOB) is None
    groups = {group.uri: keys for group, _, keys in await gms.management.groups()}
    assert [(key.key_id, key.state) for key in groups["sip:open@gms.example.org"]] == [(key_id, KeyState.LIVE)]


@pytest.mark.req("SEAL-GMK-48", "SEC-01")
async def test_of_a_shared_key_only_the_group_left_gets_a_new_one(
    gms: GmsInside, alice: ValClient, bob: ValClient
) -> None:
    for user in (ALICE, BOB):
        await gms.user(user, CREW, BOARD)
    old = await gms.management.make_key([CREW, BOARD])
    await gms.serve(alice)
    await gms.serve(bob)
    new = await gms.management.remove_member(BOARD, BOB)
    await gms.serve(alice)
    bob.apply_profile(profile(2, user=BOB, crew=GMS))
    assert await gms.serve(bob) == []
    of = {group: alice.sending_key(group) for group in (CREW, BOARD)}
    assert [key.key_id.hex() for key in of.values() if key] == [old, new]
    kept = bob.sending_key(CREW)
    assert kept is not None and kept.key_id.hex() == old and bob.sending_key(BOARD) is None


@pytest.mark.req("MC-GMK-22")
async def test_a_revocation_is_repeated_until_acknowledged(gms: GmsInside, alice: ValClient, clock: Clock) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW])
    await gms.serve(alice)
    await gms.management.revoke_key(key_id)
    seen = []
    for _ in range(30):  # the answers get lost
        (request,) = await gms.courier.fetch(ALICE, 0)
        seen.append(request)
        assert await gms.courier.fetch(ALICE, 0) == [], "not before the back-off is over"
        clock.unix += tuning.BACK_OFF_MAX_S
        await gms.management.authorise(ALICE)
    assert {(request.notice_id, request.purpose) for request in seen} == {(seen[0].notice_id, REVOCATION)}
    assert len({request.i_message for request in seen}) == 30, "each is made anew, with its own time"
    (answer,) = await gms.serve(alice)
    assert answer.code == "" and alice.sending_key(CREW) is None
    assert await gms.states(key_id) == {(ALICE, KEY): "done", (ALICE, REVOCATION): "done"}
    clock.unix += 2 * tuning.BACK_OFF_MAX_S
    assert await gms.serve(alice) == []
    ((_, _, keys),) = [row for row in await gms.management.groups() if row[0].uri == CREW]
    assert [(key.state, key.gmk) for key in keys] == [(KeyState.REVOKED, None)], "nobody needs it any more"


@pytest.mark.req("SEAL-GMK-33", "MC-GMK-17")
async def test_errors_of_users_are_recorded_and_not_repeated(gms: GmsInside, alice: ValClient, clock: Clock) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW])
    (request,) = await gms.courier.fetch(ALICE, 0)
    await gms.courier.answered(ALICE, NotifyResponse(request.notice_id, code="duplicate-key-id", text="in use"))
    (delivery,) = await gms.management.deliveries(key_id)
    assert (delivery.state, delivery.code, delivery.text) == ("refused", "duplicate-key-id", "in use")
    clock.unix += tuning.BACK_OFF_MAX_S
    assert await gms.serve(alice) == []
    assert await gms.management.retry(key_id) == 1
    assert [answer.code for answer in await gms.serve(alice)] == [""]


@pytest.mark.req("SEC-36")
async def test_a_clock_that_jumps_a_year_and_back_costs_nobody_his_key(
    gms: GmsInside, alice: ValClient, clock: Clock
) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW], expiry=clock.unix + 86400)
    real = clock.unix
    clock.unix += 366 * 86400
    await gms.management.authorise(ALICE)
    for _ in range(3):
        await gms.courier.fetch(ALICE, 0)
    assert await gms.states(key_id) == {(ALICE, KEY): "waiting"}
    clock.unix = real
    await gms.management.authorise(ALICE)
    assert [answer.code for answer in await gms.serve(alice)] == [""]
    assert await gms.states(key_id) == {(ALICE, KEY): "done"}


@pytest.mark.req("Q-22")
async def test_a_lost_answer_is_answered_again(gms: GmsInside, alice: ValClient, clock: Clock) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW])
    (request,) = await gms.courier.fetch(ALICE, 0)
    first = await alice.take(request)
    again = await alice.take(request)
    assert first == again and first.code == ""
    clock.unix += tuning.ANSWER_S
    (repeated,) = await gms.serve(alice)
    assert repeated.code == "" and repeated.key_id.hex() == key_id
    assert await gms.states(key_id) == {(ALICE, KEY): "done"}


async def test_an_answer_needs_the_gmk_and_the_right_user(gms: GmsInside, alice: ValClient) -> None:
    await gms.user(ALICE, CREW)
    await gms.user(BOB, CREW)
    key_id = await gms.management.make_key([CREW])
    (request,) = await gms.courier.fetch(ALICE, 0)
    right = await alice.take(request)
    for user, answer in (
        (ALICE, NotifyResponse(right.notice_id, right.key_id, bytes(16))),
        (ALICE, NotifyResponse(right.notice_id, b"\x00\x00\x00\x01", right.proof)),
        (ALICE, NotifyResponse("other", right.key_id, right.proof)),
        (BOB, right),
    ):
        with pytest.raises(ResponseRefused):
            await gms.courier.answered(user, answer)
    assert (await gms.states(key_id))[ALICE, KEY] == "offered"
    await gms.courier.answered(ALICE, right)
    assert (await gms.states(key_id))[ALICE, KEY] == "done"


async def test_who_is_removed_while_the_message_is_made_gets_nothing(
    gms: GmsInside, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gms.user(ALICE, CREW)
    await gms.management.make_key([CREW])
    make = gms.courier._maker.make

    async def slow(*arguments):  # type: ignore[no-untyped-def]
        made = await make(*arguments)
        await gms.management.remove_member(CREW, ALICE)
        return made

    monkeypatch.setattr(gms.courier._maker, "make", slow)
    assert await gms.courier.fetch(ALICE, 0) == []


async def test_key_ids_are_never_used_again(gms: GmsInside) -> None:
    drawn = iter([b"\xff\xff\xff\xff", b"\x0f\xff\xff\xff", b"\x1f\xff\xff\xff", b"\x00\x00\x00\x07"])
    random = gms.management._random
    gms.management._random = lambda count: next(drawn) if count == 4 else random(count)
    first = await gms.management.make_key([CREW])
    second = await gms.management.make_key([CREW])
    assert (first, second) == ("0fffffff", "00000007")


async def test_a_restarted_gms_goes_on(kms: KmsSecrets, tmp_path: Path, clock: Clock, alice: ValClient) -> None:
    folder = tmp_path / "gms"
    first = await GmsInside.open(kms, folder, clock)
    await first.management.create_group(CREW)
    await first.user(ALICE, CREW)
    key_id = await first.management.make_key([CREW])
    await first.courier.fetch(ALICE, 0)
    await first.close()
    second = await GmsInside.open(kms, folder, clock)
    clock.unix += tuning.ANSWER_S
    assert [answer.key_id.hex() for answer in await second.serve(alice)] == [key_id]
    await second.close()


@pytest.mark.req("SEAL-GMK-20")
async def test_a_silent_kms_does_not_stop_a_gms_that_has_keys(kms: KmsSecrets, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = OwnKeys(kms)
    await keys.open(NOW)
    ends = (kms.kms.number_at(NOW + NTP_OFFSET) + 1) * PERIOD - NTP_OFFSET

    async def silent(moment: int) -> KeySet:
        raise NotProvisioned("The KMS does not answer.")

    answering = kms.key_set
    monkeypatch.setattr(kms, "key_set", silent)
    assert (await keys.material(ends - 1)).number == kms.kms.number_at(NOW + NTP_OFFSET)
    with pytest.raises(NotProvisioned):
        await keys.material(ends)
    monkeypatch.setattr(kms, "key_set", answering)
    assert (await keys.material(ends)).number == kms.kms.number_at(NOW + NTP_OFFSET) + 1


async def test_a_revoked_key_is_overwritten_when_all_know(gms: GmsInside, alice: ValClient, tmp_path: Path) -> None:
    await gms.user(ALICE, CREW)
    key_id = await gms.management.make_key([CREW])
    await gms.serve(alice)
    held = alice.sending_key(CREW)
    assert held is not None
    files = list(tmp_path.glob("gms.sqlite3*"))
    assert any(held.gmk.hex().encode() in path.read_bytes() for path in files)
    await gms.management.revoke_key(key_id)
    await gms.serve(alice)
    for path in tmp_path.glob("gms.sqlite3*"):
        assert held.gmk.hex().encode() not in path.read_bytes(), path.name


async def test_the_gmk_is_in_no_log_and_no_repr(
    gms: GmsInside, alice: ValClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    await gms.user(ALICE, CREW)
    await gms.management.make_key([CREW])
    await gms.serve(alice)
    held = alice.sending_key(CREW)
    assert held is not None
    shown = caplog.text + repr(await gms.management.groups()) + repr(held)
    for secret in (held.gmk, held.endpoint_key):
        assert secret.hex() not in shown and repr(secret)[2:-1] not in shown


@pytest.mark.req("SEAL-GMK-38", "SEAL-GMK-39", "SEAL-GMK-47")
async def test_who_comes_back_to_a_group_that_kept_its_key_gets_the_key_again(gms: GmsInside, alice: ValClient) -> None:
    """Its client has erased the key when it was removed."""
    group = "sip:open@gms.example.org"
    await gms.management.create_group(group, rekey_on_removal=False)
    await gms.user(ALICE, group)
    alice.apply_profile(UserProfile(ALICE, 2, {group: GMS}))
    key_id = await gms.management.make_key([group])
    await gms.serve(alice)
    await gms.management.remove_member(group, ALICE)
    alice.apply_profile(UserProfile(ALICE, 3, {}))
    assert alice.sending_key(group) is None and await gms.serve(alice) == []
    alice.apply_profile(UserProfile(ALICE, 4, {group: GMS}))
    await gms.management.add_member(group, ALICE, Affiliation.IMPLICIT)
    assert [answer.code for answer in await gms.serve(alice)] == [""]
    key = alice.sending_key(group)
    assert key is not None and key.key_id.hex() == key_id
    assert await gms.serve(alice) == []
    await gms.management.revoke_key(key_id)
    assert [answer.code for answer in await gms.serve(alice)] == [""] and alice.sending_key(group) is None


async def test_who_comes_back_to_one_of_the_groups_of_a_key_is_named_it_again(gms: GmsInside, alice: ValClient) -> None:
    groups = ("sip:a@gms.example.org", "sip:b@gms.example.org")
    for group in groups:
        await gms.management.create_group(group, rekey_on_removal=False)
    await gms.user(ALICE, *groups)
    both = dict.fromkeys(groups, GMS)
    alice.apply_profile(UserProfile(ALICE, 2, both))
    await gms.management.make_key(groups)
    await gms.serve(alice)
    await gms.management.remove_member(groups[1], ALICE)
    alice.apply_profile(UserProfile(ALICE, 3, {groups[0]: GMS}))
    await gms.serve(alice)
    assert alice.sending_key(groups[0]) is not None and alice.sending_key(groups[1]) is None
    alice.apply_profile(UserProfile(ALICE, 4, both))
    await gms.management.add_member(groups[1], ALICE, Affiliation.IMPLICIT)
    await gms.serve(alice)
    assert alice.sending_key(groups[0]) is not None and alice.sending_key(groups[1]) is not None


async def test_a_client_that_lost_its_keys_is_given_them_again_when_an_operator_says_so(
    gms: GmsInside, kms: KmsSecrets, alice: ValClient, bob: ValClient, tmp_path: Path, clock: Clock
) -> None:
    for user in (ALICE, BOB):
        await gms.user(user, CREW)
    key_id = await gms.management.make_key([CREW])
    for client in (alice, bob):
        await gms.serve(client)
    assert await gms.management.retry(key_id) == 0
    (tmp_path / "new").mkdir()
    fresh, store = client_of(kms, tmp_path / "new", clock)
    with closing(store):
        fresh.apply_profile(profile(crew=GMS))
        assert await gms.management.retry(key_id, ALICE) == 1
        assert await gms.serve(bob) == []
        assert [answer.code for answer in await gms.serve(fresh)] == [""] and fresh.sending_key(CREW) is not None
    with pytest.raises(NotPossible, match="no key for"):
        await gms.management.retry(key_id, CAROL)
    with pytest.raises(NotPossible, match="There is no key"):
        await gms.management.retry("00000000", ALICE)


async def test_a_kms_that_hangs_holds_up_a_gms_that_has_keys_for_a_moment_once_a_minute(
    kms: KmsSecrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = OwnKeys(kms)
    ends = ((NOW + NTP_OFFSET) // PERIOD + 1) * PERIOD - NTP_OFFSET
    await keys.open(ends - 400)
    asked = []

    async def hangs(moment: int) -> KeySet:
        asked.append(moment)
        await asyncio.sleep(3600)
        raise AssertionError

    monkeypatch.setattr(kms, "key_set", hangs)
    monkeypatch.setattr(tuning, "OWN_KEYS_WAIT_S", 0.05)
    present = kms.kms.number_at(ends - 1 + NTP_OFFSET)
    async with asyncio.timeout(5):
        for second in range(200):
            assert (await keys.material(ends - 250 + second)).number == present
    assert len(asked) == 4


async def test_no_key_is_made_whose_message_no_client_would_take(gms: GmsInside, alice: ValClient) -> None:
    groups = [f"sip:{number}{'x' * 240}@gms" for number in range(9)]
    for group in groups:
        await gms.management.create_group(group)
    await gms.user(ALICE, *groups)
    alice.apply_profile(UserProfile(ALICE, 2, dict.fromkeys(groups, GMS)))
    with pytest.raises(NotPossible, match="2048 octets together"):
        await gms.management.make_key(groups)
    with pytest.raises(NotPossible, match="2048 octets together"):
        await gms.management.make_key(groups[:8], text="t" * 256)
    await gms.management.make_key(groups[:8], text="t" * 50)
    assert [answer.code for answer in await gms.serve(alice)] == [""]
    assert len(gms.asked[0].i_message) < mikey.MESSAGE_MAX
