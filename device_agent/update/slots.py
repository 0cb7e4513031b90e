"""The updates of a board: in which slot the next image comes to lie, what is collected, and the trial's confirmation.

The composition passes a `flash` (`micropython/update_slots.py`, `device_agent/host/updates.py`) with `folder`, a path
that ends with a slash; `classes()`: class ID -> kind; `running()`: the slot of the agent that runs; `room(kind)`: the
octets that an image may have, or None where it is a file in that folder; `place(slot)`: see `places.py`; `stage(size)`:
None or a PartitionPlace of at least `size` octets for what is collected for such a file; `label()`: the name of the
application partition that does not run; `boot(label)`, `mark_valid()` and `reset()`.
"""

import os

from device_agent.update import head as stored
from device_agent.update import slot_record
from suit import numbers as n

AGENT, FIRMWARE = "agent", "firmware"
SEAL = 64
_LOST = 4  # a part of so many of the blocks may be lost, and come as other frames
_SPARE = 0x8000  # octets that stay free, for the tables of the file system
_NO_SPACE, _BUSY = 28, 16  # ENOSPC and EBUSY, which not every errno module has


class FlashUpdates:
    """The port `Updates` of a board with a KeyStore and a `flash`."""

    def __init__(self, store, flash):
        self._store = store
        self.flash = flash

    def classes(self):
        """Return the classes of updates that this board takes: class ID -> kind."""
        return self.flash.classes()

    def state(self):
        """Return the SlotRecord."""
        return slot_record.load(self._store, self.flash.folder)

    def room(self, kind, size):
        """Raise OSError 28 if an image of `size` octets has no room."""
        from suit.erasure import Code

        code, limit = Code(size), self.flash.room(kind)
        frames = code.segments * stored.SPARE + (code.blocks if limit is None else code.blocks // _LOST)
        if limit is None and self.flash.stage(code.frames * n.BLOCK):
            frames = 0
        pages = -(-code.frames // n.PAGE_FRAMES)
        needed, free = (frames + pages) * (n.BLOCK + 2) + _SPARE, self._free(stored.FRAMES, stored.PAGES)
        if limit is None:
            needed += size + SEAL
            free = self._free(stored.FRAMES, stored.PAGES, "agent.%d" % self._target(kind))
        elif size > limit:
            needed, free = size, limit
        if needed > free:
            raise OSError(_NO_SPACE)

    def begin(self, kind, number, size, digest, envelope):
        """Begin to collect update `number`, in place of what was collected before; return a Collection.

        Raises OSError, and that of `room`, or 16 if both slots are in use, before anything is erased.
        """
        self.room(kind, size)
        slot = self._target(kind)
        stored.forget(self.flash.folder)
        self.flash.place(slot).free()
        slot_record.begin_floors(self._store, self.flash.folder)
        head = [kind, number, size, digest, slot, False, envelope]
        stored.save(self.flash.folder, head)
        return self._collection(head)

    def resume(self):
        """Return the Collection of the update that was being collected, or None.

        One that was tried is forgotten, and so is one whose pieces are damaged.
        """
        head = stored.load(self.flash.folder)
        if head is None:
            return None
        record, kind = self.state(), head[0]
        if not record.trial and not record.refusal(kind == FIRMWARE, head[1]) and head[4] == self._target(kind):
            try:
                return self._collection(head)
            except OSError:
                pass
        stored.forget(self.flash.folder)
        return None

    def confirm(self):
        """Make what is on trial the good one, if it runs. What is good already stays so."""
        record = self.state()
        if record.trial == slot_record.FIRMWARE and record.label != self.flash.label():
            self.flash.mark_valid()
        elif record.trial not in (1, 2) or record.trial != self.flash.running():
            return
        record.confirm()
        slot_record.save(self._store, record)

    def restart(self):
        """Reset the board as a step of its work."""
        self.flash.reset()

    def _collection(self, head):
        from device_agent.update.collection import FlashCollection
        from suit.erasure import Code

        kind, _, size, _, slot, _, _ = head
        code, place = Code(size), self.flash.place(slot)
        stage, limit = (
            (place, code.blocks) if place.in_place else (self.flash.stage(code.frames * n.BLOCK), code.frames)
        )
        room = self._free() - _SPARE
        if self.flash.room(kind) is None:
            room -= size + SEAL
        room //= n.BLOCK + 2
        return FlashCollection(self.flash.folder, head, place, stage, limit, room)

    def _target(self, kind):
        # The slot that the next image of a kind is for. The agent's good one does not run after a start that could not
        # read the record
        if kind == FIRMWARE:
            return slot_record.FIRMWARE
        taken = self.flash.running(), self.state().good
        for slot in (1, 2):
            if slot not in taken:
                return slot
        raise OSError(_BUSY)

    def _free(self, *names):
        # Octets that are free when the files of these names are gone
        folder = self.flash.folder
        status = os.statvfs(folder)
        free = status[0] * status[3]
        for name in names:
            try:
                free += os.stat(folder + name)[6]
            except OSError:  # there is none
                continue
        return free
