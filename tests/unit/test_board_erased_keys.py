"""What a board has replaced or erased is not in its flash any more, whenever the power goes.

The flash is that of virtual boards: the pages, the order of writes and the repair after a power cut are those of
ESP-IDF's NVS as published; a real one has not been read here.
"""

import hashlib
import itertools
import sys

import device_world
import pytest

from cpns import messages as m
from cpns import numbers as n
from device_agent import pending, provisioning
from device_agent.key_store import KeyStore
from keycast.provisioning.board import flash_script
from keycast.virtual_board.on_vm import nvs_flash
from tests.unit.board_flash import Firmware, Remembering, remains


def secret(text, size=64):
    return b"".join(hashlib.sha256(b"%s %d" % (text, i)).digest() for i in range(size // 32))


OLD, NEW, OTHER = secret(b"old"), secret(b"new", 512), secret(b"other", 320)


def test_the_image_is_that_of_the_generator_of_esp_idf():
    """The digest is that of what esp-idf-nvs-partition-gen 0.3.0 makes of these two values in 16 KiB."""
    flash = nvs_flash.Flash(bytearray(b"\xff" * 4 * nvs_flash.PAGE))
    nvs = nvs_flash.Nvs(flash)
    namespace = nvs.namespace("keycast")
    nvs.write(namespace, "prov0", bytes(range(48)))
    nvs.write(namespace, "wifi0", bytes.fromhex("aabbccddeeff00112233"))
    digest = "feae84c2b14079b017486be089774cc7d8069b7a5c7c7a43e1fa6240fce213fc"
    assert hashlib.sha256(flash.octets).hexdigest() == digest


@pytest.fixture
def firmware(monkeypatch):
    return Firmware(monkeypatch)


def replace(store):
    store.save("sess", NEW)


def erase(store):
    store.erase("sess")


def replace_many(store):
    for number in range(12):
        store.save("sess", secret(b"number %d" % number, 320))


@pytest.mark.req("CPNS-GKM-77")
@pytest.mark.parametrize("act", [replace, erase, replace_many])
def test_nothing_of_the_old_value_is_left(firmware, act):
    medium = Remembering(firmware.store())
    store = KeyStore(medium)
    store.save("other", OTHER)
    store.save("sess", OLD)
    assert remains(firmware.octets, [OLD], []) and firmware.flash.operations
    act(store)
    assert not remains(firmware.octets, medium.values, firmware.held())
    assert KeyStore(firmware.store()).load("other") == OTHER


@pytest.mark.req("SEC-04", "SEC-22", "CPNS-GKM-77")
@pytest.mark.parametrize("act", [replace, erase])
def test_a_cut_at_any_operation_of_the_flash_leaves_the_old_or_the_new_state_and_nothing_else(firmware, act):
    store = KeyStore(firmware.store())
    store.save("other", OTHER)
    store.save("sess", OLD)
    values, found, cuts = {OLD, NEW, OTHER}, set(), 0
    for where in firmware.cuts(lambda store: act(KeyStore(Remembering(store, values)))):
        cuts += 1
        store = KeyStore(firmware.store())
        found.add(store.load("sess"))
        assert store.load("other") == OTHER
        assert not remains(firmware.octets, values, firmware.held()), where
    assert cuts > 30
    assert found == {OLD, NEW if act is replace else None}


def before_compaction(firmware):
    """Put a value of 640 octets in, anew until the next save erases a page; return the number of that."""
    store = KeyStore(firmware.store())
    store.save("other", OTHER)
    for number in itertools.count():
        before = bytes(firmware.octets)
        store.save("sess", secret(b"number %d" % number, 640))
        if firmware.flash.erases:
            firmware.octets[:] = before
            return number


@pytest.mark.req("SEC-22", "CPNS-GKM-77")
def test_a_cut_at_any_operation_while_a_page_is_emptied_loses_and_leaves_nothing(firmware):
    number = before_compaction(firmware)
    old, new = (secret(b"number %d" % n, 640) for n in (number - 1, number))
    found = set()
    for where in firmware.cuts(lambda store: KeyStore(store).save("sess", new)):
        store = KeyStore(firmware.store())
        found.add(store.load("sess"))
        assert store.load("other") == OTHER
        assert not remains(firmware.octets, {OTHER, old, new}, firmware.held()), where
    assert found == {old, new}


@pytest.mark.req("CPNS-GKM-77")
def test_what_earlier_versions_left_is_cleared_at_the_first_start(monkeypatch):
    firmware = Firmware(monkeypatch, partition=False)
    store = KeyStore(firmware.store())
    for value in (OLD, NEW, OTHER):
        store.save("sess", value)
    store.erase("sess")
    assert remains(firmware.octets, [OLD, NEW], [])
    firmware = Firmware(monkeypatch, firmware.octets)
    assert firmware.store().cleared
    assert not remains(firmware.octets, [OLD, NEW, OTHER], [])


def test_a_page_that_an_interrupted_erase_has_left_is_cleared(firmware):
    KeyStore(firmware.store()).save("sess", OLD)
    page = 3 * nvs_flash.PAGE
    firmware.octets[page + 2048 : page + 2048 + len(NEW)] = NEW
    assert firmware.store().cleared
    assert not remains(firmware.octets, [NEW], [])
    assert KeyStore(firmware.store()).load("sess") == OLD


@pytest.mark.parametrize("how", [{"partition": False}, {"refuses": True}])
def test_a_firmware_that_cannot_clear_says_so_and_works(monkeypatch, how):
    firmware = Firmware(monkeypatch, **how)
    store = firmware.store()
    KeyStore(store).save("sess", OLD)
    KeyStore(store).save("sess", NEW)
    assert KeyStore(store).load("sess") == NEW
    assert not store.cleared and remains(firmware.octets, [OLD], [])


@pytest.mark.parametrize("form", ["another version", "another state", "no heads known here"])
def test_pages_of_another_form_are_left_alone(monkeypatch, form):
    firmware = Firmware(monkeypatch, partition=False)
    for value in (OLD, NEW):
        KeyStore(firmware.store()).save("sess", value)
    used = [page for page in range(0, len(firmware.octets), nvs_flash.PAGE) if firmware.octets[page] != 0xFF]
    for page in used:
        if form == "another version":
            firmware.octets[page + 8] = 0xFD
        if form == "another state":
            firmware.octets[page] = 0xF0
        crc = nvs_flash._crc(firmware.octets[page + 4 : page + 28])
        firmware.octets[page + 28 : page + 32] = bytes(4) if form == "no heads known here" else crc
    before = bytes(firmware.octets)
    firmware = Firmware(monkeypatch, firmware.octets)
    firmware.prepare()
    assert not sys.modules["nvs_pages"].clear(sys.modules["esp32"].Partition(), [0] * 4)
    assert firmware.octets == before


def test_a_commit_without_a_change_looks_at_the_heads_of_pages_only(firmware, monkeypatch):
    store = firmware.store()
    KeyStore(store).save("sess", OLD)
    read = []
    partition = sys.modules["esp32"].Partition
    whole = partition.readblocks
    monkeypatch.setattr(partition, "readblocks", lambda self, *more: (read.append(more[2]), whole(self, *more)))
    store.commit()
    assert set(read) == {0}


def member(firmware, private):
    """A World on the board's flash, a member of `kitchen` with version 6; its Storage remembers."""
    world = device_world.World()
    medium = Remembering(firmware.store())
    for name, octets in world.medium.octets.items():
        medium.set(name, octets)
    identity = device_world.identity()
    identity.private_key = private
    KeyStore(medium).save(provisioning.RECORD, identity.pack())
    world.medium = medium
    world.boot()
    world.join("kitchen", 5)
    world.deliver("kitchen", 5)  # answered with an Echo challenge
    world.deliver("kitchen", 6)
    return world


def provision(monkeypatch, medium, private):
    """Run the program that `keycast board provision` makes, on a board with the Storage `medium`."""
    identity = device_world.identity()
    identity.private_key = private
    monkeypatch.setattr(sys.modules["nvs_store"], "NvsStore", lambda: medium)
    exec(flash_script({provisioning.RECORD: identity.pack()}), {})


@pytest.mark.req("SEC-04", "SEC-19", "SEC-22")
@pytest.mark.parametrize("act", ["re-key", "re-provisioning"])
def test_a_cut_at_any_operation_leaves_the_agent_in_the_old_or_the_new_state(firmware, monkeypatch, act):
    old, new = secret(b"private", 32), secret(b"another", 32)
    world = member(firmware, old)
    values, found, cuts = world.medium.values, set(), 0
    broadcast = world.gateway.object("kitchen", 7)

    def re_key(store):
        world.medium = Remembering(store, values)
        world.boot()
        world.hear(broadcast)

    def re_provision(store):
        provision(monkeypatch, Remembering(store, values), new)

    for where in firmware.cuts(re_key if act == "re-key" else re_provision):
        cuts += 1
        world.medium = Remembering(firmware.store(), values)
        pending.finish(KeyStore(world.medium))  # as micropython/start.py does
        world.boot()
        private = provisioning.parse(KeyStore(world.medium).load(provisioning.RECORD)).private_key
        group = world.agent.membership.groups.get("kitchen")
        version = group and max(group.ring.receiving_keys(world.clock.ms // 1000))
        found.add((private, version))
        assert world.agent.membership._load("kitchen").ring.floor == (version or 6)
        assert not remains(firmware.octets, values, firmware.held()), where
    assert cuts > 60
    if act == "re-key":
        assert found == {(old, 6), (old, 7)}
    else:
        assert found == {(old, 6), (new, None)}
        assert not remains(firmware.octets, [old], [])


@pytest.mark.req("CPNS-GKM-77")
def test_no_key_that_the_agent_has_given_up_is_in_the_flash(firmware, monkeypatch):
    """Re-key, re-join, a new generation, leaving and another identity."""
    old, new = secret(b"private", 32), secret(b"another", 32)
    world = member(firmware, old)
    medium = world.medium
    for version in range(6, 10):
        world.deliver("kitchen", version)
    world.gateway.generation = 2
    world.ask(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 2})
    assert not remains(firmware.octets, medium.values, firmware.held())
    assert remains(firmware.octets, [device_world.key_of(9)], [])
    world.perform(world.agent.membership.leave(world.agent.membership.groups["kitchen"]))
    assert not remains(firmware.octets, [device_world.key_of(version) for version in range(5, 10)], [])
    provision(monkeypatch, medium, new)
    assert not remains(firmware.octets, medium.values, firmware.held())
    assert remains(firmware.octets, [new], [])
    assert not remains(firmware.octets, [old], [])
