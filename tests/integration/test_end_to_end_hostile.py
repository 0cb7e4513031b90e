"""A PN GW that has gone over to the enemy, with all its keys: what it does to an end-to-end group is refused or shown.

After each attack it learns no key and no board has accepted one of it (`House.check`), and as soon as the messages go
through again the boards get the newest key.
"""

import asyncio
import contextlib
import secrets

import pytest

from cpns import cborlite, messages
from cpns import messages as m
from cpns import numbers as n
from cpns.broadcast_encryption.cover import cover
from cpns.broadcast_object_build import build, build_delete
from cpns.errors import CpnsError
from cpns.fingerprint import fingerprint
from device_agent import provisioning, unpaired
from device_agent.coap.message import decode, option
from device_agent.key_store import KeyStore
from key_servers.cpns_server.alarms import FORGED
from keycast.provisioning.board import trust_of
from message_plane.errors import PlaneError
from message_plane.identity import OwnIdentity
from tests.integration.end_to_end_attacker import (
    FROM_BOARD,
    FROM_SERVER,
    TO_BOARD,
    TO_SERVER,
    Seen,
    hands_on,
    nobody,
)
from tests.integration.end_to_end_house import (
    HOUR,
    SERVER_ID,
    SG,
    HouseBoard,
    HouseServer,
    broadcast,
    open_house_of_two,
    until,
)

DELIVERY, RESPONSE = n.S_GROUP_KEY_DELIVERY_REQUEST, n.S_GROUP_KEY_DELIVERY_RESPONSE
HIGHEST = 0xFFFF_FFFF
OSCORE = 9  # the option
OTHER, LIGHT = "home/door", "home/light"


@pytest.fixture
async def house(tmp_path):
    """A home with two members, who hold a key; its PN GW is hostile, and does its work so far."""
    async with open_house_of_two(tmp_path) as house:
        yield house


def is_key(seen: Seen, way: str) -> bool:
    """Whether this is an SGroupKeyDeliveryRequest on its way."""
    return not seen.answer and seen.way == way and seen.code == DELIVERY


def changed(seen: Seen, **fields) -> bytes:
    """The message with other values, named as in `cpns.messages`."""
    return messages.encode(seen.code, seen.fields | {getattr(m, name): value for name, value in fields.items()})


async def is_shown(house, *words: str) -> None:
    """Wait until an alarm of the Server has all these words."""
    await until(lambda: any(all(word in alarm.text for word in words) for alarm in house.server.app.alarms()), 2 * HOUR)


async def recovers(house) -> None:
    """Hand on everything; all boards get the newest key."""
    house.hostile.judge = hands_on
    await until(lambda: house.holds_newest(), 2 * HOUR)


def newest(board, sg_id: str = SG) -> tuple[int, bytes | None]:
    """The newest key that a board holds, and its version."""
    return board.version(sg_id), board.key(sg_id)


def held(house) -> dict[tuple[str, str], tuple[int, bytes | None]]:
    """The same of all boards in both groups."""
    return {(name, sg_id): newest(board, sg_id) for name, board in house.boards.items() for sg_id in (SG, OTHER)}


# It changes what it carries


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize("what", ["SGID", "PNE ID", "higher version", "highest version", "lower version", "wrap"])
async def test_a_changed_name_version_or_wrap_opens_for_nobody(house, what):
    house.create(OTHER)
    for name in ("lamp", "door"):
        await house.member(name, sg_id=OTHER)
    await until(lambda: house.holds_newest() and house.holds_newest(sg_id=OTHER))

    def judge(seen):
        if not is_key(seen, TO_BOARD):
            return seen.octets
        pne_id, wrapped = seen.fields[m.GROUP_KEY_INFO]
        if what == "SGID":
            return changed(seen, SGID=OTHER if seen.fields[m.SGID] == SG else SG)
        if what == "PNE ID":
            return changed(seen, GROUP_KEY_INFO=("door" if pne_id == "lamp" else "lamp", wrapped))
        if what == "wrap":
            return changed(seen, GROUP_KEY_INFO=(pne_id, wrapped[:-1] + bytes((wrapped[-1] ^ 1,))))
        version = seen.fields[m.VERSION]
        versions = {"higher version": version + 1, "highest version": HIGHEST, "lower version": version - 1}
        return changed(seen, VERSION=versions[what])

    before = held(house)
    house.hostile.judge = judge
    house.server.app.update_key(SG)
    await is_shown(house, SG, "lamp")
    assert held(house) == before
    await recovers(house)


@pytest.mark.req("SEC-25")
async def test_the_wrap_of_one_board_is_nothing_to_another(house):
    """Each board gets what was for the other one, with the names put right."""
    wraps = {}

    def judge(seen):
        if not is_key(seen, FROM_SERVER):
            return seen.octets
        pne_id, wrapped = seen.fields[m.GROUP_KEY_INFO]
        wraps[pne_id] = wrapped, seen.fields[m.EUK_ID]
        other = wraps.get("door" if pne_id == "lamp" else "lamp", (wrapped[::-1], seen.fields[m.EUK_ID]))
        return changed(seen, GROUP_KEY_INFO=(pne_id, other[0]), EUK_ID=other[1])

    before = held(house)
    house.hostile.judge = judge
    house.server.app.update_key(SG)
    await is_shown(house, SG, "lamp")
    assert held(house) == before
    await recovers(house)


@pytest.mark.req("SEC-25")
async def test_an_unknown_euk_id_costs_one_handshake_an_hour_and_is_shown(house):
    house.hostile.judge = lambda seen: (
        changed(seen, EUK_ID=secrets.token_bytes(8)) if is_key(seen, TO_BOARD) else seen.octets
    )
    began = len(house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST))
    house.server.app.update_key(SG)
    await is_shown(house, SG, "lamp")
    await asyncio.sleep(900)
    assert len(house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST)) - began < 40
    await recovers(house)


# It repeats what was


@pytest.mark.req("SEC-25")
async def test_old_requests_change_nothing(house):
    for _ in range(2):
        house.server.app.update_key(SG)
        await until(lambda: house.holds_newest())
    before = held(house)
    for old in house.hostile.of(FROM_SERVER, DELIVERY):
        name = old.fields[m.GROUP_KEY_INFO][0]
        answer = m.decode(await house.hostile.repeat(name, old.octets))[1]
        assert answer[m.RETURN] == ("1" if old.fields[m.VERSION] in house.boards[name].held() else "2")
    assert held(house) == before


@pytest.mark.req("SEC-25")
async def test_an_old_response_proves_nothing_of_a_new_key(house):
    """Nor does one whose version is put right."""
    old = house.hostile.of(TO_SERVER, RESPONSE)
    house.hostile.judge = lambda seen: None if is_key(seen, TO_BOARD) else seen.octets
    version = house.server.app.update_key(SG)
    for seen in old:
        for octets in (seen.octets, changed(seen, VERSION=version)):
            with contextlib.suppress(PlaneError):
                await house.hostile.repeat(SERVER_ID, octets)
    assert {member.confirmed for member in house.server.app.show_group(SG).members} == {version - 1}
    await is_shown(house, SG, "lamp")
    await recovers(house)


async def test_old_datagrams_of_the_tunnel_are_dropped_by_both_ends(house):
    hostile, known = house.hostile, house.server.app._entity_user_keys
    euks = {name: board.euks() for name, board in house.boards.items()}
    replayed = 0
    for seen in hostile.of(FROM_BOARD, n.TUNNEL_REQUEST):
        _, answer = await hostile.say(SERVER_ID, n.TUNNEL_REQUEST, seen.fields, timeout_s=20)
        if option(decode(seen.fields[m.DATAGRAM]).options, OSCORE) is not None:
            replayed += 1
            assert m.DATAGRAM not in answer
    assert replayed > 3
    for name, board in house.boards.items():
        assert board.euks() == euks[name]
        assert known.of(name).current == euks[name][0]
    # downwards: the answer to another question
    old = [seen.octets for seen in hostile.of(FROM_BOARD, n.TUNNEL_RESPONSE, answer=True)]
    hostile.judge = lambda seen: (
        old[-1] if seen.answer and seen.way == FROM_BOARD and seen.code == n.TUNNEL_RESPONSE else seen.octets
    )
    for board in house.boards.values():
        await board.restart()
    await asyncio.sleep(60)
    house.server.app.update_key(SG)
    await recovers(house)


@pytest.mark.req("SEC-25", "CPNS-GKM-91")
@pytest.mark.parametrize("returned", ["1", "2", "3"])
async def test_a_forged_return_is_shown_and_does_not_end_the_delivery(house, returned):
    house.hostile.judge = lambda seen: (
        changed(seen, RETURN=returned, MAC=secrets.token_bytes(8))
        if seen.answer and (seen.way, seen.code) == (TO_BOARD, RESPONSE)
        else seen.octets
    )
    sent = len(house.hostile.of(FROM_SERVER, DELIVERY))
    version = house.server.app.update_key(SG)
    await is_shown(house, SG, "lamp")
    await is_shown(house, SG, "door")
    if returned == "1":
        assert any(alarm.kind == FORGED for alarm in house.server.app.alarms())
    await asyncio.sleep(900)
    assert all(member.confirmed < version for member in house.server.app.show_group(SG).members)
    assert len(house.hostile.of(FROM_SERVER, DELIVERY)) - sent < 100  # it backs off
    await recovers(house)


# It withholds


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize("way", [FROM_SERVER, TO_BOARD, TO_SERVER])
async def test_what_it_withholds_is_shown_at_the_server(house, way):
    """With every key down, or every response up, kept back."""
    code = RESPONSE if way == TO_SERVER else DELIVERY
    house.hostile.judge = lambda seen: None if (seen.way, seen.code) == (way, code) else seen.octets
    house.server.app.update_key(SG)
    await is_shown(house, SG, "lamp")
    await is_shown(house, SG, "door")
    lamp = house.boards["lamp"]
    await lamp.restart()
    if way != TO_SERVER:
        await until(lambda: {"group": SG, "version": house.server.version()} in lamp.told("withheld"))
    await recovers(house)


# It goes back to 1.0, where it would know the key


def own_object(house, key: bytes, version: int) -> bytes:
    """A broadcast object for all slots of the tree, signed as it should be."""
    app = house.hostile
    keys = app.gateway._tree.keys(1)
    group = app._store.inventory.group(SG)
    (draft,) = build(
        pn_id="home",
        sg_id=SG,
        pn_alias=app.pn_alias,
        sg_alias=group.alias,
        generation=1,
        version=version,
        activation=0,
        reason=n.REASON_BY_HAND,
        group_key=key,
        height=keys.height,
        subsets=cover(keys.height, 2, range(1 << keys.height)),
        key_of=keys.subset_key,
    )
    return draft.finish(app.signing_key.sign(draft.to_be_signed))


@pytest.fixture
async def with_gkdks(house):
    """The members are in an ordinary group, too, whose broadcasts they open."""
    house.server.app.create_group(LIGHT, open_to=["home"])
    for board in house.boards.values():
        await board.node.join(LIGHT)
    return house


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize("how", ["broadcast", "unicast", "pull", "join"])
async def test_no_key_that_the_pn_gw_knows_is_accepted(with_gkdks, how):
    house, hostile = with_gkdks, with_gkdks.hostile
    key, version = secrets.token_bytes(16), house.server.version() + 1
    lamp, before = house.boards["lamp"], newest(house.boards["lamp"])
    fields = {m.VERSION: version, m.GROUP_KEY: [(key, None)], m.ACTIVATION: 0, m.REASON: n.REASON_BY_HAND}
    if how == "broadcast":
        refused = lamp.agent.receiver.refused
        broadcast(own_object(house, key, version))
        await until(lambda: refused.get("NotAllowed"))
    elif how == "unicast":
        _, answer = await hostile.say("lamp", n.GROUP_KEY_DELIVERY_REQUEST, {m.SG_ID: SG, **fields})
        assert (answer[m.RESULT], answer[m.ERROR]) == (n.RESULT_FAIL, n.ERROR_NOT_ALLOWED)
    else:
        code = n.KEY_PULL_RESPONSE if how == "pull" else n.JOIN_RESPONSE
        more = fields if how == "pull" else {m.TRUST: n.TRUST_GATEWAY, m.VERSION: 0}
        hostile.judge = lambda seen: (
            messages.encode(code, seen.fields | more) if seen.answer and seen.code == code else seen.octets
        )
        if how == "join":
            with pytest.raises(CpnsError):
                await lamp.agent.perform(lambda: lamp.agent.membership.enter(SG))
        await lamp.restart()
        await asyncio.sleep(120)
    assert newest(lamp) == before and lamp.group().ring.end_to_end
    house.server.app.update_key(SG)
    await recovers(house)


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize("with_key", [True, False])
async def test_a_board_that_pulls_by_its_pn_gw_takes_nothing_from_the_answer(house, with_key):
    """With a provisioned key it has no session with the Server, and the answer is whatever the PN GW makes of it."""
    desk = await house.board("desk", provisioned=True)
    await desk.node.join(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())
    before = newest(desk)
    more = {m.VERSION: HIGHEST, m.PROTECTION: n.PROTECTION_AUTHENTICATED}
    if with_key:
        more |= {m.GROUP_KEY: [(secrets.token_bytes(16), None)], m.ACTIVATION: 0, m.REASON: n.REASON_BY_HAND}
    code = n.KEY_PULL_RESPONSE
    house.hostile.judge = lambda seen: (
        messages.encode(code, seen.fields | more)
        if seen.answer and (seen.way, seen.code) == (FROM_BOARD, code)
        else seen.octets
    )
    await desk.restart()
    await asyncio.sleep(120)
    assert house.hostile.of(FROM_BOARD, code, answer=True)
    assert newest(desk) == before
    await desk.node.groups[0].send(b"the window is open")
    await asyncio.sleep(1)
    assert not any(b"window" in datagram for datagram in house.air.datagrams)
    house.server.app.update_key(SG)
    await recovers(house)


@pytest.mark.req("SEC-26")
async def test_a_join_cannot_make_the_messages_of_the_group_readable(house):
    code = n.JOIN_RESPONSE
    house.hostile.judge = lambda seen: (
        changed(seen, PROTECTION=n.PROTECTION_AUTHENTICATED) if seen.answer and seen.code == code else seen.octets
    )
    desk = await house.board("desk")
    with pytest.raises(CpnsError):
        await desk.node.join(SG, trust="end-to-end")
    house.hostile.judge = hands_on
    await house.member("desk")
    await desk.node.groups[0].send(b"the window is open")
    await asyncio.sleep(1)
    assert not any(b"window" in datagram for datagram in house.air.datagrams)


@pytest.mark.req("SEC-25", "SEC-26")
@pytest.mark.parametrize("how", ["delete", "expulsion"])
async def test_a_board_without_the_server_forgets_a_group_at_the_word_of_its_pn_gw_and_can_come_back(house, how):
    """The floor stays, neither raised nor lost; so the Server, which thinks that it has that key, makes another."""
    desk = await house.board("desk", provisioned=True)
    await desk.node.join(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())
    old = house.hostile.of(TO_BOARD, DELIVERY)[-1]
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())
    more = {m.REASON: n.REASON_LEAVE} if how == "expulsion" else {}
    await house.hostile.say("desk", n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: HIGHEST, **more})
    await until(lambda: desk.group() is None)
    house.hostile.judge = lambda seen: old.octets if is_key(seen, TO_BOARD) and seen.peer == "desk" else seen.octets
    joining = asyncio.create_task(desk.node.join(SG, trust="end-to-end"))
    await asyncio.sleep(600)
    assert desk.group().ring.end_to_end and desk.held() == {}
    await recovers(house)
    await joining


@pytest.mark.req("SEC-25", "SEC-26")
@pytest.mark.parametrize("how", ["join", "delete", "signed delete", "expulsion"])
async def test_no_floor_is_raised_by_the_pn_gw(house, how):
    """Otherwise the highest version would keep a board out of the group for good."""
    hostile, lamp = house.hostile, house.boards["lamp"]
    if how == "join":
        code = n.JOIN_RESPONSE
        hostile.judge = lambda seen: changed(seen, VERSION=HIGHEST) if seen.code == code else seen.octets
        await lamp.node.groups[0].leave()
    elif how == "signed delete":
        group = hostile._store.inventory.group(SG)
        draft = build_delete(pn_id="home", sg_id=SG, pn_alias=hostile.pn_alias, sg_alias=group.alias, version=HIGHEST)
        broadcast(draft.finish(hostile.signing_key.sign(draft.to_be_signed)))
    else:
        more = {m.REASON: n.REASON_LEAVE} if how == "expulsion" else {}
        await hostile.say("lamp", n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: HIGHEST, **more})
    await asyncio.sleep(60)
    if how == "join":
        await house.member("lamp")
    assert lamp.group() is not None  # it asks the Server whether that is true
    house.server.app.update_key(SG)
    await recovers(house)


# It plays the CPNS Server, and boards


@pytest.mark.req("SEC-25", "CPNS-GKM-50")
async def test_a_server_of_its_own_gets_no_session_and_no_key_into_a_board(house, tmp_path):
    rogue = HouseServer(tmp_path / "rogue")
    await rogue.start()
    try:
        desk = await house.board("desk")
        app = rogue.app
        app.register_gateway("gw.home", "home", house.hostile.identity.credential.ccs, is_open=True)
        app.admit_pne("desk", "home", credential=desk.credential.ccs)
        app.create_group(SG, open_to=["home"], trust="end-to-end")

        async def instead(seen):
            return await app.handle("gw.home", seen.octets) if seen.code == n.TUNNEL_REQUEST else None

        house.hostile.instead = instead
        joining = asyncio.create_task(desk.node.join(SG, trust="end-to-end"))
        await asyncio.sleep(900)
        assert house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST)
        assert desk.euks() == [] and not joining.done()
        for board in ("lamp", "door"):
            await house.boards[board].restart()
        await asyncio.sleep(900)
        house.hostile.instead = nobody
        await recovers(house)
        await joining
    finally:
        await rogue.stop()


@pytest.mark.req("SEC-20", "SEC-25")
@pytest.mark.parametrize("honest", [True, False])
async def test_a_server_that_it_names_when_pairing_shows_by_its_fingerprint(house, tmp_path, honest):
    rogue = OwnIdentity.create(tmp_path / "rogue.key", SERVER_ID, "server").credential.ccs
    if not honest:
        house.hostile._pairing._server_credential = lambda: rogue
    desk = house.boards["desk"] = HouseBoard("desk", trust_of(house.hostile))
    store = KeyStore(desk.storage)
    paired = provisioning.parse(store.load(provisioning.RECORD))
    fresh = provisioning.Provisioning(paired.pne_id, paired.private_key, paired.ccs, address=paired.address)
    store.save(provisioning.RECORD, fresh.pack())
    secret = secrets.token_bytes(unpaired.SECRET_LEN)
    store.save(unpaired.RECORD, cborlite.encode([unpaired.FORMAT, secret]))
    await desk.start()
    pairing = asyncio.create_task(desk.node.pair(lambda shown: None))
    await house.hostile.pair("desk", secret)
    await pairing
    own, server = map(fingerprint, desk.node.credentials)
    assert own == fingerprint(desk.credential.ccs)
    assert (server == fingerprint(house.server.app.credential())) == honest
    house.admit(desk)
    joining = asyncio.create_task(desk.node.join(SG, trust="end-to-end"))
    await asyncio.sleep(600)
    assert joining.done() == honest and bool(desk.held()) == honest
    joining.cancel()


@pytest.mark.req("SEC-25", "SEC-16")
async def test_a_board_of_the_pn_gws_own_gets_no_key(house):
    """It is a member, as the PN is open; nobody told the Server of its credential or of an Entity User Key."""
    spy = await house.board("spy", admitted=False)
    joining = asyncio.create_task(spy.node.join(SG, trust="end-to-end"))
    await asyncio.sleep(900)
    assert spy.held() == {} and spy.euks() == [] and not joining.done()
    assert not [s for s in house.hostile.of(FROM_SERVER, DELIVERY) if s.fields[m.GROUP_KEY_INFO][0] == "spy"]
    assert house.holds_newest("lamp", "door")
    joining.cancel()


@pytest.mark.req("SEC-25", "SEC-16")
async def test_a_session_counts_for_the_board_that_made_it_only(house):
    """A board in league with the PN GW, which says that its datagrams are those of another one."""
    euks = house.server.app._entity_user_keys
    before = euks.of("lamp")
    house.hostile.judge = lambda seen: (
        changed(seen, PNE_ID="lamp")
        if not seen.answer
        and (seen.way, seen.code) == (TO_SERVER, n.TUNNEL_REQUEST)
        and seen.fields[m.PNE_ID] == "desk"
        else seen.octets
    )
    desk = await house.board("desk")
    joining = asyncio.create_task(desk.node.join(SG, trust="end-to-end"))
    await asyncio.sleep(600)
    after = euks.of("lamp")
    assert (after.current, after.previous) == (before.current, before.previous)
    joining.cancel()
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest("lamp", "door"))


# It floods


@pytest.mark.req("SEC-21", "SEC-25")
async def test_it_wears_no_flash_out_by_sessions_that_it_breaks(house):
    """It lets each session with the Server begin, which is stored, then withholds answers, and has the board ask."""
    lamp, answers = house.boards["lamp"], 0

    def judge(seen):
        nonlocal answers
        if not (seen.answer and (seen.way, seen.peer, seen.code) == (FROM_BOARD, "lamp", n.TUNNEL_RESPONSE)):
            return seen.octets
        if m.DATAGRAM in seen.fields and option(decode(seen.fields[m.DATAGRAM]).options, OSCORE) is None:
            answers = 0
            return seen.octets
        answers += 1
        return seen.octets if answers == 1 else messages.encode(n.TUNNEL_RESPONSE, {m.RESULT: n.RESULT_SUCCESS})

    house.hostile.judge = judge
    before = len(lamp.told("session"))
    for _ in range(600 // 3):
        with contextlib.suppress(PlaneError, CpnsError):
            await house.hostile.say("lamp", n.DELETE_SERVICE_GROUP_REQUEST, {m.SG_ID: SG, m.VERSION: HIGHEST})
        await asyncio.sleep(3)
    assert 2 < len(lamp.told("session")) - before <= 15
    house.server.app.update_key(SG)
    await recovers(house)


async def test_a_flood_of_handshakes_keeps_no_board_behind_another_pn_gw_out(house):
    office = await house.gateway("office")
    house.server.app.open_group(SG, "office")
    first = house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST)[0].fields[m.DATAGRAM]

    async def flood(number):
        fields = {m.PNE_ID: f"lamp.{number}", m.DATAGRAM: first[:-2] + number.to_bytes(2, "big")}
        with contextlib.suppress(PlaneError):
            await house.hostile.say(SERVER_ID, n.TUNNEL_REQUEST, fields, timeout_s=20)

    flooding = [asyncio.create_task(flood(number)) for number in range(300)]
    began = asyncio.get_running_loop().time()
    await house.member("desk", office)
    await until(lambda: house.holds_newest("desk"))
    assert asyncio.get_running_loop().time() - began < 60
    await asyncio.gather(*flooding)
    await recovers(house)


async def test_a_flood_of_requests_to_a_board_leaves_it_what_it_has(house):
    before = held(house)
    for number in range(200):
        info = "lamp", secrets.token_bytes(24)
        fields = {m.SGID: SG, m.GROUP_KEY_INFO: info, m.VERSION: number + 1, m.EUK_ID: secrets.token_bytes(8)}
        await house.hostile.say("lamp", DELIVERY, fields)
    assert held(house) == before
    house.server.app.update_key(SG)
    await recovers(house)
