"""Under which key an update is sealed: never under one that a board knows which is no member any more."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore
from gateway_agent.updates import sealed
from gateway_agent.updates.sealed import SealingKey

SG = "home/lights"
KEY = GroupKey(7, b"g" * 16, 0, 1)


@pytest.fixture
def store(tmp_path: Path) -> GatewayStore:
    store = GatewayStore(tmp_path)
    with store.transaction():
        store.pn.create("home", "gw", 1)
        store.inventory.ensure_group(SG)
        store.inventory.set_version(SG, 7)
        store.group_keys.add(SG, KEY)
    return store


def test_the_newest_key_seals(store: GatewayStore) -> None:
    group = store.inventory.group(SG)
    assert group is not None and sealed.newest(store, SG) == SealingKey(group.alias, 7, b"g" * 16)


@pytest.mark.req("SEC-06", "SEC-30")
@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda of: of.inventory.mark_exposed(SG), f"{SG} waits for a new key"),
        (lambda of: of.inventory.want_revision(SG, 1), f"{SG} waits for a new key"),
        (lambda of: of.inventory.mark_all_waiting(), f"{SG} waits for a new key"),
        (lambda of: of.group_keys.delete_all(SG), f"{SG} waits for a new key"),
        (lambda of: of.inventory.set_version(SG, 8), f"{SG} waits for a new key"),
        (lambda of: of.inventory.set_end_to_end(SG), f"{SG} is end-to-end: its key is not known here"),
        (lambda of: of.inventory.mark_deleted(SG), f"there is no {SG} any more"),
    ],
    ids=["a board has left", "members not known", "restored", "no key", "key to come", "end-to-end", "deleted"],
)
def test_without_a_key_that_members_alone_have_nothing_is_sealed(
    store: GatewayStore, happens: Callable[[GatewayStore], None], why: str
) -> None:
    with store.transaction():
        happens(store)
    assert sealed.newest(store, SG) == why


@pytest.mark.req("SEC-06")
def test_a_group_that_its_last_board_has_left_waits_for_no_key(store: GatewayStore) -> None:
    with store.transaction():
        store.inventory.mark_exposed(SG)
        store.inventory.reach_revision(SG, 2)
    assert sealed.newest(store, SG) == f"no board is in {SG}, so it gets no new key"
    with store.transaction():
        store.inventory.want_revision(SG, 3)
    assert sealed.newest(store, SG) == f"{SG} waits for a new key"  # boards may have joined


@pytest.mark.req("SEC-06")
def test_a_newer_key_seals_again(store: GatewayStore) -> None:
    with store.transaction():
        store.inventory.mark_exposed(SG)
        store.inventory.set_version(SG, 8)
        store.group_keys.add(SG, GroupKey(8, b"n" * 16, 0, 1))
    found = sealed.newest(store, SG)
    assert isinstance(found, SealingKey) and (found.version, found.key) == (8, b"n" * 16)
