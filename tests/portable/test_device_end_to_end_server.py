"""The trust of a PNE's groups, and its session with the Server through a PN GW that may do anything."""

from device_world import SLOT, key_of
from end_to_end_world import EUK, SG, Home, euks, member, proved, secret_of, wrapped
from vmtest import raises, req

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import NotAllowed, NotMember, TooMany
from cpns.errors import Unknown as UnknownGroup
from device_agent.coap import message as coap
from device_agent.key_store import KeyStore
from device_agent.requests import CPNS
from device_agent.session import NoSession

VM_HEAP_KIB = 192  # the PNE, its PN GW and the CPNS Server in one heap


@req("SEC-26")
def test_the_trust_outlives_restarts_leaving_and_the_loss_of_the_groups_record():
    home, group = member(6)
    for name in list(home.medium.octets):
        if name.startswith("g") and not name.startswith("groups"):
            home.medium.octets[name] = b"\xff" * 40
    home.boot()
    assert home.ring().end_to_end and home.ring().floor is None
    assert home.deliver(SG, 9)[m.ERROR] == n.ERROR_NOT_ALLOWED
    home, group = member(6)
    home.perform(home.agent.membership.leave(group))
    home.boot()
    with raises(NotAllowed):
        home.enter(trust=n.TRUST_GATEWAY)
    assert home.enter(trust=None).ring.end_to_end
    assert home.gateway.heard[-1][1][m.TRUST] == n.TRUST_END_TO_END


@req("SEC-26")
def test_a_gateway_that_has_the_group_as_its_own_is_refused_and_the_trust_stays():
    home = Home()
    home.gateway.groups[SG] = [1, 5, True]
    for trust in ({}, {m.TRUST: n.TRUST_GATEWAY}):
        home.gateway.extra[n.JOIN_REQUEST] = trust
        with raises(NotAllowed):
            home.perform(home.agent.membership.enter(SG, None, n.TRUST_END_TO_END))
    assert SG not in home.agent.membership.groups
    assert home.agent.membership._load(SG).ring.end_to_end


@req("SEC-26")
def test_the_trust_is_stored_before_the_request_leaves():
    home = Home()
    home.gateway.deaf = True
    with raises(NoSession):
        home.enter()
    home.boot()
    assert home.agent.membership._load(SG).ring.end_to_end


@req("SEC-26")
def test_a_group_that_the_gateway_names_end_to_end_becomes_so_without_its_keys_and_floor():
    home = Home()
    home.join(SG, 5)
    home.deliver(SG, 6)
    assert home.held() == {6: key_of(6)}
    home.agent.membership.groups[SG].confirm_at = 1000
    group = home.enter(version=3, trust=None)
    assert group.ring.end_to_end and home.held() == {} and group.ring.floor is None and group.confirm_at is None
    home.run_for(100)
    assert proved(home.bring(wrapped(3)), 3)


@req("SEC-25", "SEC-26")
def test_no_word_of_a_gateway_harms_an_end_to_end_group():
    home = Home()
    home.gateway.extra[n.JOIN_REQUEST] = {m.VERSION: 0xFFFFFFFF, m.TIME: 0xFFFFFFFF}
    group = home.enter(version=6)
    assert group.ring.floor is None
    home.run_for(100)
    assert group.ring.floor == 5
    assert proved(home.bring(wrapped(6)), 6)
    home.gateway.extra[n.JOIN_REQUEST] = {m.PROTECTION: n.PROTECTION_AUTHENTICATED}
    with raises(NotAllowed):
        home.enter()
    assert group.ring.protection == n.PROTECTION_SEALED
    assert home.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: 0xFFFFFFFF})[1][m.RESULT] == "1"
    home.run_for(10000)
    assert home.held() == {6: secret_of(6)} and group.ring.floor == 6 and group.joined
    home.boot()
    assert proved(home.bring(wrapped(7)), 7)


def test_a_board_with_neither_credential_nor_key_says_so():
    home = Home(server=False, euk=False)
    with raises(NotAllowed) as caught:
        home.enter()
    assert "neither" in caught.value.reason
    assert home.gateway.heard == []


def test_no_gkdk_is_asked_for_a_board_that_has_such_groups_only():
    home, _ = member(6)
    home.run_for(86400000)
    assert n.GKDK_ASSIGNMENT_REQUEST not in home.gateway.codes()
    home.join("kitchen", 5)
    assert n.GKDK_ASSIGNMENT_REQUEST in home.gateway.codes() and home.agent.membership.gkdks.get(1).slot == SLOT


def test_an_ordinary_board_does_not_load_what_such_groups_need():
    home = Home()
    home.join("kitchen", 5)
    assert home.agent.membership.server is None
    assert home.bring_raw(wrapped(7)) == 0x83


# Pulls


@req("SEC-13", "SEC-25")
def test_the_server_is_asked_at_once_after_the_join_at_a_start_and_every_day():
    home = Home()
    home.enter(version=6)
    home.run_for(100)
    assert [fields[m.VERSION] for fields in home.server.heard] == [0]
    assert home.ring().floor == 5
    home.bring(wrapped(6))
    home.run_for(2 * 86400000)
    assert 3 <= len(home.server.heard) <= 4
    home.boot()
    home.server.heard.clear()
    home.run_for(6000)
    assert [fields[m.VERSION] for fields in home.server.heard] == [6]


@req("SEC-24")
def test_lost_windows_are_reported_to_the_server():
    home, group = member(6)
    group.windows_lost = 6
    home.perform(home.agent.membership.pull(group))
    assert home.server.heard[-1][m.WINDOWS_LOST] == 6


@req("SEC-04", "SEC-25")
def test_without_a_floor_the_server_is_asked_before_a_key_is_taken():
    home = Home()
    home.enter(version=6)
    assert refused_without_floor(home, 5)  # an old one, which the PN GW has kept
    home = Home()
    home.enter(version=6)
    assert proved(home.bring(wrapped(6)), 6)
    home = Home()
    home.enter(version=6)
    home.server.silent = True
    assert home.bring(wrapped(6))[m.ERROR] == n.ERROR_NOT_ALLOWED and home.held() == {}
    home.server.silent, home.server.refuse = False, TooMany("too often")
    assert home.bring(wrapped(6))[m.ERROR] == n.ERROR_NOT_ALLOWED and home.held() == {}
    home.server.refuse = None
    home.run_for(60000)
    assert proved(home.bring(wrapped(6)), 6)


def refused_without_floor(home, version):
    answer = home.bring(wrapped(version))
    return answer[m.ERROR] == n.ERROR_STALE and home.held() == {}


@req("SEC-25")
def test_who_is_no_member_any_more_by_the_servers_word_forgets_the_keys():
    for error, event in ((NotMember("gone"), "expelled"), (UnknownGroup("gone"), "deleted")):
        home, group = member(6)
        home.server.refuse = error
        home.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: 6})
        home.run_for(10000)
        assert home.told(event) == [{"group": group}] and SG not in home.agent.membership.groups
        assert home.agent.membership._load(SG).ring.floor == 6
        assert home.agent.membership._load(SG).ring.versions == []


def test_an_error_of_the_gateway_about_the_tunnel_is_none_of_the_servers():
    for error in (NotMember("no"), UnknownGroup("no"), TooMany("no"), NotAllowed("no")):
        home, group = member(6)
        home.gateway.refuse[n.TUNNEL_REQUEST] = error
        with raises(NoSession):
            home.perform(home.agent.membership.pull(group))
        assert group.joined and not home.agent.membership.server.session.wants_handshake(home.clock.ms)


@req("SEC-25")
def test_a_board_with_a_provisioned_key_only_pulls_by_the_gateway_whose_word_is_no_floor():
    home = Home(server=False)
    group = home.enter(version=6)
    home.gateway.groups[SG][1] = 0xFFFF
    home.gateway.extra[n.KEY_PULL_REQUEST] = {m.PROTECTION: n.PROTECTION_AUTHENTICATED}
    home.run_for(10000)
    assert n.KEY_PULL_REQUEST in home.gateway.codes() and home.gateway.tunnelled == 0
    assert group.ring.floor is None and group.ring.protection == n.PROTECTION_SEALED
    assert proved(home.bring(wrapped(6)), 6)
    with raises(UnknownGroup):
        home.gateway.refuse[n.KEY_PULL_REQUEST] = UnknownGroup("no such group")
        home.perform(home.agent.membership.pull(group))
    assert group.joined
    home.gateway.refuse.clear()
    home.gateway.groups[SG] = [1, 9, True]  # its answer brings a key of its own
    with raises(NotAllowed):
        home.perform(home.agent.membership.pull(group))
    assert home.held() == {6: secret_of(6)} and group.ring.floor == 6
    home.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: 0xFFFFFFFF})
    assert home.told("deleted") and home.agent.membership._load(SG).ring.floor == 6


# The tunnel


@req("SEC-25", "SEC-21")
def test_answers_that_are_none_are_refused_and_the_session_is_in_doubt_after_two():
    spoiled = (
        lambda datagram: b"\x00" * 1280,
        lambda datagram: b"\xff" * 40,
        lambda datagram: datagram[:4] + bytes(4) + datagram[8:],  # another token
        lambda datagram: datagram[:-1],
        lambda datagram: datagram[:-1] + bytes((datagram[-1] ^ 1,)),
        lambda datagram: coap.Message(coap.NON, 0x02, 1, datagram[4:8]).encode(),  # a request
    )
    for spoil in spoiled:
        home, group = member(6)
        home.gateway.spoil = spoil
        with raises(NoSession):
            home.perform(home.agent.membership.pull(group))
        damaged = spoil in spoiled[-3:-1]  # these are answers, and the session refuses them
        assert home.agent.membership.server._tunnel.refused == (0 if damaged else 1)
        home.gateway.spoil = lambda datagram: datagram
        home.perform(home.agent.membership.pull(group))
        assert home.held() == {6: secret_of(6)}


@req("SEC-25")
def test_an_old_answer_does_not_count_for_a_new_request():
    home, group = member(6)
    kept = []
    home.gateway.spoil = lambda datagram: kept.append(datagram) or datagram
    home.perform(home.agent.membership.pull(group))
    home.server.versions[SG] = 7
    token = []

    def replayed(datagram):
        token.append(datagram[4:8])
        return kept[0][:4] + token[-1] + kept[0][8:]

    home.gateway.spoil = replayed
    with raises(NoSession):
        home.perform(home.agent.membership.pull(group))
    assert group.ring.floor == 6


@req("SEC-21")
def test_a_silent_server_is_asked_less_and_less_and_its_session_goes_on_afterwards():
    home, group = member(6)
    home.server.silent = True
    home.agent.membership.hint(group, home.clock.ms, 0)
    before = home.gateway.tunnelled
    home.run_for(3600000)
    assert 5 < home.gateway.tunnelled - before < 40
    home.server.silent = False
    home.perform(home.agent.membership.server._tunnel.run(home.agent.membership.server.session.ask(CPNS, b"")))
    home.perform(home.agent.membership.pull(group))


def test_when_the_network_is_back_the_server_is_tried_again_soon():
    class End(Exception):
        pass

    class Link:
        changes = 1

        def up(self):
            return True

        async def changed(self):
            self.changes -= 1
            if self.changes < 0:
                raise End

    home, _ = member(6)
    session = home.agent.membership.server.session
    for _ in range(8):
        session.back_off(home.clock.ms)
    assert session.retry_at > home.clock.ms + 300000
    with raises(End):
        home.agent._watch(Link()).send(None)
    assert session.retry_at <= home.clock.ms + 5000


def test_each_datagram_has_a_message_id_of_its_own():
    home, group = member(6)
    for _ in range(20):
        home.perform(home.agent.membership.pull(group))
    assert len(set(home.server.mids)) == len(home.server.mids)


@req("SEC-22")
def test_no_number_of_the_session_with_the_server_is_used_twice_after_restarts():
    home, _ = member(6)
    numbers = home.server.numbers
    for damaged in ("", "ssess0", "ssess1"):
        for _ in range(70):
            home.perform(home.agent.membership.pull(home.agent.membership.groups[SG]))
            home.gateway.heard.clear()
            home.server.heard.clear()
        if damaged:
            home.medium.octets[damaged] = b"\xff" * 30
        home.boot()
    assert len(numbers) > 210 and sorted(set(numbers)) == numbers
    home.medium.octets["ssess0"] = home.medium.octets["ssess1"] = b"\xff" * 30
    home.boot()
    assert home.agent.membership.server.session.wants_handshake(home.clock.ms)


def test_a_new_gateway_leaves_keys_and_session_with_the_server():
    home, _ = member(6)
    home.agent._forget_gateway()
    assert home.held() == {6: secret_of(6)} and euks(home) == (EUK, b"")
    assert not home.agent.membership.server.session.wants_handshake(home.clock.ms)


@req("SEC-25")
def test_a_new_server_ends_session_and_keys_of_the_one_before():
    for loaded in (True, False):
        home = Home()
        if loaded:
            home.enter(version=6)
        home.agent._forget_server()
        store = KeyStore(home.medium)
        assert store.load("ssess") is None and store.load("euk") is None
        if loaded:
            assert home.agent.membership.server.session.wants_handshake(home.clock.ms)
            assert not home.agent.membership.server.keys.held
