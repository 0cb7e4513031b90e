"""What a board collects of an update, and its installing: in files of Linux, without a restart."""

import random
from hashlib import sha256

import pytest

from device_agent.host import updates as host
from device_agent.host.storage import FileStorage
from device_agent.key_store import KeyStore
from device_agent.update import head, install, slot_record
from device_agent.update import key as update_key
from suit import numbers as n
from suit.coded import CodedImage

IMAGE = random.Random(1).randbytes(40 * n.BLOCK + 77)
CODED = CodedImage(IMAGE)


class Board:
    def __init__(self, folder):
        self.folder = folder
        self.storage = FileStorage(folder / "nvs")
        self.store = KeyStore(self.storage)
        self.updates = host.updates(self.store, folder / "files", {b"c" * 16: "agent"}, lambda: None)

    def begin(self, number=1, image=IMAGE):
        return self.updates.begin("agent", number, len(image), sha256(image).digest(), b"envelope")

    def install(self):
        collection = install.due(self.updates)
        return collection and install.run(self.updates, self.store, collection, lambda: None)

    def slot(self, number):
        return (self.folder / "files" / f"agent.{number}").read_bytes()


@pytest.fixture
def board(tmp_path):
    board = Board(tmp_path)
    yield board
    board.storage.close()


def stored(collection):
    return [index for index in range(CODED.code.frames) if collection.held(index)]


def held(seed, lost):
    """The frames that arrive, each with probability 1 - lost."""
    chance = random.Random(seed)
    return [index for index in range(CODED.code.frames) if chance.random() >= lost]


def test_an_image_is_made_of_frames_and_tried_and_confirmed(board):
    collection = board.begin()
    for index in held(2, 0.2):
        collection.put(index, CODED.frame(index))
    collection.full()
    assert board.install() and board.updates.state().trial == 1
    assert board.slot(1).startswith(IMAGE) and len(board.slot(1)) == len(IMAGE) + 64
    assert board.updates.resume() is None and not (board.folder / "files" / "update.log").exists()
    board.updates.confirm()  # not yet: the files run
    assert board.updates.state().trial == 1
    board.updates.flash.slot = 1
    board.updates.confirm()
    assert board.updates.state().agent_number == 1
    second = board.begin(2)
    assert second.slot == 2
    second.drop()


def test_a_collection_goes_on_after_a_restart(board):
    collection = board.begin()
    for number, page in enumerate(CODED.pages()):
        collection.put_page(number, page)
    for index in range(10):
        collection.put(index, CODED.frame(index))
    collection.close()
    again = board.updates.resume()
    assert (again.kind, again.number, again.size, again.envelope) == ("agent", 1, len(IMAGE), b"envelope")
    assert stored(again) == list(range(10)) and again.frame(3) == CODED.frame(3)
    assert [again.page(number) for number in range(again.pages())] == CODED.pages()
    again.drop()


def test_too_few_frames_are_collected_further(board):
    collection = board.begin()
    for index in range(CODED.code.blocks - 1):
        collection.put(index, CODED.frame(index))
    collection.full()
    assert board.install() is False and install.due(board.updates) is None
    again = board.updates.resume()
    again.put(CODED.code.blocks - 1, CODED.frame(CODED.code.blocks - 1))
    again.full()
    assert board.install() and board.slot(1).startswith(IMAGE)


def test_an_image_with_another_digest_is_refused_from_then_on(board):
    collection = board.updates.begin("agent", 5, len(IMAGE), bytes(32), b"envelope")
    for index in range(CODED.code.blocks):
        collection.put(index, CODED.frame(index))
    collection.full()
    assert board.install() is False
    record = board.updates.state()
    assert (record.trial, record.wanted, record.reason) == (0, 5, n.NOT_WHOLE)
    assert record.refusal(False, 5) == n.TRIED_BEFORE and board.updates.resume() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_pieces_that_nobody_wrote_are_forgotten(board):
    board.begin(5).close()
    (board.folder / "files" / "update.log").write_bytes(b"\xff" * 1026)
    assert board.updates.resume() is None and board.updates.resume() is None


def test_an_update_with_which_the_flash_fails_is_forgotten_and_refused(board):
    board.begin(5).full()
    install.give_up(board.updates, board.store)
    assert board.updates.resume() is None and board.updates.state().refusal(False, 5) == n.TRIED_BEFORE
    assert board.updates.state().reason == n.FLASH_FAILED


@pytest.mark.req("SEC-30")
def test_the_good_slot_is_not_overwritten_after_a_start_that_could_not_read_the_record(board):
    record = slot_record.SlotRecord()
    record.begin(1, 4)
    record.confirm()
    slot_record.save(board.store, record)
    collection = board.begin(5)
    assert (board.updates.flash.running(), collection.slot) == (0, 2)
    collection.close()
    board.updates.flash.slot = 2
    for use in (lambda: board.begin(6), board.updates.resume):
        with pytest.raises(OSError) as refused:
            use()
        assert refused.value.args == (16,)
    board.updates.flash.slot = 0
    again = board.updates.resume()
    assert again.number == 5  # nothing was erased for what found no slot
    again.close()


def test_frames_that_are_of_no_use_any_more_are_not_stored(board):
    collection = board.begin()
    for index in range(CODED.code.frames):
        collection.put(index, CODED.frame(index))
    assert len(stored(collection)) == CODED.code.blocks + 16
    collection.drop()


def test_an_image_without_room_is_refused_before_anything_is_erased(board):
    board.begin().close()
    with pytest.raises(OSError) as error:
        board.updates.begin("agent", 2, 1 << 45, bytes(32), b"")
    assert error.value.args == (28,)
    left = board.updates.resume()
    assert left.number == 1
    left.drop()


@pytest.mark.req("SEC-30")
@pytest.mark.parametrize("gone", [["slot"], ["slot", "upkey"]])
def test_a_board_whose_nvs_has_lost_its_records_of_updates_altogether_takes_none(board, gone):
    """The mark in its file system says that it had them."""
    update_key.keep(board.store, bytes(range(64)))
    assert not board.updates.state().refusal(False, 1)
    board.begin(7).full()
    board.begin(8).drop()
    for name in gone:
        board.store.erase(name)
    for number in (1, 7, n.NUMBER_MAX):
        assert board.updates.state().refusal(False, number) == n.NO_FLOOR
        assert board.updates.state().refusal(True, number) == n.NO_FLOOR
    assert board.updates.resume() is None and board.updates.state().slot() == slot_record.BASE


@pytest.mark.req("SEC-30")
def test_a_board_has_its_record_before_the_mark_of_its_first_update_and_both_before_the_rest(board, monkeypatch):
    """So a cut between two of these is no loss."""
    files, seen = board.folder / "files", []
    save, mark = slot_record.save, files / slot_record.MARK
    monkeypatch.setattr(slot_record, "save", lambda *what: (seen.append(("record", mark.exists())), save(*what)))
    written = head.save
    monkeypatch.setattr(head, "save", lambda *what: (seen.append(("head", mark.exists())), written(*what)))
    board.begin().drop()
    assert seen == [("record", False), ("head", True)] and mark.exists()
    assert board.store.load(slot_record.RECORD) is not None


def test_a_board_that_was_never_updated_has_lost_nothing(board):
    assert not board.updates.state().reason and not (board.folder / "files" / slot_record.MARK).exists()
