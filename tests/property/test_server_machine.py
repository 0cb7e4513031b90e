"""In any order of events: a board that left reads nothing more, no version has two keys, no key two versions."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cpns import messages as m
from cpns import numbers as n
from key_servers.cpns_server import tuning
from key_servers.cpns_server.delivery_queue import (
    Accepted,
    Asked,
    Confirmed,
    DeliveryQueue,
    Departs,
    Event,
    Failed,
    GatewayHeard,
    Kind,
    Position,
    Record,
    Rewound,
    Send,
    Tick,
    Unsent,
    Wanted,
    step,
)
from tests.unit.cpns_server_parts import HandClock, House, PnGw, succeeded
from tests.unit.server_databases import emptied, postgres_url
from tests.virtual_time import VirtualTimeLoop

__all__ = ["postgres_url"]

GROUPS = ["light", "heat"]
PNES = {"home": ["lamp", "door", "cat"], "office": ["desk", "fan"]}
HOMES = sorted(PNES)
ALL_PNES = [(home, pne) for home in HOMES for pne in PNES[home]]


class WatchedPnGw(PnGw):
    """A PN GW that compares what it knows with the truth whenever a key comes in."""

    def __init__(self, gateway_id: str, pn_id: str, machine: "ServerMachine") -> None:
        super().__init__(gateway_id, pn_id)
        self.machine = machine

    async def receive(self, message: bytes) -> bytes:
        answer = await super().receive(message)
        code, fields = m.decode(message, 131072)
        if code == n.GROUP_KEY_DELIVERY_REQUEST:
            self.machine.check_key(self, fields)
        return answer


class ServerMachine(RuleBasedStateMachine):
    """A Server, two PN GWs that come and go, restarts, and a model of who is a member."""

    url: str | None = None  # of a PostgreSQL database in place of the SQLite file

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.folder = Path(tempfile.mkdtemp())
        self.members: dict[str, set[tuple[str, str]]] = {sg: set() for sg in GROUPS}
        self.expelled: set[tuple[str, str]] = set()  # (SG ID, PNE ID)
        self.left_at: dict[str, int] = {}  # SG ID: version when somebody last left
        self.keys: dict[tuple[str, int], bytes] = {}
        self.versions: dict[str, int] = dict.fromkeys(GROUPS, 0)
        self.broken: list[str] = []  # promises broken while the Server was at work

    def do(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def open(self, clock: HandClock | None = None) -> Any:
        return House.open(self.folder / "server", None, clock, database_url=self.url)

    def version(self, sg_id: str) -> int:
        return self.house.server.show_group(sg_id).version

    def check_key(self, gateway: PnGw, fields: dict[int, Any]) -> None:
        sg_id, version = fields[m.SG_ID], fields[m.VERSION]
        ((key, _),) = fields[m.GROUP_KEY]
        if self.keys.setdefault((sg_id, version), key) != key:
            self.broken.append("two keys of one version")
        home = gateway.pn_id.removeprefix("pn.")
        present = {pne for where, pne in self.members[sg_id] if where == home}
        if not present:
            self.broken.append("a key for a PN without members")
        if set(gateway.members.get(sg_id, [])) != present:
            self.broken.append("a key before the members it is for")
        if version <= self.left_at.get(sg_id, 0):
            self.broken.append("a key that a leaver knows")

    @initialize()
    def build(self) -> None:
        if self.url is not None:
            emptied(self.url)
        self.house = self.do(self.open())
        self.gateways = {home: WatchedPnGw(f"gw.{home}", f"pn.{home}", self) for home in HOMES}
        for gateway in self.gateways.values():
            self.house.server.register_gateway(gateway.gateway_id, gateway.pn_id, is_open=True)
            self.house.attach(gateway)
        for sg_id in GROUPS:
            self.house.server.create_group(sg_id, open_to=["pn.home", "pn.office"])

    @rule(sg_id=st.sampled_from(GROUPS), who=st.sampled_from(ALL_PNES))
    def join(self, sg_id: str, who: tuple[str, str]) -> None:
        home, pne = who
        answer = self.do(self.house.join(self.gateways[home], pne, sg_id))
        if succeeded(answer):
            assert (sg_id, pne) not in self.expelled
            if who not in self.members[sg_id]:
                assert answer[m.VERSION] == self.version(sg_id)  # nothing of the past is for it
            self.members[sg_id].add(who)
        else:
            assert (sg_id, pne) in self.expelled or answer[m.ERROR] == n.ERROR_TOO_MANY

    @rule(sg_id=st.sampled_from(GROUPS), who=st.sampled_from(ALL_PNES))
    def leave(self, sg_id: str, who: tuple[str, str]) -> None:
        home, pne = who
        answer = self.do(self.house.leave(self.gateways[home], pne, sg_id))
        if who in self.members[sg_id]:
            assert succeeded(answer)
            self.members[sg_id].remove(who)
            self.left_at[sg_id] = self.version(sg_id)

    @rule(sg_id=st.sampled_from(GROUPS), who=st.sampled_from(ALL_PNES))
    def expel(self, sg_id: str, who: tuple[str, str]) -> None:
        if who in self.members[sg_id]:
            self.house.server.expel(sg_id, who[1])
            self.members[sg_id].remove(who)
            self.expelled.add((sg_id, who[1]))
            self.left_at[sg_id] = self.version(sg_id)

    @rule(sg_id=st.sampled_from(GROUPS), who=st.sampled_from(ALL_PNES))
    def permit(self, sg_id: str, who: tuple[str, str]) -> None:
        self.house.server.permit(sg_id, who[1])
        self.expelled.discard((sg_id, who[1]))

    @rule(sg_id=st.sampled_from(GROUPS))
    def update(self, sg_id: str) -> None:
        before = self.version(sg_id)
        assert self.house.server.update_key(sg_id) == before + 1

    @rule(sg_id=st.sampled_from(GROUPS), home=st.sampled_from(HOMES))
    def pull(self, sg_id: str, home: str) -> None:
        answer = self.do(self.house.pull(self.gateways[home], sg_id))
        has_members = any(where == home for where, _ in self.members[sg_id])
        assert succeeded(answer) == has_members
        if has_members:
            assert answer[m.VERSION] > self.left_at.get(sg_id, 0)

    @rule(home=st.sampled_from(HOMES), down=st.booleans(), refuses=st.booleans())
    def uplink(self, home: str, down: bool, refuses: bool) -> None:
        self.gateways[home].down, self.gateways[home].refuses = down, refuses

    @rule(home=st.sampled_from(HOMES), loses=st.sets(st.sampled_from(GROUPS)))
    def list_versions(self, home: str, loses: set[str]) -> None:
        gateway = self.gateways[home]
        for sg in loses:
            gateway.members.pop(sg, None)
            gateway.keys.pop(sg, None)
        held = [(gateway.newest(sg), sg) for sg in GROUPS if sg in loses or sg in gateway.members]
        self.do(self.house.list_versions(gateway, *held))

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 30.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        self.do(self.house.pass_time(seconds))

    @rule()
    def restart(self) -> None:
        self.do(self.house.server.close())
        self.house = self.do(self.open(self.house.clock))
        for gateway in self.gateways.values():
            self.house.attach(gateway)

    @rule()
    def crash(self) -> None:
        """What PN GWs accepted and is not committed yet is gone."""
        server = self.house.server
        task = server._store.lots._task
        if task is not None:
            task.cancel()
            self.do(asyncio.gather(task, return_exceptions=True))
        self.do(server._requests.close())
        server._store.close()
        self.house = self.do(self.open(self.house.clock))
        for gateway in self.gateways.values():
            self.house.attach(gateway)

    @precondition(lambda self: hasattr(self, "house"))
    @invariant()
    def promises_are_kept(self) -> None:
        assert not self.broken
        for sg_id in GROUPS:
            assert self.version(sg_id) >= self.versions[sg_id]
            self.versions[sg_id] = self.version(sg_id)

    def teardown(self) -> None:
        try:
            if hasattr(self, "house"):
                self.settle()
        finally:
            if hasattr(self, "house"):
                self.do(self.house.server.close())
            self.loop.close()
            shutil.rmtree(self.folder)

    def settle(self) -> None:
        """All uplinks work for long enough: everybody ends where the truth is."""
        for gateway in self.gateways.values():
            gateway.down = gateway.refuses = False
        self.do(self.house.pass_time(2 * tuning.RETRY_MAX_S))
        assert not self.broken
        for sg_id in GROUPS:
            assert self.version(sg_id) > self.left_at.get(sg_id, 0)
            shown = {x.pne_id for x in self.house.server.show_group(sg_id).members if x.state == "member"}
            assert shown == {pne for _, pne in self.members[sg_id]}
            for home, gateway in self.gateways.items():
                present = {pne for where, pne in self.members[sg_id] if where == home}
                assert set(gateway.members.get(sg_id, [])) == present
                if present:
                    assert gateway.newest(sg_id) == self.version(sg_id)
        values = list(self.keys.values())
        assert len(set(values)) == len(values), "two versions have one key"


@pytest.mark.req("CPNS-GKM-60", "CPNS-GKM-62", "SEC-03", "SEC-06")
def test_every_history_of_members_and_keys_keeps_the_promises() -> None:
    run_state_machine_as_test(ServerMachine, settings=settings(max_examples=40, stateful_step_count=40))


def test_every_history_keeps_the_promises_in_postgresql_too(postgres_url: str) -> None:
    machine = type("PostgresMachine", (ServerMachine,), {"url": postgres_url})
    run_state_machine_as_test(machine, settings=settings(max_examples=8, stateful_step_count=30))


POSITIONS = st.builds(Position, st.integers(0, 3), st.integers(0, 3), st.booleans())
OUTSIDE = st.one_of(
    st.builds(Wanted, POSITIONS),
    st.builds(Rewound, POSITIONS),
    st.builds(Confirmed, POSITIONS),
    st.just(GatewayHeard()),
    st.just(Asked()),
    st.just(Tick()),
)
ANSWERS = st.sampled_from([Accepted(), Failed(True), Failed(False), Unsent(), Departs()])


@pytest.mark.req("SEC-06", "SEC-27", "Q-17")
@given(st.lists(st.tuples(st.one_of(OUTSIDE, ANSWERS), st.floats(0, 1000)), max_size=40))
def test_a_delivery_has_one_request_on_its_way_and_ends_where_it_should(events: list[tuple[Event, float]]) -> None:
    state, now, sent = DeliveryQueue(), 0.0, None

    def feed(event: Event) -> None:
        nonlocal state, sent
        if isinstance(event, Accepted | Failed | Unsent | Departs):
            if sent is None:
                return
            sent = None
        failures, accepted, awaited = state.failures, state.accepted, state.on_its_way
        state, actions = step(state, event, now)
        if isinstance(event, Confirmed):
            if state.accepted != accepted:
                assert state.accepted == event.position and event.position in (
                    state.wanted,
                    awaited and awaited.reached,
                )
            if awaited is not None and event.position == awaited.reached:
                sent = None  # it ends that request
        if isinstance(event, Unsent):
            assert state.failures == failures, "what never went out counts against the PN GW"
        if isinstance(event, Departs):
            assert not actions
            sent = state.on_its_way
            if sent is not None:
                assert sent.kind is not Kind.KEY or state.accepted.revision >= state.wanted.revision
                assert sent.reached.version in (state.wanted.version, state.accepted.version), "not the newest"
        for action in actions:
            if isinstance(action, Send):
                assert sent is None, "two requests on their way"
                if action.kind is Kind.KEY:
                    assert state.accepted.revision >= state.wanted.revision, "a key before its members"
                    assert action.reached.version == state.wanted.version, "a key that is not the newest"
                sent = action
            if isinstance(action, Record):
                assert action.accepted == state.accepted
        assert state.on_its_way == sent

    for event, passed in events:
        now += passed
        feed(event)
    for _ in range(20):
        now += tuning.RETRY_MAX_S
        feed(Tick())
        feed(Accepted())
    assert state.settled and sent is None and state.wake_at is None
