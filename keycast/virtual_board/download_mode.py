"""The loader in the ROM of an ESP32 chip, with which a tool such as esptool writes the flash over the serial line.

A pure state machine: octets from the tool go in, octets for the tool come out. Requests and answers are SLIP frames of
a command, a length, a checksum or value, and data. A tool can also load a program into the RAM that takes over (its
"stub", which is faster); the program is not run here, but from then on its further commands are answered, too.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator

from keycast.virtual_board.chips import RomChip, flash_id, registers
from keycast.virtual_board.flash_chip import FlashChip

SYNC_FRAME = b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20" + b"\x55" * 32 + b"\xc0"
"""The first request of a tool, which tells the loader the speed of the line."""

_END, _ESCAPE = b"\xc0", b"\xdb"
_ESCAPED_END, _ESCAPED_ESCAPE = b"\xdb\xdc", b"\xdb\xdd"
_FRAME_MAX = 0x10000
_HEAD = struct.Struct("<BBHI")  # direction, command, length of the data, checksum or value
_REQUEST, _ANSWER = 0, 1
_WORD, _TWO, _FOUR = struct.Struct("<I"), struct.Struct("<II"), struct.Struct("<IIII")
_SECURITY = struct.Struct("<IB7xII")  # flags, count of encryptions, purposes of keys, image id, version
_CHECKSUM_SEED = 0xEF
_SYNC_VALUE, _SYNC_ANSWERS = 0x20120707, 8
_STARTED = b"OHAI"
_SLOW_READ = 64
_READ_ID = 0x9F
_UNKNOWN, _FAILED, _WRONG_CHECKSUM, _WRONG_LENGTH, _NOT_INFLATED = 0x05, 0x06, 0x07, 0x0A, 0x0B
_ENABLED = 1 << 31  # of a watchdog


class _Refused(Exception):
    """The loader refuses a request; the argument is the number of its reason."""


class DownloadMode:
    """The loader of a `chip` with its `flash`, on the board with this MAC address (6 octets).

    `leaves` is True once the tool has asked for a reset.
    """

    def __init__(self, chip: RomChip, flash: FlashChip, mac: bytes) -> None:
        self.leaves = False
        self._chip = chip
        self._flash = flash
        self._frame: bytearray | None = None  # the octets since the last mark, None if no frame has begun
        self._registers = registers(chip, mac)
        self._is_stub = False
        self._begun = (0, 0)  # address at which a piece of the flash is written, and octets in a block
        self._next = 0  # number of the next block
        self._inflater = zlib.decompressobj()
        self._reading: Iterator[bytes] | None = None
        self._commands: dict[int, Callable[[bytes], bytes]] = {
            0x02: self._begin,
            0x03: self._data,
            0x04: self._end,
            0x05: self._nothing,
            0x06: self._start_stub,
            0x07: self._nothing,
            0x09: self._write_registers,
            0x0B: self._nothing,
            0x0D: self._nothing,
            0x0E: self._read_slowly,
            0x0F: self._nothing,
            0x10: self._begin,
            0x11: self._deflated_data,
            0x12: self._end,
            0x13: self._digest,
        }
        if chip.has_security_info:
            self._commands[0x14] = self._security
        self._of_stub: dict[int, Callable[[bytes], bytes]] = {
            0xD0: self._erase_all,
            0xD1: self._erase,
            0xD2: self._read,
            0xD3: self._leave,
        }

    def feed(self, octets: bytes) -> bytes:
        """Return the answers to what a tool has sent. Octets outside of frames are ignored."""
        answers = b""
        for part, is_last in _split(octets):
            if self._frame is not None:
                self._frame += part
                if len(self._frame) > _FRAME_MAX:
                    self._frame = None
            if is_last:
                continue
            if self._frame:
                answers += self._answered(_unescaped(bytes(self._frame)))
            self._frame = bytearray()
        return answers

    def _answered(self, request: bytes) -> bytes:
        if self._reading is not None and len(request) == _WORD.size:  # the tool has the last block
            return next(self._reading, b"")
        if len(request) < _HEAD.size:
            return b""
        direction, command, length, checksum = _HEAD.unpack_from(request)
        data = request[_HEAD.size :]
        if direction != _REQUEST or length != len(data):
            return b""
        if command == 0x08:
            value = 0 if self._is_stub else _SYNC_VALUE
            return self._answer(command, value=value) * _SYNC_ANSWERS
        if command == 0x0A and len(data) == _WORD.size:
            return self._answer(command, value=self._register(*_WORD.unpack(data)))
        act = self._commands.get(command) or (self._of_stub.get(command) if self._is_stub else None)
        try:
            if act is None:
                raise _Refused(_UNKNOWN)
            if command in (0x03, 0x07, 0x11) and _checksum(data[_FOUR.size :]) != checksum & 0xFF:
                raise _Refused(_WRONG_CHECKSUM)
            told = act(data)
        except _Refused as refused:
            return self._answer(command, reason=refused.args[0])
        except struct.error:
            return self._answer(command, reason=_WRONG_LENGTH)
        except (OSError, ValueError):  # outside of the flash
            return self._answer(command, reason=_FAILED)
        answer = self._answer(command, told)
        if command == 0x06:
            self._is_stub = True
            answer += _framed(_STARTED)
        elif command == 0xD2 and self._reading is not None:
            answer += next(self._reading, b"")
        return answer

    def _answer(self, command: int, data: bytes = b"", *, value: int = 0, reason: int = 0) -> bytes:
        status = bytes([bool(reason), reason]) + bytes(0 if self._is_stub else 2)
        body = data + status
        return _framed(_HEAD.pack(_ANSWER, command, len(body), value) + body)

    # Registers

    def _register(self, address: int) -> int:
        spi = self._chip.spi
        if address == spi.base:
            return 0  # a command to the flash has ended
        if address == spi.base + spi.data and self._registers.get(spi.base + spi.user2, 0) & 0xFF == _READ_ID:
            return flash_id(self._flash.size)
        return self._registers.get(address, 0)

    def _write_registers(self, data: bytes) -> bytes:
        for address, value, mask, _ in _FOUR.iter_unpack(data):
            self._registers[address] = self._registers.get(address, 0) & ~mask | value & mask
            if address == self._chip.watchdog and value & _ENABLED:
                self.leaves = True
        return b""

    def _security(self, data: bytes) -> bytes:
        return _SECURITY.pack(0, 0, self._chip.image_id, 0)

    # The flash

    def _begin(self, data: bytes) -> bytes:
        size, _, block, address = _FOUR.unpack_from(data)
        self._flash.erase(address, size)
        self._begun, self._next, self._inflater = (address, block), 0, zlib.decompressobj()
        return b""

    def _data(self, data: bytes) -> bytes:
        octets, number = _block(data)
        address, block = self._begun
        self._flash.write(address + number * block, octets)
        return b""

    def _deflated_data(self, data: bytes) -> bytes:
        octets, number = _block(data)
        address, block = self._begun
        if number == self._next - 1:  # sent again, as the answer was lost
            return b""
        if number != self._next:
            raise _Refused(_FAILED)
        try:
            inflated = self._inflater.decompress(octets, self._flash.size)
        except zlib.error:
            raise _Refused(_NOT_INFLATED) from None
        self._flash.write(address, inflated)
        self._begun, self._next = (address + len(inflated), block), number + 1
        return b""

    def _digest(self, data: bytes) -> bytes:
        address, size = _TWO.unpack_from(data)
        digest = hashlib.md5(self._flash.read(address, size))
        return digest.digest() if self._is_stub else digest.hexdigest().encode()

    def _read_slowly(self, data: bytes) -> bytes:
        address, size = _TWO.unpack(data)
        return self._flash.read(address, min(size, _SLOW_READ)).ljust(_SLOW_READ, b"\0")

    def _read(self, data: bytes) -> bytes:
        address, size, block, _ = _FOUR.unpack(data)
        if block < _SLOW_READ:
            raise _Refused(_WRONG_LENGTH)
        octets = self._flash.read(address, size)
        blocks = [octets[at : at + block] for at in range(0, size, block)]
        self._reading = map(_framed, [*blocks, hashlib.md5(octets).digest()])
        return b""

    def _erase(self, data: bytes) -> bytes:
        self._flash.erase(*_TWO.unpack(data))
        return b""

    def _erase_all(self, data: bytes) -> bytes:
        self._flash.erase(0, self._flash.size)
        return b""

    # Ends

    def _start_stub(self, data: bytes) -> bytes:
        _TWO.unpack(data)
        return b""

    def _end(self, data: bytes) -> bytes:
        (stays,) = _WORD.unpack(data)
        if not self._is_stub:
            self.leaves = True
        elif not stays:
            self._is_stub = False  # back to the ROM
        return b""

    def _leave(self, data: bytes) -> bytes:
        self.leaves = True
        return b""

    def _nothing(self, data: bytes) -> bytes:
        return b""


def _split(octets: bytes) -> Iterator[tuple[bytes, bool]]:
    """Yield the parts of `octets` between marks, and whether it is the last, which no mark follows."""
    parts = octets.split(_END)
    for number, part in enumerate(parts, 1):
        yield part, number == len(parts)


def _framed(octets: bytes) -> bytes:
    escaped = octets.replace(_ESCAPE, _ESCAPED_ESCAPE).replace(_END, _ESCAPED_END)
    return _END + escaped + _END


def _unescaped(octets: bytes) -> bytes:
    return octets.replace(_ESCAPED_END, _END).replace(_ESCAPED_ESCAPE, _ESCAPE)


def _checksum(octets: bytes) -> int:
    checksum = _CHECKSUM_SEED
    for octet in octets:
        checksum ^= octet
    return checksum


def _block(data: bytes) -> tuple[bytes, int]:
    """Return the octets and the number of a block."""
    size, number, *_ = _FOUR.unpack_from(data)
    octets = data[_FOUR.size :]
    if size != len(octets):
        raise _Refused(_WRONG_LENGTH)
    return octets, number
