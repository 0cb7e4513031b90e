"""The part of updates that stays in the heap: when to report, and when to load the modules that do the rest."""

import gc
import sys

from cpns import numbers as cpns
from cpns.errors import CpnsError, MalformedMessage, TooMany
from device_agent import tuning
from device_agent.session import CHANGED, unload
from suit import numbers as n

NEVER = 1 << 62
_HEAD = 12  # octets of a frame before its body
_DATAGRAM = 1152  # what links/udp.py takes for one with a piece
_SELDOM = "head", "reports", "key", "manifest", "envelope", "class_id", "sealing"  # modules, also while collecting


class UpdateService:
    """What a board does about updates. `updates` is a ports.Updates, the others are parts of the agent.

    `due` is the time in ms at which `act` has something to ask the PN GW.
    """

    def __init__(self, updates, store, membership, session, requests, receiver, clock, random, tell):
        """Register for requests and frames of updates at the agent, and go on with what was collected."""
        self.updates = updates
        self.store = store
        self.membership = membership
        self.session = session
        self.receiver = receiver
        self.clock = clock
        self.random = random
        self.tell = tell
        self.offer = b""  # id of the update that the PN GW has named last
        self.by_air = False  # it said that this one is broadcast
        self.refused = None  # (id, number, reason) of the last one of its offers that was refused
        self.known = b""  # id of the last other one that was refused or dropped, and is not looked at again
        self.limiter = None  # of manifests that are broadcast with bad signatures
        self.collecting = None  # the Collecting of the update that is collected
        self.report_at = self.step_at = NEVER
        self.retry = tuning.UPDATE_RETRY_MIN
        self.hint_gap = tuning.UPDATE_HINT_EVERY  # between reports because of frames that anybody can send
        self._heard_at = self._looked_at = -tuning.UPDATE_HINT_EVERY
        self._tree, self._heed_at = None, 0  # the last one that was heeded, and when another one may be
        requests.resources[n.PATH] = self._asked
        receiver.kinds[cpns.FRAME_UPDATE] = self._hear
        receiver.not_ours = self.look
        self._go_on()
        self.restarted = self.collecting is not None  # since the update was begun
        self.hint()

    @property
    def due(self):
        return min(self.report_at, self.step_at)

    def later(self, ms):
        """Return a moment at most `ms` from now, by chance, as other boards may have the same reason."""
        return self.clock.now() + (int.from_bytes(self.random(2), "big") * ms >> 16)

    def hint(self):
        """Report soon: the session is new, or there is something to tell."""
        self.report_at = min(self.report_at, self.later(tuning.UPDATE_LEISURE))

    def every(self):
        """Return the ms between reports: few if no pull shows this board that the PN GW has lost the session."""
        for group in self.membership.groups.values():
            if not group.ring.end_to_end:
                return tuning.UPDATE_REPORT_EVERY
        return tuning.UPDATE_REPORT_ALONE

    def look(self, tree=None):
        """Report soon if nothing else asks the PN GW, and because of `tree`, which anybody can send, once an hour.

        `tree` is what `BroadcastReceiver.not_ours` gets: a PN GW that was restored has another generation (SEC-13).
        """
        now, held = self.clock.now(), (self.membership.pn_alias, self.membership.gkdks.newest)
        heeds = not tree or (tree not in (held, self._tree) and now >= self._heed_at)
        if heeds and self.every() == tuning.UPDATE_REPORT_ALONE:
            if tree:
                self._tree, self._heed_at = tree, now + tuning.UPDATE_REPORT_ALONE
            self.hint()

    def miss(self):
        """Pull soon what other boards have missed as well, perhaps."""
        self.step_at = min(self.step_at, self.later(tuning.UPDATE_MISSED))

    def new_gateway(self):
        """Do nothing more for the PN GW before, and report to the new one."""
        self.offer = b""
        self.step_at = NEVER
        self.hint()

    def act(self):
        """Do what is due (flow). Raises CpnsError, OSError."""
        now = self.clock.now()
        try:
            if self.report_at <= self.step_at:
                self.report_at = now + self.retry  # first, as there may be no room in the heap for the module
                from device_agent.update import reports

                yield from reports.report(self)
            else:
                self.step_at = NEVER
                yield from self._step(now)
        except MemoryError:
            if self.collecting and not self.restarted:
                self._restart(self.collecting)
            raise TooMany("no room in the heap") from None
        finally:
            self.unload()

    def end(self, update_id, state, number, reason):
        """Report that nothing more is done about an update."""
        if reason:
            self.refused = update_id, number, reason
        self.tell("update", {"state": state, "number": number, "reason": reason})
        self.hint()

    def _resume(self, collection):
        if collection:
            from device_agent.update import manifest

            manifest.resume(self, collection)

    def _step(self, now):
        try:
            if self.collecting:
                yield from self.collecting.step()
                return
            from device_agent.update import manifest

            yield from manifest.pull(self)
        except (CpnsError, OSError, MemoryError):
            self.report_at = min(self.report_at, now + tuning.UPDATE_PULL_RETRY)
            self.look_for_room()  # an answer that finds none is cut, and seems not to have come
            raise

    def look_for_room(self):
        """Raise MemoryError if the heap has no room in one piece for a datagram with a kilobyte of an update."""
        bytearray(_DATAGRAM)

    def _go_on(self):
        try:
            self._resume(self.updates.resume())
        except (MemoryError, OSError):  # no reason not to start: it is begun anew if it is still offered
            self.collecting = None
        self.unload()

    def _restart(self, collecting):
        # A heap in small pieces has no kilobyte in one piece left for the pieces of an update. After a restart all that
        # stays lies close together, so the board goes on then; once for an update, as a second time would be of no use.
        collecting.close()
        self.collecting = None
        self.unload()
        self.restarted = True
        self.updates.restart()
        self._go_on()  # where nothing restarts

    def _asked(self, options, octets):
        if octets != b"\x81\x03":  # CBOR [ASK]
            raise MalformedMessage("no request for a report")
        self.hint()
        return CHANGED, (), b""
        yield

    def _hear(self, datagram):
        # Return a flow for a manifest, which is looked at; all else is done at once
        refused = "no room"
        try:
            if self.collecting:
                refused = self.collecting.hear(datagram)
            elif self.report_at != NEVER and len(datagram) > _HEAD:
                refused = self._strange(datagram[1], bytes(datagram[2 : 2 + n.ID]))
                if not refused:
                    return self._look(datagram)
        except MemoryError:
            pass
        if refused:
            self.receiver.refuse(refused)

    def _strange(self, kind, update_id):
        # Of an update that is not collected. Return None for a manifest that is to be looked at
        now = self.clock.now()
        if update_id == self.offer:
            if self.refused and self.refused[0] == update_id:
                return "refused update"
            if self.by_air and kind != n.ENVELOPE:
                self.miss()
        elif update_id == self.known:
            return "refused update"
        elif now - self._heard_at >= self.hint_gap:
            self._heard_at = now
            self.hint_gap = min(2 * self.hint_gap, tuning.UPDATE_RETRY_MAX)
            self.hint()
        limited = self.limiter and now < self.limiter.until
        if kind == n.ENVELOPE and now - self._looked_at >= tuning.UPDATE_LOOK_EVERY and not limited:
            self._looked_at = now
            return None
        return "unknown update"

    def _look(self, datagram):
        try:
            from device_agent.update import manifest

            yield from manifest.hear(self, datagram)
        except MemoryError:
            raise TooMany("no room in the heap") from None
        finally:
            self.unload()

    def unload(self):
        """Let modules leave the heap that are needed seldom; all of them while nothing is collected."""
        for name in list(sys.modules):
            room, _, module = name.rpartition(".")
            if room not in ("suit", "device_agent.update") or module == "service":
                continue
            if not self.collecting or module in _SELDOM:
                unload(name)
        gc.collect()  # what stays is to lie close together, and kilobytes in one piece are to be free
