"""End-to-end groups of a PNE: their keys come from the Server only, through a PN GW that may do anything."""

import device_world  # noqa: F401 - first, as the VM nests only so many imports
from end_to_end_world import EUK, OLDER_EUK, SG, euks, member, proved, secret_of, wrapped
from vmtest import raises, req

from cpns import entity_user_key
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage

VM_HEAP_KIB = 192  # the PNE, its PN GW and the CPNS Server in one heap


def refused(home, fields, error):
    """The key is refused with this error, once, and nothing has changed."""
    octets, held, told = dict(home.medium.octets), home.held(), len(home.told("refused"))
    answer = home.bring(fields)
    assert (answer[m.RETURN], answer[m.ERROR]) == (n.RETURN_FAIL, error)
    assert m.MAC not in answer
    assert len(home.told("refused")) == told + 1 and home.told("refused")[-1]["error"] == error
    assert home.held() == held
    for name in octets:  # numbers of the session may be reserved meanwhile
        assert home.medium.octets[name] == octets[name] or "sess" in name
    return True


# Keys


@req("CPNS-GKM-76", "CPNS-GKM-77", "CPNS-GKM-78", "CPNS-GKM-79", "CPNS-GKM-80", "SEC-25")
def test_a_wrapped_key_is_opened_stored_and_answered_with_return_pn_and_mac():
    home, group = member(6)
    assert home.held() == {6: secret_of(6)}
    assert home.told("key") == [{"group": group, "version": 6, "reason": n.REASON_BY_HAND, "broadcast": False}]
    answer = home.bring(wrapped(7))
    assert proved(answer, 7) and answer[m.PNID] == "home"
    home.boot()
    assert home.held() == {7: secret_of(7)} and home.ring().end_to_end and home.ring().floor == 7


@req("SEC-05")
def test_the_key_before_is_read_for_half_a_minute_and_not_sent_with():
    home, group = member(6)
    home.bring(wrapped(7))
    assert group.ring.sending_key(0) == (7, secret_of(7))
    assert sorted(home.held()) == [6, 7]
    home.clock.ms += 31000
    assert sorted(home.held()) == [7]


def test_a_key_that_is_held_is_confirmed_again():
    home, _ = member(6)
    writes = home.medium.writes
    assert proved(home.bring(wrapped(6)), 6)
    assert home.medium.writes == writes


@req("SEC-04", "SEC-25")
def test_versions_at_or_below_the_floor_are_refused_and_another_key_under_a_version_that_is_held():
    home, _ = member(6)
    home.bring(wrapped(7))
    home.clock.ms += 31000
    for version in (1, 5, 6):
        assert refused(home, wrapped(version), n.ERROR_STALE)
    assert refused(home, wrapped(7, key=bytes(16)), n.ERROR_STALE)
    assert refused(home, wrapped(6, euk=b"x" * 16), n.ERROR_STALE)  # before its EUK is looked for


@req("SEC-25")
def test_what_a_gateway_has_renamed_does_not_open():
    home, _ = member(6)
    home.enter("home/other", 6)
    home.run_for(100)
    assert refused(home, wrapped(7, sgid="home/other"), n.ERROR_NOT_AUTHENTIC)
    assert refused(home, wrapped(7, named=8), n.ERROR_NOT_AUTHENTIC)
    assert refused(home, wrapped(7, pne_id="pne-2", pne="pne-1"), n.ERROR_NOT_AUTHENTIC)
    other = wrapped(7, euk=OLDER_EUK, key_id=entity_user_key.key_id(EUK))
    assert refused(home, other, n.ERROR_NOT_AUTHENTIC)


@req("SEC-25")
def test_a_key_for_another_pne_or_of_a_group_that_is_none_of_ours_is_refused():
    home, _ = member(6)
    assert refused(home, wrapped(7, pne_id="pne-2"), n.ERROR_NOT_ADDRESSED)
    assert refused(home, wrapped(7, sg_id="other-home/alarm"), n.ERROR_NOT_MEMBER)
    home.join("kitchen", 5)
    assert refused(home, wrapped(7, sg_id="kitchen"), n.ERROR_NOT_ALLOWED)


@req("SEC-25")
def test_malformed_keys_are_refused_by_their_form():
    home, _ = member(6)
    for octets in (23, 25, 0):
        fields = wrapped(7)
        fields[m.GROUP_KEY_INFO] = ("pne-1", bytes(octets))
        with raises(MalformedMessage):
            m.encode(n.S_GROUP_KEY_DELIVERY_REQUEST, fields)
        assert home.bring_raw(fields) == 0x80
    fields = wrapped(7)
    fields[m.GROUP_KEY_INFO] = [fields[m.GROUP_KEY_INFO], fields[m.GROUP_KEY_INFO]]
    assert home.bring_raw(fields) == 0x80
    assert sorted(home.held()) == [6]


def test_a_store_that_fails_leaves_the_old_key_and_the_new_one_can_come_again():
    home, group = member(6)
    home.medium.fails = True
    with raises(OSError):
        home.bring(wrapped(7))
    assert home.held() == {6: secret_of(6)} and group.ring.floor == 6
    home.medium.fails = False
    assert proved(home.bring(wrapped(7)), 7)


# Entity User Keys


@req("SEC-25")
def test_an_unknown_key_id_is_return_3_and_makes_one_new_session_an_hour():
    home, group = member(6)
    server = home.agent.membership.server
    for _ in range(3):
        answer = home.bring(wrapped(7, euk=b"x" * 16))
        assert answer[m.RETURN] == n.RETURN_UNKNOWN_EUK and m.MAC not in answer and m.ERROR not in answer
    assert [values["error"] for values in home.told("refused")] == [n.ERROR_UNKNOWN] * 3
    assert server._renew and group.pull_at <= home.clock.ms
    server._renew = False
    home.bring(wrapped(7, euk=b"x" * 16))
    assert not server._renew
    home.clock.ms += 3600000
    home.bring(wrapped(7, euk=b"x" * 16))
    assert server._renew
    assert sorted(home.held()) == [6]


@req("SEC-25")
def test_the_former_key_is_kept_until_one_use_of_the_new_one():
    home, _ = member(6)
    home.agent.membership.server.keys.candidate = b"n" * 16
    home.agent.membership.server.keys.keep()
    assert euks(home) == (b"n" * 16, EUK)
    assert proved(home.bring(wrapped(7)), 7)  # under the former one
    assert euks(home) == (b"n" * 16, EUK)
    assert proved(home.bring(wrapped(8, euk=b"n" * 16)), 8)
    assert euks(home) == (b"n" * 16, b"")
    assert home.bring(wrapped(9))[m.RETURN] == n.RETURN_UNKNOWN_EUK
    home.boot()
    assert proved(home.bring(wrapped(9, euk=b"n" * 16)), 9)


@req("SEC-25")
def test_a_key_that_opens_under_the_present_one_says_nothing_of_the_candidate():
    home, _ = member(6)
    home.agent.membership.server.keys.candidate = b"n" * 16
    assert proved(home.bring(wrapped(7)), 7)
    assert euks(home) == (EUK, b"")
    assert proved(home.bring(wrapped(8, euk=b"n" * 16)), 8)


@req("SEC-25")
def test_a_key_that_opens_under_the_candidate_makes_it_the_present_one():
    home, _ = member(6)
    keys = home.agent.membership.server.keys
    keys.candidate = b"n" * 16
    assert refused(home, wrapped(7, euk=b"x" * 16, key_id=entity_user_key.key_id(b"n" * 16)), n.ERROR_NOT_AUTHENTIC)
    assert euks(home) == (EUK, b"")
    assert proved(home.bring(wrapped(7, euk=b"n" * 16)), 7)
    assert euks(home) == (b"n" * 16, b"") and keys.candidate == b""


# Trust


@req("SEC-26")
def test_an_end_to_end_group_takes_no_key_by_unicast_pull_or_broadcast():
    home, group = member(6)
    home.agent.membership.gkdks.put(home.gateway.gkdk(), 0)
    home.agent.membership._set_pn_alias({m.PN_ALIAS: 0x11223344})
    home.gateway.time = 1700000000
    answer = home.deliver(SG, 9)
    assert (answer[m.RESULT], answer[m.ERROR]) == (n.RESULT_FAIL, n.ERROR_NOT_ALLOWED)
    before = home.agent.receiver.verifications
    home.hear(home.gateway.object(SG, 9))
    assert home.agent.receiver.refused == {"NotAllowed": 1} and home.agent.receiver.verifications == before
    home.hear(home.gateway.object(SG, 6, key=secret_of(6)))  # of a member that works with the PN GW
    assert group.confirm_at is None
    home.run_for(86400000)
    assert n.GROUP_KEY_DELIVERY_RESPONSE not in home.gateway.codes() and n.KEY_PULL_REQUEST not in home.gateway.codes()
    assert home.held() == {6: secret_of(6)}
