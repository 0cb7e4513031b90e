"""The VAL/MC client: what it refuses, each with its code and with nothing stored, and what it does with good keys."""

import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cpns.crypto.hkdf import hkdf
from gateway_agent.store.errors import StoreDamaged
from gateway_agent.val_client.bridged_groups import group_key
from gateway_agent.val_client.client import ValClient
from gateway_agent.val_client.gmk_checks import Authority, Settings, psi
from gateway_agent.val_client.gmk_store import GmkStore
from mikey_sakke import eccsi
from mikey_sakke import message as mikey
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key, proof
from mikey_sakke.errors import MikeyError, WrongReceiver
from mikey_sakke.group_configuration import (
    REVOCATION,
    TEXT_MAX,
    NotifyRequest,
    NotifyResponse,
    UserProfile,
    decode_profile,
    decode_requests,
    decode_response,
    encode_profile,
    encode_requests,
    encode_response,
)
from mikey_sakke.identifiers import NTP_OFFSET
from tests.unit.seal_faults import CHANGED, rebuilt, without
from tests.unit.seal_world import (
    ALICE,
    BOARD,
    BOB,
    CREW,
    GMS,
    NOW,
    OTHER_GMS,
    PERIOD,
    Clock,
    KmsSecrets,
    client_of,
    notice,
    profile,
)

END_OF_NTP_ERA = (1 << 32) - NTP_OFFSET  # Unix second, in 2036


@pytest.fixture(scope="module")
def kms() -> KmsSecrets:
    return KmsSecrets()


@pytest.fixture(scope="module")
def stranger() -> KmsSecrets:
    return KmsSecrets()


@pytest.fixture(scope="module")
def good(kms: KmsSecrets) -> bytes:
    return kms.i_message(text="shift 1")


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Side:
    """A client with its file."""

    def __init__(self, kms: KmsSecrets, folder: Path, clock: Clock, settings: Settings | None = None) -> None:
        self.changes: list[set[str]] = []
        self.client, self.store = client_of(kms, folder, clock, settings=settings, changed=self.changes.append)
        self.path = folder / "ali.sqlite3"
        self.client.apply_profile(profile(crew=GMS))

    async def take(self, octets: bytes, **more: Any) -> NotifyResponse:
        return await self.client.take(notice(octets, **more))

    def rows(self) -> dict[str, int]:
        """How much is in the file, but for the profile."""
        with closing(sqlite3.connect(self.path)) as file:
            return {
                table: file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("gmk", "gmk_group", "revoked", "seen")
            }


@pytest.fixture
def side(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> Iterator[Side]:
    made = Side(kms, tmp_path, clock)
    yield made
    made.store.close()


async def assert_refused(side: Side, octets: bytes, code: str, **more: Any) -> None:
    before = side.rows()
    response = await side.take(octets, **more)
    assert response.code == code, response.text
    assert 10 < len(response.text) <= TEXT_MAX and not response.key_id and not response.proof
    assert side.rows() == before, "nothing may be stored"
    assert side.client.counters[f"refused.{code}"] == 1
    assert decode_response(encode_response(response)) == response


# what comes is right


@pytest.mark.req(
    "SEAL-GMK-19", "SEAL-GMK-27", "SEAL-GMK-28", "SEAL-GMK-30", "SEAL-GMK-31", "SEAL-GMK-34", "SEAL-GMK-35"
)
@pytest.mark.req("MC-GMK-03", "MC-GMK-04", "MC-GMK-12", "MC-GMK-14", "MC-GMK-16", "MC-GMK-18", "MC-GMK-19")
async def test_a_good_message_is_stored_and_answered(side: Side, kms: KmsSecrets) -> None:
    gmk = secrets.token_bytes(16)
    octets = kms.i_message(gmk=gmk, text="shift 1", activation=NOW - 60, expiry=NOW + 3600)
    response = await side.take(octets)
    (key,) = side.store.all()
    assert (key.gmk, key.key_id, key.gms) == (gmk, b"\x01\x02\x03\x04", GMS)
    assert key.guk_id == mikey.parse(octets).csb_id
    assert (key.activation, key.expiry, key.text, key.groups) == (NOW - 60, NOW + 3600, "shift 1", (CREW,))
    assert key.endpoint_key == endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, ALICE, key.guk_id)
    assert response == NotifyResponse("n1", key.key_id, proof(key.endpoint_key, "n1", key.key_id))
    assert side.changes == [{CREW}]
    assert gmk.hex() not in repr(key) and key.endpoint_key.hex() not in repr(key)


async def test_payloads_may_come_in_another_order(side: Side, kms: KmsSecrets, good: bytes) -> None:
    def reverse(payloads: list[Any]) -> list[Any]:
        return payloads[::-1]

    assert (await side.take(rebuilt(kms, good, reverse))).code == ""


@pytest.mark.req("SEAL-GMK-34")
async def test_keys_survive_a_restart_in_a_private_file(
    side: Side, kms: KmsSecrets, tmp_path: Path, clock: Clock, good: bytes
) -> None:
    await side.take(good)
    side.store.close()
    assert stat.S_IMODE(side.path.stat().st_mode) == 0o600
    client, store = client_of(kms, tmp_path, clock)
    assert client.sending_key(CREW) is not None
    store.close()
    side.path.chmod(0o640)
    with pytest.raises(StoreDamaged, match="can be read by others"):
        GmkStore(side.path)


# what comes is wrong


async def test_every_truncation_is_malformed(side: Side, good: bytes) -> None:
    for length in range(1, len(good)):
        response = await side.take(good[:length])
        assert response.code == "malformed", length
    assert not any(side.rows().values())


@pytest.mark.req("SEAL-GMK-31", "SEAL-GMK-33", "MC-GMK-16", "MC-GMK-17")
@pytest.mark.parametrize("case", CHANGED)
async def test_a_changed_field_is_refused_by_its_own_code(side: Side, kms: KmsSecrets, good: bytes, case: str) -> None:
    change, code = CHANGED[case]
    await assert_refused(side, rebuilt(kms, good, change), code)


@pytest.mark.parametrize("csb_id", [b"\x01\x02\x03\x05", b"\x11\x02\x03\x04"], ids=["GUK-ID", "purpose tag"])
async def test_a_changed_csb_id_is_refused(side: Side, kms: KmsSecrets, good: bytes, csb_id: bytes) -> None:
    await assert_refused(side, rebuilt(kms, good, list, csb_id), "bad-parameters")


@pytest.mark.parametrize("role", [mikey.ROLE_INITIATOR_KMS, mikey.ROLE_RESPONDER_KMS])
async def test_the_names_of_the_kms_may_be_left_out(side: Side, kms: KmsSecrets, good: bytes, role: int) -> None:
    """RFC 6509 makes both payloads optional; the UIDs of both ends hold the name all the same."""
    assert (await side.take(rebuilt(kms, good, without(mikey.Identity, role)))).code == ""


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda good: good + b"\x00", id="octets after SIGN"),
        pytest.param(lambda good: b"\x02" + good[1:], id="another version"),
        pytest.param(lambda good: good[:1] + b"\x00" + good[2:], id="another data type"),
        pytest.param(lambda good: good + bytes(4096), id="oversized"),
        pytest.param(lambda good: good[:2] + b"\x04" + good[3:], id="SIGN first"),
        pytest.param(lambda good: good[:2] + b"\x63" + good[3:], id="unknown payload"),
    ],
)
async def test_a_broken_frame_is_malformed(side: Side, good: bytes, spoil: Callable[[bytes], bytes]) -> None:
    await assert_refused(side, spoil(good), "malformed")


@pytest.mark.req("SEAL-GMK-27", "MC-GMK-12")
@pytest.mark.parametrize("part", ["r", "s", "PVT", "PVT off the curve", "text", "r zero"])
async def test_a_wrong_signature_is_refused(side: Side, good: bytes, part: str) -> None:
    octets, start = bytearray(good), len(good) - 129
    if part == "PVT off the curve":
        octets[start + 64 :] = b"\x04" + bytes(63) + b"\x01"
    elif part == "r zero":
        octets[start : start + 32] = bytes(32)
    else:
        octets[{"r": start, "s": start + 40, "PVT": start + 100, "text": 25}[part]] ^= 1
    await assert_refused(side, bytes(octets), "bad-signature")


@pytest.mark.req("SEAL-GMK-27", "MC-GMK-12")
async def test_keys_of_a_foreign_kms_sign_nothing_here(side: Side, stranger: KmsSecrets) -> None:
    await assert_refused(side, stranger.i_message(), "bad-signature")  # the same KMS name, other secrets


@pytest.mark.parametrize("ahead", [-301, 301])
async def test_a_time_outside_of_the_window_is_refused(side: Side, kms: KmsSecrets, ahead: int) -> None:
    await assert_refused(side, kms.i_message(now=NOW + ahead), "outside-window")


@pytest.mark.parametrize("ahead", [-300, 300])
async def test_the_window_is_five_minutes_each_way(side: Side, kms: KmsSecrets, ahead: int) -> None:
    assert (await side.take(kms.i_message(now=NOW + ahead))).code == ""


async def test_keys_come_after_the_year_2036_as_before(kms: KmsSecrets, tmp_path: Path) -> None:
    """T counts seconds since 1900 in 32 bits, which end then."""
    for moment in (END_OF_NTP_ERA - 1, END_OF_NTP_ERA, END_OF_NTP_ERA + 400 * PERIOD):
        keys, folder = kms.user_keys(ALICE, moment), tmp_path / str(moment)
        folder.mkdir()
        store = GmkStore(folder / "gmks")
        client = ValClient(ALICE, store, lambda keys=keys: keys, Clock(moment))
        client.apply_profile(profile(crew=GMS))
        assert (await client.take(notice(kms.i_message(now=moment)))).code == ""
        assert client.sending_key(CREW) is not None
        store.close()


@pytest.mark.req("SEAL-GMK-19")
async def test_the_next_key_period_needs_its_own_keys(side: Side, kms: KmsSecrets, clock: Clock) -> None:
    clock.unix = NOW + PERIOD
    await assert_refused(side, kms.i_message(now=NOW + PERIOD), "no-key-for-period")


async def test_without_keys_of_a_kms_nothing_is_taken(tmp_path: Path, clock: Clock, good: bytes) -> None:
    store = GmkStore(tmp_path / "gmks")
    client = ValClient(ALICE, store, lambda: None, clock)
    assert (await client.take(notice(good))).code == "no-key-for-period"
    store.close()


@pytest.mark.req("SEAL-GMK-32", "MC-GMK-13")
async def test_another_gms_may_not_key_the_group(side: Side, kms: KmsSecrets) -> None:
    await assert_refused(side, kms.i_message(sender=OTHER_GMS), "wrong-initiator", gms=OTHER_GMS)


@pytest.mark.req("SEAL-GMK-32", "MC-GMK-13")
async def test_a_gms_of_another_group_may_not_key_this_one(side: Side, kms: KmsSecrets) -> None:
    side.client.apply_profile(profile(2, crew=GMS, board=OTHER_GMS))
    await assert_refused(side, kms.i_message(sender=OTHER_GMS), "unauthorised-group", gms=OTHER_GMS)


async def test_the_notifier_must_be_the_signer(side: Side, kms: KmsSecrets) -> None:
    side.client.apply_profile(profile(2, crew=GMS, board=OTHER_GMS))
    await assert_refused(side, kms.i_message(sender=OTHER_GMS, groups=(BOARD,)), "wrong-initiator", gms=GMS)


@pytest.mark.req("SEAL-GMK-32", "SEAL-GMK-33")
@pytest.mark.parametrize("groups", [(BOARD,), (CREW, BOARD)])
async def test_a_group_that_is_not_in_the_profile_is_refused(
    side: Side, kms: KmsSecrets, groups: tuple[str, ...]
) -> None:
    await assert_refused(side, kms.i_message(groups=groups), "unauthorised-group")


@pytest.mark.req("SEAL-GMK-32", "SEAL-GMK-36")
@pytest.mark.parametrize("before", [profile(1), profile(1, board=GMS)])
async def test_the_profile_is_asked_for_before_a_group_is_refused(
    kms: KmsSecrets, tmp_path: Path, clock: Clock, good: bytes, before: UserProfile
) -> None:
    client, store = client_of(kms, tmp_path, clock)
    client.apply_profile(before)
    asked = []

    async def unchanged() -> None:
        asked.append(client.profile)

    async def added() -> None:
        client.apply_profile(profile(2, crew=GMS))

    assert (await client.take(notice(good), unchanged)).code in ("unauthorised-group", "wrong-initiator")
    assert asked == [before] and store.all() == []
    assert (await client.take(notice(good), added)).code == ""
    store.close()


@pytest.mark.req("SEAL-GMK-30")
async def test_a_key_without_group_is_refused(side: Side, kms: KmsSecrets) -> None:
    await assert_refused(side, kms.i_message(groups=()), "bad-parameters")


@pytest.mark.req("MC-GMK-13", "MC-GMK-20", "MC-GMK-21")
async def test_the_name_of_the_group_can_show_who_may_key_it(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> None:
    side = Side(kms, tmp_path, clock, Settings(authority=Authority.NAME))
    foreign = "sip:crew@gms.elsewhere.org"
    side.client.apply_profile(
        type(side.client.profile)(ALICE, 2, {CREW: GMS, foreign: GMS})  # type: ignore[misc]
    )
    await assert_refused(side, kms.i_message(groups=(foreign,)), "unauthorised-group")
    assert (await side.take(kms.i_message())).code == ""
    side.store.close()
    assert psi(CREW) == psi(GMS) == psi("https://gms.example.org/groups") == "gms.example.org"


@pytest.mark.req("SEAL-GMK-29", "MC-GMK-15")
async def test_a_key_id_in_use_for_another_key_is_refused(side: Side, kms: KmsSecrets, good: bytes) -> None:
    await side.take(good)
    await assert_refused(side, kms.i_message(gmk=bytes(16)), "duplicate-key-id")


@pytest.mark.req("Q-22")
async def test_the_same_key_material_is_answered_again(side: Side, kms: KmsSecrets, good: bytes) -> None:
    first, again = await side.take(good), await side.take(good)
    assert first == again
    assert (await side.take(kms.i_message(text="shift 1", now=NOW + 1))) == first
    assert len(side.store.all()) == 1


async def test_a_replay_after_the_deletion_is_refused(side: Side, good: bytes) -> None:
    await side.take(good)
    side.client.apply_profile(profile(2))
    side.client.apply_profile(profile(3, crew=GMS))
    await assert_refused(side, good, "replayed")


async def test_a_malleated_signature_does_not_help_a_replay(side: Side, good: bytes) -> None:
    await side.take(good)
    side.client.apply_profile(profile(2))
    side.client.apply_profile(profile(3, crew=GMS))
    start = len(good) - 129
    s = int.from_bytes(good[start + 32 : start + 64], "big")
    other = good[: start + 32] + (int(eccsi.P256.q) - s).to_bytes(32, "big") + good[start + 64 :]
    await assert_refused(side, other, "replayed")


async def test_an_expired_key_is_refused_and_an_old_one_erased(side: Side, kms: KmsSecrets, clock: Clock) -> None:
    await assert_refused(side, kms.i_message(expiry=NOW), "expired")
    assert (await side.take(kms.i_message(expiry=NOW + 10))).code == ""
    clock.unix += 10
    assert side.client.sending_key(CREW) is None
    side.client.tick()
    assert side.store.all() == [] and side.changes == [{CREW}, {CREW}]


async def test_a_key_of_another_purpose_is_refused(side: Side, kms: KmsSecrets) -> None:
    await assert_refused(side, kms.i_message(key_id=b"\x21\x02\x03\x04", key_type=2, groups=()), "bad-parameters")


async def test_a_notification_for_another_user_is_refused(side: Side, good: bytes) -> None:
    await assert_refused(side, good, "wrong-receiver", user=BOB)


# revocation


@pytest.mark.req("MC-GMK-22")
async def test_a_revoked_key_is_erased_and_never_taken_again(side: Side, kms: KmsSecrets, good: bytes) -> None:
    await side.take(good)
    response = await side.take(kms.i_message(status=0), purpose=REVOCATION, name="n2")
    assert response.code == "" and response.key_id == b"\x01\x02\x03\x04"
    assert side.store.all() == [] and side.changes[-1] == {CREW}
    again = await side.take(kms.i_message(status=0, now=NOW + 1), purpose=REVOCATION, name="n2")
    assert again == response, "a repeated revocation is acknowledged again"
    await assert_refused(side, kms.i_message(now=NOW + 2), "revoked")


@pytest.mark.req("MC-GMK-22")
async def test_strict_reading_takes_a_clear_bit_for_a_revocation(kms: KmsSecrets, tmp_path: Path, clock: Clock) -> None:
    side = Side(kms, tmp_path, clock, Settings(strict_status=True))
    await side.take(kms.i_message())
    assert (await side.take(kms.i_message(status=0))).code == ""
    assert side.store.all() == []
    side.store.close()


async def test_lenient_reading_takes_a_live_key_with_status_0(side: Side, kms: KmsSecrets) -> None:
    assert (await side.take(kms.i_message(status=0))).code == ""
    assert side.client.sending_key(CREW) is not None


async def test_the_signed_status_must_agree_with_a_revocation(side: Side, kms: KmsSecrets, good: bytes) -> None:
    await side.take(good)
    await assert_refused(side, kms.i_message(now=NOW + 1), "bad-parameters", purpose=REVOCATION)
    assert side.client.sending_key(CREW) is not None


async def test_a_gms_cannot_revoke_the_key_of_another(side: Side, kms: KmsSecrets, good: bytes) -> None:
    await side.take(good)
    side.client.apply_profile(profile(2, crew=GMS, board=OTHER_GMS))
    octets = kms.i_message(sender=OTHER_GMS, groups=(BOARD,), status=0)
    await assert_refused(side, octets, "duplicate-key-id", gms=OTHER_GMS, purpose=REVOCATION)


# several keys, removal


@pytest.mark.req("SEAL-GMK-08", "SEAL-GMK-09")
async def test_of_several_active_keys_the_most_recent_activation_sends(
    side: Side, kms: KmsSecrets, clock: Clock
) -> None:
    for number, activation in enumerate((NOW - 10, NOW - 20, NOW + 100, 0)):
        octets = kms.i_message(gmk=secrets.token_bytes(16), key_id=bytes([1, 0, 0, number]), activation=activation)
        assert (await side.take(octets)).code == ""
    assert [key.key_id[3] for key in side.client.receiving_keys(CREW)] == [0, 1, 3]
    sending = side.client.sending_key(CREW)
    assert sending is not None and sending.key_id[3] == 3, "at once is the time of the message"
    clock.unix += 100
    sending = side.client.sending_key(CREW)
    assert sending is not None and sending.key_id[3] == 2
    assert len(side.client.receiving_keys(CREW)) == 4


@pytest.mark.req("SEAL-GMK-07", "SEAL-GMK-36", "SEAL-GMK-45", "SEAL-GMK-46", "SEAL-GMK-47")
async def test_removal_erases_the_key_unless_it_serves_another_group(side: Side, kms: KmsSecrets) -> None:
    side.client.apply_profile(profile(2, crew=GMS, board=GMS))
    shared, alone = secrets.token_bytes(16), secrets.token_bytes(16)
    await side.take(kms.i_message(gmk=shared, groups=(CREW, BOARD)))
    await side.take(kms.i_message(gmk=alone, key_id=b"\x01\x00\x00\x01"))
    assert side.client.apply_profile(profile(3, board=GMS)) == {CREW}
    assert side.client.sending_key(CREW) is None and side.client.receiving_keys(CREW) == []
    kept = side.client.sending_key(BOARD)
    assert kept is not None and kept.gmk == shared and [key.gmk for key in side.store.all()] == [shared]
    side.client.apply_profile(profile(4))
    assert side.store.all() == []
    for path in side.path.parent.iterdir():
        octets = path.read_bytes()
        assert alone not in octets and shared not in octets, f"{path.name} still holds an erased key"


@pytest.mark.req("SEAL-GMK-32", "SEAL-GMK-47")
async def test_a_group_that_moves_to_another_gms_loses_its_keys(side: Side, good: bytes) -> None:
    await side.take(good)
    side.client.apply_profile(profile(2, crew=OTHER_GMS))
    assert side.store.all() == []


async def test_an_old_profile_changes_nothing(side: Side, good: bytes) -> None:
    await side.take(good)
    side.client.apply_profile(profile(5, crew=GMS))
    assert side.client.apply_profile(profile(4)) == set()
    assert side.client.sending_key(CREW) is not None
    with pytest.raises(WrongReceiver):
        side.client.apply_profile(profile(6, user=BOB))


@pytest.mark.req("SEC-12")
def test_the_group_key_is_derived_and_never_the_gmk() -> None:
    gmk = bytes(range(16))
    made = group_key(gmk, "sg.crew", 0x10002)
    assert made == hkdf(gmk, b"keycast/gmk/1" + b"sg.crew" + b"\x00\x01\x00\x02", 16)
    others = {
        group_key(gmk, "sg.crew", 0x10003),
        group_key(gmk, "sg.board", 0x10002),
        group_key(made, "sg.crew", 0x10002),
    }
    assert len({gmk, made, *others}) == 5


# bodies


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]]",
        b"[1]",
        b'[{"notice_id":"n"}]',
        b"[" * 100_000,
        b'{"user":"a","revision":-1,"groups":{}}',
        b'{"user":"a","revision":true,"groups":{}}',
        b'{"user":"a","revision":NaN,"groups":{}}',
        b'{"user":"a","user":"b","revision":1,"groups":{}}',
        b'{"user":"a","revision":1,"groups":{},"more":1}',
        b'{"user":"a\\u0000","revision":1,"groups":{}}',
        b'{"user":"a","revision":1,"groups":{"g":5}}',
        b'{"user":"' + b"a" * 70_000 + b'","revision":1,"groups":{}}',
        b"\xff\xfe",
    ],
)
def test_other_bodies_are_malformed(body: bytes) -> None:
    for decode in (decode_profile, decode_response, decode_requests):
        with pytest.raises(MikeyError) as caught:
            decode(body)
        assert caught.value.code == "malformed"


def test_bodies_are_read_as_written(good: bytes) -> None:
    request: NotifyRequest = notice(good)
    assert decode_requests(encode_requests([request, request])) == [request, request]
    assert decode_profile(encode_profile(profile(3, crew=GMS))) == profile(3, crew=GMS)
