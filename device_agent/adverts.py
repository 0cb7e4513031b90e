"""Adverts as a medium: what the PN GW broadcasts over Bluetooth LE, and the reports of this board (SEC-10, SEC-14).

Objects are put together from their rows in steps, between which other tasks run. Frame keys are those of the GKDKs
that are held at the moment; none is kept here.
"""

import asyncio

from cpns import advert
from cpns.errors import MalformedMessage


class AdvertMedium:
    """A ports.Medium on `radio`, a ports.Bluetooth. Group messages do not go by advert: `not_aired` counts them.

    `foreign` counts adverts that were made under no frame key of this PNE.
    """

    reports = True

    def __init__(self, radio, clock):
        self._radio = radio
        self._clock = clock
        self._objects = {}  # generation -> advert.Reassembly
        self.not_aired = self.foreign = 0

    def air(self, datagram):
        self.not_aired += 1

    async def hear(self, home):
        while True:
            octets = await self._radio.advert()
            await asyncio.sleep(0)  # a radio under a flood never waits
            try:
                heard = self._opened(octets, home)
                if heard and type(heard) is not bytes:
                    heard = await _finished(heard)
            except (MalformedMessage, MemoryError):
                return None
            if heard:
                return heard

    def report(self, reports):
        self._radio.report([advert.report_advert(key, octets) for key, octets in reports])

    def close(self):
        self._radio.close()

    def _opened(self, octets, home):
        # Return a beacon, or the steps that finish an object if the advert makes it whole, or None
        keys = home.gkdks.frame_keys
        for generation in list(self._objects) if len(self._objects) > len(keys) else ():
            if generation not in keys:
                del self._objects[generation]
        for generation, key in keys.items():
            found = advert.opened(key, octets)
            if found is None:
                continue
            kind, body = found
            if kind == advert.BEACON:
                return body
            if kind != advert.ROW or home.pn_alias is None:
                return None
            objects = self._objects.get(generation)
            if objects is None:
                objects = self._objects[generation] = advert.Reassembly()
            whole = objects.take(body, self._clock.now())
            return whole and objects.finish(whole, home.pn_alias)
        self.foreign += 1
        return None


async def _finished(steps):
    try:
        while True:
            next(steps)
            await asyncio.sleep(0)
    except StopIteration as end:
        return end.value
