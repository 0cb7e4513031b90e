"""End-to-end groups under power cuts: after a cut at any write the next start has the old state or the new one."""

import device_world  # noqa: F401 - first, as the VM nests only so many imports
from dying_medium import states_after_cuts
from end_to_end_world import EUK, SG, Home, member, proved, secret_of, wrapped
from vmtest import req

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotMember
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore

VM_HEAP_KIB = 192  # the PNE, its PN GW and the CPNS Server in one heap
NEW = b"n" * 16


def holding():
    return member(6)[0]


@req("SEC-26")
def test_a_join_is_done_or_can_be_done_again_and_never_as_an_ordinary_one():
    seen = set()
    for home in states_after_cuts(Home, lambda home: home.enter()):
        group = home.agent.membership.groups.get(SG)
        kept = home.agent.membership._load(SG)
        seen.add((group is not None, kept is not None))
        assert kept is None or kept.ring.end_to_end
        assert group is None or home.deliver(SG, 7)[m.ERROR] == n.ERROR_NOT_ALLOWED
        home.enter()
        home.run_for(100)
        assert proved(home.bring(wrapped(6)), 6)
    assert seen == {(False, False), (False, True), (True, True)}


@req("SEC-04", "SEC-25", "CPNS-GKM-77")
def test_a_new_key_is_there_or_the_old_one_and_the_new_one_can_come_again():
    seen = set()
    for home in states_after_cuts(holding, lambda home: home.bring(wrapped(7))):
        newest = max(home.held())
        seen.add(newest)
        assert home.held()[newest] == secret_of(newest) and home.ring().floor == newest and home.ring().end_to_end
        assert proved(home.bring(wrapped(7)), 7)
    assert seen == {6, 7}


@req("SEC-25")
def test_a_new_entity_user_key_is_there_or_the_old_one_and_never_neither():
    def before():
        home = holding()
        home.agent.membership.server.keys.candidate = NEW
        return home

    def act(home):
        home.agent.membership.server.keys.candidate = NEW
        home.bring(wrapped(7, euk=NEW))

    seen = set()
    for home in states_after_cuts(before, act):
        euks = entity_user_keys.parse(KeyStore(home.medium).load("euk"))
        seen.add(euks)
        newest = max(home.held())
        assert euks in ((EUK, b""), (NEW, EUK), (NEW, b"")) and (newest == 6 or euks[0] == NEW)
        for euk in reversed(euks):
            if euk:
                newest += 1
                assert proved(home.bring(wrapped(newest, euk=euk)), newest)
    assert seen == {(EUK, b""), (NEW, EUK), (NEW, b"")}


@req("SEC-22")
def test_no_number_of_the_session_with_the_server_is_used_twice():
    def act(home):
        for _ in range(66):
            home.perform(home.agent.membership.pull(home.agent.membership.groups[SG]))
            home.gateway.heard.clear()
            home.server.heard.clear()

    for home in states_after_cuts(holding, act):
        act(home)
        numbers = home.server.numbers
        assert len(numbers) > 66 and sorted(set(numbers)) == numbers


@req("SEC-04", "SEC-26")
def test_an_expulsion_is_done_or_not_and_floor_and_trust_are_there_either_way():
    def act(home):
        home.server.refuse = NotMember("gone")
        home.agent.membership.hint(home.agent.membership.groups[SG], home.clock.ms, 0)
        home.run_for(100)

    seen = set()
    for home in states_after_cuts(holding, act):
        seen.add(SG in home.agent.membership.groups)
        ring = home.agent.membership._load(SG).ring
        assert ring.end_to_end and ring.floor == 6
    assert seen == {True, False}
