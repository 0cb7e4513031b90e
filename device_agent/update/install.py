"""Installing an update that was collected, at the start of a board: with the whole heap, before the agent is loaded.

A power cut at any moment leaves what ran, and the next start begins again: all steps before the one save that begins
the trial write to a slot that does not run. What was tried once is forgotten.
"""

from hashlib import sha256

from device_agent.update import head as stored
from device_agent.update import slot_record
from device_agent.update.slots import AGENT, FIRMWARE
from suit import numbers as n
from suit.erasure import xor

_NO_FIRMWARE = -0x1503  # ESP_ERR_OTA_VALIDATE_FAILED: none for this chip is there
SEAL_MAGIC = b"keycast slot 1\0\0"


def due(updates):
    """Return the Collection that is to be installed now, or None. `updates` is a slots.FlashUpdates."""
    collection = updates.resume()
    if collection and not collection.due:
        collection.close()
        return None
    return collection


def run(updates, store, collection, before_trial):
    """Install a FlashCollection and begin its trial; return True if the board is to restart for it.

    `before_trial` is called before the save that begins the trial. An image that is not what its manifest says is
    refused from then on. If the frames are not enough, the update is collected further. Raises OSError.
    """
    solved = _solved(collection)
    if solved is None:
        collection.full(False)
        return False
    record, firmware = updates.state(), collection.kind == FIRMWARE
    if _written(collection, solved):
        before_trial()
        record.begin(collection.slot, collection.number, updates.flash.label() if firmware else "")
    else:
        record.refuse(firmware, collection.number, n.NOT_WHOLE)
    slot_record.save(store, record)
    collection.drop()
    if firmware and record.trial:
        try:
            updates.flash.boot(record.label)
        except OSError as error:
            record.fall_back(n.NOT_WHOLE if error.args[0] == _NO_FIRMWARE else n.FLASH_FAILED)
            slot_record.save(store, record)
    return bool(record.trial)


def give_up(updates, store):
    """Forget the update that is to be installed, and refuse it from now on: the flash or the heap fails."""
    head = stored.load(updates.flash.folder)
    stored.forget(updates.flash.folder)
    if head is not None:
        record = updates.state()
        record.refuse(head[0] == FIRMWARE, head[1], n.FLASH_FAILED)
        slot_record.save(store, record)


def _solved(collection):
    # Return, for each block that is not held, the frames whose XOR it is; None if they are not enough. Blocks that have
    # their place in a partition are written at once, as those of a firmware are too many for the heap
    solved, place = {}, collection.place
    for segment in range(collection.code.segments):
        found = collection.code.solve(segment, collection.held)
        if found is None:
            return None
        for block, frames in found:
            if place.in_place:
                place.put(block, xor(collection.frame, frames))
            else:
                solved[block] = frames
    return solved


def _written(collection, solved):
    # Write the image in order; return True if it is the one of the manifest
    place, left = collection.place, collection.size
    digest, sealed = sha256(), sha256()
    if not place.in_place:
        place.free()
    for block in range(collection.code.blocks):
        if place.in_place:
            octets = place.read(block)
        elif block in solved:
            octets = xor(collection.frame, solved.pop(block))
        else:
            octets = collection.frame(block)
        octets = memoryview(octets)[: min(left, n.BLOCK)]
        if not place.in_place:
            place.put(block, octets)
        digest.update(octets)
        sealed.update(octets)
        left -= len(octets)
    if digest.digest() != collection.digest:
        place.free()
        return False
    if collection.kind == AGENT:
        seal = SEAL_MAGIC + bytes(4) + collection.size.to_bytes(4, "big")
        sealed.update(seal)
        seal += sealed.digest()
        place.seal(seal + bytes(64 - len(seal)))
    return True
