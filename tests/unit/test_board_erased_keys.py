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
from device_agent import provisioning
from device_agent.key_store import KeyStore
from keycast.provisioning.board import flash_script
from keycast.virtual_board.on_vm import nvs_flash
from tests.unit.board_flash import Firmware, PowerCut, Remembering, remains


def secret(text, size=64):
    return b"".join(hashlib.sha256(b"%s %d" % (text, i)).digest() for i in range(size // 32))


OLD, NEW, OTHER = secret(b"old"), secret(b"new", 512), secret(b"other", 320)


def held(firmware):
    """The values that the NVS still has."""
    nvs = nvs_flash.Nvs(nvs_flash.Flash(bytearray(firmware.octets)))
    namespace = nvs.namespace("keycast")
    values = []
    for key in nvs.keys(namespace):
        value = bytearray(nvs.size(namespace, key))
        nvs.read(namespace, key, value)
        values.append(bytes(value))
    return values


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
    assert not remains(firmware.octets, medium.values, held(firmware))
    assert KeyStore(firmware.store()).load("other") == OTHER


@pytest.mark.req("SEC-04", "SEC-22", "CPNS-GKM-77")
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
@pytest.mark.parametrize("act", [replace, erase])
def test_a_cut_at_any_operation_of_the_flash_leaves_the_old_or_the_new_state_and_nothing_else(monkeypatch, act, how):
    firmware = Firmware(monkeypatch)
    store = KeyStore(firmware.store())
    store.save("other", OTHER)
    store.save("sess", OLD)
    before, found, dies_at, cut = bytes(firmware.octets), set(), 0, True
    while cut:
        dies_at += 1
        firmware.octets[:] = before
        values = {OLD, NEW, OTHER}
        cut = False
        try:
            act(KeyStore(Remembering(firmware.store(dies_at, how), values)))
        except PowerCut:
            cut = True
        store = KeyStore(firmware.store())
        found.add(store.load("sess"))
        assert store.load("other") == OTHER
        assert not remains(firmware.octets, values, held(firmware)), dies_at
    assert dies_at > 10
    assert found == {OLD, NEW if act is replace else None}


def before_compaction(firmware):
    """The medium and the state before the first save of a value of 640 octets that erases a page; its number."""
    store = KeyStore(firmware.store())
    store.save("other", OTHER)
    for number in itertools.count():
        before = bytes(firmware.octets)
        store.save("sess", secret(b"number %d" % number, 640))
        if firmware.flash.erases:
            return before, number


@pytest.mark.req("SEC-22", "CPNS-GKM-77")
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
def test_a_cut_at_any_operation_while_a_page_is_emptied_loses_and_leaves_nothing(firmware, how):
    before, number = before_compaction(firmware)
    old, new = (secret(b"number %d" % n, 640) for n in (number - 1, number))
    values, dies_at, cut, found = {OTHER, old, new}, 0, True, set()
    while cut:
        dies_at += 1
        firmware.octets[:] = before
        cut = False
        try:
            KeyStore(firmware.store(dies_at, how)).save("sess", new)
        except PowerCut:
            cut = True
        store = KeyStore(firmware.store())
        found.add(store.load("sess"))
        assert store.load("other") == OTHER
        assert not remains(firmware.octets, values, held(firmware)), dies_at
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
    assert firmware.store().clean
    assert not remains(firmware.octets, [OLD, NEW, OTHER], [])


def test_a_page_that_an_interrupted_erase_has_left_is_cleared(firmware):
    KeyStore(firmware.store()).save("sess", OLD)
    page = 3 * nvs_flash.PAGE
    firmware.octets[page + 2048 : page + 2048 + len(NEW)] = NEW
    assert firmware.store().clean
    assert not remains(firmware.octets, [NEW], [])
    assert KeyStore(firmware.store()).load("sess") == OLD


@pytest.mark.parametrize("how", [{"partition": False}, {"encrypted": True}])
def test_a_firmware_that_cannot_clear_says_so_and_works(monkeypatch, how):
    firmware = Firmware(monkeypatch, **how)
    store = firmware.store()
    KeyStore(store).save("sess", OLD)
    assert KeyStore(store).load("sess") == OLD
    assert not store.clean


@pytest.mark.parametrize("damage", ["another version", "no heads known here"])
def test_pages_of_another_form_are_left_alone(firmware, damage):
    store = KeyStore(firmware.store())
    store.save("sess", OLD)
    firmware.store()
    pages = sys.modules["nvs_pages"].NvsPages()
    firmware.octets[8] = 0xFD if damage == "another version" else firmware.octets[8]
    crc = nvs_flash._crc(firmware.octets[4:28])
    firmware.octets[28:32] = crc if damage == "another version" else bytes(4)
    before = bytes(firmware.octets)
    pages.wipe()
    assert not pages.clean
    assert firmware.octets == before


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
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
@pytest.mark.parametrize("act", ["re-key", "re-provisioning"])
def test_a_cut_at_any_operation_leaves_the_agent_in_the_old_or_the_new_state(firmware, monkeypatch, act, how):
    old, new = secret(b"private", 32), secret(b"another", 32)
    world = member(firmware, old)
    before, values = bytes(firmware.octets), world.medium.values
    broadcast, dies_at, cut, found = world.gateway.object("kitchen", 7), 0, True, set()
    while cut:
        dies_at += 1
        firmware.octets[:] = before
        cut = False
        try:
            medium = Remembering(firmware.store(dies_at, how), values)
            if act == "re-key":
                world.medium = medium
                world.boot()
                world.hear(broadcast)
            else:
                provision(monkeypatch, medium, new)
        except PowerCut:
            cut = True
        world.medium = Remembering(firmware.store(), values)
        world.boot()
        private = provisioning.parse(KeyStore(world.medium).load(provisioning.RECORD)).private_key
        group = world.agent.membership.groups.get("kitchen")
        version = group and max(group.ring.receiving_keys(world.clock.ms // 1000))
        found.add((private, version))
        assert world.agent.membership._load("kitchen").ring.floor == (version or 6)
        assert not remains(firmware.octets, values, held(firmware)), dies_at
    assert dies_at > 20
    if act == "re-key":
        assert found == {(old, 6), (old, 7)}
    else:
        assert {(old, 6), (new, None)} <= found <= {(old, 6), (old, None), (new, None)}
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
    assert not remains(firmware.octets, medium.values, held(firmware))
    assert remains(firmware.octets, [device_world.key_of(9)], [])
    world.perform(world.agent.membership.leave(world.agent.membership.groups["kitchen"]))
    assert not remains(firmware.octets, [device_world.key_of(version) for version in range(5, 10)], [])
    provision(monkeypatch, medium, new)
    assert not remains(firmware.octets, medium.values, held(firmware))
    assert remains(firmware.octets, [new], [])
    assert not remains(firmware.octets, [old], [])
