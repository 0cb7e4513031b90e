"""Links and media are apart: a board accepts broadcasts while no link is up, and goes on over the link that is."""

import asyncio

from device_world import World, member

from device_agent import tuning
from device_agent.agent import Agent
from device_agent.coap.message import NON, Message, decode

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class Cable:
    """A ports.Link that is up or not; `sent` are (address, datagram), None for what was asked of all."""

    def __init__(self, name, there=False):
        self.name = name
        self.there = there
        self.sent = []
        self.closed = 0
        self._turned = asyncio.Event()

    def address(self, text):
        if not text.startswith(self.name):
            raise ValueError("of another link")
        return text

    def text(self, address):
        return address

    def up(self):
        return self.there

    async def changed(self):
        await self._turned.wait()
        self._turned.clear()

    def switch(self, there):
        self.there = there
        self._turned.set()

    def standing(self):
        return True

    def send(self, address, datagram):
        self.sent.append((address, datagram))

    def ask_all(self, datagram):
        self.sent.append((None, datagram))

    async def recv(self):
        await asyncio.Event().wait()

    def close(self):
        self.closed += 1


class Bell:
    """A ports.Medium: `heard` is what comes, `aired` what went."""

    reports = False

    def __init__(self):
        self.heard = []
        self.aired = []
        self.closed = 0
        self._rung = asyncio.Event()

    def ring(self, datagram):
        self.heard.append(datagram)
        self._rung.set()

    def air(self, datagram):
        self.aired.append(datagram)

    async def hear(self, home):
        while not self.heard:
            await self._rung.wait()
            self._rung.clear()
        return self.heard.pop(0)

    def close(self):
        self.closed += 1


async def turns(condition):
    """Let the agent's loops run until `condition` holds; none of them waits for time to pass."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("nothing came of it")


def run(test, links, media):
    """Run a PNE that holds version 6 of "kitchen" with these links and media; `test(world, agent, group)` is a task."""
    world, _ = member()

    async def main():
        agent = Agent(world.medium, links, media, world.clock, world.random, world._tell)
        (group,) = agent.membership.groups.values()
        running = asyncio.create_task(agent.run())
        await asyncio.sleep(0)
        try:
            await test(world, agent, group)
        finally:
            running.cancel()
            await turns(running.done)

    asyncio.run(main())


def test_a_key_that_is_heard_while_no_link_is_up_is_stored_and_nothing_is_sent():
    cable, bells = Cable("a"), [Bell(), Bell()]

    async def test(world, agent, group):
        for version, bell in ((7, bells[0]), (8, bells[1])):
            bell.ring(world.gateway.object("kitchen", version))
            await turns(lambda version=version: group.version == version)
        assert group.confirm_at is not None and cable.sent == []
        agent.send(group, b"light on")
        assert [len(bell.aired) for bell in bells] == [1, 1] and bells[0].aired == bells[1].aired

    run(test, [cable], bells)
    assert (cable.closed, bells[0].closed, bells[1].closed) == (1, 1, 1)


def test_a_key_that_comes_by_two_media_at_once_is_confirmed_once():
    world, group = member()
    receiver = world.agent.receiver
    flows = [receiver.receive(world.gateway.object("kitchen", 7)) for _ in range(2)]
    while flows:  # in turn, as on a board: computations wait for each other
        for flow in list(flows):
            try:
                next(flow)
            except StopIteration:
                flows.remove(flow)
                if flows:
                    assert group.version == 7 and group.confirm_at is not None
                    group.confirm_at, group.confirmed_at = None, world.clock.now()  # it was confirmed
    assert receiver.verifications == 2
    assert group.confirm_at is None


def test_a_board_without_any_link_hears_its_media():
    bell = Bell()

    async def test(world, agent, group):
        bell.ring(world.gateway.object("kitchen", 7))
        await turns(lambda: group.version == 7)

    run(test, [], [bell])


class Both(Cable, Bell):
    """One object that is a link and a medium."""

    def __init__(self, name, there):
        Bell.__init__(self)
        Cable.__init__(self, name, there)


def test_what_is_link_and_medium_is_closed_once():
    both = Both("a", False)

    async def test(world, agent, group):
        both.ring(world.gateway.object("kitchen", 7))
        await turns(lambda: group.version == 7)

    run(test, [both], [both])
    assert both.closed == 1


def test_the_gateway_is_looked_for_over_the_links_that_are_up():
    one, two = Cable("one", True), Cable("two")

    async def test(world, agent, group):
        await turns(lambda: one.sent)
        assert one.sent[0][0] is None and two.sent == []  # which is down
        agent.session.address = one, "one:gw"
        agent.session.resume(agent.session.address, tuning.EXCHANGE_TIMEOUT)
        answers = []

        async def ask():
            answers.append(await agent._flow(_ask("one:gw", one)))

        asyncio.create_task(ask())
        await turns(lambda: "one:gw" in [address for address, _ in one.sent])
        two.switch(True)
        await turns(lambda: agent._up == [one, two])
        assert not agent.session.silent and not answers
        one.switch(False)
        await turns(lambda: answers)
        assert answers == [None] and agent._up == [two] and agent.session.silent
        one.sent.clear()

        def found():  # the question of before runs into its time limit, the next one comes after a pause
            world.clock.ms += tuning.DISCOVERY_TIMEOUT
            agent._timers.set()
            agent._duties.set()
            return two.sent

        await turns(found)
        assert two.sent[0][0] is None and one.sent == []

    run(test, [one, two], [])


class Radio(Cable):
    """A link whose connection has to be made first."""

    def standing(self):
        return False


def answered(agent, link, address):
    """Answer as a PN GW does what was asked of all on a link."""
    asked = decode(link.sent[-1][1])
    octets = Message(NON, 0x45, 77, asked.token, [], b'</cpns>;rt="keycast.gw"').encode()
    agent._act(agent._endpoint.datagram((link, address), octets, agent.clock.now()))


async def passes(world, agent, ms):
    world.clock.ms += ms
    agent._timers.set()
    for _ in range(20):
        await asyncio.sleep(0)


def test_over_a_connection_that_has_to_be_made_the_first_answer_ends_a_question_to_all():
    radio = Radio("radio", True)

    async def test(world, agent, group):
        await turns(lambda: radio.sent)
        await passes(world, agent, tuning.DISCOVERY_TIMEOUT + tuning.CONNECTING - 1)
        assert [address for address, _ in radio.sent] == [None]
        answered(agent, radio, "gw")
        await turns(lambda: agent.session.address == (radio, "gw"))

    run(test, [radio], [])


def test_a_question_to_all_waits_for_further_answers_where_one_link_needs_no_connection():
    radio, cable = Radio("radio", True), Cable("cable", True)

    async def test(world, agent, group):
        await turns(lambda: cable.sent and radio.sent)
        answered(agent, cable, "one")
        answered(agent, cable, "two")
        await passes(world, agent, tuning.DISCOVERY_TIMEOUT - 1)
        assert agent.session.address is None
        await passes(world, agent, 1)
        await turns(lambda: agent.session.address == (cable, "one"))

    run(test, [radio, cable], [])


def test_a_question_to_all_waits_for_no_connection_while_no_link_is_up():
    async def test(world, agent, group):
        asked = asyncio.create_task(agent._exchange(None, 1, (), b"", tuning.DISCOVERY_TIMEOUT))
        await asyncio.sleep(0)
        await passes(world, agent, tuning.DISCOVERY_TIMEOUT - 1)
        assert not asked.done()
        await passes(world, agent, 1)
        assert asked.done()
        assert await asked == []

    run(test, [Cable("cable", False)], [])


def _ask(address, link):
    return (yield ((link, address), 2, [], b"", tuning.EXCHANGE_TIMEOUT))


def test_an_address_belongs_to_the_link_that_understands_it():
    world = World()
    one, two = Cable("one"), Cable("two")
    agent = Agent(world.medium, [one, two], [], world.clock, world.random, world._tell)
    agent._discovery.keep((two, "two:gw"))
    again = Agent(world.medium, [one, two], [], world.clock, world.random, world._tell)
    assert again._discovery._last == (two, "two:gw")
