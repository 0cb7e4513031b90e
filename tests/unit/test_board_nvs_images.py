"""The pages of an NVS are the same to ESP-IDF's own generator, to the board's virtual NVS and to what clears them."""

import pytest

from device_agent.key_store import KeyStore
from keycast.virtual_board.nvs_folder import SIZE, NvsImage
from keycast.virtual_board.on_vm import nvs_flash
from tests.unit import nvs_generator
from tests.unit.board_flash import Firmware, remains
from tests.unit.nvs_generator import BINARY

LENGTHS = (1, 31, 32, 33, 300, 1012, 1984)
BLOBS = {f"blob{length}": bytes((length + i) % 251 for i in range(length)) for length in LENGTHS}
LARGE = bytes(i * i % 253 for i in range(6000))  # in parts, on several pages
OTHERS = [("nvs.net80211",), ("sta.ssid", "string", "a network"), ("opmode", "u8", "1"), ("bcn", "i32", "-5")]


def rows(blobs):
    return [("keycast",), *((key, BINARY, value) for key, value in blobs.items())]


@pytest.mark.parametrize("size", [SIZE, 6 * nvs_flash.PAGE])
def test_what_the_generator_wrote_is_read(tmp_path, size):
    blobs = BLOBS | {"large": LARGE}
    image = NvsImage(nvs_generator.image(tmp_path, [*OTHERS, *rows(blobs)], size))
    assert image.names() == sorted(blobs)
    assert {name: image.get(name) for name in blobs} == blobs
    assert image.get("sta.ssid") is None


def test_what_is_written_here_is_what_the_generator_writes(tmp_path):
    flash = nvs_flash.Flash(bytearray(b"\xff" * SIZE))
    nvs = nvs_flash.Nvs(flash)
    namespace = nvs.namespace("keycast")
    for key, value in BLOBS.items():
        nvs.write(namespace, key, value)
    assert flash.octets == nvs_generator.image(tmp_path, rows(BLOBS), SIZE)


@pytest.mark.req("CPNS-GKM-77")
def test_a_board_starts_from_such_an_image_and_clears_its_own_values_only(tmp_path, monkeypatch):
    blobs = BLOBS | {"large": LARGE}
    before = nvs_generator.image(tmp_path, [*OTHERS, *rows(blobs)], SIZE)
    firmware = Firmware(monkeypatch, bytearray(before))
    store = firmware.store()
    assert store.cleared and firmware.octets == before
    assert {name: store.get(name) for name in BLOBS} == BLOBS
    for name in blobs:
        store.delete(name)
        store.commit()
    KeyStore(store).save("sess", b"a session's key")
    octets = bytes(firmware.octets)
    assert b"a network" in octets and b"a session's key" in octets
    assert not remains(octets, blobs.values(), firmware.held())
