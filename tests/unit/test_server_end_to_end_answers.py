"""What boards answer to their keys in end-to-end groups, and what a PN GW makes of that (CPNS-GKM-91, SEC-25)."""

import asyncio
from typing import Any

import pytest

from cpns import entity_user_key, uplink_form
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage, NotAllowed
from key_servers.cpns_server import tuning
from tests.unit.cpns_server_parts import PnGw
from tests.unit.end_to_end_house import SG, Board, EndToEndHouse, home, house, lamp

__all__ = ["home", "house", "lamp"]  # fixtures

NEW_EUK = b"another euk 1234"
ID = entity_user_key.key_id


@pytest.mark.req("CPNS-GKM-91")
async def test_a_return_of_2_is_a_failure_and_tried_again(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    response = lamp.answer(await house.request_at(home), home.pn_id)
    del response[m.MAC]
    assert await house.send(home, response | {m.RETURN: n.RETURN_FAIL, m.ERROR: n.ERROR_STALE}) is None
    shown = house.delivery("lamp")
    assert (shown.failures, shown.returned, shown.accepted_version) == (1, "2", 0)
    assert house.counted("keys_refused") == 1
    again = await house.send(home, response | {m.RETURN: n.RETURN_FAIL})  # nothing is on its way now
    assert again is not None and again[m.ERROR] == n.ERROR_STALE and house.delivery("lamp").failures == 1
    await house.pass_time(tuning.RETRY_MIN_S)
    await house.answer_all(home)
    assert house.delivery("lamp").state == "settled"


@pytest.mark.req("SEC-25", "CPNS-GKM-91")
async def test_a_return_of_1_without_the_right_mac_is_a_forgery_counted_and_shown(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    response = lamp.answer(await house.request_at(home), home.pn_id)
    forged = await house.send(home, response | {m.MAC: bytes(8)})
    assert forged is not None and forged[m.ERROR] == n.ERROR_NOT_AUTHENTIC
    assert house.counted("messages_forged") == 1
    assert house.alarms_of("forged") == [("lamp", SG, home.gateway_id)]
    shown = house.delivery("lamp")
    assert (shown.accepted_version, shown.state, shown.returned, shown.failures) == (0, "sending", "", 0)
    assert await house.send(home, response) is None
    assert house.delivery("lamp").state == "settled"
    assert house.alarms_of("forged"), "it stands until a person has looked"


@pytest.mark.req("SEC-25")
async def test_an_unknown_key_is_wrapped_anew_under_the_one_before_without_a_strike(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await house.answer_all(home)
    house.server._entity_user_keys.learnt("lamp", NEW_EUK)  # the board's handshake was cut off: it has the old one only
    house.server.update_key(SG)
    request = await house.request_at(home)
    assert request[m.EUK_ID] == ID(NEW_EUK)
    assert await house.send(home, lamp.answer(request, home.pn_id)) is None
    assert house.delivery("lamp").returned == "3"
    request = await house.request_at(home)
    assert request[m.EUK_ID] == ID(lamp.euks[0])
    answer = lamp.answer(request, home.pn_id) | {m.EUK_ID: ID(NEW_EUK)}  # the PN GW may write this name itself
    assert await house.send(home, answer) is None
    shown = house.delivery("lamp")
    assert (shown.state, shown.failures, shown.tries) == ("settled", 0, 2)
    keys = house.server._entity_user_keys.of("lamp")
    assert keys is not None and keys.previous == lamp.euks[0], "its use of the new one is not proved"


async def test_an_answer_of_a_board_may_come_before_that_of_its_pn_gw(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await house.answer_all(home)
    house.server._entity_user_keys.learnt("lamp", NEW_EUK)
    may_answer = asyncio.Event()

    async def slowly(message: bytes) -> bytes:
        answer = await home.receive(message)
        await may_answer.wait()
        return answer

    house.receivers[home.gateway_id] = slowly
    house.server.update_key(SG)
    house.server.work()
    await asyncio.sleep(0)
    request = home.carried.pop()
    assert await house.send(home, lamp.answer(request, home.pn_id)) is None  # it does not know the new key
    may_answer.set()
    await house.answer_all(home)
    assert (house.delivery("lamp").state, house.delivery("lamp").tries) == ("settled", 2)


@pytest.mark.req("SEC-25")
async def test_the_key_before_is_kept_until_one_proved_use_of_the_new_one(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    await house.answer_all(home)
    lamp.euks.append(NEW_EUK)
    house.know(lamp, current=1)
    house.server.update_key(SG)
    request = await house.request_at(home)
    forged = lamp.answer(request, home.pn_id) | {m.MAC: bytes(8)}
    assert await house.send(home, forged) is not None
    keys = house.server._entity_user_keys.of("lamp")
    assert keys is not None and keys.previous is not None
    assert await house.send(home, lamp.answer(request, home.pn_id)) is None
    keys = house.server._entity_user_keys.of("lamp")
    assert keys is not None and (keys.current, keys.previous) == (NEW_EUK, None)


@pytest.mark.req("SEC-25")
async def test_a_session_renewed_with_a_request_queued_delivers(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    request = await house.request_at(home)  # under the old key
    lamp.euks = [NEW_EUK]  # a new board of the name: it has lost the old one
    assert await house.send(home, lamp.answer(request, home.pn_id)) is None
    await house.work()
    assert home.carried == [] and house.delivery("lamp").failures == 0
    house.know(lamp)
    await house.answer_all(home)
    assert (house.delivery("lamp").state, house.delivery("lamp").failures) == ("settled", 0)
    assert sorted(lamp.held) == [1]


@pytest.mark.req("SEC-25")
async def test_an_unknown_key_twice_is_a_failure_and_counted(house: EndToEndHouse, home: PnGw, lamp: Board) -> None:
    lamp.euks = [NEW_EUK]
    for failures in (0, 1, 2):
        while not home.carried:
            await house.pass_time(1)
        request = await house.request_at(home)
        assert await house.send(home, lamp.answer(request, home.pn_id)) is None
        assert house.delivery("lamp").failures == failures
    assert house.counted("entity_user_keys_unknown") == 2


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({m.PNE_ID: "other"}, n.ERROR_NOT_ALLOWED),
        ({m.PNE_ID: "guest"}, n.ERROR_NOT_MEMBER),
        ({m.SGID: "elsewhere"}, n.ERROR_UNKNOWN),
        ({m.SGID: "light"}, n.ERROR_NOT_ALLOWED),
        ({m.VERSION: 2}, n.ERROR_UNKNOWN),
        ({m.VERSION: 0}, n.ERROR_STALE),
        ({m.RETURN: n.RETURN_FAIL, m.EUK_ID: bytes(8)}, n.ERROR_STALE),
        ({m.RETURN: n.RETURN_UNKNOWN_EUK, m.EUK_ID: bytes(8)}, n.ERROR_STALE),
        ({m.PNE_ID: None}, n.ERROR_MALFORMED),
        ({m.SGID: None}, n.ERROR_MALFORMED),
        ({m.VERSION: None}, n.ERROR_MALFORMED),
        ({m.EUK_ID: None}, n.ERROR_MALFORMED),
    ],
    ids=str,
)
async def test_an_answer_that_is_for_nothing_is_one_error_one_count_and_changes_nothing(
    house: EndToEndHouse, home: PnGw, lamp: Board, change: dict[int, Any], error: int
) -> None:
    office = house.gateway("office")
    house.server.create_group("light", open_to=[home.pn_id])
    await house.join(home, "guest", "light")
    await house.join(home, "lamp", "light")
    house.server.create_group("desk", open_to=[office.pn_id])
    await house.join(office, "other", "desk")
    response = lamp.answer(await house.request_at(home), home.pn_id)
    changed = {label: value for label, value in (response | change).items() if value is not None}
    if changed[m.RETURN] != n.RETURN_SUCCESS:
        del changed[m.MAC]
    before, refused = house.server.list_groups(), house.counted("messages_refused")
    answer = await house.send(home, changed)
    assert answer is not None and answer[m.ERROR] == error
    assert house.counted("messages_refused") == refused + 1
    assert house.server.list_groups() == before and house.server.alarms() == ()
    assert await house.send(home, response) is None  # the right one still counts


@pytest.mark.req("SEC-16")
async def test_an_answer_for_another_pn_or_without_one_never_was_an_answer(
    house: EndToEndHouse, home: PnGw, lamp: Board
) -> None:
    office = house.gateway("office")
    response = lamp.answer(await house.request_at(home), home.pn_id)
    with pytest.raises(NotAllowed):
        await house.send(home, response | {m.PNID: office.pn_id})
    with pytest.raises(NotAllowed):
        await house.send(office, response)
    assert house.counted("messages_foreign") == 2
    octets = uplink_form.encode(n.S_GROUP_KEY_DELIVERY_RESPONSE, response, uplink_form.XML)
    without = octets.replace(b' PNID="pn.home"', b"")
    strange = octets.replace(b' Return="1"', b' Return="4"')
    for message in (without, strange):
        assert message != octets
        with pytest.raises(MalformedMessage):
            await house.server.handle(home.gateway_id, message)
    assert house.counted("messages_malformed") == 2
    assert house.delivery("lamp").accepted_version == 0 and house.server.alarms() == ()
