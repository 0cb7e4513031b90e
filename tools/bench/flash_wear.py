"""How long the flash of a board lasts: what wears it is the erasing of the pages of its NVS.

`python -m tools.bench.flash_wear` prints the table of docs/flash.md. Records of the usual length are saved through the
key store into the NVS of virtual boards, and the pages that it erases are counted.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from device_agent import tuning
from device_agent.key_store import KeyStore
from keycast.virtual_board.on_vm import nvs_flash

ERASES_OF_A_SECTOR = 100_000  # as the makers of flash chips state
_DAY_S = 86400
_CALIBRATION = 1904  # octets that the firmware keeps of its radio, once, in the same partition
_ONCE = {"board": 34, "prov": 270, "wifi": 60, "addr": 24, "gkdk0": 936, "groups": 120, "last": 60}
_GROUP, _SEED, _SESSION = 110, 32, 60  # octets of the records
_SENDER, _EVICTED, _WINDOWS = 26, 12, 20  # octets of a record of replay states
_EVICTED_MAX = 64
_ROUNDS = 150


@dataclass(frozen=True)
class Life:
    """What a board does in a day, and the pages that it erases meanwhile."""

    what: str
    saves: float
    erases: float
    pages: int

    @property
    def years(self) -> float:
        """Years until each sector was erased as often as its maker states."""
        return self.pages * ERASES_OF_A_SECTOR / self.erases / 365


class _Flash(nvs_flash.Flash):
    erases = 0

    def erase(self, page: int) -> None:
        self.erases += 1
        super().erase(page)


class Board:
    """The flash of a board with `groups`, in each of which `senders` speak, and an NVS of `kib` KiB.

    Raises OSError if these do not fit.
    """

    def __init__(self, kib: int, groups: int, senders: int) -> None:
        self.pages = kib * 1024 // nvs_flash.PAGE
        self._flash = _Flash(bytearray(b"\xff" * kib * 1024))
        self._nvs = nvs_flash.Nvs(self._flash)
        self._nvs.write(self._nvs.namespace("phy"), "cal_data", secrets.token_bytes(_CALIBRATION))
        self._namespace = self._nvs.namespace("keycast")
        self._store = KeyStore(self)
        self._groups = groups
        self._windows = _WINDOWS + senders * _SENDER
        for name, length in _ONCE.items():
            self._save(name, length)
        self._start(0)
        for group in range(groups):
            self._re_key(group)
            self._message(group)

    def lives(self) -> Iterator[Life]:
        """Yield days with 2 starts, a re-key of each group, and more and more messages in each group.

        On the last one a member of one group makes the board store as often as it ever does.
        """
        start, re_key, message = (self._each(act) for act in (self._start, self._re_key, self._message))
        quiet = 2 * start + self._groups * re_key
        for what, every_s in (("no messages", 0), ("one in 10 min", 600), ("one in 1 min", 60)):
            messages = self._groups * _DAY_S / every_s if every_s else 0
            yield Life(what, 8 + self._groups + messages, quiet + messages * message, self.pages)
        self._windows = _WINDOWS + tuning.SENDERS_MAX * _SENDER + _EVICTED_MAX * _EVICTED
        saves = _DAY_S / (tuning.WINDOW_WRITE_EVERY / 1000)
        yield Life("attack", saves, self._each(lambda _: self._message(0)) * saves, self.pages)

    def _each(self, act: Callable[[int], None]) -> float:
        """Return the pages that are erased for each `act`."""
        before = self._flash.erases
        for number in range(_ROUNDS):
            act(number)
        return (self._flash.erases - before) / _ROUNDS

    def _start(self, number: int) -> None:
        for name, length in (("seed", _SEED), ("last", _ONCE["last"]), ("last", _ONCE["last"]), ("sess", _SESSION)):
            self._save(name, length)

    def _re_key(self, number: int) -> None:
        self._save(f"g{number % self._groups}", _GROUP)

    def _message(self, number: int) -> None:
        self._save(f"w{number % self._groups}", self._windows)

    def _save(self, name: str, length: int) -> None:
        self._store.save(name, secrets.token_bytes(length))

    # The ports.Storage of the key store

    def get(self, name: str) -> bytes | None:
        size = self._nvs.size(self._namespace, name)
        if size is None:
            return None
        value = bytearray(size)
        self._nvs.read(self._namespace, name, value)
        return bytes(value)

    def set(self, name: str, octets: bytes) -> None:
        self._nvs.write(self._namespace, name, octets)

    def delete(self, name: str) -> None:
        self._nvs.erase(self._namespace, name)

    def commit(self) -> None:
        """Do nothing: each write is in the flash already."""


def main() -> None:
    table = Table("NVS", "groups, senders of each", "messages", "saves a day", "pages erased", "years")
    for kib, groups, senders in ((16, 3, 5), (16, 8, 3), (24, 3, 5), (24, 8, 3), (64, 8, 3)):
        board = f"{kib} KiB", f"{groups}, {senders}"
        try:
            for life in Board(kib, groups, senders).lives():
                table.add_row(*board, life.what, f"{life.saves:,.0f}", f"{life.erases:,.1f}", f"{life.years:,.2g}")
        except OSError:
            table.add_row(*board, "does not fit")
    Console().print(table)


if __name__ == "__main__":
    main()
