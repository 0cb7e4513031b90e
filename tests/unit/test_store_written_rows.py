"""What is kept of the store is what a fresh look finds, whatever was written, and whether or not it was undone."""

import pytest

from gateway_agent.observe import stored_state
from gateway_agent.store import written_rows
from gateway_agent.store.delivery_table import DeliveryOutcome
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.store import GatewayStore
from gateway_agent.store.written_rows import FEW, UntilWritten

GROUPS = [f"home/{number}" for number in range(3)]
BOARDS = [f"board-{number}" for number in range(4)]
SG, OTHER = GROUPS[:2]
CONFIRMED = {"board-1": DeliveryOutcome("confirmed", "wifi", 2, 9)}


@pytest.fixture
def store(tmp_path):
    store = GatewayStore(tmp_path / "gw")
    with store.transaction():
        store.pn.create("pn.home", "gw", 7)
        for board in BOARDS:
            store.pn.register(board, 1)
        for group in GROUPS:
            _fill(store, group, BOARDS[:3])
    yield store
    store.close()


def _fill(store, sg_id, members):
    store.inventory.ensure_group(sg_id)
    for board in members:
        store.inventory.add_member(sg_id, board, 0, 1)
    store.inventory.set_version(sg_id, 1)
    store.group_keys.add(sg_id, GroupKey(1, bytes(16), 0, 1))
    store.deliveries.add(sg_id, 1, 1, 1)
    store.deliveries.start(sg_id, 1, 1, dict.fromkeys(members, "pending"))


def _readers(store):
    return (
        (lambda of=None: stored_state.read(store, of), store.database.written.groups_after),
        (store.inventory.counts, store.database.written.groups_after),
        (store.pn.shown, store.database.written.pnes_after),
    )


def _new_key(store):
    store.inventory.set_version(SG, 2)
    store.group_keys.add(SG, GroupKey(2, bytes(16), 0, 1))
    store.deliveries.add(SG, 2, 1, 1, 5)
    store.deliveries.start(SG, 2, 1, {"board-0": "pending", "board-1": "sent"})


WRITES = {
    "a group is new": lambda store: store.inventory.ensure_group("home/9"),
    "a group is end-to-end": lambda store: store.inventory.set_end_to_end(SG),
    "a group is deleted": lambda store: (store.inventory.mark_deleted(SG), store.deliveries.delete_all(SG)),
    "all groups wait": lambda store: store.inventory.mark_all_waiting(),
    "somebody outside knows the key": lambda store: store.inventory.mark_exposed(OTHER),
    "a member is new": lambda store: store.inventory.add_member(SG, "board-3", 0, 2),
    "a member is gone": lambda store: store.inventory.remove_member(SG, "board-0"),
    "a key is new": _new_key,
    "a board has confirmed": lambda store: store.deliveries.set_outcomes(SG, 1, CONFIRMED),
    "a board has confirmed the key before": lambda store: (
        store.deliveries.set_outcomes(SG, 1, CONFIRMED),
        _new_key(store),
    ),
    "a board is excluded": lambda store: store.deliveries.exclude(OTHER, ["board-2"]),
    "a delivery has ended": lambda store: store.deliveries.set_phase(SG, 1, "finished", 11),
    "all deliveries are gone": lambda store: store.deliveries.delete_all(),
    "a board is new": lambda store: store.pn.register("board-9", 1),
    "a board is gone": lambda store: store.pn.set_retired("board-0"),
    "a board is held": lambda store: store.pn.set_held("board-1", True),
    "a board was heard": lambda store: store.pn.set_heard("board-1", 12, "192.0.2.7:5683", "ble"),
    "a board has other software": lambda store: store.pn.set_software("board-2", "9.9"),
    "more groups than are read one by one": lambda store: [
        _fill(store, f"home/many/{number}", BOARDS[:2]) for number in range(FEW + 1)
    ],
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_what_is_kept_is_what_a_fresh_look_finds(store, write):
    readers = [(UntilWritten(store.database.written, after, read), read, read()) for read, after in _readers(store)]
    for kept, _, before in readers:
        assert before and kept() == before and kept() is kept()
    with store.transaction():
        write(store)
    fresh = [read() for _, read, _ in readers]
    assert any(found != before for found, (_, _, before) in zip(fresh, readers, strict=True))
    for (kept, _, _), found in zip(readers, fresh, strict=True):
        assert kept() == found and list(kept()) == list(found)  # in the same order


def test_a_look_inside_a_transaction_that_is_undone_is_not_kept(store):
    kept = UntilWritten(store.database.written, store.database.written.groups_after, store.inventory.counts)
    before = kept()
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.inventory.remove_member(SG, "board-0")
        assert kept() != before
        raise ZeroDivisionError
    assert kept() == before == store.inventory.counts()


def test_every_table_that_is_read_is_followed(tmp_path):
    """One that is not would be kept as it was for ever."""
    store, tables = GatewayStore(tmp_path / "gw"), set()

    def note(action, table, column, *_):
        if action == 20:  # SQLITE_READ
            tables.add(table)
        return 0

    store.database._file.connection.set_authorizer(note)
    for read, _ in _readers(store):
        read()
    store.close()
    assert tables == set(written_rows._KEYS)


def test_a_write_about_one_group_is_about_no_other(store):
    number = store.database.written.number
    with store.transaction():
        store.deliveries.set_outcomes(SG, 1, CONFIRMED)
        store.pn.set_heard("board-1", 12, "", "")
    assert store.database.written.groups_after(number) == {SG}
    assert store.database.written.pnes_after(number) == {"board-1"}
