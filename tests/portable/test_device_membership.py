"""A PNE and its Service Groups: GKDK, create, join, unicast delivery, leave, delete, floors."""

from device_world import PN_ALIAS, SIGNING, SLOT, Peer, World, frame, key_of, sign
from vmtest import raises, req

from cpns import cborlite
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, NotAllowed, NotMember, Stale, TooMany, Unknown
from device_agent.crypto import p256
from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from device_agent.session import NoSession

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


def members_world(version=5):
    world = World()
    group = world.join("kitchen", version)
    world.gateway.heard.clear()
    return world, group


@req("CPNS-GKM-02", "CPNS-GKM-03", "CPNS-GKM-22", "CPNS-GKM-23", "CPNS-GKM-39")
def test_without_gkdk_a_pne_asks_for_one_before_it_joins():
    world = World()
    world.join("kitchen", 5)
    assert world.gateway.codes() == [n.GKDK_ASSIGNMENT_REQUEST, n.JOIN_REQUEST]
    assert world.gateway.heard[0][1][m.PNE_ID] == "pne-1"


@req("CPNS-GKM-02")
def test_without_gkdk_a_pne_asks_for_one_before_it_creates():
    world = World()
    world.gateway.groups["workshop"] = [1, 0, False]
    group = world.perform(world.agent.membership.enter("workshop", n.PROTECTION_AUTHENTICATED))
    assert world.gateway.codes() == [n.GKDK_ASSIGNMENT_REQUEST, n.CREATE_SERVICE_GROUP_REQUEST]
    assert group.ring.protection == n.PROTECTION_AUTHENTICATED


@req("CPNS-GKM-06", "CPNS-GKM-24", "CPNS-GKM-40")
def test_the_gkdk_is_stored_and_not_asked_for_again():
    world = World()
    world.join("kitchen", 5)
    world.boot()
    assert world.agent.membership.gkdks.get(1).pack() == world.gateway.gkdk()
    world.gateway.heard.clear()
    world.join("hall", 2)
    assert world.gateway.codes() == [n.JOIN_REQUEST]


def test_a_refused_gkdk_leaves_nothing_behind_and_no_join_is_sent():
    world = World()
    world.gateway.refuse[n.GKDK_ASSIGNMENT_REQUEST] = TooMany("four an hour")
    world.gateway.groups["kitchen"] = [1, 5, False]
    with raises(TooMany) as caught:
        world.perform(world.agent.membership.enter("kitchen"))
    assert caught.value.reason == "four an hour"
    assert world.gateway.codes() == [n.GKDK_ASSIGNMENT_REQUEST]
    assert not world.agent.membership.groups
    assert not world.agent.membership.gkdks.newest


@req("CPNS-GKM-15", "CPNS-GKM-16", "CPNS-GKM-37", "CPNS-GKM-41", "CPNS-GKM-42", "CPNS-GKM-64", "CPNS-GKM-65")
def test_a_key_that_comes_by_unicast_is_stored_and_then_answered():
    world, _ = members_world()
    answer = world.deliver("kitchen", 6)
    assert (answer[m.RESULT], answer[m.SG_ID], answer[m.VERSION]) == (n.RESULT_SUCCESS, "kitchen", 6)
    world.boot()
    assert world.agent.membership.groups["kitchen"].ring.receiving_keys(0) == {6: key_of(6)}


@req("SEC-14")
def test_the_answer_proves_slot_and_key():
    world, _ = members_world()
    answer = world.deliver("kitchen", 6)
    assert (answer[m.GENERATION], answer[m.SLOT]) == (1, SLOT)
    assert world.gateway.proves(answer)
    answer[m.VERSION] = 7
    assert not world.gateway.proves(answer)


@req("SEC-11")
def test_a_repeated_delivery_is_answered_again_and_not_told_again():
    world, _ = members_world()
    first = world.deliver("kitchen", 6)
    assert world.deliver("kitchen", 6) == first
    assert len(world.told("key")) == 1


@req("SEC-05", "SEC-11")
def test_a_delivery_of_a_key_whose_grace_is_over_is_refused():
    world = World()
    group = world.join("kitchen", 5)
    for version in (6, 7):
        world.deliver("kitchen", version, reason=n.REASON_LEAVE)
    world.clock.ms += 31000
    answer = world.deliver("kitchen", 6, reason=n.REASON_LEAVE)
    assert (answer[m.RESULT], answer[m.ERROR]) == (n.RESULT_FAIL, n.ERROR_STALE)
    assert group.version == 7


@req("SEC-04", "SEC-11")
def test_unicast_obeys_the_floor_and_refuses_another_key_of_the_same_version():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    assert world.deliver("kitchen", 5)[m.ERROR] == n.ERROR_STALE
    assert world.deliver("kitchen", 6, key_of(99))[m.ERROR] == n.ERROR_STALE
    assert world.agent.membership.groups["kitchen"].ring.receiving_keys(0) == {6: key_of(6)}


def test_a_key_that_cannot_be_stored_is_not_taken():
    world, group = members_world()
    world.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "other", m.VERSION: 1})  # the session is warm now
    world.medium.fails = True
    with raises(OSError):
        world.deliver("kitchen", 6)
    assert group.version == 0
    assert not world.told("key")
    world.medium.fails = False
    assert world.deliver("kitchen", 6)[m.RESULT] == n.RESULT_SUCCESS


@req("SEC-05")
def test_a_key_that_cannot_be_stored_changes_nothing_of_those_before_it():
    world, group = members_world()
    group.ring.limit_grace(5)
    for version in (6, 7):
        world.deliver("kitchen", version, reason=n.REASON_LEAVE)
    world.medium.fails = True
    with raises(OSError):
        world.deliver("kitchen", 8, reason=n.REASON_LEAVE)
    world.medium.fails = False
    now = world.clock.ms // 1000
    assert (group.ring.floor, group.ring.versions) == (7, [6, 7])
    assert group.ring.receiving_keys(now + 4) == {6: key_of(6), 7: key_of(7)}
    world.deliver("kitchen", 8, reason=n.REASON_LEAVE)
    assert group.ring.receiving_keys(now + 5) == {8: key_of(8)}


def test_a_lost_gkdk_is_asked_for_again_soon_when_nobody_answered():
    world, _ = members_world()
    world.agent.membership.gkdks.clear()
    world.gateway.deaf = True
    with raises(NoSession):
        world.perform(world.agent.membership.assign())
    world.gateway.deaf = False
    world.run_for(60000)
    assert world.agent.membership.gkdks.newest == 1


def expelled(world, version):
    """The PN GW's word over the session that the PNE is no member any more."""
    fields = {m.SG_ID: "kitchen", m.VERSION: version, m.REASON: n.REASON_LEAVE}
    return world.ask(n.DELETE_SERVICE_GROUP_REQUEST, fields)[1]


@req("SEC-15", "SEC-04")
def test_who_is_told_that_it_was_expelled_wipes_the_key_and_keeps_the_floor():
    world, group = members_world()
    world.deliver("kitchen", 6)
    assert expelled(world, 6)[m.RESULT] == n.RESULT_SUCCESS
    assert [values["group"] for values in world.told("expelled")] == [group] and not world.told("deleted")
    assert not any(key_of(6) in octets for octets in world.medium.octets.values())
    world.boot()
    assert not world.agent.membership.groups
    world.gateway.heard.clear()
    world.run_for(2 * 86400 * 1000)
    assert world.gateway.codes() == []  # nothing is asked for it any more
    group = world.join("kitchen", 6)
    assert (group.version, group.ring.floor) == (0, 6)


@req("SEC-15", "SEC-04")
def test_a_pull_that_is_answered_with_not_a_member_wipes_the_key_and_a_start_after_it_writes_no_more_than_any():
    world, group = members_world()
    world.deliver("kitchen", 6)
    for refusal in (Unknown("no such group"), Stale("not certain"), NotAllowed("stopped"), TooMany("wait")):
        world.gateway.refuse[n.KEY_PULL_REQUEST] = refusal
        with raises(CpnsError):
            world.perform(world.agent.membership.pull(group))
        assert group.joined and group.version == 6  # none of these says that it is none
    world.gateway.refuse[n.KEY_PULL_REQUEST] = NotMember("pne-1 is no member of kitchen")
    with raises(NotMember):
        world.perform(world.agent.membership.pull(group))
    assert world.told("expelled") and not group.joined and group.version == 0
    assert not any(key_of(6) in octets for octets in world.medium.octets.values())
    world.boot()
    before = world.medium.writes
    world.boot()
    assert world.medium.writes - before == 2  # both copies of the seed (SEC-17)
    assert not world.agent.membership.groups


@req("SEC-15")
def test_an_expulsion_that_comes_after_the_pne_was_let_in_again_is_refused():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    expelled(world, 6)
    world.join("kitchen", 7)
    assert expelled(world, 6)[m.ERROR] == n.ERROR_STALE
    assert "kitchen" in world.agent.membership.groups


@req("SEC-15")
def test_what_members_and_outsiders_can_broadcast_expels_nobody():
    world, group = members_world()
    world.deliver("kitchen", 6)
    for item in ([n.DELETE_SERVICE_GROUP_REQUEST, PN_ALIAS, group.alias, 6, n.REASON_LEAVE],):
        for private in (SIGNING, bytes(31) + b"\x09"):
            world.hear(frame("keycast/delete/1", "kitchen", item, private))
    fields = {m.SG_ID: "kitchen", m.VERSION: 6, m.REASON: n.REASON_LEAVE}
    world.hear(m.encode(n.DELETE_SERVICE_GROUP_REQUEST, fields))
    world.hear(Peer(group).say(m.encode(n.DELETE_SERVICE_GROUP_REQUEST, fields)))
    assert group.joined and group.version == 6 and not world.told("expelled")


@req("SEC-04")
def test_a_recorded_delivery_is_refused_after_leave_and_rejoin():
    world, group = members_world(version=5)
    recorded = world.gateway.object("kitchen", 6)
    world.hear(recorded)
    assert group.version == 6
    world.deliver("kitchen", 7)
    world.perform(world.agent.membership.leave(group))
    world.boot()
    group = world.join("kitchen", 9)
    assert (group.version, group.ring.floor) == (0, 9)
    world.hear(recorded)
    assert group.version == 0
    assert world.deliver("kitchen", 6)[m.ERROR] == n.ERROR_STALE


@req("SEC-04")
def test_a_recorded_delivery_is_refused_after_the_storage_was_erased():
    world, _ = members_world(version=5)
    recorded = world.gateway.object("kitchen", 6)
    kept = {
        name: octets for name, octets in world.medium.octets.items() if name[:4] in ("prov", "sess", "grou", "gkdk")
    }
    world.medium.octets = kept  # the group's state is gone, the membership is known
    world.boot()
    world.gateway.groups["kitchen"][1] = 9
    group = world.agent.membership.groups["kitchen"]
    world.hear(recorded)
    assert group.version == 0
    world.run_for(10000)  # the pull after the start brings the floor
    assert n.KEY_PULL_REQUEST in world.gateway.codes()
    assert group.ring.floor == 9
    world.hear(recorded)
    assert group.version == 0


@req("SEC-04")
def test_a_board_without_identity_does_not_start():
    world = World()
    world.medium.octets.clear()
    with raises(CpnsError) as caught:
        world.boot()
    assert "provision" in caught.value.reason


@req("SEC-04")
def test_leaving_wipes_the_keys_and_keeps_the_floor():
    world, group = members_world()
    world.deliver("kitchen", 6)
    world.perform(world.agent.membership.leave(group))
    assert not world.agent.membership.groups
    assert world.told("left")
    assert key_of(6) not in b"".join(world.medium.octets.values())
    world.boot()
    assert not world.agent.membership.groups
    assert world.agent.membership._load("kitchen").ring.floor == 6


def test_a_refused_leave_changes_nothing():
    world, group = members_world()
    world.deliver("kitchen", 6)
    world.gateway.refuse[n.LEAVE_REQUEST] = NotAllowed("not now")
    with raises(NotAllowed):
        world.perform(world.agent.membership.leave(group))
    assert group.version == 6


@req("SEC-15")
def test_a_delete_over_the_session_wipes_the_keys_unless_a_newer_one_is_held():
    world, group = members_world()
    world.deliver("kitchen", 6)
    assert world.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "kitchen", m.VERSION: 5})[1][m.ERROR] == n.ERROR_STALE
    assert group.version == 6
    code, answer = world.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "kitchen", m.VERSION: 6})
    assert (code, answer[m.RESULT]) == (n.DELETE_SERVICE_GROUP_RESPONSE, n.RESULT_SUCCESS)
    assert not world.agent.membership.groups
    assert group.ring.floor == 6


@req("SEC-04", "SEC-15")
def test_a_delete_that_knows_of_later_keys_raises_the_floor_above_them():
    world, group = members_world()
    world.deliver("kitchen", 6)
    recorded = world.gateway.object("kitchen", 8)
    world.ask(n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: "kitchen", m.VERSION: 8})
    assert key_of(6) not in b"".join(world.medium.octets.values())
    group = world.join("kitchen", 3)
    assert group.ring.floor == 8
    world.hear(recorded)
    assert group.version == 0


@req("SEC-02")
def test_a_pull_tells_the_highest_generation_and_version_that_are_held():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    world.gateway.generation = 9
    world.ask(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 9})
    world.boot()
    world.gateway.heard.clear()
    world.run_for(10000)
    (pull,) = [fields for code, fields in world.gateway.heard if code == n.KEY_PULL_REQUEST]
    assert (pull[m.GENERATION], pull[m.VERSION]) == (9, 6)


@req("SEC-34")
def test_the_last_receipt_of_the_pn_gw_is_kept_unread_and_shown_with_each_pull():
    world, group = members_world()
    world.gateway.groups["kitchen"][1:] = [6, True]
    world.gateway.receipt = b"in its own hand"
    world.gateway.heard.clear()
    for expected in (b"", b"in its own hand"):
        world.perform(world.agent.membership.pull(group))
        assert world.gateway.heard[-1 if expected else 0][1][m.RECEIPT] == expected
    writes = world.medium.writes
    world.perform(world.agent.membership.pull(group))
    assert world.medium.writes == writes  # said again it costs none
    world.gateway.receipt = None
    world.perform(world.agent.membership.pull(group))
    world.boot()
    world.gateway.heard.clear()
    world.run_for(10000)
    (pull,) = [fields for code, fields in world.gateway.heard if code == n.KEY_PULL_REQUEST]
    assert pull[m.RECEIPT] == b"in its own hand"


def test_a_group_of_a_store_of_before_receipts_is_taken_up():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    name = record_name("g", "kitchen")
    store = KeyStore(world.medium)
    store.save(name, cborlite.encode(cborlite.decode(store.load(name))[:5]))
    world.boot()
    group = world.agent.membership.groups["kitchen"]
    assert (group.version, group.receipt) == (6, b"")


def test_requests_about_other_groups_and_requests_not_for_a_pne_are_refused():
    world, _ = members_world()
    assert world.deliver("bedroom", 6)[m.ERROR] == n.ERROR_NOT_MEMBER
    assert world.ask(n.JOIN_REQUEST, {m.PNE_ID: "pne-2", m.SG_ID: "kitchen"}) == (0x83, None)


@req("SEC-13")
def test_a_pne_pulls_after_the_start_and_then_every_day():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    world.gateway.groups["kitchen"][1] = 6
    world.boot()
    world.gateway.heard.clear()
    world.run_for(10000)
    assert world.gateway.codes() == [n.KEY_PULL_REQUEST]
    assert world.gateway.heard[0][1][m.VERSION] == 6
    world.run_for(86400000)
    assert world.gateway.codes() == [n.KEY_PULL_REQUEST] * 2


@req("SEC-13")
def test_pulls_that_bring_nothing_back_off_to_an_hour():
    world, _ = members_world()
    world.gateway.refuse[n.KEY_PULL_REQUEST] = NotAllowed("not now")
    world.run_until(3600000)
    assert 6 <= len(world.gateway.heard) <= 8  # 30 s, 1, 2, 4, .. min
    already = len(world.gateway.heard)
    world.run_until(5 * 3600000)
    assert len(world.gateway.heard) - already in (3, 4, 5)


def test_a_pull_brings_key_names_and_time():
    world, group = members_world()
    world.gateway.time = 1700000000
    world.gateway.groups["kitchen"][1:] = [7, True]
    world.run_for(10000)
    assert group.version == 7
    assert 1700000005 <= world.agent.membership.unix_time(world.clock.ms + 5000) < 1700000020


@req("SEC-14")
def test_a_key_that_was_pulled_is_confirmed_with_proof_at_once():
    world, _group = members_world()
    world.gateway.groups["kitchen"][1:] = [7, True]
    world.run_for(10000)
    assert world.gateway.codes()[-2:] == [n.KEY_PULL_REQUEST, n.GROUP_KEY_DELIVERY_RESPONSE]
    fields = world.gateway.heard[-1][1]
    assert fields[m.VERSION] == 7 and len(fields[m.PROOF]) == 8
    world.run_for(600000)
    assert world.gateway.codes().count(n.GROUP_KEY_DELIVERY_RESPONSE) == 1


@req("SEC-05")
def test_time_moves_forward_only():
    world, _ = members_world()
    membership = world.agent.membership
    world.gateway.time = 1700000000
    world.run_for(6000)
    world.gateway.time = 1600000000
    world.run_for(86400000)
    assert membership.unix_time(world.clock.ms) >= 1700000000


NEXT = bytes(31) + b"\x0b"  # the PN GW's next signing key


def roll_over(epoch=2, private=SIGNING):
    key = p256.run(p256.public_key(NEXT))
    names = cborlite.encode(["keycast/rollover/1", "home"])
    payload = cborlite.encode([epoch, key])
    signature = sign(private, cborlite.encode(["Signature1", b"\xa1\x01\x26", names, payload]))
    return {m.SIGNING_KEY: key, m.SIGNING_EPOCH: epoch, m.SIGNATURE: signature}


@req("SEC-18")
def test_a_roll_over_signed_by_the_old_key_replaces_it():
    world, group = members_world()
    world.perform(world.agent.receiver.prepare())
    for _ in range(2):  # the answer to the first may have been lost
        assert world.ask(n.ROLL_OVER_REQUEST, roll_over()) == (n.ROLL_OVER_RESPONSE, {m.RESULT: n.RESULT_SUCCESS})
    assert not world.agent.receiver.prepared  # the new key's tables are made before they are needed
    world.perform(world.agent.receiver.prepare())
    assert world.agent.receiver.prepared
    world.boot()
    group = world.agent.membership.groups["kitchen"]
    world.hear(world.gateway.object("kitchen", 6))
    assert group.version == 0
    world.hear(world.gateway.object("kitchen", 6, private=NEXT))
    assert group.version == 6


@req("SEC-18")
def test_a_roll_over_with_another_signature_or_epoch_is_refused():
    world, _ = members_world()
    for request, error in (
        (roll_over(private=NEXT), n.ERROR_NOT_AUTHENTIC),
        (roll_over(epoch=1), n.ERROR_STALE),
        (roll_over(epoch=3), n.ERROR_STALE),
    ):
        assert world.ask(n.ROLL_OVER_REQUEST, request)[1][m.ERROR] == error
    assert world.agent.identity.signing_epoch == 1


@req("SEC-18")
def test_a_roll_over_with_the_stolen_key_but_without_the_session_is_refused():
    world, group = members_world()
    octets = m.encode(n.ROLL_OVER_REQUEST, roll_over())
    message, _ = world.gateway.protect(octets)
    message.options, message.payload = [(11, b"cpns"), (12, b"<")], octets
    assert world.agent.session.unprotect(message, "elsewhere") == ((0x81, (), b""), None)
    items = [n.ROLL_OVER_REQUEST, PN_ALIAS, group.alias, 2, p256.run(p256.public_key(NEXT))]
    world.hear(frame("keycast/rollover/1", "kitchen", items, SIGNING))
    assert world.agent.receiver.refused == {"MalformedMessage": 1}
    assert world.agent.identity.signing_epoch == 1


def test_no_more_groups_than_a_board_has_room_for():
    world = World()
    for number in range(8):
        world.join("sg%d" % number, 1)
    with raises(TooMany):
        world.join("sg8", 1)


@req("SEC-02", "SEC-07", "SEC-14", "CPNS-GKM-74")
def test_a_new_generation_is_stored_beside_the_old_one():
    world, group = members_world()
    old = world.gateway.object("kitchen", 6)
    world.gateway.generation = 257  # a restored gateway jumps (SEC-02)
    fields = {m.GKDK: world.gateway.gkdk(), m.GENERATION: 257}
    assert world.ask(n.GENERATION_REQUEST, fields)[1][m.RESULT] == n.RESULT_SUCCESS
    world.boot()
    group = world.agent.membership.groups["kitchen"]
    world.hear(old)
    assert group.version == 6
    world.run_for(world.gateway.leisure)
    (confirmed,) = [fields for code, fields in world.gateway.heard if code == n.GROUP_KEY_DELIVERY_RESPONSE]
    assert confirmed[m.GENERATION] == 1  # of the GKDK that opened it
    world.hear(world.gateway.object("kitchen", 7))
    assert group.version == 7
    fields[m.GENERATION] = 3
    assert world.ask(n.GENERATION_REQUEST, fields)[0] == 0x80


@req("SEC-14")
def test_a_confirmation_that_waits_is_repeated_soon_with_a_new_gkdk():
    world, group = members_world()
    world.deliver("kitchen", 6)
    world.gateway.generation = 257
    group.confirm_at = world.clock.now() + 50000  # the restored gateway has refused the proof under the old one
    world.gateway.heard.clear()
    world.ask(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 257})
    world.run_for(world.gateway.leisure + 1000)
    (confirmed,) = [fields for code, fields in world.gateway.heard if code == n.GROUP_KEY_DELIVERY_RESPONSE]
    assert confirmed[m.VERSION] == 6


@req("SEC-07")
def test_the_old_generation_is_erased_after_a_month():
    world, _ = members_world()
    world.deliver("kitchen", 6)
    world.gateway.groups["kitchen"][1] = 6  # so that it pulls once a day only
    world.gateway.generation = 2
    world.ask(n.GENERATION_REQUEST, {m.GKDK: world.gateway.gkdk(), m.GENERATION: 2})
    world.run_until(29 * 86400000)
    assert world.agent.membership.gkdks.get(1)
    world.run_until(32 * 86400000)
    assert not world.agent.membership.gkdks.get(1)
    store = KeyStore(world.medium)
    assert [bool(store.load(name)) for name in ("gkdk0", "gkdk1")] == [False, True]
