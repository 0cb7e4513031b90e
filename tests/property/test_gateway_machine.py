"""In any order of messages, late, twice or never: no board holds a key that was made while it was no member."""

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

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

from cpns import broadcast_object, messages, numbers
from cpns.errors import NotAllowed
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.groups.membership import Cause
from gateway_agent.core.restore import restore
from gateway_agent.store.errors import StoreFailed
from gateway_agent.store.store import GatewayStore
from tests.unit.gateway_world import PN, Board, Server, World
from tests.virtual_time import VirtualTimeLoop

GROUPS = ["light", "heat"]
NAMES = ["lamp", "door", "cat"]
AT_ONCE = Pacing(confirmation_cost_s=0.0, answer_s=0.001, unicast_retry_s=0.001, rounds_max=2, straggler_limit=1)
sg_ids, names = st.sampled_from(GROUPS), st.sampled_from(NAMES)


class SlowServer(Server):
    """It answers at once, and what it sends lies in `post` until somebody brings it, in any order, or twice."""

    def __init__(self):
        super().__init__()
        self.post = []
        self.expelled = set()

    async def answer(self, pn_id, message):
        code, fields = messages.decode(message, 1 << 20)
        if code == numbers.JOIN_REQUEST and (fields[messages.SG_ID], fields[messages.PNE_ID]) in self.expelled:
            return messages.failure(code, NotAllowed("expelled"))
        answer = await super().answer(pn_id, message)
        if code == numbers.VERSION_LIST_REQUEST:
            for sg_id in self.groups:
                await self.inventory(sg_id)
        return answer

    async def tell(self, pn_id, code, fields):
        self.post.append((code, fields))
        return {messages.RESULT: numbers.RESULT_FAIL}

    async def bring(self, index, *, again):
        code, fields = self.post[index] if again else self.post.pop(index)
        answer = await super().tell(PN, code, fields)
        if code == numbers.GROUP_KEY_DELIVERY_REQUEST and answer[messages.RESULT] == numbers.RESULT_SUCCESS:
            self.group(fields[messages.SG_ID]).accepted[PN] = fields[messages.VERSION]


class GatewayMachine(RuleBasedStateMachine):
    """A PN GW, boards that forget nothing, and what each of them must never hold."""

    def __init__(self):
        super().__init__()
        self.loop = VirtualTimeLoop()
        self.folder = Path(tempfile.mkdtemp())
        self.members = {sg_id: set() for sg_id in GROUPS}  # of Boards, by the word of whoever decides
        self.everybody = []  # also who had a name before
        self.forbidden = defaultdict(set)  # Board: (SG ID, version)
        self.of_alias = {}  # SG alias: SG ID, also of groups that were deleted
        self.looked_at = 0

    def do(self, work):
        return self.loop.run_until_complete(work)

    async def _settle(self):
        await asyncio.sleep(0.01)

    def new_board(self, name):
        board = self.world.boards[name] = Board(self.world, name)
        self.everybody.append(board)
        self.world.gateway.administration.register_pne(name)

    @initialize()
    def build(self):
        async def build():
            self.server = SlowServer()
            self.world = World(self.folder / "gw", server=self.server, pacing=AT_ONCE, height=4)
            for name in NAMES:
                self.new_board(name)
                await self.world.boards[name].get_gkdk()
            await self.world.gateway.tick()

        self.do(build())
        for name in NAMES:
            self.join(name, "light")

    @rule(name=names, sg_id=sg_ids)
    def join(self, name, sg_id):
        board = self.world.boards[name]
        if self.do(board.join(sg_id))[messages.RESULT] == numbers.RESULT_SUCCESS:
            self.members[sg_id].add(board)

    @rule(name=names, sg_id=sg_ids)
    def leave(self, name, sg_id):
        board = self.world.boards[name]
        if self.do(board.leave(sg_id))[messages.RESULT] == numbers.RESULT_SUCCESS:
            self.members[sg_id].discard(board)

    @rule(name=names, sg_id=sg_ids, key_first=st.booleans())
    def expel(self, name, sg_id, key_first):
        """The list of who is left is on its way, behind whatever else is, perhaps behind the key made because of it."""
        self.members[sg_id].discard(self.world.boards[name])
        self.server.expelled.add((sg_id, name))
        if name in self.server.group(sg_id).members.get(PN, ()):
            self.do(self.server.expel(sg_id, name))
        if key_first:
            self.make_key(sg_id)
            self.do(self.server.bring(-1, again=False))
            self.do(self.world.boards[name].pull(sg_id, 0))

    @rule(name=names, sg_id=sg_ids)
    def permit(self, name, sg_id):
        self.server.expelled.discard((sg_id, name))

    @rule(name=names, returns=st.booleans(), uplink=st.booleans())
    def retire(self, name, returns, uplink):
        """Lost, and perhaps another one under its name at once; the Server may hear of it late."""
        board = self.world.boards[name]
        self.server.up = uplink
        if self.world.gateway.administration.has_pne(name):
            self.do(self._retire(name))
        for members in self.members.values():
            members.discard(board)
        if returns:
            self.new_board(name)
            self.do(self.world.boards[name].get_gkdk())

    async def _retire(self, name):
        self.world.gateway.administration.retire_pne(name, Cause.LOST)

    @rule(sg_id=sg_ids)
    def make_key(self, sg_id):
        version = self.do(self.server.rekey(sg_id))
        for board in self.everybody:
            if board not in self.members[sg_id]:
                self.forbidden[board].add((sg_id, version))

    @precondition(lambda self: self.server.post)
    @rule(data=st.data(), again=st.booleans())
    def bring(self, data, again):
        self.do(self.server.bring(data.draw(st.integers(0, len(self.server.post) - 1)), again=again))

    @precondition(lambda self: self.server.post)
    @rule()
    def bring_the_newest(self):
        self.do(self.server.bring(-1, again=True))

    @rule(sg_id=sg_ids)
    def delete(self, sg_id):
        group = self.server.group(sg_id)
        self.do(
            self.server.tell(
                PN, numbers.DELETE_SERVICE_GROUP_REQUEST, {messages.SG_ID: sg_id, messages.VERSION: group.version}
            )
        )
        self.members[sg_id].clear()
        members = group.members.get(PN, set())
        group.revision[PN] += len(members)  # each member that goes is one change
        members.clear()

    @rule(up=st.booleans())
    def housekeeping(self, up):
        self.server.up = up
        self.do(self.world.gateway.tick())

    @rule(name=names, sg_id=sg_ids, what=st.sampled_from(["leave", "join", "retire", "key", "housekeeping"]))
    def try_while_the_disk_is_full(self, name, sg_id, what):
        """Nothing of it has happened, for boards and persons; the Server may think otherwise."""

        async def tried():
            with self.world.full_disk(), suppress(StoreFailed):
                if what in ("leave", "join"):
                    await getattr(self.world.boards[name], what)(sg_id)
                elif what == "retire" and self.world.gateway.administration.has_pne(name):
                    self.world.gateway.administration.retire_pne(name, Cause.LOST)
                elif what == "key" and self.server.post:
                    await self.server.bring(-1, again=True)
                else:
                    await self.world.gateway.tick()
                await self._settle()

        self.do(tried())

    @rule(name=names, sg_id=sg_ids, version=st.sampled_from([None, 0]))
    def pull(self, name, sg_id, version):
        """Also who is no member, or was retired, or claims to have nothing."""
        self.do(self.world.boards[name].pull(sg_id, version))

    @rule(name=names)
    def ask_for_a_place(self, name):
        self.do(self.world.boards[name].get_gkdk())

    @rule()
    def new_generation(self):
        async def begin():
            self.world.gateway.administration.new_generation()

        self.do(begin())

    @rule(restored=st.booleans())
    def restart(self, restored):
        async def again():
            await self.world.close()
            if restored:
                store = GatewayStore(self.folder / "gw", restoring=True)
                restore(store, os.urandom, height=4, unix=1_800_000_000)
                store.close()
            self.world.open()

        self.do(again())

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def nobody_holds_what_is_not_his(self):
        self.do(self._settle())
        for board in self.everybody:
            for sg_id, keys in board.keys.items():
                assert not {(sg_id, version) for version in keys} & self.forbidden[board]
        for group in filter(None, map(self.world.store.inventory.group_or_deleted, GROUPS)):
            self.of_alias[group.alias] = group.sg_id
        frames, self.looked_at = self.world.air[self.looked_at :], len(self.world.air)
        for frame in frames:
            received = broadcast_object.parse(frame)
            if not isinstance(received, broadcast_object.Received):
                continue  # a delete, which everybody may read
            sg_id = self.of_alias[received.sg_alias]
            for board in self.everybody:
                if (sg_id, received.version) in self.forbidden[board]:
                    assert board.opens(frame, sg_id) is None
        assert not self.world.faults

    def teardown(self):
        if hasattr(self, "world"):
            self.do(self.world.close())
        self.loop.close()
        shutil.rmtree(self.folder)


@pytest.mark.req("SEC-01", "SEC-02", "SEC-04", "SEC-06", "SEC-31")
def test_no_history_gives_a_board_a_key_that_was_made_while_it_was_no_member() -> None:
    run_state_machine_as_test(GatewayMachine, settings=settings(max_examples=10, stateful_step_count=40))
