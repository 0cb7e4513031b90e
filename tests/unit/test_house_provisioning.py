"""What `keycast board provision` leaves in the flash of a board that had another identity before."""

import sys
from types import ModuleType

import device_world
import pytest

from device_agent import provisioning
from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from keycast.provisioning.board import flash_script


@pytest.mark.req("SEC-04", "SEC-19")
def test_a_new_identity_has_no_session_gkdk_or_membership_of_the_old_one_but_its_floors(monkeypatch):
    world = device_world.World()
    world.join("kitchen", 5)
    KeyStore(world.medium).save("addr", b"10.0.0.1")
    module = ModuleType("nvs_store")
    module.NvsStore = lambda: world.medium  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nvs_store", module)
    identity = device_world.identity("gw")
    identity.private_key = bytes(31) + b"\x09"
    new = identity.pack()
    exec(flash_script({provisioning.RECORD: new}), {})
    store = KeyStore(world.medium)
    assert store.load(provisioning.RECORD) == new
    assert [store.load(name) for name in ("sess", "gkdk0", "gkdk1", "groups", "addr")] == [None] * 5
    assert store.load(record_name("g", "kitchen")) is not None
    world.boot()
    agent = world.agent
    assert not agent.session.up
    assert not agent.membership.groups and not agent.membership.gkdks.newest
