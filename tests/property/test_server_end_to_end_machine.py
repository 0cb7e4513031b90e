"""In any order of events: a key of an end-to-end group is wrapped for members only, and at last all of them have it."""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cpns import entity_user_key
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, NotAuthentic
from key_servers.cpns_server import alarms
from key_servers.errors import ServerError
from tests.unit.cpns_server_parts import PnGw, succeeded
from tests.unit.end_to_end_house import CONFIG, EndToEndHouse
from tests.virtual_time import VirtualTimeLoop

GROUPS = ["alarm", "locks"]
BOARDS = ["lamp", "door", "cat"]
HOMES = ["home", "office"]
WHO, GROUP = st.sampled_from(BOARDS), st.sampled_from(GROUPS)


class Board:
    """A board as `device_agent.end_to_end` makes it, whose home is `home`; `session` is the EUK of its live session."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.home = "home"
        self.current = self.previous = self.session = b""
        self.floors: dict[str, int] = {}
        self.keys: dict[str, tuple[int, bytes]] = {}
        self.wants_session = False

    def keep(self, euk: bytes) -> None:
        """The Server has answered on a new session."""
        if euk != self.current:
            self.current, self.previous = euk, self.current

    def answer(self, request: dict[int, Any], pn_id: str) -> dict[int, Any]:
        """Return the fields of the response to an SGroupKeyDeliveryRequest."""
        sg_id, version = request[m.SGID], request[m.VERSION]
        response = {m.PNID: pn_id, m.PNE_ID: self.name, m.RETURN: n.RETURN_FAIL}
        response |= {label: request[label] for label in (m.SGID, m.VERSION, m.EUK_ID)}
        held = self.keys.get(sg_id, (0, b""))
        if version != held[0] and version <= self.floors.get(sg_id, 0):
            return response | {m.ERROR: n.ERROR_STALE}
        euks = [each for each in (self.current, self.previous) if each]
        known = [euk for euk in euks if entity_user_key.key_id(euk) == request[m.EUK_ID]]
        if not known:
            self.wants_session = True
            return response | {m.RETURN: n.RETURN_UNKNOWN_EUK}
        pne_id, wrapped = request[m.GROUP_KEY_INFO]
        try:
            key = entity_user_key.decrypt(known[0], pne_id, sg_id, version, wrapped)
        except NotAuthentic:
            return response | {m.ERROR: n.ERROR_NOT_AUTHENTIC}
        assert version != held[0] or key == held[1], "two keys of one version"
        self.keys[sg_id], self.floors[sg_id] = (version, key), version
        if known[0] == self.current:
            self.previous = b""
        mac = entity_user_key.response_mac(key, self.name, sg_id, version)
        return response | {m.RETURN: n.RETURN_SUCCESS, m.MAC: mac}


class WatchedPnGw(PnGw):
    """A PN GW that compares each wrapped key with the truth."""

    def __init__(self, gateway_id: str, pn_id: str, machine: "EndToEndMachine") -> None:
        super().__init__(gateway_id, pn_id)
        self.machine = machine

    async def receive(self, message: bytes) -> bytes:
        before = len(self.carried)
        answer = await super().receive(message)
        for request in self.carried[before:]:
            self.machine.check_request(self, request)
        return answer


class EndToEndMachine(RuleBasedStateMachine):
    """A Server whose disk fails at times, two PN GWs that come and go and lose what they carry, and boards."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.folder = Path(tempfile.mkdtemp())
        self.boards = {name: Board(name) for name in BOARDS}
        self.members: dict[str, set[str]] = {sg_id: set() for sg_id in GROUPS}
        self.left_at: dict[tuple[str, str], int] = {}  # (SG ID, PNE ID): the newest version then
        self.responses: list[tuple[str, dict[int, Any]]] = []  # under way to the Server, with the PN GW's name
        self.disk_fails = False
        self.broken: list[str] = []

    def do(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    def at_server(self, function: Any, *arguments: Any) -> Any:
        async def call() -> Any:
            return function(*arguments)

        return self.do(call())

    @property
    def server(self) -> Any:
        return self.house.server

    def check_request(self, gateway: PnGw, request: dict[int, Any]) -> None:
        sg_id, name = request[m.SGID], request[m.GROUP_KEY_INFO][0]
        if name not in self.members[sg_id]:
            self.broken.append("a key for one that is no member")
        if f"pn.{self.boards[name].home}" != gateway.pn_id:
            self.broken.append("a key through the PN GW of another PN")
        if any(request[m.VERSION] <= version for (of, _), version in self.left_at.items() if of == sg_id):
            self.broken.append("a key that a leaver knows")

    @initialize()
    def build(self) -> None:
        config = CONFIG.model_copy(update={"batching_s": 2.0})
        self.config = config
        self.house = self.do(EndToEndHouse.open(self.folder / "server", config))
        self.gateways = {home: WatchedPnGw(f"gw.{home}", f"pn.{home}", self) for home in HOMES}
        for gateway in self.gateways.values():
            self.server.register_gateway(gateway.gateway_id, gateway.pn_id, is_open=True)
            self.house.attach(gateway)
        for sg_id in GROUPS:
            self.create(sg_id)
        for name in BOARDS:
            self.renew(name, asked=True, answered=True)

    def create(self, sg_id: str) -> None:
        self.server.create_group(sg_id, open_to=["pn.home", "pn.office"], trust="end-to-end")

    # Boards

    def say(self, board: Board, message: bytes) -> bytes | None:
        """A message on the board's session with the Server; None if that has none for it."""
        if not board.session:
            return None
        try:
            answer: bytes = self.at_server(self.server._handle_pne, board.name, board.session, message, None)
        except ServerError:
            return None
        return answer

    @rule(name=WHO, asked=st.booleans(), answered=st.booleans())
    def renew(self, name: str, asked: bool, answered: bool) -> None:
        """A handshake; the request after it arrives if `asked`, and its answer if `answered`."""
        board, euk = self.boards[name], secrets.token_bytes(16)
        if not asked:
            return
        board.session = euk
        self.say(board, b"")
        if answered:  # also "cannot work now" is an answer of the Server's
            board.keep(euk)
            board.wants_session = False
        else:
            board.session = b""

    @rule(name=WHO, sg_id=GROUP, lost=st.booleans())
    def pull(self, name: str, sg_id: str, lost: bool) -> None:
        board = self.boards[name]
        version = 0 if lost else board.keys.get(sg_id, (0, b""))[0]
        fields = {m.PNE_ID: name, m.SG_ID: sg_id, m.VERSION: version}
        answer = self.say(board, m.encode(n.KEY_PULL_REQUEST, fields))
        if answer is None:
            return
        _, said = m.decode(answer)
        if succeeded(said):
            assert name in self.members[sg_id] and m.GROUP_KEY not in said
            board.floors[sg_id] = max(board.floors.get(sg_id, 0), said[m.VERSION] - 1)

    @rule(home=st.sampled_from(HOMES), at=st.integers(0, 3), again=st.booleans())
    def deliver(self, home: str, at: int, again: bool) -> None:
        carried = self.gateways[home].carried
        if carried:
            request = carried[at % len(carried)]
            if not again:
                carried.remove(request)
            board = self.boards[request[m.GROUP_KEY_INFO][0]]
            self.responses.append((home, board.answer(request, f"pn.{home}")))

    @rule(at=st.integers(0, 3), again=st.booleans())
    def respond(self, at: int, again: bool) -> None:
        if self.responses:
            home, response = self.responses[at % len(self.responses)]
            if not again:
                self.responses.remove((home, response))
            self.do(self.house.send(self.gateways[home], response))

    @rule(home=st.sampled_from(HOMES), sg_id=GROUP, name=WHO, returned=st.sampled_from("123"))
    def forge(self, home: str, sg_id: str, name: str, returned: str) -> None:
        """A PN GW answers in the name of a board, about the newest key."""
        euk = self.boards[name].current
        response = {m.RETURN: returned, m.PNID: f"pn.{home}", m.PNE_ID: name, m.SGID: sg_id, m.MAC: bytes(8)}
        version = self.server.show_group(sg_id).version
        response |= {m.VERSION: version, m.EUK_ID: entity_user_key.key_id(euk)}
        refused = self.do(self.house.send(self.gateways[home], response))
        assert refused is not None or returned != n.RETURN_SUCCESS

    @rule(home=st.sampled_from(HOMES))
    def gateway_restarts(self, home: str) -> None:
        self.gateways[home].carried.clear()
        self.responses = [each for each in self.responses if each[0] != home]

    @rule(home=st.sampled_from(HOMES), down=st.booleans(), refuses=st.booleans())
    def uplink(self, home: str, down: bool, refuses: bool) -> None:
        self.gateways[home].down, self.gateways[home].refuses = down, refuses

    # Members

    @rule(sg_id=GROUP, name=WHO)
    def join(self, sg_id: str, name: str) -> None:
        gateway = self.gateways[self.boards[name].home]
        if succeeded(self.do(self.house.join(gateway, name, sg_id))):
            self.members[sg_id].add(name)

    def gone(self, sg_id: str, name: str) -> None:
        if name in self.members[sg_id]:
            self.members[sg_id].remove(name)
            self.left_at[sg_id, name] = self.server.show_group(sg_id).version

    @rule(sg_id=GROUP, name=WHO)
    def leave(self, sg_id: str, name: str) -> None:
        gateway = self.gateways[self.boards[name].home]
        if succeeded(self.do(self.house.leave(gateway, name, sg_id))):
            self.gone(sg_id, name)

    @rule(sg_id=GROUP, name=WHO)
    def expel(self, sg_id: str, name: str) -> None:
        if name in self.members[sg_id]:
            with contextlib.suppress(CpnsError, ServerError):
                self.at_server(self.server.expel, sg_id, name)
                self.gone(sg_id, name)

    @rule(sg_id=GROUP, name=WHO)
    def permit(self, sg_id: str, name: str) -> None:
        with contextlib.suppress(CpnsError, ServerError):
            self.at_server(self.server.permit, sg_id, name)

    @rule(name=WHO)
    def retire(self, name: str) -> None:
        with contextlib.suppress(CpnsError, ServerError):
            self.at_server(self.server.retire_pne, name)
            for sg_id in GROUPS:
                self.gone(sg_id, name)
            self.boards[name].session = b""

    @rule(name=WHO, home=st.sampled_from(HOMES))
    def move(self, name: str, home: str) -> None:
        with contextlib.suppress(CpnsError, ServerError):
            self.at_server(self.server.move_pne, name, f"pn.{home}")
            for sg_id in GROUPS:
                self.gone(sg_id, name)
            self.boards[name].home = home

    @rule(sg_id=GROUP)
    def update(self, sg_id: str) -> None:
        with contextlib.suppress(CpnsError, ServerError):
            self.at_server(self.server.update_key, sg_id)

    @rule(sg_id=GROUP)
    def delete_and_create(self, sg_id: str) -> None:
        with contextlib.suppress(CpnsError, ServerError):
            self.at_server(self.server.delete_group, sg_id)
            for name in list(self.members[sg_id]):
                self.gone(sg_id, name)
            self.create(sg_id)

    # The machine of the Server

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 50.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        if self.disk_fails:
            self.house.clock.advance(seconds)
            with contextlib.suppress(CpnsError, ServerError):
                self.do(self.house.work())
        else:
            self.do(self.house.pass_time(seconds))

    @rule(fails=st.booleans())
    def disk(self, fails: bool) -> None:
        self.disk_fails = fails
        self.server._store._database.rows(f"PRAGMA query_only = {int(fails)}")
        if not fails:
            self.at_server(self.server._store_watch.look)

    @rule()
    def crash(self) -> None:
        """What is not committed yet is gone, and so are the exporters of sessions."""
        task = self.server._store.lots._task
        if task is not None:
            task.cancel()
            self.do(asyncio.gather(task, return_exceptions=True))
        self.do(self.server._requests.close())
        self.do(self.server._sessions.close())
        self.server._store.close()
        self.disk_fails = False
        self.house = self.do(EndToEndHouse.open(self.folder / "server", self.config, self.house.clock))
        for gateway in self.gateways.values():
            self.house.attach(gateway)
        for board in self.boards.values():
            board.session = b""

    @precondition(lambda self: hasattr(self, "house"))
    @invariant()
    def promises_are_kept(self) -> None:
        assert not self.broken
        for sg_id in GROUPS:
            for shown in self.server.show_group(sg_id).pne_deliveries:
                if shown.accepted_version:  # no word of a PN GW makes the Server believe it
                    assert self.boards[shown.pne_id].floors.get(sg_id, 0) >= shown.accepted_version

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
        """All works for an hour: each member has the newest key, and the Server knows it."""
        self.disk(fails=False)
        for gateway in self.gateways.values():
            gateway.down = gateway.refuses = False
        for board in self.boards.values():
            if self.server._entity_user_keys.of(board.name) is None or not board.current:
                self.renew(board.name, asked=True, answered=True)
        for _ in range(40):
            self.do(self.house.pass_time(90))
            for board in self.boards.values():
                if board.wants_session:
                    self.renew(board.name, asked=True, answered=True)
            for home in HOMES:
                while self.gateways[home].carried:
                    self.deliver(home, 0, again=False)
            while self.responses:
                self.respond(0, again=False)
        assert not self.broken
        for sg_id in GROUPS:
            version = self.server.show_group(sg_id).version
            deliveries = {each.pne_id: each for each in self.server.show_group(sg_id).pne_deliveries}
            assert set(deliveries) == self.members[sg_id]
            for name, shown in deliveries.items():
                key = self.server._store.newest_key(sg_id)
                assert self.boards[name].keys[sg_id] == (version, key.key)
                assert (shown.accepted_version, shown.state) == (version, "settled")
        kinds = {alarm.kind for alarm in self.server.alarms()}
        assert not kinds & {alarms.UNOPENED, alarms.NO_ENTITY_KEY, alarms.UNDELIVERED, alarms.STORE}


@pytest.mark.req("CPNS-GKM-60", "SEC-06", "SEC-25", "SEC-33")
def test_every_history_ends_with_the_newest_key_at_each_member_and_at_nobody_else() -> None:
    run_state_machine_as_test(EndToEndMachine, settings=settings(max_examples=40, stateful_step_count=40))
