"""The flash of a board for updates: its files, the halves of its partition `romfs`, its application partitions."""

import sys

import strikes
from slot_images import AT, FOLDER, SEAL, mapped

from device_agent.update.places import SECTOR, FilePlace, PartitionPlace
from device_agent.update.slot_record import FIRMWARE
from device_agent.update.slots import AGENT, FlashUpdates
from suit import class_id

_DATA = 1  # esp32.Partition.TYPE_DATA
_MODULES = "slots slot_record lost head install"  # of device_agent.update
_COLLECTION = "collection piece_log places"  # those that an open Collection needs


def updates(store):
    """Return the FlashUpdates of this board. `store` is its KeyStore."""
    return FlashUpdates(store, _Flash())


def install(storage, store):
    """Install the update that was collected, with the whole heap; return True if the board is to restart for it.

    An update with which this fails is refused from then on, as that is no reason not to start the agent.
    """
    from device_agent.update import install

    board = updates(store)
    try:
        collection = install.due(board)
        return collection is not None and install.run(board, store, collection, lambda: strikes.over(storage))
    except Exception as error:  # noqa: BLE001 - whatever it is, the next start would come to the same
        sys.print_exception(error)
        install.give_up(board, store)
        return False


def unload(collecting=False):
    """Let the modules of updates leave the heap, and this one; while `collecting`, not those of the Collection."""
    for name in (__name__, "slot_images"):
        sys.modules.pop(name, None)
    names = (_MODULES if collecting else _MODULES + " " + _COLLECTION).split()
    names = ["device_agent.update." + name for name in names] + ["suit.class_id"]
    if not collecting:
        names.append("suit.erasure")
    for name in names:
        if sys.modules.pop(name, None):
            package, _, module = name.rpartition(".")
            delattr(sys.modules[package], module)


class _Flash:
    folder = FOLDER

    def classes(self):
        implementation = sys.implementation
        text = class_id.agent(implementation._mpy & 0xFF, _is_val_client())  # pyright: ignore[reportAttributeAccessIssue]
        found = {class_id.class_id(text): AGENT}
        if _other() is not None and hasattr(implementation, "_build"):  # since 1.25
            found[class_id.class_id(class_id.firmware(implementation._build))] = "firmware"  # pyright: ignore[reportAttributeAccessIssue]
        return found

    def running(self):
        for slot in (1, 2):
            if AT + str(slot) in sys.path:
                return slot
        return 0

    def room(self, kind):
        if kind != AGENT:
            return _other().info()[3]
        romfs = _romfs()
        return romfs and romfs.info()[3] // 2 - SEAL

    def place(self, slot):
        if slot == FIRMWARE:
            other = _other()
            return PartitionPlace(other, 0, other.info()[3])
        romfs = _romfs()
        if romfs is None:
            return FilePlace(FOLDER + "agent.%d" % slot)
        half = romfs.info()[3] // 2
        return PartitionPlace(romfs, (slot - 1) * half // SECTOR, half)

    def stage(self, size):
        # The partition of the firmware before is free while no firmware is on its way
        other = _other()
        if other is not None and other.info()[3] >= size:
            return PartitionPlace(other, 0, other.info()[3])

    def label(self):
        return _other().info()[4]

    def boot(self, label):
        import esp32

        esp32.Partition(label).set_boot()

    def mark_valid(self):
        import esp32

        esp32.Partition.mark_app_valid_cancel_rollback()

    def reset(self):
        import board

        board.restart()


def _other():
    # Return the application partition that does not run, or None
    try:
        import esp32

        running = esp32.Partition(esp32.Partition.RUNNING)
        other = running.get_next_update()
        return other if other.info()[2] != running.info()[2] else None
    except (ImportError, AttributeError, OSError):  # this firmware has no second one
        return None


def _romfs():
    # Return the partition of the mapped slots, or None
    octets = mapped()
    if octets is None:
        return None
    import esp32

    for label in ("romfs", "romfs_slots"):  # the other one is that of a virtual board
        for partition in esp32.Partition.find(_DATA, label=label):
            if partition.info()[3] == len(octets):
                return partition
    return None


def _is_val_client():
    # Whether the agent that runs has the files of a VAL client
    name = "device_agent.val_client"
    if name in sys.modules:
        return True
    try:
        __import__(name)
    except ImportError:
        return False
    del sys.modules[name]
    delattr(sys.modules["device_agent"], "val_client")
    return True
