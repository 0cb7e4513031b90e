"""An update on its way into the flash: frames that are heard, pieces that are pulled. Loaded while one is collected.

Nothing is stored before its hash was found in its page, or that of a page in the signed envelope: what is forged costs
one SHA-256 and spoils nothing (SEC-10). Pieces of the PN GW pass the same check.
"""

from cpns.errors import NotAllowed, Unknown
from device_agent import tuning
from device_agent.update.pieces import piece
from device_agent.update.service import NEVER
from suit import frames
from suit import numbers as n
from suit.erasure import Code


class Collecting:
    """The update `update_id` with this `number`, for an UpdateService.

    `page_list` is the list of hashes of its pages, and `collection`, a ports.Collection, what the flash has of it.
    """

    def __init__(self, service, update_id, number, page_list, collection):
        self._service = service
        self._collection = collection
        self._page_list = page_list
        self._code = code = Code(collection.size)
        self.update_id = update_id
        self.number = number
        self._waiting = False
        self._seal = None, None  # the Group Key that was needed last, and its Seal, which a forged frame uses, too
        self._wanted = None  # page without which a frame of it was heard
        self._pages = 0  # bit for each page that is stored
        for index in range(len(self._page_list) // n.HASH):
            if collection.page(index) is not None:
                self._pages |= 1 << index
        # Coded frames that each segment lacks at least, 0 for one that has enough
        self._lacks = [len(range(segment, code.blocks, code.segments)) for segment in range(code.segments)]
        for index in range(code.frames):
            if collection.held(index):
                self._count(index)

    @property
    def whole(self):
        """True if what is stored is enough for the image."""
        return not any(self._lacks)

    @property
    def state(self):
        """(state, number, detail), as a report has them."""
        return n.WAITING if self._waiting else n.COLLECTING, self.number, sum(self._lacks)

    def hear(self, datagram):
        """Take a frame that was broadcast. Return None, or the name under which it is counted as refused."""
        frame = frames.parse(datagram)
        if frame.update_id != self.update_id:
            return "other update"
        return self._take(frame.kind, frame.index, frame.body)

    def step(self):
        """Pull the next piece, or restart with what is whole (flow)."""
        service = self._service
        if self._waiting:
            try:
                self._collection.full()
            except OSError:
                self.drop("refused", n.FLASH_FAILED)
                return
            service.collecting, service.step_at = None, NEVER  # its files are closed
            service.updates.restart()
            return
        what, index = self._next()
        if what is None:
            return
        service.receiver.spare()
        try:
            octets = yield from piece(service, self.update_id, what, index)
        except (NotAllowed, Unknown):
            self.drop("withdrawn")
            return
        if service.collecting is self and not self.whole:
            refused = self._take(what, index, octets)
            if refused:
                service.receiver.refuse(refused)
            if refused == "no room":
                self.drop("refused", n.NO_ROOM)
            elif service.collecting and not self.whole:
                wrong = refused and refused != "duplicate"  # that one was broadcast meanwhile
                gap = tuning.UPDATE_RETRY_MIN if wrong else tuning.UPDATE_PULL_GAP
                service.step_at = service.clock.now() + gap

    def finish(self):
        """Go on with a whole update that the PN GW names: report that it is whole, then restart."""
        service = self._service
        if self._waiting:
            service.step_at = service.later(tuning.UPDATE_RESTART_SPREAD)
            return
        try:
            self._collection.flush()
        except OSError:
            self.drop("refused", n.FLASH_FAILED)
            return
        self._waiting = True
        service.step_at = NEVER
        service.tell("update", {"state": "waiting", "number": self.number, "reason": n.NO_REASON})
        service.hint()

    def close(self):
        """Leave what was collected in the flash, for `ports.Updates.resume`."""
        try:
            self._collection.close()
        except OSError:  # then a part of it is missing
            return

    def drop(self, state, reason=n.NO_REASON):
        """End it and free the flash: it is "withdrawn", or "refused" for a reason."""
        service = self._service
        if service.collecting is not self:
            return
        service.collecting, service.step_at = None, NEVER
        service.known = self.update_id
        try:
            self._collection.drop()
        except OSError:  # the next one takes its place
            service.receiver.refuse("no flash")
        service.end(self.update_id, state, self.number, reason)

    def _take(self, kind, index, body):
        code = self._code
        if kind == n.ENVELOPE:
            return "duplicate"
        if index >= (len(self._page_list) // n.HASH if kind == n.PAGE else code.frames):
            return "out of range"
        try:
            if kind == n.PAGE:
                return self._take_page(index, body)
            return self._take_frame(index, body, kind == n.SEALED)
        except OSError:
            self.drop("refused", n.FLASH_FAILED)
            return "no flash"

    def _take_page(self, index, body):
        if self._pages >> index & 1:
            return "duplicate"
        if not frames.listed(self._page_list, index, body):
            return "forged"
        self._collection.put_page(index, bytes(body))
        self._pages |= 1 << index
        if index == self._wanted:
            self._wanted = None

    def _take_frame(self, index, body, sealed):
        if not self._lacks[self._code.segment(index)] or self._collection.held(index):
            return "duplicate"
        page, place = frames.page_of(index)
        if not self._pages >> page & 1:
            if self._service.step_at == NEVER:  # all boards that miss it hear this
                self._wanted = page
                self._service.miss()
            return "no page"
        if sealed:
            body = self._opened(index, body)
            if body is None:
                return "no key"
        if not frames.listed(self._collection.page(page), place, body):
            return "forged"
        self._collection.put(index, body)
        if not self._collection.held(index):
            return "no room"
        self._count(index)
        if self.whole:
            if self._service.offer == self.update_id:
                self.finish()
            else:
                self._service.hint()

    def _opened(self, index, body):
        # Return the coded frame in the body of a sealed one, or None without its Group Key
        from suit import sealing

        alias, version = sealing.key_named(body)
        membership = self._service.membership
        group = membership.by_alias(membership.pn_alias, alias)
        key = group and group.ring.receiving_keys(self._service.clock.now() // 1000).get(version)
        if key is None:
            return None
        if self._seal[0] != key:
            self._seal = key, sealing.Seal(key, group.id, version, self.update_id)
        return self._seal[1].turn(index, body[sealing.HEAD :])

    def _count(self, index):
        # Equations that say the same as others do not help: only `solve` knows
        segment, lacks = self._code.segment(index), self._lacks
        if lacks[segment]:
            lacks[segment] -= 1
            if not lacks[segment] and not self._solved(segment):
                lacks[segment] = 1

    def _solved(self, segment):
        try:
            return self._code.solve(segment, self._collection.held) is not None
        except MemoryError:  # then blocks are collected until all are there
            return False

    def _next(self):
        # Return (what, index) of the piece to pull, or (None, 0): while the update is broadcast, only what stands in
        # the way of that
        if self._wanted is not None:
            return n.PAGE, self._wanted
        if self._service.by_air:
            return None, 0
        for segment, lacks in enumerate(self._lacks):
            if lacks:
                for block in range(segment, self._code.blocks, self._code.segments):
                    if not self._collection.held(block):
                        page, _ = frames.page_of(block)
                        if self._pages >> page & 1:
                            return n.FRAME, block
                        return n.PAGE, page
        return None, 0
