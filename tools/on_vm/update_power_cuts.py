# Runs inside the VM: updates of a board whose power is cut at each write and each erase of its flash. The files are on
# a real littlefs, the records in an NVS that promises nothing; the programs are those of a board, out of its image.
#
# Arguments: image of the board; a folder with the images one.romfs and two.romfs, each with a module `agent_of_slot`
# that has its NAME, and with such a module called "base"; where an update comes to lie: "file", "staged" (a file whose
# frames are collected in a partition), "partition" or "firmware"; "good" or "bad", an update that is confirmed or not,
# or "wear" for one whose power is not cut, or "fails" for one during which the flash refuses one write; and a number:
# of so many changes of the flash one is cut or refused, and the last of each start. Prints what was cut, and how many
# sectors were erased, as JSON.
import gc
import json
import os
import sys
from hashlib import sha256

import ffi
import rom
import uctypes
import vfs

_, IMAGE, FOLDER, KIND, END, EVERY = sys.argv
SECTOR = 4096
LABELS = "ota_0", "ota_1"
EIO = -5


class Cut(BaseException):
    pass


class Reset(BaseException):
    pass


class Power:
    left, how, on = -1, "", True
    changes = 0

    def change(self, whole, torn):
        if not self.on:
            raise Cut
        self.left -= 1
        self.changes += 1
        if not self.left and self.how == "fails":
            raise OSError(-EIO)
        if not self.left:
            self.on = False
            if self.how == "torn":
                torn()
            elif self.how == "after":
                whole()
            raise Cut
        whole()


power = Power()
malloc = ffi.open(None).func("p", "malloc", "I")


def outside(size):
    # A bytearray that is never freed, outside of the heap: the collector takes every octet of a buffer in the heap for
    # a part of a pointer, which made up half of the time of all cuts
    return uctypes.bytearray_at(malloc(size), size)


def copied(octets):
    copy = outside(len(octets))
    copy[:] = octets
    return copy


class Disk:
    """A flash: bits turn from 1 to 0, and back only by an erase of a sector."""

    def __init__(self, sectors):
        self.octets = outside(SECTOR * sectors)
        self._erase(0, SECTOR * sectors)
        self.erased = [0] * sectors

    def readblocks(self, block, buffer, offset=0):
        at = block * SECTOR + offset
        buffer[:] = memoryview(self.octets)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset):
        at, octets = block * SECTOR + offset, bytes(buffer)
        power.change(lambda: self._program(at, octets), lambda: self._program(at, octets[: len(octets) // 2]))

    def _program(self, at, octets):
        part = memoryview(self.octets)[at : at + len(octets)]
        both = int.from_bytes(bytes(part), "big") & int.from_bytes(octets, "big")
        part[:] = both.to_bytes(len(octets), "big")

    def ioctl(self, operation, argument):
        if operation == 4:
            return len(self.octets) // SECTOR
        if operation == 5:
            return SECTOR
        if operation == 6:
            at = argument * SECTOR
            self.erased[argument] += 1
            power.change(lambda: self._erase(at, SECTOR), lambda: self._erase(at, SECTOR // 2))
            return 0

    def _erase(self, at, size):
        self.octets[at : at + size] = b"\xff" * size


class Mounted:
    """The disk of one start. Once the power is cut, or after that start, the file system hears of I/O errors only.

    An exception would jump through littlefs and leave its lists half changed; its open files are closed later, when
    they are collected.
    """

    on = True

    def readblocks(self, block, buffer, offset=0):
        if not (self.on and power.on):  # without allocation: the heap is locked while files are collected
            return EIO
        disk.readblocks(block, buffer, offset)

    def writeblocks(self, block, buffer, offset):
        if not (self.on and power.on):
            return EIO
        try:
            disk.writeblocks(block, buffer, offset)
        except (Cut, OSError):
            return EIO

    def ioctl(self, operation, argument):
        if not (self.on and power.on):
            return EIO
        try:
            return disk.ioctl(operation, argument)
        except (Cut, OSError):
            return EIO


class Records(dict):
    torn = True  # a write that is cut leaves the half; otherwise nothing, as in otadata, whose entries have a checksum

    def put(self, name, octets):
        half = octets[: len(octets) // 2] if octets and self.torn else self.get(name)
        power.change(lambda: self.keep(name, octets), lambda: self.keep(name, half))

    def keep(self, name, octets):
        if octets is None:
            self.pop(name, None)
        else:
            self[name] = octets


disk = Disk(240 if END == "wear" else 48)
romfs, apps = Disk(96), (Disk(64), Disk(64)) if END == "wear" else (Disk(12), Disk(12))
nvs, ota = Records(), Records()
ota.torn = False


class Esp32:
    class NVS:
        def __init__(self, namespace):
            pass

        def get_blob(self, name, buffer):
            if name not in nvs:
                raise OSError(-0x1102)
            if len(nvs[name]) > len(buffer):
                raise OSError(-0x110C)
            buffer[: len(nvs[name])] = nvs[name]
            return len(nvs[name])

        def set_blob(self, name, octets):
            nvs.put(name, bytes(octets))

        def erase_key(self, name):
            nvs.put(name, None)

        def commit(self):
            pass

    class Partition:
        RUNNING = 1

        def __init__(self, label):
            if KIND not in ("firmware", "staged"):
                raise OSError(2)
            self._label = ota.get("running", "ota_0") if label == self.RUNNING else label
            self._disk = apps[LABELS.index(self._label)]
            self.readblocks, self.writeblocks = self._disk.readblocks, self._disk.writeblocks
            self.ioctl = self._disk.ioctl

        @staticmethod
        def find(kind, label=None):
            return [romfs] if label == "romfs" and KIND == "partition" else []

        def info(self):
            size = len(self._disk.octets)
            return 0, 16, LABELS.index(self._label) * size, size, self._label, False

        def get_next_update(self):
            return Esp32.Partition(LABELS[1 - LABELS.index(self._label)])

        def set_boot(self):
            if self._disk.octets[0] != 0xE9:
                raise OSError(-0x1503)
            ota.put("next", self._label)

        @classmethod
        def mark_app_valid_cancel_rollback(cls):
            ota.put("valid", ota["running"])
            ota["next"] = None


class Machine:
    PWRON_RESET, HARD_RESET, WDT_RESET = 1, 2, 3
    cause = HARD_RESET

    @staticmethod
    def reset():
        raise Reset

    @staticmethod
    def reset_cause():
        return Machine.cause

    class WDT:
        def __init__(self, timeout):
            pass


def boot_loader():
    # A partition that was chosen is started once; unless it marks itself valid, the valid one is started then
    if KIND != "firmware":
        return
    chosen = ota.get("next")
    ota["running"] = chosen if chosen else ota["valid"]
    ota["next"] = None


romfs.info = lambda: (1, 0x81, 0, len(romfs.octets), "romfs", False)


class Vfs:
    pass


mapped_vfs = Vfs()
for name in dir(vfs):
    setattr(mapped_vfs, name, getattr(vfs, name))
mapped_vfs.rom_ioctl = lambda command, segment: memoryview(romfs.octets)

rom.mount(IMAGE, "/rom")
KEPT = list(sys.modules) + ["esp32", "machine", "network", "vfs"]
sys.modules["esp32"], sys.modules["machine"], sys.modules["network"] = Esp32(), Machine(), None
if KIND == "partition":
    sys.modules["vfs"] = mapped_vfs


class Update:
    """An update of agent or firmware `old` to `new`."""

    def __init__(self, old, new, number, image, good, lost):
        self.old, self.new, self.number, self.image, self.good = old, new, number, image, good
        code = Code(len(image))

        def block(index):
            octets = image[index * n.BLOCK : (index + 1) * n.BLOCK]
            return octets + bytes(n.BLOCK - len(octets))

        frames = [(index, bytes(xor(block, code.members(index)))) for index in range(code.frames)]
        hashes = b"".join([sha256(frame).digest()[:16] for _, frame in frames])
        self.pages = [hashes[at : at + n.BLOCK] for at in range(0, len(hashes), n.BLOCK)]
        self.frames = [each for each in frames if each[0] not in lost]


class Board:
    """What one start of a board does, and what must hold at each."""

    mounted = Mounted()
    counter = floor = 0  # highest counter that was used, and highest floor that was seen

    def start(self):
        Board.mounted.on = False
        for name in list(sys.modules):
            if name not in KEPT:
                del sys.modules[name]
        for at in ("/agent1", "/agent2", "/flash"):
            try:
                vfs.umount(at)
            except (AttributeError, OSError):  # none, or gone without a word
                continue
        gc.collect()
        sys.path[:] = ["/rom", FOLDER, ".frozen"]
        Board.mounted = Mounted()
        vfs.mount(vfs.VfsLfs2(Board.mounted, readsize=32, progsize=32, lookahead=32), "/flash")
        boot_loader()
        import agent_slots

        trial = agent_slots.mount()
        import update_slots
        from nvs_store import NvsStore

        from device_agent.key_store import KeyStore

        storage = NvsStore()
        store = KeyStore(storage)
        self.check(store)
        if update_slots.install(storage, store):
            raise Reset
        update_slots.unload()
        if KIND == "firmware":
            name = "two" if apps[LABELS.index(ota["running"])].octets[:100] == update.image[:100] else "one"
        else:
            from agent_of_slot import NAME as name
        self.work(store, trial, name)

    def check(self, store):
        if store.load("keys") != KEYS:
            raise ValueError("the keys are lost")
        counter = int.from_bytes(store.load("counter"), "big")
        if counter < self.counter:
            raise ValueError("the counter went back")
        store.save("counter", (counter + 1).to_bytes(4, "big"))  # before it is used
        self.counter = counter + 1

    def work(self, store, trial, name):
        import update_slots

        updates = update_slots.updates(store)
        record = updates.state()
        floor = record.firmware_number if KIND == "firmware" else record.agent_number
        if floor < self.floor:
            raise ValueError("the floor went back")
        marked = MARK in os.listdir("/flash/")
        if (floor == update.number and not marked) or (marked and store.load("slot") is None):
            raise ValueError("the loss of the record would not be seen, or seems to have happened")
        self.floor = floor
        if name not in (update.old, update.new) or (floor == update.number and name != update.new):
            raise ValueError("%s runs, and the floor is %d" % (name, floor))
        refused = END == "fails" and not trial and name == update.old  # the count of a start
        if (not refused and bool(record.trial) != trial) or (trial and name != update.new):
            raise ValueError("no trial of %s: %s" % (name, trial))
        if trial and update.good:
            updates.confirm()
        if record.trial:  # device_agent/update/manifest.py begins no other one
            raise Reset
        if record.reason or floor == update.number:
            self.done(record, name)
        collection = updates.resume() or updates.begin(
            *("firmware" if KIND == "firmware" else "agent", update.number),
            *(len(update.image), sha256(update.image).digest(), b"envelope"),
        )
        try:
            for number, page in enumerate(update.pages):
                collection.put_page(number, page)
            for index, frame in update.frames:
                collection.put(index, frame)
            collection.full()
        except OSError:  # device_agent/update/collecting.py
            if not power.on:
                raise
            collection.drop()
        raise Reset

    def done(self, record, name):
        if END == "fails" and record.reason == n.FLASH_FAILED:
            if name != update.old:
                raise ValueError("%s runs, which was refused" % name)
        elif update.good:
            if record.reason or name != update.new:
                raise ValueError("it fell back: %d" % record.reason)
        elif name != update.old or record.reason not in (n.NOT_CONFIRMED, n.BOOT_LOADER):
            raise ValueError("no way back: %s %d" % (name, record.reason))
        raise Done


class Done(BaseException):
    pass


def run(board, states=()):
    """Start the board again and again until its update is done."""
    for _ in range(12):
        if isinstance(states, list):
            states.append((power.changes, saved(board)))
        try:
            board.start()
        except (Exception, Reset, Cut, Done) as end:
            Machine.cause = Machine.HARD_RESET if power.on else Machine.PWRON_RESET
            if not power.on:  # whatever the board made of its last I/O error
                power.on = True
            elif isinstance(end, Done):
                return
            elif END == "fails" and isinstance(end, OSError):  # it waits for a person, who switches it off and on
                Machine.cause = Machine.PWRON_RESET
            elif not isinstance(end, Reset):
                raise
    raise ValueError("the update does not come to its end")


def disks():
    return (disk, romfs) if KIND == "partition" else (disk,) + apps


def saved(board):
    return [copied(each.octets) for each in disks()], nvs.copy(), ota.copy(), board.counter, board.floor


def restored(state):
    octets, records, chosen, counter, floor = state
    for each, old in zip(disks(), octets):
        each.octets[:] = old
    for each, old in ((nvs, records), (ota, chosen)):
        each.clear()
        each.update(old)
    board = Board()
    board.counter, board.floor = counter, floor
    return board


def first_records():
    from nvs_store import NvsStore

    from device_agent.key_store import KeyStore

    store = KeyStore(NvsStore())
    store.save("keys", KEYS)
    store.save("counter", bytes(4))


def image(name):
    with open(FOLDER + "/%s.romfs" % name, "rb") as file:
        return file.read()


KEYS = bytes(range(100))
MARK = "update.floors"  # slot_record.MARK
sys.path[:] = ["/rom", FOLDER, ".frozen"]
from suit import numbers as n
from suit.erasure import Code, xor

vfs.VfsLfs2.mkfs(disk, readsize=32, progsize=32, lookahead=32)
first_records()
board = Board()
if KIND == "firmware":
    apps[0].octets[0] = 0xE9
    ota["valid"] = "ota_0"
    update = Update("one", "two", 2, b"\xe9" + image("two"), END != "bad", (1,))
else:
    update = Update("base", "one", 1, image("one"), True, ())
    run(board)
    os.remove("/flash/" + MARK)  # as on a board that was updated before there was one
    update = Update("one", "two", 2, image("two"), END != "bad", (1,))
states = []
before = power.changes
erased = [list(each.erased) for each in disks()]
run(board, states if END != "wear" else ())
told = {
    "changes": power.changes - before,
    "erases": [sum(each.erased) - sum(old) for each, old in zip(disks(), erased)],
    "frames": len(update.frames),
    "runs": 0,
}
last = before + (told["changes"] if END != "wear" else 0)
# A cut after a change leaves what one before the next leaves, unless a start, with its boot loader, is between the two
last_of_starts = {changes for changes, _ in states if changes > before} | {last}
told["last"] = len(last_of_starts)
cuts = [cut for cut in range(before + 1, last + 1) if cut in last_of_starts or not (cut - before) % int(EVERY)]
told["cuts"] = len(cuts)
for cut in cuts:
    changes, state = [each for each in states if each[0] < cut][-1]
    whole_cuts = ("before", "torn", "after") if cut in last_of_starts else ("before", "torn")
    for how in ("fails",) if END == "fails" else whole_cuts:
        board = restored(state)
        power.left, power.how = cut - changes, how
        try:
            run(board)
        except ValueError as error:
            print(json.dumps({"cut": cut - before, "how": how, "error": str(error)}))
        told["runs"] += 1
print(json.dumps(told))
