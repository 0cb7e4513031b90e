"""Messages that no honest PN GW sends are counted, answered or refused, and change nothing else."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import message_table, xml_form
from cpns import messages as m
from cpns import numbers as n
from cpns import tuning as limits
from cpns.errors import MalformedMessage, NotAllowed
from key_servers.cpns_server import tuning
from key_servers.cpns_server.values import GroupView
from tests.unit.cpns_server_parts import House, PnGw, error_of, succeeded

FOR_SERVER = {
    n.JOIN_REQUEST,
    n.LEAVE_REQUEST,
    n.CREATE_SERVICE_GROUP_REQUEST,
    n.DELETE_SERVICE_GROUP_REQUEST,
    n.DELIVERY_REPORT_REQUEST,
    n.KEY_PULL_REQUEST,
    n.VERSION_LIST_REQUEST,
    n.TUNNEL_REQUEST,
}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await House.open(tmp_path)
    await house.create(house.gateway("home"), "lamp", "light")
    await house.work()
    yield house
    await house.server.close()


def state(house: House) -> tuple[GroupView, ...]:
    return house.server.list_groups()


def required_fields(code: int) -> dict[int, Any]:
    """The least a well-formed message of this code has."""
    fields: dict[int, Any] = {}
    cardinality = m.ONE
    for label in message_table.MESSAGES[code]:
        if label & m.OPTIONAL:
            cardinality = label
        elif cardinality in (m.ONE, m.SOME):
            if label == m.GROUP_KEY:
                fields[label] = [(bytes(16), None)]
            elif label == m.GROUP_KEY_INFO:
                fields[label] = ("lamp", bytes(24))
            else:
                python, least, _ = m.type_of(label)
                text = least if isinstance(least, str) else "light"
                size = 1 if label == m.GKDK else least
                fields[label] = text if python is str else bytes(size) if python is bytes else size
    return fields


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x00",
        b"\xa0",
        b"\xff" * 64,
        b"\xa1\x00\x10",  # a join without names
        b"\xa1\x00\x18\xc8",  # message 200
        b"<",
        b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><JoinRequest xmlns='urn:keycast:cpns:1'/>",
        b"<JoinRequest xmlns='urn:keycast:cpns:1'>&b;</JoinRequest>",
        b"<" * 1000,
        b"\xef\xbb\xbf<JoinRequest/>",
        bytes(limits.UPLINK_MESSAGE_MAX + 1),
        b" " * (limits.UPLINK_MESSAGE_MAX + 1),
    ],
    ids=lambda octets: octets[:12].hex() or "empty",
)
async def test_octets_that_are_no_message_are_counted_and_refused(house: House, octets: bytes) -> None:
    before = state(house)
    with pytest.raises(MalformedMessage):
        await house.server.handle("gw.home", octets)
    assert house.server.counters()["messages_malformed"] == 1
    assert state(house) == before


@pytest.mark.req("SEC-15")
@pytest.mark.parametrize("code", sorted(set(message_table.MESSAGES) - FOR_SERVER))
async def test_messages_of_other_directions_are_no_requests(house: House, code: int) -> None:
    """Above all keys, inventories and deletions, which only the Server sends."""
    before = state(house)
    with pytest.raises(NotAllowed):
        await house.server.handle("gw.home", m.encode(code, required_fields(code)))
    assert house.server.counters()["messages_foreign"] == 1
    assert state(house) == before


async def test_a_refused_message_has_result_2_a_code_and_a_reason(house: House) -> None:
    answer = await house.join(house.gateway("home"), "lamp", "nothing")
    assert error_of(answer) == n.ERROR_UNKNOWN and "nothing" in answer[m.ERROR_TEXT]
    assert house.server.counters()["messages_refused"] == 1


async def test_the_log_says_which_message_was_refused_and_why(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """A join to a group that is not there hides no message that an honest PN GW does not send."""
    await house.join(house.gateway("home"), "lamp", "nothing")
    with pytest.raises(NotAllowed):
        await house.server.handle("stranger", m.encode(n.VERSION_LIST_REQUEST, {m.PN_ID: "pn.home"}))
    assert [record.getMessage().partition("; more")[0] for record in caplog.records] == [
        "KC2033 a JoinRequest for board 'lamp' of PN GW 'gw.home' was refused: there is no Service Group nothing",
        "KC2033 a message of PN GW 'stranger' was foreign: this PN GW is not registered",
    ]


async def test_a_reason_that_names_long_names_still_fits(house: House) -> None:
    answer = await house.join(house.gateway("home"), "ü" * 32, "€" * 21)
    assert error_of(answer) == n.ERROR_UNKNOWN
    assert len(answer[m.ERROR_TEXT].encode()) <= limits.ERROR_TEXT_MAX


async def test_a_flood_is_counted_but_logged_once_a_minute(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "key_servers")
    for _ in range(1000):
        with pytest.raises(MalformedMessage):
            await house.server.handle("gw.home", b"\xff")
    assert len(caplog.records) == 1
    house.clock.advance(61)
    with pytest.raises(MalformedMessage):
        await house.server.handle("gw.home", b"\xff")
    assert len(caplog.records) == 2
    assert house.server.counters()["messages_malformed"] == 1001


@pytest.mark.req("SEC-19")
async def test_a_pn_cannot_fill_the_store(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "PNES_PER_PN_MAX", 5)
    home = house.gateway("home")
    answers = [await house.join(home, f"pne{i}", "light") for i in range(10)]
    assert [succeeded(answer) for answer in answers] == [True] * 4 + [False] * 6  # the lamp is the fifth
    assert error_of(answers[-1]) == n.ERROR_TOO_MANY

    monkeypatch.setattr(tuning, "GROUP_NAMES_PER_PN_MAX", 3)
    for i in range(5):
        await house.create(home, "lamp", f"sg{i}")
        if i < 2:
            house.server.delete_group(f"sg{i}")
    names = [view.sg_id for view in house.server.list_groups()]
    assert names == ["light"]  # light, sg0, sg1 used up the three names, two of them are deleted


async def test_a_store_that_fails_is_result_2_without_details(house: House) -> None:
    ((pages,),) = house.server._store._database.rows("PRAGMA page_count")
    house.server._store._database.rows(f"PRAGMA max_page_count = {pages}")
    answers = [await house.join(house.gateway("home"), f"pne{i:058}", "light") for i in range(200)]
    failed = [answer for answer in answers if not succeeded(answer)]
    assert failed and error_of(failed[0]) == n.ERROR_OTHER
    assert failed[0][m.ERROR_TEXT] == "the CPNS Server cannot work now; try again later"
    members = [member for member in house.server.show_group("light").members if member.state == "member"]
    assert len(members) == 1 + len(answers) - len(failed)  # what was refused was not half done


# XML on the uplink


async def test_a_request_in_xml_is_answered_in_xml(house: House) -> None:
    request = xml_form.encode(n.JOIN_REQUEST, {m.PNE_ID: "door", m.SG_ID: "light"})
    answer = await house.server.handle("gw.home", request)
    assert answer.startswith(b"<?xml")
    code, fields = xml_form.decode(answer)
    assert code == n.JOIN_RESPONSE and succeeded(fields)
    refused = await house.server.handle("gw.home", xml_form.encode(n.JOIN_REQUEST, {m.PNE_ID: "x", m.SG_ID: "y"}))
    assert error_of(xml_form.decode(refused)[1]) == n.ERROR_UNKNOWN


async def test_a_pn_gw_registered_for_xml_is_served_in_xml(house: House) -> None:
    seen: list[bytes] = []

    async def receive(message: bytes) -> bytes:
        seen.append(message)
        code, fields = xml_form.decode(message)
        answer = {m.RESULT: n.RESULT_SUCCESS, m.SG_ID: fields[m.SG_ID]}
        if code == n.GROUP_KEY_DELIVERY_REQUEST:
            answer[m.VERSION] = fields[m.VERSION]
        return bytes(xml_form.encode(code + 1, answer))

    house.server.register_gateway("gw.old", "pn.old", form="xml", is_open=True)
    house.receivers["gw.old"] = receive
    request = xml_form.encode(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "stove", m.SG_ID: "kitchen"})
    await house.server.handle("gw.old", request)
    await house.work()
    codes = [xml_form.decode(message)[0] for message in seen]
    assert codes == [n.INVENTORY_UPDATE_REQUEST, n.GROUP_KEY_DELIVERY_REQUEST]
    (delivery,) = house.server.show_group("kitchen").deliveries
    assert delivery.state == "settled" and delivery.accepted_version == 1


# One PN GW must not make the members of all others work for nothing


async def of_two(house: House) -> tuple[PnGw, PnGw]:
    """A group with a board of the home, and one of a neighbour, who is hostile."""
    home, neighbour = house.gateway("home"), house.gateway("neighbour")
    house.server.create_group("street", open_to=["pn.home", "pn.neighbour"])
    for gateway in (home, neighbour):
        assert succeeded(await house.join(gateway, f"lamp.{gateway.pn_id}", "street"))
    await house.pass_time(5)
    return home, neighbour


@pytest.mark.req("SEC-19")
async def test_a_pn_gw_with_many_names_makes_few_keys_an_hour_and_the_others_pace_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, neighbour = await of_two(house)
    monkeypatch.setattr(house.server._keys._by_pn, "_most", 10)
    began = house.clock.moment.monotonic
    before = home.newest("street")
    number = 0
    while house.clock.moment.monotonic < began + 600:
        number += 1
        assert succeeded(await house.join(neighbour, f"made-up-{number}", "street"))
        assert succeeded(await house.leave(neighbour, f"made-up-{number}", "street"))
        await house.pass_time(6)
    made = home.newest("street") - before
    assert 10 < made <= 10 + 600 / tuning.BATCHING_MAX_S + 1
    await house.pass_time(tuning.BATCHING_MAX_S + 1)
    before = home.newest("street")
    assert succeeded(await house.join(neighbour, "one-more", "street"))
    assert succeeded(await house.leave(neighbour, "one-more", "street"))
    await house.pass_time(tuning.BATCHING_S + 1)
    assert home.newest("street") == before, "that waits"
    assert succeeded(await house.leave(home, "lamp.pn.home", "street"))
    await house.pass_time(tuning.BATCHING_S + 1)
    assert neighbour.newest("street") == before + 1, "a leave of another PN does not (SEC-05)"


@pytest.mark.req("SEC-05")
async def test_the_leaves_of_a_pn_gw_that_causes_many_updates_take_effect_within_a_minute(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, neighbour = await of_two(house)
    monkeypatch.setattr(house.server._keys._by_pn, "_most", 0)
    before = house.server.show_group("street").version
    assert succeeded(await house.leave(neighbour, "lamp.pn.neighbour", "street"))
    await house.pass_time(tuning.BATCHING_S + 1)
    assert house.server.show_group("street").version == before
    await house.pass_time(tuning.BATCHING_MAX_S)
    assert house.server.show_group("street").version == before + 1


@pytest.mark.req("SEC-19")
async def test_pulls_do_not_hurry_the_updates_that_a_pn_gw_causes(house: House) -> None:
    home, neighbour = await of_two(house)
    before = home.newest("street")
    refused = 0
    for number in range(200):
        assert succeeded(await house.join(neighbour, f"made-up-{number}", "street"))
        assert succeeded(await house.leave(neighbour, f"made-up-{number}", "street"))
        refused += not succeeded(await house.pull(neighbour, "street"))
    await house.work()
    assert home.newest("street") - before <= tuning.UPDATES_PER_HOUR_MAX and refused > 100
    assert succeeded(await house.pull(home, "street")), "a pull of another PN gets the new key at once (SEC-06)"


def retired(pne_id: str) -> dict[int, Any]:
    return {m.PNE_ID: pne_id, m.PN_ID: "pn.neighbour"}


async def test_a_pn_gw_that_retires_its_names_makes_few_keys_too(house: House) -> None:
    home, neighbour = await of_two(house)
    before = home.newest("street")
    for number in range(200):
        assert succeeded(await house.join(neighbour, f"made-up-{number}", "street"))
        assert succeeded(await house.ask(neighbour, n.RETIREMENT_REQUEST, retired(f"made-up-{number}")))
        await house.pull(neighbour, "street")
    await house.work()
    assert home.newest("street") - before <= tuning.UPDATES_PER_HOUR_MAX


async def test_version_lists_that_contradict_each_other_make_few_keys(house: House) -> None:
    home, neighbour = await of_two(house)
    before = home.newest("street")
    began = house.clock.moment.monotonic
    while house.clock.moment.monotonic < began + 600:
        newest = house.server.show_group("street").version
        for version in (newest, 1, 0, newest + 1, 0xFFFFFFFF):
            assert succeeded(await house.list_versions(neighbour, (version, "street")))
        assert succeeded(await house.list_versions(neighbour))
        await house.pass_time(3)
    assert home.newest("street") - before <= tuning.LOSSES_PER_HOUR_MAX
    assert len(house.server.alarms()) <= 4


@pytest.mark.parametrize(
    ("link", "is_taken"),
    [("wifi", True), ("later-1", True), ("x" * 16, True), ("\u202ex", False), ("../../etc", False), ("a b", False)],
)
async def test_what_a_delivery_report_says_is_about_boards_of_its_own_pn(
    house: House, link: str, is_taken: bool
) -> None:
    _, neighbour = await of_two(house)
    version = house.server.show_group("street").version
    fields = {
        m.SG_ID: "street",
        m.VERSION: version,
        m.CONFIRMED: ["lamp.pn.neighbour"],
        m.DELIVERY: [("lamp.pn.neighbour", link, 0xFFFFFFFF, 0xFFFFFFFF)] * 3,
    }
    before = state(house), house.server.members("street")
    if not is_taken:
        assert not succeeded(await house.ask(neighbour, n.DELIVERY_REPORT_REQUEST, fields))
    for wrong in (
        {m.CONFIRMED: ["lamp.pn.home"], m.DELIVERY: [("lamp.pn.home", "wifi", 1, 1)]},
        {m.DELIVERY: [("nobody", "wifi", 1, 1)]},
        {m.VERSION: version + 1},
        {m.SG_ID: "no such group"},
    ):
        assert not succeeded(await house.ask(neighbour, n.DELIVERY_REPORT_REQUEST, {**fields, **wrong}))
    assert (state(house), house.server.members("street")) == before
    if is_taken:
        assert succeeded(await house.ask(neighbour, n.DELIVERY_REPORT_REQUEST, fields))
        others = [each for each in house.server.members("street") if each.pne_id != "lamp.pn.neighbour"]
        assert others == [each for each in before[1] if each.pne_id != "lamp.pn.neighbour"]
