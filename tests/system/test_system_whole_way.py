"""The whole way of a Group Key: CPNS Server, PN GW, air, and boards that run MicroPython; one house for all tests."""

import asyncio

import pytest
import pytest_asyncio

from cpns import cborlite, messages, numbers
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.errors import NotAddressed
from cpns.key_ring import KeyRing
from device_agent.key_store import KeyStore
from device_agent.membership import record_name
from keycast.demo.house import PN_ID
from keycast.virtual_board.board import BoardError
from message_plane.links.udp import host_and_port
from tests.system.conftest import house_of
from tests.system.simulated_pne import SimulatedPne
from tests.system.watching import confirmed, events, group_messages, held, join, keyed, newest, objects, until
from tests.unit.board_flash import remains

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALL, KITCHEN, PORCH, GARAGE, ATTIC = "lamp.hall", "lamp.kitchen", "lamp.porch", "lamp.garage", "lamp.attic"
STATION_LOOKS_S = 1.5  # a board looks once a second whether it hears its access point
ALL = [HALL, KITCHEN, PORCH, GARAGE, ATTIC]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("house")


class Answers:
    """What `told` is told: each key of the Server with the PN GW's answer, at the moment when the answer leaves."""

    told = None

    @classmethod
    def watch(cls, receiver):
        async def receive(message):
            answer = await receiver(message)
            code, fields = messages.decode(message)
            if cls.told is not None and code == numbers.GROUP_KEY_DELIVERY_REQUEST:
                cls.told(messages.decode(answer), fields[messages.VERSION])
            return answer

        return receive


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_house(folder):
    async with house_of(folder, len(ALL), on_the_way=Answers.watch) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(whole_house):
    """The house, with what the test before it left behind cleared away."""
    for group in whole_house.server.list_groups():
        whole_house.server.delete_group(group.sg_id)
        members = [member.pne_id for member in group.members if member.state == "member" and member.pne_id in ALL]
        await until(lambda m=members, g=group: all(events(whole_house, name, "deleted", group=g.sg_id) for name in m))
    for name in ALL:
        whole_house.app.gateway.administration.release_pne(name)
    whole_house.sniffer.frames()
    yield whole_house


def gkdk(house, name):
    """The GKDK record in the flash of a board, None if there is none."""
    octets = KeyStore(house.boards[name].nvs.snapshot()).load("gkdk0")
    return GkdkRecord.parse(octets) if octets else None


@pytest.mark.req("CPNS-GKM-01", "CPNS-GKM-02", "CPNS-GKM-03", "CPNS-GKM-04", "CPNS-GKM-05", "CPNS-GKM-06")
@pytest.mark.req("CPNS-GKM-23", "CPNS-GKM-24", "CPNS-GKM-25", "CPNS-GKM-26", "CPNS-GKM-73", "CPNS-GKM-74")
async def test_a_board_asks_for_its_gkdk_before_it_joins_for_the_first_time(house):
    await asyncio.gather(*(house.boards[name].event("session") for name in ALL))
    assert [gkdk(house, name) for name in ALL] == [None] * 5  # nobody asked, nobody has one
    await join(house, "first", [HALL, KITCHEN])
    for name in (HALL, KITCHEN):
        told = [event["event"] for event in house.boards[name].events]
        assert told.index("generation") < told.index("joined") < told.index("key")
    hall, kitchen = gkdk(house, HALL), gkdk(house, KITCHEN)
    assert hall.slot != kitchen.slot and hall.generation == kitchen.generation
    assert hall.report_key() != kitchen.report_key()
    assert gkdk(house, PORCH) is None


@pytest.mark.req("CPNS-GKM-07", "CPNS-GKM-08", "CPNS-GKM-09", "CPNS-GKM-10", "CPNS-GKM-11", "CPNS-GKM-17")
@pytest.mark.req("CPNS-GKM-18", "CPNS-GKM-19", "CPNS-GKM-20", "CPNS-GKM-21", "CPNS-GKM-28", "CPNS-GKM-29")
@pytest.mark.req("CPNS-GKM-30", "CPNS-GKM-35", "CPNS-GKM-36", "CPNS-GKM-37", "CPNS-GKM-38", "CPNS-GKM-62")
@pytest.mark.req("CPNS-GKM-63", "CPNS-GKM-66", "CPNS-GKM-69", "CPNS-GKM-70", "CPNS-GKM-41", "CPNS-GKM-42")
async def test_an_update_reaches_all_members_in_one_datagram_after_the_server_was_answered(house, monkeypatch):
    answered = []
    members = [HALL, KITCHEN, PORCH]
    before = await join(house, "lights", members)
    house.sniffer.frames()
    monkeypatch.setattr(
        Answers, "told", lambda answer, version: answered.append((answer, version, objects(house.sniffer.frames())))
    )
    version = house.server.update_key("lights")
    await keyed(house, "lights", members, above=before)
    await until(lambda: set(confirmed(house, "lights").values()) == {version})
    [((code, fields), told, on_air_before)] = answered
    assert (code, fields[messages.RESULT], told) == (numbers.GROUP_KEY_DELIVERY_RESPONSE, "1", version)
    assert on_air_before == []  # the delivery began after the response
    [sent] = objects(house.sniffer.frames(), version)
    assert sent.reason == numbers.REASON_BY_HAND
    for name in members:
        [key] = events(house, name, "key", group="lights", version=version)
        assert key["broadcast"] is True


@pytest.mark.req("CPNS-GKM-75", "CPNS-GKM-27", "CPNS-GKM-22", "CPNS-GKM-72")
async def test_the_gkek_of_a_delivery_opens_for_members_only(house):
    """Each board's own GKDK on the datagram itself: members find their entry, the others do not."""
    await join(house, "others", [GARAGE, ATTIC])
    before = await join(house, "lights", [HALL, KITCHEN, PORCH])
    house.sniffer.frames()
    version = house.server.update_key("lights")
    await keyed(house, "lights", [HALL, KITCHEN, PORCH], above=before)
    seen = objects(house.sniffer.frames(), version)
    assert seen
    for sent in seen:
        able = {name for name in ALL if _is_addressed(gkdk(house, name), sent.entries)}
        assert able == {HALL, KITCHEN, PORCH}
    assert held(house, GARAGE, "lights") == held(house, ATTIC, "lights") == 0


def _is_addressed(record, entries):
    try:
        return record.own_entry(entries) is not None
    except NotAddressed:
        return False


@pytest.mark.req("CPNS-GKM-14", "CPNS-GKM-19", "CPNS-GKM-33", "CPNS-GKM-65")
async def test_a_member_without_gkdk_gets_by_unicast_what_the_others_get_by_broadcast(house, folder):
    guest = SimulatedPne(folder / "guest", "phone.guest")
    house.app.register(guest.identity.credential)
    members = [HALL, KITCHEN, PORCH]
    await join(house, "mixed", members)
    try:
        await guest.connect(house.app.identity.credential, host_and_port(house.app.endpoint.places[0]))
        joined = await guest.ask(numbers.JOIN_REQUEST, {messages.SG_ID: "mixed"})
        assert joined[messages.RESULT] == "1"
        before = await keyed(house, "mixed", members)
        house.sniffer.frames()
        version = house.server.update_key("mixed")
        await keyed(house, "mixed", members, above=before)
        await until(lambda: ("mixed", version) in guest.keys)
        await until(lambda: set(confirmed(house, "mixed").values()) == {version})
        assert len(objects(house.sniffer.frames(), version)) == 1
        assert [events(house, name, "key", version=version)[0]["broadcast"] for name in members] == [True] * 3
    finally:
        house.server.expel("mixed", "phone.guest")
        await guest.close()


@pytest.mark.req("SEC-13")
async def test_a_board_that_slept_through_an_update_pulls_it(house):
    before = await join(house, "sleepers", [HALL, KITCHEN, PORCH])
    sleeper = house.boards[PORCH]
    try:
        await sleeper.command("range", inside=False)
        await asyncio.sleep(STATION_LOOKS_S)
        version = house.server.update_key("sleepers")
        await keyed(house, "sleepers", [HALL, KITCHEN], above=before)
        assert held(house, PORCH, "sleepers") == before
    finally:
        await sleeper.command("range", inside=True)
        await asyncio.sleep(STATION_LOOKS_S)
    await sleeper.command("refresh", group="sleepers")
    assert await keyed(house, "sleepers", [PORCH]) == version
    assert events(house, PORCH, "key", version=version, group="sleepers")[0]["broadcast"] is False


@pytest.mark.req("CPNS-GKM-60", "SEC-04", "SEC-05")
async def test_who_leaves_wipes_its_keys_and_the_others_get_a_new_one_at_once(house):
    before = await join(house, "leavers", [HALL, KITCHEN, PORCH])
    await house.boards[PORCH].command("leave", group="leavers")
    version = await keyed(house, "leavers", [HALL, KITCHEN], above=before)
    assert events(house, HALL, "key", group="leavers", version=version)[0]["reason"] == numbers.REASON_LEAVE
    assert held(house, PORCH, "leavers") == before
    _, joined, _, _, ring, _ = _stored_group(house, PORCH, "leavers")
    assert not joined and _floor_and_keys(ring) == (before, 0)


@pytest.mark.req("CPNS-GKM-60", "SEC-06")
async def test_who_is_expelled_is_refused_the_new_key_over_its_living_session(house):
    before = await join(house, "strict", [HALL, KITCHEN, PORCH])
    house.sniffer.frames()
    house.server.expel("strict", PORCH)
    version = await keyed(house, "strict", [HALL, KITCHEN], above=before)
    assert house.app.endpoint.has_session(PORCH)
    with pytest.raises(BoardError):
        await house.boards[PORCH].command("refresh", group="strict")
    assert held(house, PORCH, "strict") == before < version
    with pytest.raises(BoardError):
        await house.boards[PORCH].command("join", group="strict")


@pytest.mark.req("CPNS-GKM-59", "SEC-15", "SEC-04")
async def test_deleting_a_group_wipes_its_keys_on_every_board_and_keeps_the_floor(house):
    version = await join(house, "doomed", [HALL, KITCHEN, PORCH])
    house.server.delete_group("doomed")
    for name in (HALL, KITCHEN, PORCH):
        await house.boards[name].event("deleted", group="doomed", timeout_s=180)
        _, joined, _, _, ring, _ = _stored_group(house, name, "doomed")
        floor, keys = _floor_and_keys(ring)
        assert not joined and floor >= version and keys == 0
        assert (await house.boards[name].command("status"))["groups"].get("doomed") is None
    with pytest.raises(BoardError):
        await house.boards[HALL].command("send", group="doomed", data="00")


@pytest.mark.req("CPNS-GKM-77", "SEC-29")
async def test_the_flash_of_a_board_has_no_key_that_was_replaced_or_deleted(house):
    flash = house.boards[HALL].nvs
    version = await join(house, "wiped", [HALL, KITCHEN, PORCH])
    records = []
    for _ in range(3):
        records.append(KeyStore(flash.snapshot()).load(record_name("g", "wiped")))
        assert remains(flash.octets(), records[-1:], [])
        house.server.update_key("wiped")
        version = await keyed(house, "wiped", [HALL, KITCHEN, PORCH], above=version)
        _nothing_remains(flash.snapshot(), records)
    house.server.delete_group("wiped")
    await house.boards[HALL].event("deleted", group="wiped", timeout_s=180)
    _nothing_remains(flash.snapshot(), records)
    assert b"wiped" in flash.octets()  # the name and the floor stay


def _nothing_remains(image, records):
    assert not remains(image.octets(), records, [image.get(name) for name in image.names()])


def _stored_group(house, name, sg_id):
    return cborlite.decode(KeyStore(house.boards[name].nvs.snapshot()).load(record_name("g", sg_id)))


def _floor_and_keys(dump):
    ring = KeyRing.load(dump, 0)
    return ring.floor, len(ring.versions)


@pytest.mark.req("CPNS-GKM-51", "CPNS-GKM-53", "CPNS-GKM-54", "CPNS-GKM-55", "CPNS-GKM-56", "CPNS-GKM-57")
@pytest.mark.parametrize("protection", ["sealed", "authenticated"])
async def test_members_talk_under_the_group_key_and_nobody_else_is_heard(house, protection):
    sg_id = f"talk/{protection}"
    house.server.create_group(sg_id, open_to=[PN_ID], protection=protection)
    await join(house, sg_id, [HALL, KITCHEN, PORCH])
    house.sniffer.frames()
    said = b"the lights go out at ten"
    await house.boards[HALL].command("send", group=sg_id, data=said.hex())
    for name in (KITCHEN, PORCH):
        message = await house.boards[name].event("message", group=sg_id, data=said.hex(), timeout_s=180)
        assert message["sender"] == HALL and message["replayable"] is False
    [frame] = group_messages(house.sniffer.frames())
    assert (said in frame) is (protection == "authenticated")
    count = {name: len(events(house, name, "message")) for name in ALL}
    for changed in (frame, frame[:-1] + bytes([frame[-1] ^ 1]), frame[:40] + bytes([frame[40] ^ 1]) + frame[41:]):
        house.sniffer.send(changed)  # a replay, another MAC, another header
    await house.boards[HALL].command("send", group=sg_id, data="ff")
    for name in (KITCHEN, PORCH):
        await house.boards[name].event("message", group=sg_id, data="ff", timeout_s=180)
        assert len(events(house, name, "message")) == count[name] + 1  # the last one only
    assert count[GARAGE] == len(events(house, GARAGE, "message"))


@pytest.mark.req("CPNS-GKM-58", "CPNS-GKM-62")
async def test_a_board_creates_a_group_and_another_joins_it(house):
    await house.boards[HALL].command("create", group="made/by/hall", protection=numbers.PROTECTION_SEALED)
    first = await keyed(house, "made/by/hall", [HALL])
    assert house.server.show_group("made/by/hall").owner == HALL
    await house.boards[KITCHEN].command("join", group="made/by/hall")
    assert await keyed(house, "made/by/hall", [HALL, KITCHEN], above=first) == newest(house, "made/by/hall")


@pytest.mark.req("CPNS-GKM-50")
async def test_keys_and_group_names_never_travel_in_clear(house):
    """What is on the air of a delivery names no group, and holds none of the keys that the boards store."""
    before = await join(house, "secret/group", [HALL, KITCHEN, PORCH])
    house.sniffer.frames()
    house.server.update_key("secret/group")
    await keyed(house, "secret/group", [HALL, KITCHEN, PORCH], above=before)
    frames = house.sniffer.frames()
    _, _, _, _, ring, _ = _stored_group(house, HALL, "secret/group")
    keys = KeyRing.load(ring, 0).receiving_keys(0).values()
    assert keys and frames
    assert not any(key in frame for key in keys for frame in frames)
    assert not any(b"secret/group" in frame for frame in frames)
