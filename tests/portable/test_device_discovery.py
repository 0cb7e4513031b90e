"""The search of a PNE for its PN GW: after a new address, a dead hint, a restart, in virtual time."""

from device_world import GET, THERE, World
from vmtest import raises, req

from device_agent import discovery, tuning
from device_agent.key_store import KeyStore
from device_agent.links.udp import UdpLink
from device_agent.session import NoSession

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class Net:
    """A network in which the World's PN GW answers at `at` only, and whoever is in `others` to questions."""

    def __init__(self, world, at, others=()):
        self.world = world
        self.at = at
        self.others = others
        self.asked = []  # (time, address, CoAP code)
        self.hears_everybody = True
        self._answer = world.gateway.coap
        world.gateway.coap = self.coap

    def coap(self, address, code, options, payload, timeout):
        world = self.world
        self.asked.append((world.clock.ms, address, code))
        if address is None:
            world.clock.ms += timeout
            found = list(self.others)
            if self.at and self.hears_everybody:
                found.append(self.at)
            return [(each, THERE) for each in found]
        if address == self.at:
            return self._answer(address, code, options, payload, timeout)
        if code == GET and address in self.others:
            return THERE
        return None

    def addresses(self):
        return [address for _, address, _ in self.asked]


def kept(world):
    return KeyStore(world.medium).load(discovery.RECORD)


def restarted(address="old"):
    """A World with a session from before and the hint `address`, that has just got its power back."""
    world = World(address=address)
    world.gateway.groups["kitchen"] = [1, 5, False]
    return world


def reached(world, limit):
    """Do the duties until a request was answered; the time it took. Fails after `limit` ms."""
    begun = world.clock.ms
    while not world.agent.session.reached:
        due, make_flow = world.agent._duty(world.clock.ms)
        if due is None:
            make_flow = lambda: world.agent.membership.assign()  # noqa: E731 - an application asks
        else:
            world.clock.ms = max(world.clock.ms, due)
        assert world.clock.ms - begun <= limit, "not reached in time"
        try:
            world.perform(make_flow())
            world.agent._reached()
        except NoSession:
            continue
    return world.clock.ms - begun


def test_a_gateway_that_is_where_the_hint_says_costs_no_question_to_everybody():
    world = restarted()
    net = Net(world, "old")
    assert reached(world, 0) == 0
    assert None not in net.addresses()


def test_a_gateway_with_a_new_address_is_found_before_the_dead_hint_is_waited_for():
    world = restarted()
    net = Net(world, "new")
    assert reached(world, 5000) <= tuning.PROBE_TIMEOUT + tuning.DISCOVERY_TIMEOUT
    assert net.addresses()[:3] == ["old", None, "new"]
    assert kept(world) == b"new"


def test_the_address_that_worked_is_looked_at_first_after_a_restart_and_written_once():
    world = restarted()
    net = Net(world, "new")
    reached(world, 5000)
    writes = world.medium.writes
    world.boot()
    net.asked.clear()
    assert reached(world, 0) == 0
    assert net.addresses()[0] == "new" and "old" not in net.addresses()
    written = [name for name in world.medium.octets if name.startswith(discovery.RECORD)]
    assert len(written) == 2 and kept(world) == b"new"
    world.agent._discovery.keep((world.link, "new"))
    assert world.medium.writes - writes == writes_of_a_start(world)


def writes_of_a_start(world):
    """What a start and a first request write: the seed, and a ceiling of sender numbers."""
    before = world.medium.writes
    world.boot()
    reached(world, 0)
    return world.medium.writes - before


def test_a_gateway_that_moves_while_the_board_runs_is_found_again_after_one_request_in_vain():
    world = restarted()
    net = Net(world, "old")
    reached(world, 0)
    world.join("kitchen", 5)
    net.at = "new"
    net.asked.clear()
    with raises(NoSession):
        world.perform(world.agent.membership.pull(world.agent.membership.groups["kitchen"]))
    assert world.clock.ms == tuning.EXCHANGE_TIMEOUT and world.agent.session.silent
    world.agent.session.reached = False
    assert reached(world, 6000) <= 6000
    assert net.addresses()[:4] == ["old", "old", None, "new"]
    assert not world.told("session")  # the session goes on


def test_silent_addresses_come_last_and_cost_five_seconds_each():
    world = World(session=False, address="old")
    world.medium.octets.clear()
    world = restarted()
    KeyStore(world.medium).save(discovery.RECORD, b"older")
    world.boot()
    net = Net(world, None, others=["stranger"])
    flow_addresses = []
    for _ in range(4):
        _, address = world.perform(world.agent._discovery.next())
        flow_addresses.append((address, world.agent._discovery.patience))
    assert flow_addresses == [
        ("stranger", tuning.EDHOC_TIMEOUT),
        ("older", tuning.SILENT_TIMEOUT),
        ("old", tuning.SILENT_TIMEOUT),
        ("stranger", tuning.EDHOC_TIMEOUT),
    ]
    assert net.addresses() == ["older", None, None]


def test_a_gateway_that_answers_no_questions_is_reached_at_its_hint():
    world = restarted()
    net = Net(world, "old")
    net.hears_everybody = False
    truly = net.coap

    def coap(address, code, *rest):
        return None if code == GET and address else truly(address, code, *rest)

    world.gateway.coap = coap
    assert reached(world, 5000) <= tuning.PROBE_TIMEOUT + tuning.DISCOVERY_TIMEOUT


def test_with_nobody_there_the_board_goes_on_trying():
    world = restarted(address="")
    net = Net(world, None)
    world.run_until(3600000)
    assert set(net.addresses()) == {None} and 5 < len(net.asked) < 30
    net.at = "new"
    world.run_for(900000)
    assert world.agent.session.address == (world.link, "new")


@req("SEC-20")
def test_another_gateway_takes_over_and_the_old_ones_address_is_forgotten():
    world = restarted()
    Net(world, "new")
    reached(world, 5000)
    world.agent._forget_gateway()
    assert kept(world) is None
    world.boot()
    assert world.agent._discovery._last is None


def test_addresses_that_mean_another_machine_tomorrow_are_not_kept():
    text = UdpLink.text
    assert text(None, ("192.168.1.10", 5683)) == "192.168.1.10"
    assert text(None, ("192.168.1.10", 5700)) == "192.168.1.10:5700"
    for host in ("127.0.0.1", "127.9.9.9", "169.254.3.4", "0.0.0.0"):
        assert text(None, (host, 5683)) == ""
    world = restarted()
    Net(world, "new")
    world.link.text = lambda address: ""
    world.agent._discovery.keep((world.link, "new"))
    assert kept(world) is None and world.agent._discovery._last == (world.link, "new")


@req("SEC-22")
def test_the_power_goes_while_an_address_is_written_and_the_old_or_the_new_one_is_found():
    class PowerCut(Exception):
        pass

    for dies_at in (1, 2):
        world = restarted()
        world.agent._discovery.keep((world.link, "first"))
        count = [0]
        plain = world.medium.set

        def dying(name, octets, plain=plain, count=count, dies_at=dies_at):
            count[0] += 1
            if count[0] == dies_at:
                plain(name, octets[: len(octets) // 2])
                raise PowerCut
            plain(name, octets)

        world.medium.set = dying
        with raises(PowerCut):
            world.agent._discovery.keep((world.link, "second"))
        world.medium.set = plain
        world.boot()
        assert kept(world) in (b"first", b"second")


def test_all_boards_of_a_home_find_a_gateway_that_came_back_with_another_address():
    """After a power failure: each board has a session and the old hint; the gateway answers 20 questions a second."""
    worlds = [restarted() for _ in range(3)]
    answered = {}

    for number in range(100):
        world = worlds[number % 3]
        world.clock.ms = 0
        world.boot()
        world.agent.random(1)
        net = Net(world, "new")
        truly = net.coap

        def coap(address, code, *rest, truly=truly, world=world):
            if address is None:
                second = world.clock.ms // 1000
                answered[second] = answered.get(second, 0) + 1
                if answered[second] > 20:
                    world.clock.ms += tuning.DISCOVERY_TIMEOUT
                    return []
            return truly(address, code, *rest)

        world.gateway.coap = coap
        KeyStore(world.medium).erase(discovery.RECORD)
        world.boot()
        assert reached(world, 60000) < 60000
        world.gateway.coap = net._answer


@req("SEC-35")
def test_whoever_answers_first_and_from_many_addresses_does_not_keep_the_true_gateway_out_for_good():
    """It is the last to answer, and each of a hundred others answers twice."""
    world = restarted()
    found = 0
    for _ in range(100):
        waiting = world.agent._waiting[b"t"] = [None, [], None, 0, False]
        others = ["forged %d" % number for number in range(100)]
        world.agent._act([("response", b"t", THERE, address) for address in others * 2 + ["true"]])
        addresses = [address for address, _ in waiting[1]]
        assert len(set(addresses)) == len(addresses) == tuning.ANSWERS_MAX
        found += "true" in addresses
    del world.agent._waiting[b"t"]
    assert found > 1  # about one time in 26, as every answer counts for whoever is not in yet
