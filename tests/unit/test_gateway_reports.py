"""Confirmations that come without a session: one that a medium hears is proven, or counted and ignored (SEC-14)."""

import dataclasses

import pytest

from cpns import messages, numbers
from cpns import report as short
from cpns.errors import CpnsError
from gateway_agent.core.rates import REPORTS
from gateway_agent.store.errors import StoreFailed
from tests.unit.gateway_world import FAST, World

UNKNOWN_ALIAS = 999
PATIENT = dataclasses.replace(FAST, answer_s=3600.0)  # a broadcast is waited for


@pytest.fixture(params=["message", "advert"])
async def world(tmp_path, request):
    """Four boards that miss a key; what they report is heard as a message or as the 21 octets of an advert."""
    world = await World(tmp_path / "gw", pacing=PATIENT).start()
    world.form = request.param
    for i in range(4):
        board = await world.board(f"b{i}", "light")
        board.deaf, board.reachable = True, False
    await world.server.rekey("light")
    await world.until(lambda: world.air)
    yield world
    await world.close()


def report(world, name, of="light", **changed):
    """A right report of a board, of the newest key of a Service Group, with changes."""
    group, board = world.server.group(of), world.boards[name]
    fields = board.response(of, group.version, board.records[-1], group.key)
    labels = {label: getattr(messages, label.upper()) for label in changed}
    changes = {labels[label]: value for label, value in changed.items()}
    return messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, {**fields, **changes})


def hear(world, frame):
    """The medium hears a frame, in the form that this test is about."""
    world.medium.heard(in_advert(world, frame) if world.form == "advert" else frame)


def in_advert(world, frame):
    """The 21 octets for a message with a proof; what else a medium may hear for another message."""
    try:
        fields = messages.decode(frame)[1]
        names = [fields[label] for label in (messages.GENERATION, messages.VERSION, messages.SLOT, messages.RESULT)]
    except (CpnsError, KeyError):
        return frame[:21].ljust(21, b"\x5a")
    group = world.store.inventory.group(fields[messages.SG_ID])
    return short.build(UNKNOWN_ALIAS if group is None else group.alias, *names, fields[messages.PROOF])


def confirmed(world):
    return world.gateway.administration.delivery("light")[1].get("confirmed", 0)


@pytest.mark.req("SEC-14")
async def test_a_report_with_the_proof_of_its_slot_confirms_whoever_carried_it(world):
    for name in world.boards:
        hear(world, report(world, name))
    await world.delivered("light")
    assert world.server.reports[-1][messages.CONFIRMED] == sorted(world.boards)
    assert world.gateway.counters["confirmations"] == 4 and not world.gateway.counters["reports_unproven"]
    assert not any(board.heard_unicast for board in world.boards.values())


@pytest.mark.req("SEC-14", "SEC-35")
async def test_what_proves_nothing_is_counted_and_nothing_else_happens(world):
    group = world.server.group("light")
    good = report(world, "b0")
    commits = world.store.database.commits
    forged = [
        b"",
        b"\xff" * 24,
        bytes(9000),
        messages.encode(numbers.KEY_PULL_REQUEST, {messages.SG_ID: "light", messages.VERSION: 0}),
        good[:-1],
        good[:-1] + bytes((good[-1] ^ 1,)),
        report(world, "b0", result=numbers.RESULT_FAIL),
        report(world, "b0", version=group.version + 1),
        report(world, "b0", version=group.version - 1),
        report(world, "b0", sg_id="door"),
        report(world, "b0", slot=world.boards["b1"].records[-1].slot),
        report(world, "b0", slot=63),
        report(world, "b0", slot=2**32 - 1, generation=2**16 - 1),
        report(world, "b0", generation=2),
        messages.encode(
            numbers.GROUP_KEY_DELIVERY_RESPONSE, world.boards["b0"].response("light", group.version, None, b"")
        ),
    ]
    for frame in forged:
        hear(world, frame)
    assert not confirmed(world) and world.store.database.commits == commits
    assert world.gateway.counters["reports_unproven"] == len(forged)
    assert not world.gateway.administration.alarms(), "what nobody signed is no sign of an old copy"


@pytest.mark.req("SEC-06", "SEC-14")
async def test_a_report_of_who_was_removed_or_has_another_slot_now_confirms_nobody(world):
    removed, renewed = report(world, "b0"), report(world, "b1")
    await world.server.expel("light", "b0")
    world.gateway.administration.register_pne("b1")
    await world.boards["b1"].join("light")
    for frame in (removed, renewed):
        hear(world, frame)
    assert world.gateway.counters["reports_unproven"] == 2 and not confirmed(world)


@pytest.mark.req("SEC-14")
async def test_a_report_of_the_version_before_never_confirms_the_next(world):
    before = report(world, "b0")
    await world.server.rekey("light")
    hear(world, before)
    assert world.gateway.counters["reports_unproven"] == 1
    fields = dict(messages.decode(before)[1])
    fields[messages.VERSION] = world.server.group("light").version
    hear(world, messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))
    assert world.gateway.counters["reports_unproven"] == 2


@pytest.mark.req("SEC-19", "SEC-35")
async def test_a_report_that_is_repeated_costs_no_commit_and_keeps_out_no_other_report_of_its_pne(world):
    """Whoever recorded it may repeat it for as long as its version is the newest."""
    await world.boards["b0"].join("door")
    await world.server.rekey("door")
    await world.until(lambda: len(world.air) == 2)
    frame = report(world, "b0")
    hear(world, frame)
    await world.until(lambda: confirmed(world) == 1)
    commits = world.store.database.commits
    for _ in range(REPORTS[1] - 2):
        hear(world, frame)
    assert world.store.database.commits == commits and confirmed(world) == 1
    hear(world, report(world, "b0", of="door"))
    await world.until(lambda: world.gateway.administration.delivery("door")[1] == {"confirmed": 1})


@pytest.mark.req("SEC-19", "SEC-35")
async def test_a_flood_without_proof_is_bounded_and_takes_nothing_from_the_sessions(world):
    for _ in range(2 * REPORTS[1]):
        hear(world, report(world, "b0", proof=bytes(8)))
    assert world.gateway.counters["reports_unproven"] == REPORTS[1]
    assert world.gateway.counters["reports_too_many"] == REPORTS[1]
    assert await world.gateway.handle_pne("b0", report(world, "b0")) is None
    assert confirmed(world) == 1
    world.clock.ahead += 1.0
    hear(world, report(world, "b1"))
    await world.until(lambda: confirmed(world) == 2)


async def test_a_report_while_nothing_can_be_read_from_the_store_is_counted(world, monkeypatch):
    def fails(*_):
        raise StoreFailed("The card is full.", "Make room.")

    monkeypatch.setattr(world.store.slots, "owner", fails)
    hear(world, report(world, "b0"))
    assert world.gateway.counters["reports_late"] == 1


@pytest.mark.req("SEC-14", "SEC-35")
async def test_no_octet_of_a_report_in_an_advert_may_change(world):
    good = in_advert(world, report(world, "b0"))
    for place in range(len(good)):
        world.medium.heard(good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :])
    assert world.gateway.counters["reports_unproven"] == len(good) and not confirmed(world)
    assert not world.gateway.administration.alarms()
    world.medium.heard(good)
    await world.until(lambda: confirmed(world) == 1)


@pytest.mark.req("CPNS-GKM-71", "SEC-14")
async def test_a_board_that_confirms_by_its_session_and_by_an_advert_counts_once(world):
    hear(world, report(world, "b0"))
    await world.gateway.handle_pne("b0", report(world, "b0"))
    hear(world, report(world, "b0"))
    for name in ("b1", "b2", "b3"):
        hear(world, report(world, name))
    await world.delivered("light")
    assert len(world.server.reports) == 1
    assert world.server.reports[0][messages.CONFIRMED] == sorted(world.boards)
    hear(world, report(world, "b2"))
    await world.gateway.tick()
    assert len(world.server.reports) == 1
