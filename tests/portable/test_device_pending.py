"""A board that is provisioned: its key never leaves it, and a power cut at any write leaves the old identity or the new
one, each with all that belongs to it."""

from device_world import World, identity, key_of
from dying_medium import Dying, PowerCut
from vmtest import raises, req

from cpns import cborlite
from cpns.errors import MalformedMessage, NotAuthentic, Unknown
from device_agent import pending, provisioning, unpaired
from device_agent.cose import Credential
from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from device_agent.update import slot_record
from suit import numbers as n

VM_HEAP_KIB = 192

NEW = [bytes([number]) * 40 for number in range(1, 5)]
WIFI = cborlite.encode([1, "house", "the new one"])
FORMER = "sess", "groups", "addr", "gkdk0", "gkdk1", "ssess", "euk", "pair", "label"


def gateway(address="gw"):
    """What a tool on the host sends: the gateway of `identity`, and a record that comes with it."""
    known = identity(address)
    fields = [known.gateway_id, known.gateway_ccs, known.signing_key, 1, known.pn_id, address, {"wifi": WIFI}]
    return cborlite.encode(fields)


class Drawn:
    """A generator of known octets, which counts what was drawn."""

    def __init__(self, octets=NEW):
        self._octets = list(octets)
        self.count = 0

    def __call__(self, size):
        self.count += 1
        return self._octets.pop(0)[:size]


def provision(store, random=None):
    """All that is done on the board; between each two steps it restarts, and the start calls `finish`."""
    ccs = pending.begin(store, "lamp.new", random or Drawn())
    pending.finish(store)
    digest = pending.complete(store, gateway())
    pending.finish(store)
    assert pending.confirm(store) == digest
    pending.put_in_force(store)
    return ccs


def present(store):
    return provisioning.parse(store.load(provisioning.RECORD))


def before():
    world = World()
    world.join("kitchen", 5)
    world.deliver("kitchen", 6)
    store = KeyStore(world.medium)
    store.save("addr", b"gw")
    store.save("wifi", cborlite.encode([1, "house", "password"]))
    store.save("label", cborlite.encode([1, b"ten octets"]))
    return world


def secrets(world):
    """All that no flash may hold when the identity has gone."""
    ring = world.agent.membership.groups["kitchen"].ring
    keys = list(ring.receiving_keys(0).values())
    return [world.agent.identity.private_key, b"S" * 16, b"password", b"ten octets"] + keys


@req("SEC-17", "SEC-19")
def test_the_key_is_made_on_the_board_and_only_its_public_half_is_told():
    store = KeyStore(World(session=False).medium)
    random = Drawn()
    ccs = pending.begin(store, "lamp.new", random)
    private = pending.load(store)[1].private_key
    assert random.count == 1 and private not in ccs
    credential = Credential.parse(ccs)
    assert credential.entity_id == "lamp.new" and credential.x not in private
    assert pending.begin(store, "lamp.new", random) == ccs and random.count == 1  # gone on with after a restart
    assert pending.begin(store, "lamp.other", random) != ccs and random.count == 2
    pending.drop(store)
    assert pending.load(store) is None and present(store).private_key != private


@req("SEC-04", "SEC-19", "SEC-33")
def test_the_new_identity_has_nothing_of_the_old_one_but_its_floors():
    world = before()
    old = secrets(world)
    store = KeyStore(world.medium)
    ccs = provision(store)
    new = present(store)
    assert (new.ccs, new.gateway_id, new.address) == (ccs, identity("gw").gateway_id, "gw")
    assert [store.load(name) for name in FORMER + (pending.RECORD,)] == [None] * (len(FORMER) + 1)
    assert store.load("wifi") == WIFI
    for octets in world.medium.octets.values():
        for secret in old:
            assert secret not in octets
    world.boot()
    assert not world.agent.session.up and not world.agent.membership.groups
    group = world.agent.membership._load("kitchen")
    assert (group.joined, group.ring.floor, group.version) == (False, 6, 0)


@req("SEC-04", "SEC-22", "SEC-33")
def test_a_power_cut_at_any_write_leaves_the_old_identity_or_the_new_one():
    seen = []
    world = before()
    octets = world.medium.octets
    identity_before = present(KeyStore(world.medium)).private_key
    for how in ("absent", "torn", "whole"):
        dies_at, cut = 0, True
        while cut:
            dies_at += 1
            old = dict(octets)
            cut = False
            try:
                provision(KeyStore(Dying(old, dies_at, how)))
            except PowerCut:
                cut = True
            world.medium = Dying(old, 0, how)
            store = KeyStore(world.medium)
            pending.finish(store)
            world.boot()
            if present(store).private_key == identity_before:
                seen.append("old")
                assert world.agent.session.up
                assert world.agent.membership.groups["kitchen"].ring.receiving_keys(0) == {6: key_of(6)}
                assert store.load("addr") == b"gw" and store.load("wifi") != WIFI
            else:
                seen.append("new")
                assert present(store).pne_id == "lamp.new" and store.load("wifi") == WIFI
                assert [store.load(name) for name in FORMER + (pending.RECORD,)] == [None] * (len(FORMER) + 1)
                assert not world.agent.session.up and not world.agent.membership.groups
                assert world.agent.membership._load("kitchen").ring.floor == 6
            provision(store)
            assert present(store).pne_id == "lamp.new" and store.load(pending.RECORD) is None
            if how == "absent":
                break  # what is there before a later write is what is there after the one before it
        assert dies_at > 12 or how == "absent"
    assert seen.count("old") > 8 and seen.count("new") > 8


@req("SEC-33")
def test_a_power_cut_while_the_start_goes_on_is_gone_on_with_at_the_next():
    world = before()
    store = KeyStore(world.medium)
    pending.begin(store, "lamp.new", Drawn())
    pending.complete(store, gateway())
    _, whole, records = pending.load(store)
    pending._save(store, (pending.IN_FORCE, whole, records))
    octets = world.medium.octets
    for how in ("absent", "torn", "whole"):
        dies_at, cut = 0, True
        while cut:
            dies_at += 1
            world.medium.octets = dict(octets)
            cut = False
            try:
                assert pending.finish(KeyStore(Dying(world.medium.octets, dies_at, how)))
            except PowerCut:
                cut = True
            pending.finish(store)
            assert present(store).ccs == whole.ccs and store.load("wifi") == WIFI
            assert [store.load(name) for name in FORMER + (pending.RECORD,)] == [None] * (len(FORMER) + 1)
            if how == "absent":
                break
        assert dies_at > 6 or how == "absent"


@req("SEC-33")
def test_a_copy_that_is_damaged_is_repaired_and_two_are_no_identity():
    for damaged in ((0,), (1,), (0, 1)):
        medium = World(session=False).medium
        store = KeyStore(medium)
        pending.begin(store, "lamp.new", Drawn())
        digest = pending.complete(store, gateway())
        for copy in damaged:
            medium.octets[pending.RECORD + "01"[copy]] = b"\xff" * 99
        if len(damaged) == 1:
            assert pending.confirm(store) == digest
            continue
        with raises(Unknown):
            pending.confirm(store)
        with raises(Unknown):
            pending.put_in_force(store)
        assert present(store).pne_id == identity("gw").pne_id


def test_nothing_is_put_in_force_that_is_not_whole():
    store = KeyStore(World(session=False).medium)
    with raises(Unknown):
        pending.complete(store, gateway())
    pending.begin(store, "lamp.new", Drawn())
    for act in (pending.confirm, pending.put_in_force):
        with raises(Unknown):
            act(store)
    with raises(MalformedMessage):
        pending.begin(store, "", Drawn(NEW[1:]))
    pending.complete(store, gateway())
    _, whole, records = pending.load(store)
    whole.private_key = bytes(31) + b"\x05"
    pending._save(store, (pending.WHOLE, whole, records))
    with raises(NotAuthentic):
        pending.confirm(store)


@req("SEC-22")
def test_an_identity_that_stays_keeps_its_session_and_its_keys():
    world = before()
    store = KeyStore(world.medium)
    same = pending.begin_again(store)
    pending.complete(store, gateway("10.0.0.7"))
    pending.put_in_force(store)
    assert (present(store).ccs, present(store).address, store.load("wifi")) == (same, "10.0.0.7", WIFI)
    world.boot()
    assert world.agent.session._live is not None and store.load(record_name("g", "kitchen")) is not None
    assert world.agent.membership.groups["kitchen"].ring.receiving_keys(0) == {6: key_of(6)}


@req("SEC-25")
def test_another_server_of_the_same_identity_ends_the_session_and_the_keys_of_the_one_before():
    world = before()
    store = KeyStore(world.medium)
    for name in ("ssess", "euk"):
        store.save(name, b"of the one before")
    present_record = cborlite.decode(store.load(provisioning.RECORD))
    server = Credential.of("server", bytes(31) + b"\x05").ccs
    pending.install(store, cborlite.encode(present_record + [server]), {"euk": b"the new one"})
    assert present(store).server_ccs == server
    assert (store.load("ssess"), store.load("euk")) == (None, b"the new one")
    world.boot()
    assert world.agent.session._live is not None
    assert world.agent.membership.groups["kitchen"].ring.receiving_keys(0) == {6: key_of(6)}


@req("SEC-20")
def test_a_board_with_a_label_has_its_secret_until_it_gets_another_identity():
    store = KeyStore(before().medium)
    pending.begin(store, "lamp.new", Drawn())
    pending.complete(store, gateway(), b"for labels")
    assert unpaired.secret(store, unpaired.LABEL) == b"ten octets"
    pending.put_in_force(store)
    assert unpaired.secret(store, unpaired.LABEL) == b"for labels"
    pending.begin_again(store)
    pending.complete(store, gateway())
    pending.put_in_force(store)
    assert unpaired.secret(store, unpaired.LABEL) == b"for labels"
    pending.begin(store, "lamp.other", Drawn(NEW[1:]))
    pending.complete(store, gateway())
    pending.put_in_force(store)
    assert unpaired.secret(store, unpaired.LABEL) is None


def test_a_medium_without_room_leaves_the_old_identity():
    world = before()
    store = KeyStore(world.medium)
    world.medium.fails = True
    with raises(OSError):
        provision(store)
    world.medium.fails = False
    assert not pending.finish(store)
    world.boot()
    assert world.agent.session.up and world.agent.membership.groups["kitchen"].ring.floor == 6


@req("SEC-04", "SEC-30", "SEC-33")
def test_an_update_key_that_comes_with_an_identity_brings_the_record_of_its_floors_before():
    known = identity("gw")
    told = [known.gateway_id, known.gateway_ccs, known.signing_key, 1, known.pn_id, "gw", {"upkey": bytes(64)}]
    at_first = before().medium.octets
    dies_at, cut = 0, True
    while cut:
        dies_at += 1
        octets = dict(at_first)
        cut = False
        try:
            store = KeyStore(Dying(octets, dies_at, "absent"))
            pending.begin(store, "lamp.new", Drawn())
            pending.complete(store, cborlite.encode(told))
            pending.put_in_force(store)
        except PowerCut:
            cut = True
        assert slot_record.load(KeyStore(Dying(octets, 0, "absent"))).reason == n.NO_REASON
    store = KeyStore(Dying(octets, 0, "absent"))
    assert store.load("upkey") == bytes(64) and store.load("slot") is not None
