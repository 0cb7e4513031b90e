"""The time at which a board was heard last: from its session if it has one, else from the store."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cpns import messages, numbers
from gateway_agent.sightings import Sighting, Sightings
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from message_plane.credentials import ROLE_PNE
from message_plane.sessions import Contact, Heard
from tests.unit.gateway_world import World


@dataclass
class Sessions:
    """As much of an endpoint as is asked."""

    heard: dict[str, Heard] = field(default_factory=dict)
    standing: set[str] = field(default_factory=set)

    def contacts(self, role: str) -> dict[str, Contact]:
        assert role == ROLE_PNE
        known = {"lamp", "nobody", *self.heard, *self.standing}
        return {pne_id: Contact(pne_id in self.standing, self.heard.get(pne_id)) for pne_id in known}


def seen(sessions: Sessions, store: GatewayStore, pne_id: str = "lamp") -> Sighting:
    return Sightings(sessions, store).of_boards(store.pn.shown())[pne_id]  # type: ignore[arg-type]


def full(*_: object) -> None:
    raise StoreFailed("The disk is full.", "Make room.")


@pytest.fixture
def store(tmp_path: Path):
    store = GatewayStore(tmp_path / "store")
    with store.transaction():
        store.pn.create("home", "gw", 1)
        store.pn.register("lamp", 1)
    yield store
    store.close()


def test_a_board_that_was_never_heard(store: GatewayStore) -> None:
    assert seen(Sessions(), store) == Sighting(False, 0, None, "", "", "")
    assert seen(Sessions(), store, "nobody") == Sighting(False, 0, None, "", "", "")


def test_what_was_heard_outlives_the_process(store: GatewayStore) -> None:
    here = Sessions({"lamp": Heard(30.0, "udp:192.0.2.7:5683")}, {"lamp"})
    now = seen(here, store)
    assert (now.session, now.age_s, now.address) == (True, 30.0, "192.0.2.7:5683")
    Sightings(here, store).save()  # type: ignore[arg-type]
    later = seen(Sessions(standing={"lamp"}), store)
    assert (later.session, later.heard_at, later.address) == (True, now.heard_at, now.address)
    assert later.age_s is not None and later.age_s >= 29


def test_what_was_heard_on_another_link_than_udp_is_shown_with_its_scheme(store: GatewayStore) -> None:
    here = Sessions({"lamp": Heard(1.0, "memory:house:1")})
    assert seen(here, store).address == "memory:house:1"


def test_one_transaction_writes_the_news_of_all_boards(store: GatewayStore) -> None:
    with store.transaction():
        for number in range(50):
            store.pn.register(f"lamp.{number}", 1)
    here = Sessions({f"lamp.{number}": Heard(1.0, "udp:192.0.2.7:5683") for number in range(50)})
    before = store.database.commits
    Sightings(here, store).save()  # type: ignore[arg-type]
    assert store.database.commits == before + 1
    Sightings(here, store).save()  # type: ignore[arg-type]
    assert store.database.commits == before + 1  # nothing was heard since


def test_a_new_identity_under_an_old_name_was_never_heard(store: GatewayStore) -> None:
    Sightings(Sessions({"lamp": Heard(1.0, "udp:192.0.2.7:5683")}), store).save()  # type: ignore[arg-type]
    with store.transaction():
        store.pn.set_software("lamp", "0.1.0")
        store.pn.register("lamp", 1)
    assert seen(Sessions(), store) == Sighting(False, 0, None, "", "", "")


async def test_what_a_board_says_it_runs_is_stored_when_it_changes_and_not_too_often(tmp_path: Path) -> None:
    world = await World(tmp_path / "gw").start()
    board = await world.board("lamp")

    async def says(software: str) -> str:
        fields = {messages.PNE_ID: "lamp", messages.SG_ID: "x", messages.VERSION: 0, messages.SOFTWARE: software}
        await board.ask(numbers.KEY_PULL_REQUEST, fields)
        pne = world.store.pn.pne("lamp")
        assert pne is not None
        return pne.software

    assert await says("0.1.0") == "0.1.0"
    before = world.store.database.commits
    assert await says("0.1.0") == "0.1.0" and world.store.database.commits == before
    assert await says("\u202e0.1.0") == "0.1.0"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.store.pn, "set_software", full)
        assert await says("0.1.1") == "0.1.0"
    assert [await says(f"0.2.{number}") for number in range(5)] == ["0.2.0", "0.2.1", "0.2.1", "0.2.1", "0.2.1"]
    await world.close()
