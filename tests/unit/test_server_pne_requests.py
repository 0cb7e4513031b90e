"""What the Server answers to PNEs on their own sessions: the newest version, and never a key."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage, NotAllowed
from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.pne_requests import PneRequests
from key_servers.errors import StoreFailed
from tests.unit.cpns_server_parts import House, error_of, succeeded

SG = "alarm"
EUK = b"a key of 16 octs"
ON_ITS_OWN = ServerConfig(listen=["127.0.0.1"], port=0, batching_s=0)


class Desk:
    """A Server with a lamp in the end-to-end group `SG`, and the answers to its requests.

    `wanted` lists the (PNE ID, SG ID) that a key is to be delivered to.
    """

    def __init__(self, house: House) -> None:
        self.house = house
        self.home = house.gateway("home")
        self.wanted: list[tuple[str, str]] = []
        store = house.server._store
        self.keys = EntityUserKeys(store, lambda _: None)
        self.counters: Counter[str] = Counter()
        self.requests = PneRequests(
            store, house.server._keys, self.keys, lambda *names: self.wanted.append(names), self.counters
        )

    def say(self, pne_id: str, code: int, fields: dict[int, Any], euk: bytes | None = None) -> dict[int, Any]:
        answer_code, answer = m.decode(self.requests.handle(pne_id, euk, m.encode(code, fields), self.house.clock()))
        assert answer_code == code + 1
        return dict(answer)

    def pull(self, pne_id: str = "lamp", sg_id: str = SG, version: int = 0, lost: int = 0) -> dict[int, Any]:
        fields = {m.PNE_ID: pne_id, m.SG_ID: sg_id, m.VERSION: version}
        return self.say(pne_id, n.KEY_PULL_REQUEST, fields | ({m.WINDOWS_LOST: lost} if lost else {}))


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    house = await House.open(tmp_path, ON_ITS_OWN)
    desk = Desk(house)
    house.server.create_group(SG, open_to=["pn.home"], trust="end-to-end", rekey_on_join=False)
    await house.join(desk.home, "lamp", SG)
    yield desk
    await house.server.close()


@pytest.mark.req("CPNS-GKM-78", "SEC-26")
async def test_a_pull_names_the_newest_version_without_a_key_and_has_that_wrapped_anew(desk: Desk) -> None:
    answer = desk.pull()
    assert succeeded(answer) and m.GROUP_KEY not in answer
    assert answer[m.SG_ID] == SG and answer[m.VERSION] == 1
    assert answer[m.PROTECTION] == n.PROTECTION_SEALED and answer[m.TIME] == desk.house.clock().unix
    assert desk.wanted == [("lamp", SG)]


async def test_a_pne_that_has_the_newest_key_is_sent_nothing(desk: Desk) -> None:
    assert desk.pull(version=1)[m.VERSION] == 1
    assert desk.wanted == []


async def test_a_key_whose_replacement_is_due_is_replaced_first(desk: Desk) -> None:
    await desk.house.join(desk.home, "door", SG)
    await desk.house.leave(desk.home, "door", SG)
    assert desk.pull(version=1)[m.VERSION] == 2
    assert desk.wanted == [("lamp", SG)]


@pytest.mark.req("SEC-24")
async def test_lost_windows_make_a_new_key_once_an_hour(desk: Desk) -> None:
    assert desk.pull(version=1, lost=1)[m.VERSION] == 1
    assert desk.pull(version=1)[m.VERSION] == 2
    desk.pull(version=2, lost=2)
    assert desk.pull(version=2)[m.VERSION] == 2, "not twice within the hour"
    desk.house.clock.advance(3601)
    desk.pull(version=2, lost=1)
    assert desk.pull(version=2)[m.VERSION] == 2, "the windows of an older version are no loss"
    desk.pull(version=2, lost=2)
    assert desk.pull(version=2)[m.VERSION] == 3


@pytest.mark.req("SEC-24", "SEC-25")
async def test_a_pn_gw_has_lost_no_windows_of_a_group_that_it_cannot_read(desk: Desk) -> None:
    """It could use up for all members what is allowed once an hour. It passes on the word of a member, who is named."""
    fields = {m.SG_ID: SG, m.VERSION: 1, m.WINDOWS_LOST: 1}
    assert (await desk.house.ask(desk.home, n.KEY_PULL_REQUEST, fields))[m.VERSION] == 1
    assert not desk.house.server.show_group(SG).update_pending
    await desk.house.ask(desk.home, n.KEY_PULL_REQUEST, fields | {m.PNE_ID: "lamp"})
    assert desk.house.server.show_group(SG).update_pending


@pytest.mark.req("SEC-24")
async def test_a_loss_that_could_not_be_stored_is_not_counted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(desk.house.server._keys, "update_soon", _full_disk)
        with pytest.raises(StoreFailed):
            desk.requests.pull("lamp", {m.SG_ID: SG, m.VERSION: 1, m.WINDOWS_LOST: 1}, desk.house.clock())
    desk.pull(version=1, lost=1)
    assert desk.pull(version=1)[m.VERSION] == 2


def _full_disk(*_: object) -> None:
    raise StoreFailed("full", "make room")


@pytest.mark.req("SEC-06")
async def test_membership_is_that_of_the_moment_and_of_the_name_that_the_session_proved(desk: Desk) -> None:
    for pne_id, sg_id in (("door", SG), ("lamp", "no such group"), ("lamp", "home/alarm")):
        assert error_of(desk.pull(pne_id, sg_id)) == n.ERROR_NOT_MEMBER
    with pytest.raises(NotAllowed):
        desk.say("door", n.KEY_PULL_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: SG, m.VERSION: 0})
    desk.house.server.expel(SG, "lamp")
    assert error_of(desk.pull()) == n.ERROR_NOT_MEMBER
    assert desk.wanted == []


async def test_a_group_whose_keys_the_pn_gw_delivers_and_a_held_one_are_refused(desk: Desk) -> None:
    await desk.house.create(desk.home, "lamp", "light")
    assert error_of(desk.pull(sg_id="light")) == n.ERROR_NOT_ALLOWED
    await desk.house.server.restore()
    assert error_of(desk.pull()) == n.ERROR_NOT_ALLOWED
    assert desk.wanted == []


@pytest.mark.req("SEC-19")
async def test_pulls_are_limited_for_each_pne(desk: Desk) -> None:
    await desk.house.join(desk.home, "door", SG)
    for _ in range(tuning.PNE_PULLS_PER_HOUR_MAX):
        assert succeeded(desk.pull())
    assert error_of(desk.pull()) == n.ERROR_TOO_MANY
    assert succeeded(desk.pull("door"))
    assert len(desk.wanted) == tuning.PNE_PULLS_PER_HOUR_MAX + 1


async def test_an_empty_message_is_a_sign_of_life_and_tells_the_key_of_the_session(desk: Desk) -> None:
    assert desk.requests.handle("lamp", None, b"", desk.house.clock()) == b""
    assert desk.keys.of("lamp") is None
    assert desk.requests.handle("lamp", EUK, b"", desk.house.clock()) == b""
    keys = desk.keys.of("lamp")
    assert keys is not None and (keys.current, keys.previous, keys.provisioned) == (EUK, None, False)


async def test_what_is_no_pull_of_this_pne_and_pn_is_no_request(desk: Desk) -> None:
    handle, now = desk.requests.handle, desk.house.clock()
    for octets in (b"\xff", b"\xa0", b"<KeyPullRequest/>", bytes(5000)):
        with pytest.raises(MalformedMessage):
            handle("lamp", None, octets, now)
    pull = {m.PNE_ID: "lamp", m.SG_ID: SG, m.VERSION: 0}
    for message in (
        m.encode(n.JOIN_REQUEST, {m.PNE_ID: "lamp", m.SG_ID: SG}),
        m.encode(n.RETIREMENT_REQUEST, {m.PNE_ID: "lamp", m.PN_ID: "pn.home"}),
        m.encode(n.TUNNEL_REQUEST, {m.PNE_ID: "lamp", m.DATAGRAM: b"\0"}),
        m.encode(n.KEY_PULL_REQUEST, pull | {m.PN_ID: "pn.other"}),
    ):
        with pytest.raises(NotAllowed):
            handle("lamp", None, message, now)
    assert desk.wanted == []
    assert succeeded(desk.say("lamp", n.KEY_PULL_REQUEST, pull | {m.PN_ID: "pn.home"}))


async def test_a_store_that_fails_is_told_as_such_and_names_no_reason(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StoreFailed("The disk is full.", "Make room.")

    monkeypatch.setattr(desk.requests._keys, "newest", fails)
    answer = desk.pull()
    assert answer[m.RESULT] == n.RESULT_FAIL and "disk" not in answer[m.ERROR_TEXT]
    assert desk.counters["messages_failed"] == 1
