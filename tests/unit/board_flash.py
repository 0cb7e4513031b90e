"""A board's flash on the host: the board's `nvs_store` over the NVS of virtual boards, cut off at any operation."""

import functools
import sys
from pathlib import Path
from types import ModuleType

from keycast.virtual_board.nvs_folder import BLANK, NvsImage
from keycast.virtual_board.on_vm import nvs_flash

BOARD_FILES = Path(__file__).parents[2] / "micropython"
BOARD_MODULES = "nvs_pages", "nvs_store"


HOWS = "absent", "torn", "whole"


@functools.cache
def _compiled(name):
    path = BOARD_FILES / f"{name}.py"
    return compile(path.read_text(), str(path), "exec")


class PowerCut(BaseException):
    """No program can catch it."""


class DyingFlash(nvs_flash.Flash):
    """A flash whose `dies_at`-th operation is absent, torn or whole, and the last one; 0 for a flash that lives."""

    def __init__(self, octets, dies_at=0, how=""):
        super().__init__(octets)
        self._left = dies_at
        self._how = how
        self.operations = 0
        self.erases = 0

    def program(self, at, octets):
        torn = octets[: (len(octets) + 1) // 2]
        self._operate(lambda: super(DyingFlash, self).program(at, octets), lambda: self._tear(at, torn))

    def erase(self, page):
        # the second half is blank, the first, with the head, stands
        at = page * nvs_flash.PAGE
        half = nvs_flash.PAGE // 2
        self._operate(lambda: super(DyingFlash, self).erase(page), lambda: self._blank(at + half, half))
        self.erases += 1

    def _tear(self, at, octets):
        super().program(at, octets)

    def _blank(self, at, count):
        self.octets[at : at + count] = b"\xff" * count

    def _operate(self, whole, torn):
        self.operations += 1
        self._left -= 1
        if self._left == 0:
            if self._how == "whole":
                whole()
            elif self._how == "torn":
                torn()
            raise PowerCut
        whole()


class Firmware:
    """What a board has at its start: `store()` is the board's own NvsStore on these octets, once NVS has repaired them.

    `partition`: whether it has `esp32.Partition`; `refuses`: whether that refuses to write.
    """

    def __init__(self, monkeypatch, octets=None, partition=True, refuses=False):
        self.octets = bytearray(BLANK) if octets is None else octets
        self.flash = DyingFlash(self.octets)
        self._monkeypatch = monkeypatch
        self._partition = partition
        self._refuses = refuses

    def store(self, dies_at=0, how=""):
        """Switch the power on and return the NvsStore; the power goes at the operation `dies_at` of the flash."""
        self.flash = DyingFlash(self.octets, dies_at, how)
        self.prepare(nvs_flash.Nvs(self.flash))
        return sys.modules["nvs_store"].NvsStore()

    def prepare(self, nvs=None):
        """Make the modules of the board importable; `nvs` is that of `esp32.NVS`."""
        self._monkeypatch.setitem(sys.modules, "esp32", self._esp32(self.flash, nvs))
        for name in BOARD_MODULES:
            module = ModuleType(name)
            self._monkeypatch.setitem(sys.modules, name, module)
            exec(_compiled(name), module.__dict__)

    def cuts(self, act):
        """Do `act(store)` from the same octets, cut off at each operation of the flash in each way; yield each time.

        The board's start is part of it. At last it is not cut off. What is yielded says where it was.
        """
        before = bytes(self.octets)
        for how in HOWS:
            dies_at, cut = 0, True
            while cut:
                dies_at += 1
                self.octets[:] = before
                cut = False
                try:
                    act(self.store(dies_at, how))
                except PowerCut:
                    cut = True
                yield how, dies_at
                if how == "absent":
                    break  # before the second operation is after the first

    def held(self):
        """Return the values that NVS has."""
        image = NvsImage(bytes(self.octets))
        return [image.get(name) for name in image.names()]

    def _esp32(self, flash, nvs):
        refuses = self._refuses

        class NVS:
            def __init__(self, name):
                self.number = nvs.namespace(name)

            def get_blob(self, key, buffer):
                size = nvs.size(self.number, key)
                if size is None or size > len(buffer):
                    raise OSError(nvs_flash.NOT_FOUND if size is None else nvs_flash.INVALID_LENGTH, "")
                return nvs.read(self.number, key, buffer)

            def set_blob(self, key, value):
                nvs.write(self.number, key, value)

            def erase_key(self, key):
                if nvs.size(self.number, key) is None:
                    raise OSError(nvs_flash.NOT_FOUND, "")
                nvs.erase(self.number, key)

            def commit(self):
                pass

        class Partition:
            TYPE_DATA = 1

            @staticmethod
            def find(kind, subtype=0xFF, label=None):
                return [Partition()] if (kind, label) == (1, "nvs") else []

            def info(self):
                return 1, 2, 0x9000, len(flash.octets), "nvs", False

            def ioctl(self, operation, block):
                assert operation == 6  # erase
                flash.erase(block)

            def readblocks(self, block, buffer, offset=0):
                at = block * nvs_flash.PAGE + offset
                buffer[:] = flash.octets[at : at + len(buffer)]

            def writeblocks(self, block, octets, offset):
                if refuses:
                    raise OSError(-0x106)  # ESP_ERR_NOT_SUPPORTED
                flash.program(block * nvs_flash.PAGE + offset, octets)

        module = ModuleType("esp32")
        module.NVS = NVS
        if self._partition:
            module.Partition = Partition
        return module


class Remembering:
    """A Storage over `store` that remembers every value ever set."""

    def __init__(self, store, values=None):
        self.store = store
        self.values = set() if values is None else values

    def get(self, name):
        return self.store.get(name)

    def set(self, name, octets):
        self.values.add(bytes(octets))
        self.store.set(name, octets)

    def delete(self, name):
        self.store.delete(name)

    def commit(self):
        self.store.commit()


WINDOW = 16  # octets; no secret is shorter
CHUNK = 256  # a medium is looked at in pieces of so many octets, of which most are as they were before


@functools.lru_cache(1 << 14)
def pieces(value):
    """Every run of 16 octets in `value` that is no filling."""
    found = {value[at : at + WINDOW] for at in range(len(value) - WINDOW + 1)}
    return {piece for piece in found if len(set(piece)) > 2}


def remains(octets, values, held):
    """The runs of 16 octets of `values` that stand in the medium and in nothing that it still holds."""
    gone = set().union(*map(pieces, values)).difference(*map(pieces, held))
    octets = bytes(octets)
    chunks = (pieces(octets[at : at + CHUNK + WINDOW - 1]) for at in range(0, len(octets), CHUNK))
    return {piece for chunk in chunks for piece in gone & chunk}
