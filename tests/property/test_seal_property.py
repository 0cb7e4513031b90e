"""Over random histories: deliveries end as they must, and only the entitled are ever handed a key."""

import asyncio
import secrets
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from key_servers.errors import ServerError
from key_servers.gms import tuning
from key_servers.gms.courier import NoticeCourier
from key_servers.gms.delivery import OPEN, Event, NoticeDelivery, State, back_off_s, step
from key_servers.gms.management import GroupManagement
from key_servers.gms.values import Affiliation
from key_servers.sql import migrate, open_database
from mikey_sakke.errors import MikeyError
from mikey_sakke.group_configuration import (
    KEY,
    REVOCATION,
    GroupRecord,
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
from tests.virtual_time import run

TEXTS = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xD7FF, exclude_characters="\x7f"), min_size=1, max_size=60
).filter(lambda text: len(text.encode()) <= 64)  # what the shortest of them, a notice ID, may have
EVENTS = st.sampled_from(list(Event))


@pytest.mark.req("MC-GMK-22")
@given(st.lists(st.tuples(EVENTS.filter(lambda e: e is not Event.CANCELLED), st.integers(0, 4000)), max_size=60))
def test_only_an_answer_ends_a_revocation(history: list[tuple[Event, int]]) -> None:
    delivery, now = NoticeDelivery("n", "00000001", "u", REVOCATION, ("g",)), 0
    for event, passed in history:
        now += passed
        delivery, _ = step(delivery, event, now, "malformed", "no")
        if event is Event.ANSWERED:
            assert delivery.state is State.DONE
            return
        assert delivery.state in OPEN and delivery.due <= now + tuning.BACK_OFF_MAX_S
    now += tuning.BACK_OFF_MAX_S
    delivery, send = step(delivery, Event.ASKED, now)
    assert send and delivery.state is State.OFFERED


@given(st.lists(st.tuples(EVENTS, st.integers(0, 4000), st.sampled_from(["malformed", "outside-window"])), max_size=60))
def test_a_key_is_sent_only_when_due_and_never_after_the_end(history: list[tuple[Event, int, str]]) -> None:
    delivery, now, sent = NoticeDelivery("n", "00000001", "u", KEY, ("g",)), 0, 0
    for event, passed, code in history:
        now += passed
        before = delivery
        delivery, send = step(before, event, now, code, "no")
        if send:
            assert event is Event.ASKED and before.state in OPEN and now >= before.due
            assert delivery.due == now + back_off_s(delivery.attempts)
            sent += 1
        if before.state in (State.DONE, State.CANCELLED, State.OVER):
            left = event is Event.LEFT and before.state is State.DONE
            assert delivery == (replace(before, state=State.OVER) if left else before)
        assert delivery.attempts <= tuning.KEY_ATTEMPTS_MAX
    assert sent <= tuning.KEY_ATTEMPTS_MAX * (1 + sum(event is Event.RETRY for event, _, _ in history))


class _Echo:
    """In place of the pool: a message that says what it would carry."""

    certificate = None

    async def material(self, now: int) -> Any:
        return None

    async def make(self, orders: list[Any], material: Any, now: int) -> list[bytes]:
        await asyncio.sleep(0)
        return [order.gmk + order.key_id for order in orders]


USERS, GROUPS = ("u1", "u2", "u3"), ("g1", "g2")
WORDS = ["authorise", "add", "add_explicit", "affiliate", "subscribe", "remove", "leave", "key", "shared", "revoke"]
WORDS += ["withdraw", "permit", "sleep", "sleep_a_day"]
STEPS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(USERS), st.sampled_from(GROUPS)), min_size=5, max_size=30
)


@pytest.mark.req("SEAL-GMK-38", "SEAL-GMK-42", "SEC-01")
@settings(max_examples=40)
@given(STEPS)
def test_only_the_entitled_are_handed_keys(steps: list[tuple[str, str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        begin = [("authorise", user, GROUPS[0]) for user in USERS] + [("shared", USERS[0], GROUPS[0])]
        run(_history(Path(folder), begin + steps))


async def _history(folder: Path, steps: list[tuple[str, str, str]]) -> None:
    now = [1_800_000_000]
    echo: Any = _Echo()
    database = await open_database(None, folder / "gms.sqlite3")
    await migrate(database, "key_servers.gms.migrations")
    courier = NoticeCourier(database, "gms", echo, echo, lambda: now[0], Counter())
    manage = GroupManagement(database, lambda: now[0], secrets.token_bytes, courier.changed)
    for group in GROUPS:
        await manage.create_group(group)
    for user in USERS:
        await manage.add_user(user)
    ids: set[str] = set()
    # a model in sets, apart from the program's rows
    permitted, authorised = set(USERS), dict[str, int]()
    listed, affiliated, subscribed = set[tuple[str, str]](), set[tuple[str, str]](), set[tuple[str, str]]()
    for word, user, group in steps:
        pair = (user, group)
        able = user in permitted and authorised.get(user, 0) > now[0]
        try:
            if word == "authorise":
                await manage.authorise(user)
                authorised[user] = now[0] + tuning.AUTHORISATION_S
            elif word in ("add", "add_explicit"):
                implicit = word == "add"
                await manage.add_member(group, user, Affiliation.IMPLICIT if implicit else Affiliation.EXPLICIT)
                listed.add(pair)
                if implicit:
                    affiliated.add(pair)
                    subscribed.add(pair)
            elif word == "affiliate":
                await manage.affiliate(user, group)
                assert able and pair in listed
                affiliated.add(pair)
            elif word == "subscribe":
                await manage.subscribe(user, group)
                assert able and pair in affiliated
                subscribed.add(pair)
            elif word in ("remove", "leave"):
                if word == "remove":
                    await manage.remove_member(group, user)
                    listed.discard(pair)
                else:
                    await manage.leave(user, group)
                affiliated.discard(pair)
                subscribed.discard(pair)
            elif word == "withdraw":
                await manage.withdraw_user(user)
                permitted.discard(user)
                for each in (listed, affiliated, subscribed):
                    each -= {found for found in each if found[0] == user}
            elif word == "permit":
                await manage.add_user(user)
                permitted.add(user)
            elif word in ("key", "shared"):
                key_id = await manage.make_key(GROUPS if word == "shared" else [group])
                assert key_id not in ids, "a GMK-ID is used once"
                ids.add(key_id)
            elif word == "revoke" and ids:
                await manage.revoke_key(sorted(ids)[0])
            elif word.startswith("sleep"):
                now[0] += 3600 if word == "sleep" else 86400
        except ServerError:
            pass  # refused: the model did not move either
        able = user in permitted and authorised.get(user, 0) > now[0]
        for request in await courier.fetch(user, 0):
            named = {record.uri for record in request.groups}
            entitled = {each for each in named if (user, each) in affiliated & subscribed}
            assert able and request.user == user and named
            assert named == entitled if request.purpose == KEY else entitled
            assert len(request.i_message) == 20
    for group, members, keys in await manage.groups():
        live = [key for key in keys if key.state.value == "live"]
        assert len(live) <= 1, f"{group.uri} has one key to hand out"
        assert {(member.user, group.uri) for member in members if member.affiliated} == {
            pair for pair in affiliated if pair[1] == group.uri
        }
    await database.close()


@given(
    st.lists(
        st.builds(
            NotifyRequest,
            TEXTS,
            TEXTS,
            TEXTS,
            st.sampled_from([KEY, REVOCATION]),
            st.lists(st.builds(GroupRecord, TEXTS, TEXTS), max_size=4).map(tuple),
            st.binary(min_size=1, max_size=4096),
        ),
        max_size=4,
    )
)
def test_requests_are_read_as_written(requests: list[NotifyRequest]) -> None:
    assert decode_requests(encode_requests(requests)) == requests


@given(st.builds(UserProfile, TEXTS, st.integers(0, 1 << 52), st.dictionaries(TEXTS, TEXTS, max_size=5)))
def test_profiles_are_read_as_written(profile: UserProfile) -> None:
    assert decode_profile(encode_profile(profile)) == profile


@given(TEXTS, st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16), TEXTS)
def test_responses_are_read_as_written(name: str, key_id: bytes, proof: bytes, text: str) -> None:
    for response in (NotifyResponse(name, key_id, proof), NotifyResponse(name, code="malformed", text=text)):
        assert decode_response(encode_response(response)) == response


@given(st.binary(max_size=300) | st.text(alphabet='{}[]":,\\u0123456789abeflnrstuE.-', max_size=200).map(str.encode))
def test_anything_else_is_malformed_and_nothing_worse(body: bytes) -> None:
    for decode in (decode_requests, decode_profile, decode_response):
        try:
            decode(body)
        except MikeyError as error:
            assert error.code == "malformed"
