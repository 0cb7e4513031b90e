"""The part of updates that stays in the heap: when to report, and when to load the modules that do the rest."""

from cpns import numbers as cpns
from device_agent import tuning
from device_agent.session import CHANGED, unload
from suit import numbers as n

NEVER = 1 << 62


class UpdateService:
    """What a board does about updates. `updates` is a ports.Updates, the others are parts of the agent.

    `due` is the time in ms at which `act` has something to ask the PN GW.
    """

    def __init__(self, updates, store, membership, session, requests, receiver, clock, random, tell):
        """Register for requests and frames of updates at the agent."""
        self.updates = updates
        self.store = store
        self.membership = membership
        self.session = session
        self.receiver = receiver
        self.clock = clock
        self.random = random
        self.tell = tell
        self.offer = b""  # id of the update that the PN GW has named last
        self.refused = None  # (id, number, reason) of the last of its offers that was refused
        self.collecting = None  # the Collecting of the update that is collected
        self.report_at = self.step_at = NEVER
        self._heard_at = -tuning.UPDATE_HINT_EVERY
        requests.resources[n.PATH] = self._asked
        receiver.kinds[cpns.FRAME_UPDATE] = self._hear
        self.hint()

    def later(self, ms):
        """Return a moment at most `ms` from now, by chance, as other boards may have the same reason."""
        return self.clock.now() + (int.from_bytes(self.random(2), "big") * ms >> 16)

    def hint(self):
        """Report soon: the session is new, or there is something to tell."""
        self.report_at = min(self.report_at, self.later(tuning.UPDATE_LEISURE))

    @property
    def due(self):
        return min(self.report_at, self.step_at)

    def act(self):
        """Do what is due (flow)."""
        from device_agent.update import reports

        self.report_at = self.clock.now() + tuning.UPDATE_RETRY
        try:
            yield from reports.report(self)
        finally:
            unload("device_agent.update.reports")
            unload("device_agent.update.key")

    def _asked(self, options, octets):
        # The PN GW asks for a report, the only thing that it asks for
        self.hint()
        return CHANGED, (), b""
        yield

    def _hear(self, datagram):
        now = self.clock.now()
        if self.report_at != NEVER and now - self._heard_at >= tuning.UPDATE_HINT_EVERY:
            self._heard_at = now
            self.hint()
