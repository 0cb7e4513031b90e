"""A PNE that can be updated: its flash in memory, and the resource `update` of a scripted PN GW."""

from collections import namedtuple

from device_world import World

from cpns import cborlite
from suit import numbers as n

AGENT, FIRMWARE = b"agent" * 3 + b".", b"firmware" * 2
SlotRecord = namedtuple("SlotRecord", ("agent_number", "firmware_number", "trial", "wanted", "reason"))


RECORD = SlotRecord(4, 0, 0, 0, n.NO_REASON)


class Flash:
    """A ports.Updates in memory, which outlives the agent."""

    def __init__(self, record):
        self.record = record
        self.restarts = 0

    def classes(self):
        return {AGENT: "agent", FIRMWARE: "firmware"}

    def state(self):
        return self.record

    def resume(self):
        return None

    def confirm(self):
        self.record = SlotRecord(self.record.wanted, self.record.firmware_number, 0, 0, n.NO_REASON)


class Offers:
    """The PN GW's end: what it offers, and the reports it got, each (ms, list behind the code)."""

    def __init__(self, world):
        self._world = world
        self.reports = []
        self.update_id, self.number, self.key, self.by_air = b"", 0, b"", 0
        world.gateway.resources[n.PATH] = self._asked

    def _asked(self, octets):
        code, *rest = cborlite.decode(octets)
        assert code == n.REPORT
        self.reports.append((self._world.clock.ms, rest))
        return 0x44, cborlite.encode([self.update_id, self.number, self.key, self.by_air])


def updatable(record=RECORD):
    """-> (a World whose PNE can be updated, Offers of its PN GW)."""
    world = World(updates=Flash(record))
    return world, Offers(world)
