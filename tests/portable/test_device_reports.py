"""Confirmations while no session stands: reports on a medium that carries them (SEC-14)."""

from device_world import SLOT, member
from vmtest import req

from cpns import messages, report
from cpns import numbers as n
from cpns import tuning as limits
from device_agent.reports import KeyReports

VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class Sign:
    """A ports.Medium that carries reports: `shown` are those that it sends now."""

    reports = True
    shown = ()

    def report(self, reports):
        self.shown = reports


class Board:
    """A PNE with a Sign, and a session that `stands` or not."""

    def __init__(self):
        self.world, self.group = member()
        self.world.perform(self.world.agent.membership.assign())
        self.sign = Sign()
        self.stands = False
        world = self.world
        self.reports = KeyReports(world.agent.membership, [self.sign], world.clock, lambda: self.stands)

    def hear(self, version):
        """Receive a key by broadcast, and let its leisure pass."""
        self.world.hear(self.world.gateway.object("kitchen", version))
        self.world.clock.ms += self.world.gateway.leisure
        self.reports.tend()


@req("SEC-14")
def test_a_key_that_is_heard_without_a_session_is_reported_with_proof_for_a_minute():
    board = Board()
    board.hear(7)
    ((frame_key, octets),) = board.sign.shown
    assert frame_key == board.world.agent.membership.gkdks.frame_keys[1]
    said = report.parse(octets)
    assert (said.sg_alias, said.generation, said.version, said.slot) == (board.group.alias, 1, 7, SLOT)
    fields = {messages.VERSION: said.version, messages.SG_ID: "kitchen", messages.PROOF: said.proof}
    assert board.world.gateway.proves(fields)
    board.world.clock.ms += limits.REPORT_S * 1000 - 1
    board.reports.tend()
    assert board.sign.shown
    board.world.clock.ms += 1
    board.reports.tend()
    assert board.sign.shown == []
    assert board.group.confirm_at is None


@req("SEC-14")
def test_while_a_session_stands_it_carries_the_only_confirmation():
    board = Board()
    board.stands = True
    board.hear(7)
    assert board.sign.shown == () and board.group.confirm_at is not None
    board.world.run_for(limits.REPORT_S * 1000)
    board.reports.tend()
    codes = board.world.gateway.codes()
    assert codes.count(n.GROUP_KEY_DELIVERY_RESPONSE) == 1 and board.sign.shown == ()


@req("SEC-14")
def test_no_confirmation_waits_for_a_connection():
    board = Board()
    world = board.world
    world.agent._reports = board.reports
    world.link.standing = lambda: False
    world.hear(world.gateway.object("kitchen", 7))
    world.run_for(60000)
    assert n.GROUP_KEY_DELIVERY_RESPONSE not in world.gateway.codes()
    world.link.standing = lambda: True
    world.run_for(0)
    assert world.gateway.codes().count(n.GROUP_KEY_DELIVERY_RESPONSE) == 1


def test_a_newer_key_ends_the_report_of_the_older_one():
    board = Board()
    board.hear(7)
    board.hear(8)
    ((_, octets),) = board.sign.shown
    assert report.parse(octets).version == 8


def test_a_report_ends_with_the_membership():
    board = Board()
    board.hear(7)
    board.world.hear(board.world.gateway.signed_delete("kitchen", 7))
    board.reports.tend()
    assert board.sign.shown == []


def test_without_a_proof_nothing_is_reported():
    board = Board()
    board.world.agent.membership.gkdks.clear()
    board.world.deliver("kitchen", 7)
    board.group.confirm_at = board.world.clock.ms
    board.reports.tend()
    assert not board.sign.shown and board.group.confirm_at is None


@req("SEC-11", "SEC-14")
def test_a_key_that_is_repeated_is_reported_again_after_a_minute_not_before():
    board = Board()
    board.hear(7)
    first = list(board.sign.shown)
    board.world.clock.ms += limits.REPORT_S * 1000 - board.world.gateway.leisure
    board.hear(7)
    assert board.sign.shown == []
    board.hear(7)
    assert board.sign.shown == first


def test_a_broadcast_that_was_received_in_part_is_asked_for():
    board = Board()
    board.world.run_for(60000)
    board.world.perform(board.world.agent.membership.pull(board.group))
    board.world.gateway.groups["kitchen"][1:] = [7, True]
    asked = board.world.gateway.codes().count(n.KEY_PULL_REQUEST)
    board.world.hear(None)
    board.world.run_for(5000)
    assert board.world.gateway.codes().count(n.KEY_PULL_REQUEST) == asked + 1 and board.group.version == 7
