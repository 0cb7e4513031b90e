# The NVS of ESP-IDF (pages of version 2) on a NOR flash, octet for octet: values are appended, what is replaced or
# erased is only marked so and stays readable until its page is erased to make room. For the board's `esp32` and for
# the host.
from binascii import crc32

PAGE = 4096
_ENTRY = 32
_ENTRIES = 126
_STATES = 32  # offset in a page of two bits for each entry
_FIRST = 64  # offset of the entries
_EMPTY, _WRITTEN, _ERASED = 3, 2, 0
_ACTIVE, _FULL, _FREEING = b"\xfe\xff\xff\xff", b"\xfc\xff\xff\xff", b"\xf8\xff\xff\xff"
_VERSION_2 = b"\xfe"
_U8, _BLOB_DATA, _BLOB_INDEX = 1, 0x42, 0x48
_ANY = 0xFF

NOT_FOUND = -0x1102
NO_SPACE = -0x1105
KEY_TOO_LONG = -0x1109
INVALID_LENGTH = -0x110C
TOO_LONG = -0x110E
LONGEST = 4000  # a real one accepts more, in several entries; this one writes a value into one page


class Flash:
    # `octets`: whole pages
    def __init__(self, octets: bytearray) -> None:
        self.octets = octets

    def program(self, at: int, octets: bytes) -> None:
        # bits go from 1 to 0, never back
        held = self.octets
        for i in range(len(octets)):
            held[at + i] &= octets[i]

    def erase(self, page: int) -> None:
        self.octets[page * PAGE : (page + 1) * PAGE] = b"\xff" * PAGE


class Nvs:
    def __init__(self, flash: Flash) -> None:
        self._flash = flash
        self._pages = len(flash.octets) // PAGE
        # free pages that must be erased before they are used; as with the real one, they are not looked at again
        self._corrupt = [page for page in range(self._pages) if not self._kind(page) and not self._blank(page)]
        self._repair()

    @property
    def octets(self) -> bytearray:
        return self._flash.octets

    def namespace(self, name: str) -> int:
        # the number of a namespace, which is made if need be
        key, numbers = _name(name), [0]
        for at in self._find(0, _U8, None):
            numbers.append(self._flash.octets[at + 24])
            if self._flash.octets[at + 8 : at + 24] == key:
                return numbers[-1]
        number = max(numbers) + 1
        self._append(_item(0, _U8, 1, _ANY, key, bytes([number]) + b"\xff" * 7), b"")
        return number

    def keys(self, namespace: int) -> list[str]:
        found = []
        for at in self._find(namespace, _BLOB_INDEX, None):
            found.append(bytes(self._flash.octets[at + 8 : at + 24]).rstrip(b"\0").decode())
        return found

    def size(self, namespace: int, key: str) -> int | None:
        # octets of a value, or None
        for at in self._find(namespace, _BLOB_INDEX, _name(key)):
            return int.from_bytes(self._flash.octets[at + 24 : at + 28], "little")
        return None

    def read(self, namespace: int, key: str, buffer: bytearray) -> int:
        # the value into `buffer`, which has its size or more; -> octets
        octets, name, done = self._flash.octets, _name(key), 0
        for index in self._find(namespace, _BLOB_INDEX, name):
            for chunk in range(octets[index + 28]):
                for at in self._find(namespace, _BLOB_DATA, name, octets[index + 29] + chunk):
                    size = octets[at + 24] | octets[at + 25] << 8
                    buffer[done : done + size] = memoryview(octets)[at + _ENTRY : at + _ENTRY + size]
                    done += size
        return done

    def write(self, namespace: int, key: str, value: bytes) -> None:
        if self._holds(namespace, _name(key), value):
            return
        name, start = _name(key), 0
        for at in self._find(namespace, _BLOB_INDEX, name):
            start = self._flash.octets[at + 29] ^ 0x80
        size = len(value).to_bytes(4, "little")
        data = size[:2] + b"\xff\xff" + _crc(value)
        self._append(_item(namespace, _BLOB_DATA, 1 + (len(value) + 31) // 32, start, name, data), value)
        data = size + bytes([1, start]) + b"\xff\xff"
        self._append(_item(namespace, _BLOB_INDEX, 1, _ANY, name, data), b"")
        self._forget(namespace, name, start ^ 0x80)

    def _holds(self, namespace: int, name: bytes, value: bytes) -> bool:
        octets = self._flash.octets
        for at in self._find(namespace, _BLOB_DATA, name):
            if octets[at + 24] | octets[at + 25] << 8 == len(value):
                return all(octets[at + _ENTRY + i] == value[i] for i in range(len(value)))
        return False

    def erase(self, namespace: int, key: str) -> None:
        name = _name(key)
        for at in self._find(namespace, _BLOB_INDEX, name):
            self._forget(namespace, name, self._flash.octets[at + 29])

    def _forget(self, namespace: int, name: bytes, start: int) -> None:
        for at in self._find(namespace, _BLOB_INDEX, name):
            if self._flash.octets[at + 29] == start:
                self._mark_item(at)
        for at in self._find(namespace, _BLOB_DATA, name):
            if self._flash.octets[at + 3] & 0x80 == start:
                self._mark_item(at)

    # Entries

    def _find(self, namespace: int, kind: int, name: bytes | None, chunk: int | None = None) -> list[int]:
        # offsets of the items, oldest first
        octets, found = self._flash.octets, []
        for page in self._live():
            states, index = page * PAGE + _STATES, 0
            while index < _ENTRIES:
                four = octets[states + index // 4]
                if four in (0, 0xFF) and not index % 4:  # all erased or empty
                    index += 4
                    continue
                if four >> index % 4 * 2 & 3 != _WRITTEN:
                    index += 1
                    continue
                at = page * PAGE + _FIRST + index * _ENTRY
                index += octets[at + 2] or 1
                if octets[at] != namespace or octets[at + 1] != kind or chunk not in (None, octets[at + 3]):
                    continue
                if name is None or octets[at + 8 : at + 24] == name:
                    found.append(at)
        return found

    def _append(self, head: bytes, data: bytes) -> None:
        span = 1 + (len(data) + _ENTRY - 1) // _ENTRY
        page, index = self._room(span)
        at = page * PAGE + _FIRST + index * _ENTRY
        self._flash.program(at, head)
        self._mark(page, index, 1, _WRITTEN)
        if data:
            self._flash.program(at + _ENTRY, data)
            self._mark(page, index + 1, span - 1, _WRITTEN)

    def _room(self, span: int) -> tuple[int, int]:
        for _ in range(self._pages + 1):
            page = self._active()
            if page is not None:
                index = self._next(page)
                if index + span <= _ENTRIES:
                    return page, index
                self._flash.program(page * PAGE, _FULL)
            self._new_page()
        raise OSError(NO_SPACE, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")

    def _mark_item(self, at: int) -> None:
        page, offset = divmod(at, PAGE)
        self._mark(page, (offset - _FIRST) // _ENTRY, self._flash.octets[at + 2], _ERASED)

    def _mark(self, page: int, first: int, count: int, state: int) -> None:
        last = first + count - 1
        for octet in range(last // 4, first // 4 - 1, -1):  # from the end, as the real one does
            bits = 0xFF
            for index in range(max(first, octet * 4), min(last, octet * 4 + 3) + 1):
                bits &= ~((3 ^ state) << index % 4 * 2)
            self._flash.program(page * PAGE + _STATES + octet, bytes([bits & 0xFF]))

    def _state(self, page: int, index: int) -> int:
        return self._flash.octets[page * PAGE + _STATES + index // 4] >> index % 4 * 2 & 3

    # Pages

    def _kind(self, page: int) -> bytes:
        # one of the three states of a page with entries; b"" for a free one, blank or not
        head = bytes(self._flash.octets[page * PAGE : page * PAGE + 32])
        return head[:4] if head[28:] == _crc(head[4:28]) and head[:4] in (_ACTIVE, _FULL, _FREEING) else b""

    def _blank(self, page: int) -> bool:
        return self._flash.octets[page * PAGE : (page + 1) * PAGE] == b"\xff" * PAGE

    def _live(self) -> list[int]:
        return sorted((page for page in range(self._pages) if self._kind(page)), key=self._sequence)

    def _sequence(self, page: int) -> int:
        return int.from_bytes(self._flash.octets[page * PAGE + 4 : page * PAGE + 8], "little")

    def _active(self) -> int | None:
        for page in self._live():
            if self._kind(page) == _ACTIVE:
                return page
        return None

    def _next(self, page: int) -> int:
        index = _ENTRIES
        while index and self._state(page, index - 1) == _EMPTY:
            index -= 1
        return index

    def _new_page(self) -> None:
        live = self._live()
        if self._pages - len(live) >= 2:
            self._activate()
            return
        room = [sum(self._state(page, i) != _WRITTEN for i in range(_ENTRIES)) for page in live]
        if not max(room):
            raise OSError(NO_SPACE, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        old = live[room.index(max(room))]
        self._flash.program(old * PAGE, _FREEING)
        self._move(old, self._activate())

    def _activate(self) -> int:
        live = self._live()
        page = next(page for page in range(self._pages) if page not in live)
        if page in self._corrupt:
            self._flash.erase(page)
            self._corrupt.remove(page)
        number = (self._sequence(live[-1]) + 1 if live else 0).to_bytes(4, "little")
        rest = number + _VERSION_2 + b"\xff" * 19
        self._flash.program(page * PAGE, _ACTIVE + rest + _crc(rest))
        return page

    def _move(self, old: int, new: int) -> None:
        to = 0
        for index in range(_ENTRIES):
            if self._state(old, index) == _WRITTEN:
                at = old * PAGE + _FIRST + index * _ENTRY
                self._flash.program(new * PAGE + _FIRST + to * _ENTRY, bytes(self._flash.octets[at : at + _ENTRY]))
                self._mark(new, to, 1, _WRITTEN)
                to += 1
        self._flash.erase(old)

    # After a power cut

    def _repair(self) -> None:
        for page in self._live():
            if self._kind(page) == _FREEING:
                new = self._active()
                if new is not None:
                    self._flash.erase(new)
                self._move(page, self._activate())
        if len(self._live()) == self._pages:  # what the port does: it erases everything
            for page in range(self._pages):
                self._flash.erase(page)
        for page in self._live():
            self._repair_page(page)
        self._drop_duplicates()

    def _repair_page(self, page: int) -> None:
        octets = self._flash.octets
        index = self._next(page)
        while index < _ENTRIES:
            at = page * PAGE + _FIRST + index * _ENTRY
            if octets[at : at + 4] == b"\xff\xff\xff\xff":
                break
            self._mark(page, index, 1, _ERASED)
            index += 1
        index = 0
        while index < _ENTRIES:
            at = page * PAGE + _FIRST + index * _ENTRY
            if self._state(page, index) != _WRITTEN:
                index += 1
                continue
            head = bytes(octets[at : at + _ENTRY])
            if head[4:8] != _crc(head[:4] + head[8:]):
                self._mark(page, index, 1, _ERASED)
                index += 1
                continue
            if any(self._state(page, i) != _WRITTEN for i in range(index, index + head[2])):
                self._mark(page, index, head[2], _ERASED)
            index += head[2]

    def _drop_duplicates(self) -> None:
        # a new value whose index was written wins; parts without an index go
        octets = self._flash.octets
        for namespace in [octets[at + 24] for at in self._find(0, _U8, None)]:
            newest = {}
            for at in self._find(namespace, _BLOB_INDEX, None):
                newest[bytes(octets[at + 8 : at + 24])] = at
            for at in self._find(namespace, _BLOB_INDEX, None):
                if at != newest[bytes(octets[at + 8 : at + 24])]:
                    self._mark_item(at)
            for at in self._find(namespace, _BLOB_DATA, None):
                index = newest.get(bytes(octets[at + 8 : at + 24]))
                if index is None or octets[index + 29] != octets[at + 3] & 0x80:
                    self._mark_item(at)


def _name(key: str) -> bytes:
    octets = key.encode()
    if not 0 < len(octets) < 16:
        raise OSError(KEY_TOO_LONG, "ESP_ERR_NVS_KEY_TOO_LONG")
    return octets + bytes(16 - len(octets))


def _item(namespace: int, kind: int, span: int, chunk: int, name: bytes, data: bytes) -> bytes:
    head = bytes([namespace, kind, span, chunk])
    return head + _crc(head + name + data) + name + data


def _crc(octets: bytes) -> bytes:
    return (crc32(octets, 0xFFFFFFFF) & 0xFFFFFFFF).to_bytes(4, "little")
