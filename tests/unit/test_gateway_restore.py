"""A gateway on an old copy gives no key away (SEC-02); roll-over and pairing (SEC-18, SEC-20)."""

import asyncio
import copy
import os
import shutil

import pytest

from cpns import cborlite, messages, numbers
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import CpnsError, NotAllowed, NotAuthentic
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.pairing_window import OPEN_S, PairingWindow
from gateway_agent.core.restore import restore
from gateway_agent.store.errors import StoreDamaged
from gateway_agent.store.store import GatewayStore
from private_store import files
from tests.unit.gateway_world import PN, Signer, World


@pytest.fixture
async def world(tmp_path):
    world = await World(tmp_path / "gw").start()
    yield world
    await world.close()


async def remove_and_replace(world, tmp_path):
    """Snapshot; then the lamp is removed, another board comes, the key changes. The snapshot is put back."""
    for name in ("lamp", "a", "b"):
        await world.board(name, "light")
    await world.server.rekey("light")
    await world.delivered("light")
    await world.close()
    shutil.copytree(world.folder, tmp_path / "snapshot")
    world.open()
    await world.start()
    await world.server.expel("light", "lamp")
    await world.server.rekey("light")
    await world.delivered("light")
    await world.board("new", "light")
    await world.server.rekey("light")
    await world.delivered("light")
    await world.close()
    shutil.rmtree(world.folder)
    shutil.copytree(tmp_path / "snapshot", world.folder)
    world.air.clear()


@pytest.mark.req("SEC-02")
async def test_an_unannounced_old_image_is_stopped_by_the_servers_word(world, tmp_path):
    await remove_and_replace(world, tmp_path)
    world.open()
    await world.start()
    await world.until(lambda: world.gateway.administration.stop_reason is not None)
    assert "restore" in world.gateway.administration.stop_reason
    await world.server.rekey("light")
    await asyncio.sleep(0.1)
    assert not world.air
    assert (await world.boards["lamp"].pull("light"))[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    answer = await world.server.send_key("light")
    assert answer[messages.ERROR] == numbers.ERROR_NOT_ALLOWED


@pytest.mark.req("SEC-02")
async def test_an_old_image_broadcasts_nothing_before_the_server_was_heard(world, tmp_path):
    await remove_and_replace(world, tmp_path)
    world.server.up = False
    world.open()
    await world.start()
    version = await world.server.rekey("light")
    assert world.store.group_keys.get("light", version) is None
    await asyncio.sleep(0.1)
    assert not world.air and not any(
        code == numbers.GROUP_KEY_DELIVERY_REQUEST for code, _ in world.boards["a"].heard_unicast
    )


@pytest.mark.req("SEC-02")
async def test_an_old_image_does_not_go_on_with_the_delivery_that_is_in_it(world, tmp_path):
    boards = [await world.board(f"b{i}", "light") for i in range(4)]
    for board in boards:
        board.deaf, board.reachable = True, False
    await world.server.rekey("light")
    await world.until(lambda: world.air)
    await world.close()
    shutil.copytree(world.folder, tmp_path / "snapshot")
    world.open()
    await world.start()
    await world.server.rekey("light")
    await world.close()
    shutil.rmtree(world.folder)
    shutil.copytree(tmp_path / "snapshot", world.folder)
    world.air.clear()
    world.open()
    await world.start()
    await world.until(lambda: world.gateway.administration.stop_reason is not None)
    await asyncio.sleep(0.2)
    assert not world.air and not world.beacons


@pytest.mark.req("SEC-02")
async def test_no_key_is_taken_before_the_servers_word(world):
    """Whether this is an old image is not known yet, and would never be once the newest version is acknowledged."""
    boards = [await world.board(f"b{i}", "light") for i in range(4)]
    world.server.up = False
    await world.restart()
    version = await world.server.rekey("light")
    assert world.server.group("light").accepted[PN] < version
    world.server.up = True
    await world.server.send_key("light")
    await world.delivered("light")
    assert [board.version("light") for board in boards] == [version] * 4


@pytest.mark.req("SEC-02")
async def test_an_old_image_of_unchanged_members_is_noticed_by_the_key_that_comes_first(world, tmp_path):
    await world.board("lamp", "light")
    await world.close()
    shutil.copytree(world.folder, tmp_path / "snapshot")
    world.open()
    await world.start()
    await world.server.rekey("light", numbers.REASON_PERIODIC)
    await world.delivered("light")
    await world.close()
    shutil.rmtree(world.folder)
    shutil.copytree(tmp_path / "snapshot", world.folder)
    world.open()  # its housekeeping has not asked yet
    version = await world.server.rekey("light", numbers.REASON_PERIODIC)
    assert "restore" in world.gateway.administration.stop_reason
    assert world.store.group_keys.get("light", version) is None


@pytest.mark.req("SEC-02")
async def test_after_restore_the_removed_board_reads_nothing_and_the_members_are_keyed(world, tmp_path):
    await remove_and_replace(world, tmp_path)
    store = GatewayStore(world.folder, restoring=True)
    restored = restore(store, os.urandom, height=6, unix=world.clock.unix_time)
    assert store.tree_masters.generations() == [257], "the old ones are gone from the medium, not only from the table"
    store.close()
    assert restored.generation == 1 + 256
    assert set(restored.pnes) == {"lamp", "a", "b"} and restored.waiting_groups == ("light",)
    world.open()
    assert world.store.group_keys.newest("light") is None
    await world.start()
    # The Server was told version 0: it sends the members and a new key.
    listed = [fields for code, fields in world.server.heard if code == numbers.VERSION_LIST_REQUEST][-1]
    assert listed[messages.VERSION_ENTRY] == [(0, "light")]
    assert not world.air and world.gateway.administration.stop_reason is None
    world.gateway.administration.register_pne("new")
    await world.server.inventory("light")
    for name in ("a", "b", "new"):
        await world.boards[name].get_gkdk()
    version = await world.server.rekey("light")
    await world.delivered("light")
    lamp = world.boards["lamp"]
    await lamp.get_gkdk()  # it may even have a GKDK of the new generation
    assert world.air
    for frame in world.air:
        assert lamp.opens(frame, "light") is None
    assert [world.boards[name].version("light") for name in ("a", "b", "new")] == [version] * 3
    assert (await lamp.pull("light"))[messages.ERROR] == numbers.ERROR_NOT_MEMBER


@pytest.mark.req("SEC-02")
async def test_database_and_tree_masters_of_different_age_are_noticed(world, tmp_path):
    await world.board("lamp")
    await world.close()
    shutil.copy(world.folder / "gateway.db", tmp_path / "old.db")
    (world.folder / "tree_masters" / "1").write_bytes(os.urandom(32))
    with pytest.raises(StoreDamaged, match="different age"):
        GatewayStore(world.folder)
    (world.folder / "tree_masters" / "1").unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        GatewayStore(world.folder)
    GatewayStore(world.folder, restoring=True).close()
    shutil.rmtree(world.folder)
    world.open()


@pytest.mark.req("SEC-02")
async def test_a_backup_holds_no_key_and_does_not_run_without_restore(world, tmp_path):
    for name in ("a", "b"):
        await world.board(name, "light")
    await world.server.rekey("light")
    await world.delivered("light")
    secrets = [world.server.group("light").key, world.store.tree_master(1)]
    backup = tmp_path / "backup.db"
    files.write_new(backup, world.store.image())
    assert not any(secret in backup.read_bytes() for secret in secrets)
    folder = tmp_path / "restored"
    folder.mkdir()
    shutil.copy(backup, folder / "gateway.db")
    store = GatewayStore(folder)
    assert "restore" in store.pn.get().stopped and not store.slots.generations()
    restored = restore(store, os.urandom, height=6, unix=0)
    assert (restored.generation, store.pn.get().stopped) == (257, None)
    store.close()


@pytest.mark.req("SEC-02")
async def test_a_restore_that_is_interrupted_stays_stopped_and_can_be_repeated(world, monkeypatch):
    await world.board("lamp", "light")
    await world.close()
    store = GatewayStore(world.folder, restoring=True)
    with monkeypatch.context() as patch:
        patch.setattr(store.tree_masters, "create", _power_cut)
        with pytest.raises(OSError, match="power"):
            restore(store, os.urandom, height=6, unix=0)
    store.close()
    store = GatewayStore(world.folder)
    assert "interrupted" in store.pn.get().stopped
    store.close()
    store = GatewayStore(world.folder, restoring=True)
    assert restore(store, os.urandom, height=6, unix=0).generation == 1 + 512
    store.close()
    world.open()


def _power_cut(*_):
    raise OSError("power cut")


async def keyed(world, *names):
    for name in names:
        await world.board(name, "light")
    await world.server.rekey("light")
    await world.delivered("light")


@pytest.mark.req("SEC-34")
async def test_what_boards_claim_stops_nothing_and_is_an_alarm(world):
    await keyed(world, "a", "b", "c", "d")
    ahead = world.server.group("light").version + 5
    for name in ("a", "b", "c", "d"):
        await world.boards[name].pull("light", version=ahead)
    await world.boards["b"].pull("light", generation=9)
    assert world.gateway.administration.stop_reason is None and world.gateway.counters["peers_ahead"] == 5
    (alarm,) = world.gateway.administration.alarms()
    assert alarm.kind == "old-copy" and "4 of the boards (a, b, c, ..)" in alarm.text and "1.6 of light" in alarm.text
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert [world.boards[name].version("light") for name in "abcd"] == [version] * 4


@pytest.mark.req("SEC-34")
async def test_a_claim_ends_when_it_is_taken_back_grows_old_or_whoever_made_it_is_retired(world):
    await keyed(world, "a", "b", "c")
    ahead = world.server.group("light").version + 5
    for name in ("a", "b", "c"):
        await world.boards[name].pull("light", version=ahead)
    await world.boards["a"].pull("light", generation=9)
    assert "3 of the boards" in world.gateway.administration.alarms()[0].text
    await world.boards["a"].pull("light")
    assert "2 of the boards (b, c)" in world.gateway.administration.alarms()[0].text
    world.gateway.administration.retire_pne("b", Cause.LOST)
    await world.board("b.new", "light")
    assert "1 of the boards (c)" in world.gateway.administration.alarms()[0].text
    world.clock.unix_time += 10 * 365 * 86400  # a clock that jumps ends nothing
    await world.gateway.tick()
    assert world.gateway.administration.alarms()
    world.clock.ahead += 2 * 86400 + 1
    await world.gateway.tick()
    assert not world.gateway.administration.alarms()


@pytest.mark.req("SEC-34", "SEC-02")
async def test_a_claim_makes_the_gateway_ask_the_server_once_a_minute_at_most(world):
    await keyed(world, "a")
    ahead = world.server.group("light").version + 5
    world.clock.ahead += 61
    asked = len([code for code, _ in world.server.heard if code == numbers.VERSION_LIST_REQUEST])
    for _ in range(20):
        await world.boards["a"].pull("light", version=ahead)
        await world.gateway.tick()
    assert len([code for code, _ in world.server.heard if code == numbers.VERSION_LIST_REQUEST]) == asked + 1
    world.server.group("light").accepted[PN] = ahead  # the Server has seen it too: this is an old copy
    world.clock.ahead += 61
    await world.boards["a"].pull("light", version=ahead)
    await world.gateway.tick()
    assert "restore" in world.gateway.administration.stop_reason


async def old_image_of_everything(world, tmp_path):
    """Gateway and Server lie on one card; an image of before the newest key is put back."""
    await keyed(world, "a", "b")
    await world.boards["a"].pull("light")
    before = await snapshot(world, tmp_path)
    await world.server.rekey("light")
    await world.delivered("light")
    for name in ("a", "b"):
        await world.boards[name].pull("light")
    await world.close()
    put_back(world, tmp_path, before)
    world.open()
    await world.start()
    await world.gateway.tick()
    assert world.gateway.administration.stop_reason is None  # the Server knows no more than it


async def snapshot(world, tmp_path):
    await world.close()
    shutil.copytree(world.folder, tmp_path / "snapshot")
    world.open()
    await world.start()
    return copy.deepcopy(world.server.groups)


def put_back(world, tmp_path, groups):
    shutil.rmtree(world.folder)
    shutil.copytree(tmp_path / "snapshot", world.folder)
    world.server.groups = groups


@pytest.mark.req("SEC-34", "SEC-02")
async def test_an_old_image_of_gateway_and_server_is_stopped_by_the_gateways_own_receipt(world, tmp_path):
    await old_image_of_everything(world, tmp_path)
    answer = await world.boards["b"].pull("light")
    assert answer[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
    reason = world.gateway.administration.stop_reason
    assert "b has a receipt of this gateway" in reason and "restore" in reason
    await world.server.rekey("light")
    assert not [code for code, _ in world.boards["a"].heard_unicast[-1:] if code == numbers.GROUP_KEY_DELIVERY_REQUEST]


@pytest.mark.req("SEC-34")
async def test_a_receipt_of_a_newer_generation_stops_too(world, tmp_path):
    await keyed(world, "a")
    before = await snapshot(world, tmp_path)
    world.gateway.administration.new_generation()
    await world.boards["a"].pull("light", generation=1)
    await world.close()
    put_back(world, tmp_path, before)
    world.open()
    await world.start()
    await world.boards["a"].pull("light", generation=1)
    assert "receipt" in world.gateway.administration.stop_reason


@pytest.mark.req("SEC-34")
async def test_receipts_of_others_made_up_ones_and_those_of_before_a_restore_prove_nothing(world, tmp_path):
    await old_image_of_everything(world, tmp_path)
    a, b = world.boards["a"], world.boards["b"]
    good = b.receipts["light"]
    assert len(good) == 14
    for made_up in (good, good[:-1], good + b"x", os.urandom(14), b"\xff" * 6 + good[6:], b"x"):
        a.receipts["light"] = made_up  # b's own, shown by a, too
        await a.pull("light")
    assert world.gateway.administration.stop_reason is None and world.gateway.counters["receipts_unknown"] == 6
    await world.close()
    store = GatewayStore(world.folder, restoring=True)
    restore(store, os.urandom, height=6, unix=0)
    store.close()
    world.open()
    await world.start()
    await world.server.inventory("light")
    b.receipts["light"] = good
    await b.pull("light")
    assert world.gateway.administration.stop_reason is None


@pytest.mark.req("SEC-02", "SEC-34")
async def test_a_backup_holds_no_key_of_receipts_and_boards_of_before_are_answered_without(world, tmp_path):
    await keyed(world, "a")
    key = world.store.pn.receipt_key()
    assert len(key) == 16
    assert key not in world.store.image()
    fields = {messages.PNE_ID: "a", messages.SG_ID: "light", messages.VERSION: 0}
    answer = await world.boards["a"].ask(numbers.KEY_PULL_REQUEST, fields)
    assert messages.GROUP_KEY in answer and messages.RECEIPT not in answer


async def restored_from(world, backup):
    """The disk has died; the backup is put on a new one, announced, and the PN GW started."""
    await world.close()
    shutil.rmtree(world.folder)
    world.folder.mkdir(mode=0o700)
    shutil.copy(backup, world.folder / "gateway.db")
    store = GatewayStore(world.folder, restoring=True)
    restore(store, os.urandom, height=6, unix=0)
    store.close()
    world.open()
    await world.start()


@pytest.mark.req("SEC-34", "SEC-02")
async def test_honest_boards_do_not_stop_a_gateway_that_is_being_restored(world, tmp_path):
    """They hold newer keys than the backup knows of, and pull after the list and before the Server's new key."""
    await keyed(world, "a", "b", "c")
    before = tmp_path / "backup"
    files.write_new(before, world.store.image())
    for _ in range(3):
        await world.server.rekey("light")
        await world.delivered("light")
        for name in ("a", "b", "c"):
            await world.boards[name].pull("light")
    await restored_from(world, before)
    world.server.group("light").revision[PN] += 1
    await world.server.inventory("light")
    for name in ("a", "b", "c"):
        assert (await world.boards[name].pull("light"))[messages.RESULT] == "1"
    assert world.gateway.administration.stop_reason is None and not world.gateway.administration.alarms()
    version = await world.server.rekey("light")
    await world.delivered("light")
    assert [world.boards[name].version("light") for name in "abc"] == [version] * 3


@pytest.mark.req("SEC-02")
async def test_a_group_made_after_the_backup_does_not_stop_a_gateway_that_was_restored(world, tmp_path):
    """The Server has seen this PN GW acknowledge a version of a group that the backup has never heard of."""
    await keyed(world, "a")
    before = tmp_path / "backup"
    files.write_new(before, world.store.image())
    await world.board("b", "door")
    await world.server.rekey("door")
    await world.delivered("door")
    await restored_from(world, before)
    await world.until(lambda: not world.store.pn.get().behind)
    assert world.gateway.administration.stop_reason is None and world.server.group("door").accepted[PN] > 0


@pytest.mark.req("SEC-34")
async def test_boards_that_come_from_another_gateway_with_their_keys_are_no_sign_of_an_old_copy(world):
    """The PN GW was replaced: the boards that are paired again hold a version of which this store knows nothing yet."""
    for name in ("a", "b", "c"):
        await world.board(name, "light")
        await world.boards[name].pull("light", version=0x10007)
    assert world.gateway.administration.stop_reason is None and not world.gateway.administration.alarms()


# roll-over


@pytest.mark.req("SEC-18")
async def test_roll_over_is_signed_by_the_old_key_and_told_over_the_session(world):
    for name in ("a", "b", "away"):
        await world.board(name, "light")
    away = world.boards["away"]
    away.deaf, away.reachable = True, False  # so it is as if it refused the signature of a key that it does not know
    old, new = world.signer, Signer()
    assert world.gateway.administration.roll_over(new) == 2
    await world.gateway.tick()
    world.trusted_signer = new
    await world.until(lambda: world.store.pn.pne("b").signing_epoch == 2)
    _, request = next(m for m in world.boards["a"].heard_unicast if m[0] == numbers.ROLL_OVER_REQUEST)
    signed = cborlite.encode(
        [
            "Signature1",
            bytes.fromhex("a10126"),
            cborlite.encode(["keycast/rollover/1", PN]),
            cborlite.encode([2, new.public_key]),
        ]
    )
    assert old.verify(request[messages.SIGNATURE], signed)
    # Who has not heard of it would refuse the new signature: he is reached by unicast.
    version = await world.server.rekey("light")
    await world.until(lambda: world.boards["a"].version("light") == version)
    away.reachable = True
    await world.until(lambda: away.version("light") == version)
    await world.gateway.tick()
    await world.until(lambda: world.store.pn.pne("away").signing_epoch == 2)


@pytest.mark.req("SEC-18")
async def test_boards_that_have_not_taken_the_new_key_are_not_broadcast_to(world):
    boards = [await world.board(f"b{i}", "light") for i in range(4)]
    for board in boards:
        board.reachable = False
    world.gateway.administration.roll_over(Signer())
    await world.server.rekey("light")
    await world.delivered("light")
    assert not world.air
    assert world.server.reports[-1][messages.UNREACHABLE] == ["b0", "b1", "b2", "b3"]


@pytest.mark.req("SEC-18")
async def test_a_board_that_missed_two_roll_overs_hears_both_in_order(world):
    """Each is signed by the key that the board has by then, and who is paired now gets the newest."""
    board = await world.board("away")
    board.reachable = False
    signers = [world.signer, Signer(), Signer()]
    for signer in signers[1:]:
        world.gateway.administration.roll_over(signer)
    window = world.gateway.administration.open_pairing("new", SECRET)
    assert window.answer("new", {messages.PNE_ID: "new"}, X, 0)[messages.SIGNING_KEY] == signers[2].public_key
    board.reachable = True
    await world.gateway.tick()
    await world.until(lambda: world.store.pn.pne("away").signing_epoch == 3)
    requests = [fields for _, fields in board.heard_unicast]
    assert [fields[messages.SIGNING_EPOCH] for fields in requests] == [2, 3]
    for before, after, fields in zip(signers[:2], signers[1:], requests, strict=True):
        body = cborlite.encode([fields[messages.SIGNING_EPOCH], after.public_key])
        names = cborlite.encode(["keycast/rollover/1", PN])
        signed = cborlite.encode(["Signature1", bytes.fromhex("a10126"), names, body])
        assert before.verify(fields[messages.SIGNATURE], signed)


async def test_rolling_over_to_the_same_key_is_refused(world):
    with pytest.raises(NotAllowed):
        world.gateway.administration.roll_over(world.signer)


# pairing

SECRET = bytes(range(10))
X = bytes(32)


def window(now=0.0, **more):
    return PairingWindow(
        "lamp", SECRET, now, gateway_id="gw", pn_id="pn", signing_key=bytes(64), signing_epoch=1, **more
    )


def authenticator(secret, role=b"pne", exporter=X, name="lamp"):
    return {messages.PNE_ID: name, messages.AUTHENTICATOR: hmac_sha256(secret, role, exporter)}


@pytest.mark.req("SEC-20")
def test_the_gateway_proves_itself_first_then_the_board_and_the_secret_is_gone():
    pairing = window()
    first = pairing.answer("lamp", {messages.PNE_ID: "lamp"}, X, 1.0)
    assert first[messages.AUTHENTICATOR] == hmac_sha256(SECRET, b"gateway", X)
    assert pairing.answer("lamp", authenticator(SECRET), X, 2.0) == {messages.RESULT: "1"}
    assert pairing.paired == "lamp" and not pairing.is_open(2.0)
    with pytest.raises(NotAllowed):
        pairing.answer("lamp", authenticator(SECRET), X, 3.0)


@pytest.mark.req("SEC-25")
def test_a_board_is_told_of_the_cpns_server_with_the_proof_of_the_gateway():
    first = window(server_credential=b"CCS").answer("lamp", {messages.PNE_ID: "lamp"}, X, 1.0)
    assert first[messages.SERVER_CREDENTIAL] == b"CCS" and messages.AUTHENTICATOR in first
    assert messages.SERVER_CREDENTIAL not in window().answer("lamp", {messages.PNE_ID: "lamp"}, X, 1.0)


@pytest.mark.req("SEC-20")
def test_wrong_tries_do_not_close_the_window():
    """With 80 random bits they are no danger, and a count of them would let an outsider close it."""
    pairing = window()
    for _ in range(1000):
        with pytest.raises(NotAuthentic):
            pairing.answer("lamp", authenticator(b"guess"), X, 1.0)
    assert pairing.paired is None
    assert pairing.answer("lamp", authenticator(SECRET), X, 1.0) == {messages.RESULT: "1"}
    assert pairing.paired == "lamp"


@pytest.mark.req("SEC-31")
def test_a_board_of_another_name_is_not_paired_whatever_it_proves():
    pairing = window()
    with pytest.raises(NotAllowed, match="another board"):
        pairing.answer("door", authenticator(SECRET, name="door"), X, 1.0)
    assert (pairing.paired, pairing.misnamed) == (None, "door")
    assert not pairing.is_open(1.0)


@pytest.mark.req("SEC-31")
def test_only_the_first_few_callers_are_remembered():
    pairing = window()
    for number in range(100):
        with pytest.raises(NotAuthentic):
            pairing.answer(f"x{number}", authenticator(b"guess", name=f"x{number}"), X, 1.0)
    assert pairing.callers == [f"x{number}" for number in range(8)]


@pytest.mark.req("SEC-20")
def test_the_gateways_own_proof_and_a_relayed_one_are_refused():
    pairing = window()
    for fields in (authenticator(SECRET, b"gateway"), authenticator(SECRET, exporter=b"\1" * 32)):
        with pytest.raises(NotAuthentic):
            pairing.answer("lamp", fields, X, 1.0)
    with pytest.raises(NotAllowed):
        pairing.answer("mallory", authenticator(SECRET), X, 1.0)


@pytest.mark.req("SEC-20")
def test_the_window_is_open_for_five_minutes():
    assert window().is_open(OPEN_S - 1)
    with pytest.raises(NotAllowed):
        window().answer("lamp", authenticator(SECRET), X, OPEN_S)
    with pytest.raises(CpnsError):
        window().answer("lamp", authenticator(SECRET), b"", 1.0)


@pytest.mark.req("SEC-20")
async def test_a_gateway_pairs_with_its_own_name_and_signing_key(world):
    pairing = world.gateway.administration.open_pairing("lamp", SECRET)
    answer = pairing.answer("lamp", {messages.PNE_ID: "lamp"}, X, world.clock.monotonic())
    assert answer[messages.SIGNING_KEY] == world.signer.public_key and answer[messages.GATEWAY_ID] == "gw"
    assert repr(SECRET) not in repr(pairing)
