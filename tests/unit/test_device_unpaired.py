"""What a board makes before it belongs to a gateway, with the power cut at any write (SEC-20, SEC-31, SEC-33)."""

import itertools
import secrets

import device_world
import pytest

from cpns import cborlite
from cpns.errors import MalformedMessage, NotAllowed, Unknown
from device_agent import discovery, gkdk_store, membership, pairing, session, unpaired
from device_agent.api import Node
from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore
from device_agent.provisioning import RECORD, parse
from device_agent.update import key as update_key
from tests.unit.device_gateway import PairingGateway, Party

NAME = "board-0a1b2c"


class PowerCut(Exception):
    """Nothing after this happens."""


class DyingMedium(device_world.Medium):
    """Its `dies_at`-th write is absent, torn or whole, and the last one."""

    def __init__(self, octets=(), dies_at=0, how=""):
        super().__init__()
        self.octets.update(octets)
        self._left, self._how = itertools.count(1 - dies_at), how

    def set(self, name, octets):
        if next(self._left) == 0:
            if self._how != "absent":
                super().set(name, octets if self._how == "whole" else octets[: len(octets) // 2])
            raise PowerCut
        super().set(name, octets)

    def delete(self, name):
        if next(self._left) == 0:
            if self._how == "whole":
                super().delete(name)
            raise PowerCut
        super().delete(name)


def prepare(medium, random=secrets.token_bytes):
    return unpaired.prepare(medium, KeyStore(medium), random, NAME)


def identity_of(medium):
    return parse(KeyStore(medium).load(RECORD))


def secret_of(medium):
    return unpaired.secret(KeyStore(medium))


@pytest.mark.req("SEC-20")
def test_a_new_board_makes_a_key_of_its_own_and_a_secret_and_keeps_both():
    medium, other = device_world.Medium(), device_world.Medium()
    prepare(medium)
    prepare(other)
    identity = identity_of(medium)
    public = p256.run(p256.public_key(identity.private_key))
    assert not identity.paired and identity.ccs == Credential.of(NAME, public[:32]).ccs
    assert len(secret_of(medium)) == 10 and secret_of(medium) != secret_of(other)
    assert identity.private_key != identity_of(other).private_key
    before = dict(medium.octets)
    prepare(medium, random=None)  # draws nothing
    assert medium.octets == before


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
def test_wherever_the_power_goes_the_next_start_goes_on(how):
    for dies_at in itertools.count(1):
        medium = DyingMedium(dies_at=dies_at, how=how)
        try:
            prepare(medium)
            died = False
        except PowerCut:
            died = True
        after = DyingMedium(medium.octets)
        prepare(after)
        assert secret_of(after) and not identity_of(after).paired
        if not died:
            break
    assert dies_at > 4  # two records in two copies each


@pytest.mark.req("SEC-04")
def test_an_identity_that_cannot_be_read_is_not_replaced_by_a_new_one():
    medium = device_world.Medium()
    prepare(medium)
    for copy in "01":
        medium.octets[RECORD + copy] = b"damage" * 5
    before = dict(medium.octets)
    with pytest.raises(Unknown, match="provision this board anew"):
        prepare(medium)
    assert medium.octets == before


@pytest.mark.req("SEC-33")
def test_nothing_of_a_former_identity_is_used_by_the_new_one():
    world, _ = device_world.member()
    KeyStore(world.medium).erase(RECORD)
    prepare(world.medium)
    assert KeyStore(world.medium).load(session.RECORD) is None
    world.boot()
    assert world.agent.membership.groups == {} and not world.agent.membership.gkdks.newest
    floor = KeyStore(world.medium).load(membership.record_name("g", "kitchen"))
    assert floor is not None  # SEC-04


def test_the_records_of_a_former_identity_are_those_of_the_modules():
    records = {session.RECORD, membership.RECORD, discovery.RECORD, *gkdk_store.RECORDS}
    assert set(unpaired.OF_FORMER) == {*records, "ssess", entity_user_keys.RECORD, update_key.RECORD}


@pytest.mark.parametrize("record", [[2, bytes(10)], [1, bytes(9)], [1, 7], [1], 7])
def test_a_record_of_another_format_is_no_secret(record):
    medium = device_world.Medium()
    KeyStore(medium).save(unpaired.RECORD, cborlite.encode(record))
    with pytest.raises(MalformedMessage):
        secret_of(medium)


class Unpaired(device_world.World):
    """A World whose PNE made its identity itself, with a gateway that is told `secret` and the name "lamp.porch"."""

    def __init__(self, medium, secret=None):
        self._told = medium
        super().__init__(session=False)
        self.gateway = PairingGateway(Party("gw-1"), secret or secret_of(medium), device_world.SIGNING * 2)
        self.gateway.board_name = "lamp.porch"

    def boot(self):
        self.medium = self._told
        super().boot()
        self.agent._discovery._hint = self.at  # that network has no answers to questions to all

    def pair(self):
        agent = self.agent
        parts = agent.identity, agent.store, agent.session, agent._discovery, agent.clock
        parts += agent._forget_gateway, agent._forget_server
        self.perform(pairing.pair(secret_of(self.medium), *parts))


@pytest.mark.req("SEC-20")
def test_the_secret_of_the_label_is_erased_once_the_board_is_paired():
    medium = device_world.Medium()
    prepare(medium)
    secret = secret_of(medium)
    KeyStore(medium).save(unpaired.LABEL, cborlite.encode([unpaired.FORMAT, secret]))
    world = Unpaired(medium)
    world.pair()
    assert identity_of(medium).pne_id == "lamp.porch" and secret_of(medium) is None
    assert not any(secret in octets for octets in medium.octets.values())


@pytest.mark.req("SEC-20", "SEC-33")
@pytest.mark.parametrize("how", ["absent", "torn", "whole"])
def test_wherever_the_power_goes_while_a_new_board_is_paired_it_pairs_by_the_same_label_or_is_paired(how):
    first = device_world.Medium()
    prepare(first)
    secret, key = secret_of(first), identity_of(first).private_key
    seen = set()
    for dies_at in itertools.count(1):
        medium = DyingMedium(first.octets)
        world = Unpaired(medium)
        medium._left, medium._how = itertools.count(1 - dies_at), how
        try:
            world.pair()
            died = False
        except PowerCut:
            died = True
        after = DyingMedium(medium.octets)
        prepare(after)  # the next start
        identity = identity_of(after)
        seen.add(identity.paired)
        assert identity.private_key == key
        if identity.paired:
            assert (identity.pne_id, identity.gateway_id) == ("lamp.porch", "gw-1")
            assert not any(secret in octets for octets in after.octets.values())
        else:
            assert identity.pne_id == NAME and secret_of(after) == secret
            again = Unpaired(after, secret)
            again.pair()
            assert identity_of(after).pne_id == "lamp.porch" and secret_of(after) is None
        if not died:
            break
    assert seen == {True, False} or how == "whole"


def node_of(medium):
    world = device_world.World.__new__(device_world.World)
    world._drawn = 0
    link = device_world.Link()
    return Node(medium, [link], [link], device_world.Clock(), world.random)


@pytest.mark.req("SEC-20")
async def test_a_node_shows_its_label_before_it_has_a_gateway_and_a_new_secret_each_time_after(monkeypatch):
    medium = device_world.Medium()
    prepare(medium)
    used, seen = [], []

    async def pair(secret):
        used.append(secret)

    for _ in (0, 1):
        node = node_of(medium)
        assert not node.paired
        monkeypatch.setattr(node._agent, "pair", pair)
        await node.pair(seen.append)
    assert seen == 2 * [unpaired.shown(secret_of(medium))] and used == 2 * [secret_of(medium)]

    node = node_of(device_world.World().medium)
    assert node.paired
    monkeypatch.setattr(node._agent, "pair", pair)
    for _ in (0, 1):
        await node.pair(seen.append)
    assert len(set(seen)) == 3 and [unpaired.shown(secret) for secret in used] == seen
    labelled = bytes(range(10))
    node._agent.store.save(unpaired.LABEL, cborlite.encode([unpaired.FORMAT, labelled]))
    for _ in (0, 1):
        await node.pair(seen.append)
    assert seen[-2:] == 2 * [unpaired.shown(labelled)]


async def test_a_node_pairs_once_at_a_time():
    medium = device_world.Medium()
    prepare(medium)
    node = node_of(medium)
    node._agent.pairing = True
    with pytest.raises(NotAllowed, match="pairing already"):
        await node.pair(lambda secret: None)
