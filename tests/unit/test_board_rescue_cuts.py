"""The power goes while a board is made to forget: each record is the old one or gone, and the same command ends it."""

import contextlib
import hashlib
import io

import pytest

from device_agent.key_store import KeyStore
from keycast.board import rescue
from tests.unit.board_flash import Firmware

RECORDS = (
    *("prov", "pend", "sess", "groups", "g0123456", "gkdk0", "gkdk1"),
    *("wifi", "pair", "label", "seed", "last", "board"),
)


def secret(name):
    return b"".join(hashlib.sha256(b"%s %d" % (name.encode(), i)).digest() for i in range(24))


def erase():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(rescue._PROGRAM.read_text() + "\nerase()\n", {})
    return printed.getvalue().strip()


def parts(octets):
    return {octets[at : at + 16] for at in range(len(octets) - 15)}


@pytest.mark.req("SEC-04", "CPNS-GKM-77")
def test_a_cut_at_any_sector_leaves_old_records_or_none_and_the_second_try_leaves_nothing(monkeypatch):
    firmware = Firmware(monkeypatch)
    store = KeyStore(firmware.store())
    for name in RECORDS:
        store.save(name, secret(name)[:320])
    assert all(parts(secret(name)[:320]) & parts(bytes(firmware.octets)) for name in RECORDS)
    found, cuts = set(), 0
    for _ in firmware.cuts(lambda store: erase()):
        cuts += 1
        cut = bytes(firmware.octets)
        store = KeyStore(firmware.store())
        for name in RECORDS:
            value = store.load(name)
            assert value in (None, secret(name)[:320])
            found.add(value is None)
        firmware.octets[:] = cut
        firmware.store()  # the start after the cut may repair, and so write
        assert erase() == "[0, 0]"
        assert firmware.octets == b"\xff" * len(firmware.octets)
    assert cuts >= 8 and found == {True, False}


def test_a_sector_that_is_worn_out_is_told(monkeypatch):
    firmware = Firmware(monkeypatch)
    KeyStore(firmware.store()).save("prov", secret("prov"))
    used = len(firmware.octets) - firmware.octets.count(b"\xff")
    monkeypatch.setattr(firmware.flash, "erase", lambda block: None)
    assert erase() == f"[{used}, 0]"
