"""End-to-end groups at the Server: who may make and join them, and what PN GWs learn of them (SEC-26)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns import uplink_form
from cpns.errors import NotAllowed
from key_servers.cpns_server import tuning
from key_servers.cpns_server.config import ServerConfig
from tests.unit.cpns_server_parts import House, PnGw, error_of, succeeded

SG = "alarm"
ON_ITS_OWN = ServerConfig(listen=["127.0.0.1"], port=0)
END_TO_END = {m.TRUST: n.TRUST_END_TO_END}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = await House.open(tmp_path, ON_ITS_OWN)
    yield house
    await house.server.close()


def create(house: House, gateway: PnGw, **how: Any) -> None:
    house.server.create_group(SG, open_to=[gateway.pn_id], **how)


async def join(house: House, gateway: PnGw, pne_id: str, demand: dict[int, Any]) -> dict[int, Any]:
    return await house.ask(gateway, n.JOIN_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: SG, **demand})


@pytest.mark.req("CPNS-GKM-83", "CPNS-GKM-84")
async def test_a_group_is_stored_with_its_inventory_and_a_random_key_or_not_at_all(tmp_path: Path) -> None:
    drawn = iter([b"16 random octets", b"only fourteen."])
    house = await House.open(tmp_path, ON_ITS_OWN, random_octets=lambda _: next(drawn))
    home = house.gateway("home")
    fields = {m.PNE_ID: "lamp", m.SG_ID: SG, **END_TO_END}
    assert succeeded(await house.ask(home, n.CREATE_SERVICE_GROUP_REQUEST, fields))
    assert house.server._store.newest_key(SG).key == b"16 random octets"  # type: ignore[union-attr]
    assert house.server._store.revision(SG, home.pn_id) == 1
    assert not succeeded(await house.ask(home, n.CREATE_SERVICE_GROUP_REQUEST, fields | {m.SG_ID: "other"}))
    assert house.server._store.group("other") is None and house.server._store.revision("other", home.pn_id) == 0
    await house.server.close()


@pytest.mark.req("SEC-26")
@pytest.mark.parametrize("form", [uplink_form.CBOR, uplink_form.XML])
async def test_a_pne_makes_such_a_group_and_its_answers_name_the_trust(house: House, form: str) -> None:
    home = house.gateway("home")

    async def ask(code: int, **fields: Any) -> dict[int, Any]:
        message = uplink_form.encode(code, {m.PNE_ID: "lamp", m.SG_ID: SG, **END_TO_END}, form)
        return uplink_form.decode(await house.server.handle(home.gateway_id, message))[1]

    created = await ask(n.CREATE_SERVICE_GROUP_REQUEST)
    assert created[m.TRUST] == n.TRUST_END_TO_END and created[m.PROTECTION] == n.PROTECTION_SEALED
    assert (await ask(n.JOIN_REQUEST))[m.TRUST] == n.TRUST_END_TO_END
    assert house.server.show_group(SG).trust == "end-to-end"


@pytest.mark.req("SEC-26")
async def test_whoever_wants_another_trust_than_the_group_has_does_not_join(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    refused = await join(house, home, "lamp", {m.TRUST: n.TRUST_GATEWAY})
    assert error_of(refused) == n.ERROR_NOT_ALLOWED and "has trust end-to-end" in refused[m.ERROR_TEXT]
    assert house.server.show_group(SG).members == ()
    assert (await join(house, home, "lamp", {}))[m.TRUST] == n.TRUST_END_TO_END  # it learns it from the answer
    house.server.create_group("light", open_to=[home.pn_id])
    refused = await join(house, home, "lamp", {m.SG_ID: "light", **END_TO_END})
    assert error_of(refused) == n.ERROR_NOT_ALLOWED and "has trust gateway" in refused[m.ERROR_TEXT]
    assert m.TRUST not in await join(house, home, "lamp", {m.SG_ID: "light"})


@pytest.mark.req("SEC-19")
async def test_the_boards_of_a_pn_have_so_many_memberships_in_all_end_to_end_groups(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Server has a delivery for each, and an alarm if it has no key for that board."""
    monkeypatch.setattr(tuning, "END_TO_END_MEMBERS_PER_PN_MAX", 3)
    home, office = house.gateway("home"), house.gateway("office")
    for sg_id in (SG, "locks"):
        house.server.create_group(sg_id, open_to=[home.pn_id, office.pn_id], trust="end-to-end")
    house.server.create_group("light", open_to=[home.pn_id])
    for pne_id, sg_id in (("lamp", SG), ("door", SG), ("lamp", "locks")):
        assert succeeded(await join(house, home, pne_id, {m.SG_ID: sg_id}))
    before = house.server.show_group("locks")
    refused = await join(house, home, "door", {m.SG_ID: "locks"})
    assert error_of(refused) == n.ERROR_TOO_MANY and "3 members" in refused[m.ERROR_TEXT]
    founded = await house.ask(home, n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "cat", m.SG_ID: "cats", **END_TO_END})
    assert error_of(founded) == n.ERROR_TOO_MANY and house.server._store.group("cats") is None
    assert house.server.show_group("locks") == before
    for gateway, pne_id, sg_id in ((home, "lamp", SG), (home, "door", "light"), (office, "desk", "locks")):
        assert succeeded(await join(house, gateway, pne_id, {m.SG_ID: sg_id}))
    await house.leave(home, "lamp", SG)
    assert succeeded(await join(house, home, "door", {m.SG_ID: "locks"}))


@pytest.mark.req("SEC-26")
async def test_no_pn_gw_gets_the_key_by_delivery_or_pull_only_the_members(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    house.server.create_group("light", open_to=[home.pn_id])
    for sg_id in (SG, "light"):
        await join(house, home, "lamp", {m.SG_ID: sg_id})
    await house.pass_time(5)
    assert home.members == {SG: ["lamp"], "light": ["lamp"]}
    assert home.trusts == {SG: n.TRUST_END_TO_END, "light": None}
    assert set(home.keys) == {"light"}
    pulled = await house.pull(home, SG)
    assert succeeded(pulled) and pulled[m.VERSION] == house.server.show_group(SG).version
    assert not {m.GROUP_KEY, m.ACTIVATION, m.REASON} & set(pulled)
    assert m.GROUP_KEY in await house.pull(home, "light")


@pytest.mark.req("SEC-26")
async def test_a_name_keeps_its_trust_when_its_group_is_deleted(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    house.server.delete_group(SG)
    with pytest.raises(NotAllowed, match="used with trust end-to-end before"):
        create(house, home, trust="gateway")
    create(house, home)
    assert house.server.show_group(SG).trust == "end-to-end"
    house.server.create_group("light")
    house.server.delete_group("light")
    with pytest.raises(NotAllowed, match="used with trust gateway before"):
        house.server.create_group("light", trust="end-to-end")


@pytest.mark.req("SEC-26")
async def test_its_messages_are_sealed_whatever_is_usual(tmp_path: Path) -> None:
    usual = ON_ITS_OWN.model_copy(update={"protection": "authenticated"})
    house = await House.open(tmp_path, usual)
    home = house.gateway("home")
    with pytest.raises(NotAllowed, match="sealed"):
        create(house, home, trust="end-to-end", protection="authenticated")
    create(house, home, trust="end-to-end")
    assert house.server.show_group(SG).protection == "sealed"
    await house.server.close()


@pytest.mark.req("SEC-26")
async def test_a_server_in_the_gateways_process_makes_no_such_group(tmp_path: Path) -> None:
    house = await House.open(tmp_path)
    home = house.gateway("home")
    with pytest.raises(NotAllowed, match="embedded"):
        create(house, home, trust="end-to-end")
    fields = {m.PNE_ID: "lamp", m.SG_ID: SG, **END_TO_END}
    assert error_of(await house.ask(home, n.CREATE_SERVICE_GROUP_REQUEST, fields)) == n.ERROR_NOT_ALLOWED
    assert house.server.list_groups() == ()
    await house.server.close()


async def test_an_unknown_trust_of_an_operator_is_refused(house: House) -> None:
    with pytest.raises(NotAllowed, match="one of gateway, end-to-end"):
        create(house, house.gateway("home"), trust="none")


@pytest.mark.req("SEC-28")
async def test_a_version_list_of_a_pn_gw_makes_no_new_key_where_it_has_none(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    await join(house, home, "lamp", {})
    await house.pass_time(5)
    version = house.server.show_group(SG).version
    home.seen.clear()
    assert (await house.list_versions(home, (version, SG)))[m.VERSION_ENTRY] == [(0, SG)]
    await house.pass_time(5)
    assert home.seen == []
    for listed in ([(version - 1, SG)], [(0, SG)], []):  # it has an old copy, was restored, has lost its store
        home.members.clear()
        await house.list_versions(home, *listed)
        await house.pass_time(5)
        assert home.members == {SG: ["lamp"]} and house.server.show_group(SG).version == version
    assert house.server.alarms() == ()


async def test_a_report_of_a_pn_gw_is_shown_and_confirms_nothing(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    await join(house, home, "lamp", {})
    await house.pass_time(5)
    version = house.server.show_group(SG).version
    report = {m.SG_ID: SG, m.VERSION: version, m.CONFIRMED: ["lamp"]}
    assert succeeded(await house.ask(home, n.DELIVERY_REPORT_REQUEST, report))
    (member,) = house.server.show_group(SG).members
    assert (member.report, member.confirmed) == ("confirmed", 0)


@pytest.mark.req("SEC-18")
async def test_with_a_stolen_pn_gw_only_keys_that_it_had_are_renewed(house: House) -> None:
    home = house.gateway("home")
    create(house, home, trust="end-to-end")
    house.server.create_group("light", open_to=[home.pn_id])
    for sg_id in (SG, "light"):
        await join(house, home, "lamp", {m.SG_ID: sg_id})
    await house.pass_time(5)
    before = {view.sg_id: view.version for view in house.server.list_groups()}
    await house.server.replace_gateway(home.gateway_id, "gw.new")
    new = PnGw("gw.new", home.pn_id)
    house.attach(new)
    await house.pass_time(5)
    after = {view.sg_id: view.version for view in house.server.list_groups()}
    assert after == before | {"light": before["light"] + 1}
    assert new.members == {SG: ["lamp"], "light": ["lamp"]} and new.trusts[SG] == n.TRUST_END_TO_END
