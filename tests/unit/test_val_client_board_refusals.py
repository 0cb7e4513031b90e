"""A board that is a VAL client refuses what a gateway refuses, each fault by the same code and with nothing stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cpns import cborlite
from device_agent.key_store import KeyStore
from device_agent.val_client import records
from device_agent.val_client.client import BoardClient
from mikey_sakke import message as mikey
from mikey_sakke.curve import run
from mikey_sakke.endpoint_key import PROOF_LEN
from mikey_sakke.group_configuration import KEY
from tests.unit.seal_faults import CHANGED, rebuilt
from tests.unit.seal_world import ALICE, CREW, GMS, NOW, PERIOD, KmsSecrets


class Flash:
    """A Storage in the heap."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        return self.kept.get(name)

    def set(self, name: str, octets: bytes) -> None:
        self.kept[name] = bytes(octets)

    def delete(self, name: str) -> None:
        self.kept.pop(name, None)

    def commit(self) -> None:
        pass


class Board:
    """Alice's board; the cache of its key stands in `folder`."""

    def __init__(self, kms: KmsSecrets, folder: Path) -> None:
        self.flash = Flash()
        store, certificate = KeyStore(self.flash), kms.published
        keys = (certificate.key_period, certificate.key_offset, certificate.pub_auth_key, certificate.pub_enc_key)
        client = records.Client(ALICE, certificate.kms_uri, *keys, {CREW: GMS})
        store.save(records.PROVISIONING, records.pack_client(client))
        key_set = kms.keys_of(ALICE)
        records.save_rsks(store, {key_set.period_number: key_set.rsk})
        self.client = BoardClient(store, f"{folder}/", records.load_client(store))

    def take(self, octets: bytes, now: int = NOW) -> tuple[bytes, bytes, str, str]:
        """GMK-ID, proof, code and text of the answer."""
        name, *answer = cborlite.decode(run(self.client.receive(cborlite.encode(["n1", KEY, GMS, octets]), now)))
        assert name == "n1"
        return tuple(answer)


@pytest.fixture(scope="module")
def kms() -> KmsSecrets:
    return KmsSecrets()


@pytest.fixture(scope="module")
def good(kms: KmsSecrets) -> bytes:
    return kms.i_message(text="shift 1")


@pytest.fixture(scope="module")
def folder(kms: KmsSecrets, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("board")
    run(Board(kms, made).client.prepare(0, lambda number, percent: None))
    return made


@pytest.fixture
def board(kms: KmsSecrets, folder: Path) -> Iterator[Board]:
    return Board(kms, folder)


def assert_refused(board: Board, octets: bytes, code: str, now: int = NOW) -> None:
    before = dict(board.flash.kept)
    key_id, shown, told, text = board.take(octets, now)
    assert told == code, text
    assert len(text) > 10 and not key_id and not shown
    assert board.flash.kept == before, "nothing may be stored"


@pytest.mark.req("SEAL-GMK-28", "SEAL-GMK-34", "SEAL-GMK-35")
def test_a_good_message_is_stored_and_answered(board: Board, good: bytes) -> None:
    key_id, shown, code, _ = board.take(good)
    assert (key_id, len(shown), code) == (b"\x01\x02\x03\x04", PROOF_LEN, "")
    assert [gmk.text for gmk in records.load_gmks(KeyStore(board.flash))] == ["shift 1"]


@pytest.mark.req("SEAL-GMK-31", "SEAL-GMK-33", "MC-GMK-16", "MC-GMK-17")
@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_field_is_refused_by_its_own_code(board: Board, kms: KmsSecrets, good: bytes, case: str) -> None:
    change, code = CHANGED[case]
    assert_refused(board, rebuilt(kms, good, change), code)


def test_every_truncation_is_malformed(board: Board, good: bytes) -> None:
    for length in range(1, len(good)):
        assert_refused(board, good[:length], "malformed")


@pytest.mark.parametrize("ahead", [-301, 301])
def test_a_time_outside_of_the_window_is_refused(board: Board, good: bytes, ahead: int) -> None:
    assert_refused(board, good, "outside-window", NOW + ahead)


@pytest.mark.parametrize("now", [0, NOW + PERIOD], ids=["time unknown", "time known"])
def test_the_next_key_period_needs_its_own_keys(board: Board, kms: KmsSecrets, now: int) -> None:
    assert_refused(board, kms.i_message(now=NOW + PERIOD), "no-key-for-period", now)


def test_an_older_message_about_the_same_key_is_a_replay(board: Board, kms: KmsSecrets, good: bytes) -> None:
    assert board.take(kms.i_message(now=NOW + 1))[2] == ""
    assert_refused(board, good, "replayed")


def test_a_time_before_the_first_key_period_ends(kms: KmsSecrets, folder: Path, good: bytes) -> None:
    """A board that knows no time believes that of the message for a while."""
    board = Board(kms, folder)
    store = KeyStore(board.flash)
    client = records.load_client(store)
    store.save(records.PROVISIONING, records.pack_client(client._replace(offset=(1 << 31) + 1)))
    board.client = BoardClient(store, f"{folder}/", records.load_client(store))
    ((start, _), *_) = mikey.parse(good).places  # of T
    early = good[: start + 2] + (1 << 31).to_bytes(4, "big") + good[start + 6 :]
    assert_refused(board, early, "no-key-for-period", 0)
