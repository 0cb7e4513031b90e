"""Confirmations while no session stands: reports on the media that carry them (SEC-14).

A report is not answered. So it is repeated for `limits.REPORT_S`, or until a newer key comes. If the PN GW has not
received it, it repeats the key, and the board reports that again.
"""

import asyncio

from cpns import messages, report
from cpns import tuning as limits
from cpns.errors import Stale

CHECK_S = 0.25


class KeyReports:
    """The reports of a PNE. `media` are ports.Medium with `reports`; `stands()` is True while a session stands."""

    def __init__(self, membership, media, clock, stands):
        self._membership = membership
        self._media = media
        self._clock = clock
        self._stands = stands
        self._sent = {}  # SG ID -> (version, end in ms, (frame key, report))

    async def run(self):
        """Report without end what is due."""
        while True:
            self.tend()
            await asyncio.sleep(CHECK_S)

    def tend(self):
        """Begin the reports that are due, and end those that are over."""
        now = self._clock.now()
        groups = self._membership.groups
        changed = False
        for sg_id, (version, end, _) in list(self._sent.items()):
            if now >= end or sg_id not in groups or groups[sg_id].version != version:
                del self._sent[sg_id]
                changed = True
        for group in groups.values():
            if group.confirm_at is not None and now >= group.confirm_at and not self._stands():
                group.confirm_at = None
                group.confirmed_at = now
                made = self._report(group)
                if made:
                    self._sent[group.id] = group.version, now + limits.REPORT_S * 1000, made
                    changed = True
        if changed:
            reports = [made for _, _, made in self._sent.values()]
            for medium in self._media:
                medium.report(reports)

    def _report(self, group):
        try:
            fields = self._membership.delivered(group, group.version)
        except Stale:  # its time is over
            return None
        generation = fields.get(messages.GENERATION)
        frame_key = self._membership.gkdks.frame_keys.get(generation)
        if frame_key is None or group.alias is None or not self._membership.identity.pn_id:
            return None  # without a GKDK there is no proof
        slot, proof = fields[messages.SLOT], fields[messages.PROOF]
        return frame_key, report.build(group.alias, generation, group.version, slot, fields[messages.RESULT], proof)
