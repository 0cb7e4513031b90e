"""A group whose keys the PN GW carries and cannot read, from its creation to its end (CPNS-GKM-76 to -92, SEC-25)."""

import asyncio

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError
from tests.integration.end_to_end_attacker import FROM_BOARD, FROM_SERVER, TO_BOARD, TO_SERVER, HostileGateway
from tests.integration.end_to_end_house import SG, open_house, until

DELIVERY, RESPONSE = n.S_GROUP_KEY_DELIVERY_REQUEST, n.S_GROUP_KEY_DELIVERY_RESPONSE


@pytest.fixture
async def house(tmp_path):
    """A House with one PN GW, which does its work and remembers all that it saw."""
    async with open_house(tmp_path) as house:
        await house.gateway("home", HostileGateway)
        yield house
        house.check()
        assert not [board.id for board in house.boards.values() if board.told("withheld")]


@pytest.mark.req(
    "CPNS-GKM-83", "CPNS-GKM-84", "CPNS-GKM-85", "CPNS-GKM-86", "CPNS-GKM-87", "CPNS-GKM-88", "CPNS-GKM-90"
)
async def test_the_server_draws_a_key_when_the_group_is_stored_and_wraps_it_for_each_member(house):
    house.create()
    key, version = house.server.key(), house.server.version()
    assert len(key) == 16 and version
    for name in ("lamp", "door"):
        await house.member(name)
    await until(lambda: house.holds_newest())
    assert house.server.key() != key  # a newcomer reads nothing of before
    carried = house.hostile.of(FROM_SERVER, DELIVERY)
    newest = {seen.fields[m.GROUP_KEY_INFO][0]: seen.fields for seen in carried}
    assert set(newest) == {"lamp", "door"}
    for name, fields in newest.items():
        pne_id, wrapped = fields[m.GROUP_KEY_INFO]
        assert (pne_id, fields[m.SGID], fields[m.VERSION]) == (name, SG, house.server.version())
        board = house.boards[name]
        assert fields[m.EUK_ID] == house.euk_id(board)
        assert len(wrapped) == 24 and house.opened(board, fields) == house.server.key()
    assert newest["lamp"][m.GROUP_KEY_INFO][1] != newest["door"][m.GROUP_KEY_INFO][1]


@pytest.mark.req(
    "CPNS-GKM-76", "CPNS-GKM-77", "CPNS-GKM-78", "CPNS-GKM-79", "CPNS-GKM-80", "CPNS-GKM-81", "CPNS-GKM-82"
)
async def test_the_pn_gw_carries_the_request_down_and_the_response_up_unread(house):
    house.create()
    lamp = await house.member("lamp")
    await until(lambda: house.holds_newest())
    hostile = house.hostile
    down, up = hostile.of(FROM_SERVER, DELIVERY)[-1], hostile.of(TO_SERVER, RESPONSE)[-1]
    assert hostile.of(TO_BOARD, DELIVERY)[-1].octets == down.octets
    assert hostile.of(TO_BOARD, RESPONSE, answer=True)[-1].octets == up.octets
    assert up.fields[m.RETURN] == "1" and up.fields[m.PNID] == "home"
    assert up.fields[m.MAC] == house.mac(lamp)
    await lamp.restart()
    assert lamp.key() == house.server.key()  # out of its flash


@pytest.mark.req("CPNS-GKM-91", "CPNS-GKM-92")
async def test_with_a_return_of_1_the_server_has_finished(house):
    house.create()
    await house.member("lamp")
    await until(lambda: house.holds_newest())
    sent = len(house.hostile.of(FROM_SERVER, DELIVERY))
    await asyncio.sleep(1200)
    assert len(house.hostile.of(FROM_SERVER, DELIVERY)) == sent


@pytest.mark.req("SEC-26")
async def test_the_pn_gw_holds_no_key_broadcasts_none_and_has_none_for_a_pull(house):
    house.create()
    await house.member("lamp")
    await until(lambda: house.holds_newest())
    house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())
    hostile = house.hostile
    assert hostile._store.group_keys.newest(SG) is None
    assert hostile.counters["broadcast_sent"] == 0
    keys = (n.GROUP_KEY_DELIVERY_REQUEST, n.GROUP_KEY_DELIVERY_RESPONSE)
    assert not [seen for seen in hostile.seen if seen.code in keys or m.GROUP_KEY in seen.fields]


async def test_a_board_creates_such_a_group(house):
    lamp = await house.board("lamp")
    await lamp.node.create(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())
    assert house.server.app.show_group(SG).trust == "end-to-end"
    door = await house.board("door")
    await door.node.join(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())


@pytest.mark.req("SEC-26")
async def test_a_board_that_joins_without_a_word_about_trust_learns_that_the_group_is_end_to_end(house):
    house.create()
    lamp = await house.board("lamp")
    await lamp.node.join(SG)
    await until(lambda: house.holds_newest())
    assert lamp.group().ring.end_to_end
    await lamp.restart()
    assert lamp.group().ring.end_to_end


async def test_a_message_passes_sealed(house):
    house.create()
    lamp, door = await house.member("lamp"), await house.member("door")
    await until(lambda: house.holds_newest())
    heard = lamp.node.groups[0].__aiter__()
    await door.node.groups[0].send(b"the window is open")
    message = await heard.__anext__()
    assert (message.sender, message.data) == ("door", b"the window is open")
    await until(lambda: house.air.datagrams)
    assert not any(b"window" in datagram for datagram in house.air.datagrams)


async def test_a_key_by_hand_and_one_that_is_due_reach_all(house):
    house.create(period_s=3600)
    for name in ("lamp", "door"):
        await house.member(name)
    await until(lambda: house.holds_newest())
    before = house.server.app.update_key(SG)
    await until(lambda: house.holds_newest())
    await asyncio.sleep(3700)
    assert house.server.version() > before
    await until(lambda: house.holds_newest())


@pytest.mark.parametrize("how", ["leaves", "is expelled"])
async def test_a_member_that_goes_gets_no_further_key(house, how):
    house.create()
    lamp, door = await house.member("lamp"), await house.member("door")
    await until(lambda: house.holds_newest())
    before = house.server.version()
    if how == "leaves":
        await door.node.groups[0].leave()
    else:
        house.server.app.expel(SG, "door")
    await until(lambda: house.server.version() > before and house.holds_newest("lamp"))
    await until(lambda: door.group() is None)
    new = [seen for seen in house.hostile.of(FROM_SERVER, DELIVERY) if seen.fields[m.VERSION] > before]
    assert {seen.fields[m.GROUP_KEY_INFO][0] for seen in new} == {"lamp"}
    assert lamp.key() == house.server.key()


async def test_a_deleted_group_is_gone_everywhere_and_its_name_stays_end_to_end(house):
    house.create()
    lamp = await house.member("lamp")
    await until(lambda: house.holds_newest())
    house.server.app.delete_group(SG)
    await until(lambda: lamp.group() is None)
    with pytest.raises(CpnsError):
        house.server.app.create_group(SG, open_to=["home"], trust="gateway")
    house.create()
    await lamp.node.join(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())


async def test_boards_behind_two_pn_gws_share_a_group(house):
    office = await house.gateway("office", HostileGateway)
    house.create(open_to=["home", "office"])
    lamp, desk = await house.member("lamp"), await house.member("desk", office)
    await until(lambda: house.holds_newest())
    assert lamp.key() == desk.key()
    for _ in range(3):
        house.server.app.update_key(SG)
        await until(lambda: house.holds_newest())
    assert {seen.fields[m.GROUP_KEY_INFO][0] for seen in office.app.of(FROM_SERVER, DELIVERY)} == {"desk"}
    house.server.app.expel(SG, "desk")
    await until(lambda: house.holds_newest("lamp"))


async def test_a_board_with_a_provisioned_key_only_never_talks_to_the_server(house):
    house.create()
    lamp = await house.board("lamp", provisioned=True)
    await lamp.node.join(SG, trust="end-to-end")
    await until(lambda: house.holds_newest())
    await lamp.stop()
    house.server.app.update_key(SG)
    await asyncio.sleep(120)
    await lamp.start()
    await until(lambda: house.holds_newest())
    assert house.hostile.of(FROM_BOARD, n.TUNNEL_REQUEST) == []


async def test_a_board_that_slept_gets_the_newest_key_only(house):
    house.create()
    lamp, door = await house.member("lamp"), await house.member("door")
    await until(lambda: house.holds_newest())
    await lamp.stop()
    for _ in range(4):
        house.server.app.update_key(SG)
        await until(lambda: house.holds_newest("door"))
        await asyncio.sleep(900)
    had = len(lamp.told("key"))
    await lamp.start()
    await until(lambda: house.holds_newest())
    assert [values["version"] for values in lamp.told("key")[had:]] == [house.server.version()]
    assert door.version() == lamp.version()


async def test_a_trust_that_there_is_not_is_told_to_the_application_in_words(house):
    board = await house.board("lamp")
    with pytest.raises(ValueError, match="trust is gateway or end-to-end"):
        await board.node.join(SG, trust="end_to_end")
    assert not board.node.groups
