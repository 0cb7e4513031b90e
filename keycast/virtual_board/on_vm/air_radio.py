# `bluetooth.BLE` of the ESP32, whose Bluetooth stack is the host of an air (gateway_agent/radios/virtual_air/).
#
# On the ESP32 a handler runs in the task of the stack, between any two bytecodes of the program. Here a signal of the
# system says that the air has sent something, and the handler runs between two bytecodes, too. Its heap is locked: what
# a handler allocates is missing on a board at some time, and shows at once here. No event takes heap, as on the ESP32.
#
# The radio is there while nobody hosts the air: then it hears nothing, and each call tries to join again.
import struct
import sys
from os import getenv

import ffi
import machine

import micropython
from micropython import const

# Events, errors, and numbers of the system
_CONNECTED = const(1)
_DISCONNECTED = const(2)
_WRITTEN = const(3)
_SCAN_RESULT = const(5)
_SCAN_DONE = const(6)
_MTU = const(21)
_SENT = const(0)
_EBUSY = const(16)
_ENOMEM = const(12)
_ENODEV = const(19)
_EINVAL = const(22)
_ENOTCONN = const(-128)  # 128 there, in a table of octets with a sign
_EALREADY = const(120)
_TOO_LONG = const(-4)
_UNIX = const(1)
_SEQPACKET = const(5)
_SIGIO = const(29)
_SETFL = const(4)
_SETOWN = const(8)
_ASYNC = const(0x2000)
_NONBLOCK = const(0x800)
_SEND_FLAGS = const(0x4040)  # MSG_NOSIGNAL | MSG_DONTWAIT

_PACKET = const(600)
_ADVERT_MAX = const(31)
_VALUE_LEN = const(20)  # octets of a characteristic's value, unless gatts_set_buffer says so
_MTU_PREFERRED = const(256)
_UNSENT_MAX = const(12)  # notifications for which the stack has buffers
_FIRST_HANDLE = const(16)

_libc = ffi.open(None)
_socket = _libc.func("i", "socket", "iii")
_connect = _libc.func("i", "connect", "ipi")
_close = _libc.func("i", "close", "i")
_control = _libc.func("i", "fcntl", "iii")
_read = _libc.func("i", "read", "ipi")
_write = _libc.func("i", "send", "ipii")

_packet = bytearray(_PACKET)
_view = memoryview(_packet)
_address = _view[2:8]
_adverts = [None] * (_ADVERT_MAX + 1)  # views of adverts by their length
# What handlers get: tuples on the ESP32, which has one for all events
_two, _three, _five = [0, 0], [0, 0, None], [0, _address, 0, 0, None]


class BLE:
    _only = None

    def __new__(cls):
        if cls._only is None:
            cls._only = object.__new__(cls)
            cls._only._line = -1
            cls._only._handler = None
            cls._only._off()
        return cls._only

    def __init__(self):
        pass

    def _off(self):
        if self._line >= 0:
            _close(self._line)
        self._line = -1
        self._active = self._called = False
        self._mtu = _MTU_PREFERRED
        self._services = self._scan = self._advert = None
        self._data = self._response = b""
        self._values = {}  # handle -> value
        self._lengths = {}  # handle -> octets that fit
        self._peers = {}  # number of a connection -> type of the central's address, and the address
        self._leaving = []  # numbers of connections whose end was asked for
        self._unsent = 0

    # General

    def active(self, on=None):
        if on is not None and not on:
            self._off()
        elif on and not self._active:
            self._active = True
            self._join()
        return self._active

    def config(self, name=None, **values):
        if name is not None:
            if name == "mac":
                return 0, _own_address()
            if name == "mtu":
                return self._mtu
            raise ValueError("unknown config param")
        for name, value in values.items():
            if name == "mtu":
                if not 23 <= value <= 517:
                    raise OSError(_EINVAL)
                self._mtu = value
                self._send(struct.pack("<BH", ord("M"), value))
            elif name not in ("addr_mode", "gap_name", "rxbuf"):
                raise ValueError("unknown config param")

    def irq(self, handler):
        self._handler = handler

    # Adverts

    def gap_advertise(self, interval_us, adv_data=None, *, resp_data=None, connectable=True):
        self._check()
        self._advert = None
        if interval_us is not None:
            if len(adv_data or b"") > _ADVERT_MAX or len(resp_data or b"") > _ADVERT_MAX:
                raise OSError(_TOO_LONG)
            self._data = self._data if adv_data is None else bytes(adv_data)
            self._response = self._response if resp_data is None else bytes(resp_data)
            head = struct.pack("<BIBB", ord("A"), interval_us, bool(connectable), len(self._data))
            self._advert = head + self._data + self._response
        self._send(self._advert or struct.pack("<BIBB", ord("A"), 0, 0, 0))

    def gap_scan(self, duration_ms, interval_us=1280000, window_us=11250, active=False):
        self._check()
        if duration_ms is None:
            if self._scan:
                self._scan = None
                self._send(struct.pack("<BIII", ord("S"), 0, 0, 0))
                self._call(_SCAN_DONE, ())
            return
        if self._scan:
            raise OSError(_EALREADY)
        self._scan = struct.pack("<BIII", ord("S"), interval_us, min(window_us, interval_us), duration_ms)
        self._send(self._scan)

    # Connections and values

    def gap_disconnect(self, connection):
        self._check()
        if connection not in self._peers:
            raise OSError(_ENOTCONN)
        if connection in self._leaving:
            raise OSError(_EALREADY)
        self._leaving.append(connection)
        self._send(struct.pack("<BH", ord("D"), connection))
        return True

    def gatts_register_services(self, services):
        self._check()
        if self._advert or self._scan or self._peers:
            raise OSError(_EBUSY)
        handle, lines, told = _FIRST_HANDLE, [], []
        self._values, self._lengths = {}, {}
        for uuid, characteristics in services:
            lines.append(uuid.text)
            of_service = []
            for one in characteristics:
                handle += 2
                lines.append("%d %d %s" % (handle, one[1], one[0].text))
                of_service.append(handle)
                self._values[handle], self._lengths[handle] = b"", _VALUE_LEN
                handle += 1 if one[1] & 0x30 else 0  # where centrals subscribe
            told.append(tuple(of_service))
            handle += 1
        self._services = b"G" + "\n".join(lines).encode()
        self._send(self._services)
        return tuple(told)

    def gatts_set_buffer(self, handle, length, append=False):
        self._known(handle)
        if append:
            raise NotImplementedError
        self._values[handle], self._lengths[handle] = b"", length

    def gatts_read(self, handle):
        value = self._values.get(handle, b"")  # no error for a value that is not there
        if value is None:  # there was no room for it, which the firmware notices now
            raise MemoryError
        return value

    def gatts_write(self, handle, data, send_update=False):
        self._known(handle)
        self._values[handle] = value = bytes(data)
        self._lengths[handle] = max(self._lengths[handle], len(value))
        self._send(struct.pack("<BH", ord("V"), handle) + value)

    def gatts_notify(self, connection, handle, data=None):
        self._known(handle)
        if connection not in self._peers:
            raise OSError(_ENOTCONN)
        if self._unsent >= _UNSENT_MAX:
            raise OSError(_ENOMEM)
        self._unsent += 1
        self._send(struct.pack("<BHH", ord("N"), connection, handle) + (self._values[handle] if data is None else data))

    def _check(self):
        if not self._active:
            raise OSError(_ENODEV)

    def _known(self, handle):
        self._check()
        if handle not in self._values:
            raise OSError(_EINVAL)

    # The line to the air

    def _send(self, message):
        if self._line < 0:
            self._join()  # it tells all there is to tell
        else:
            _write(self._line, message, len(message), _SEND_FLAGS)

    def _join(self):
        place = struct.pack("<H", _UNIX) + getenv("BOARD_BLE").encode()
        line = _socket(_UNIX, _SEQPACKET, 0)
        if _connect(line, place, len(place)):
            _close(line)
            return
        self._line = line
        _control(line, _SETOWN, _pid())
        _control(line, _SETFL, _ASYNC | _NONBLOCK)
        loss, window, interval = (getenv("BOARD_BLE_HEARS") or "0 0 0").split()
        hello = b"H\x01" + _own_address() + struct.pack("<HII", int(float(loss) * 65535), int(window), int(interval))
        mtu = struct.pack("<BH", ord("M"), self._mtu)
        for message in (hello, mtu, self._services, self._scan, self._advert):
            if message:
                _write(line, message, len(message), _SEND_FLAGS)
        for handle, value in self._values.items():
            if value:
                self._send(struct.pack("<BH", ord("V"), handle) + value)

    def _receive(self, _=None):
        # All that has arrived; called between two bytecodes
        self._called = False
        while self._line >= 0:
            size = _read(self._line, _packet, _PACKET)
            if size <= 0:
                if not size:
                    self._alone()
                return
            self._event(_packet[0], size)

    def _alone(self):
        # Nobody hosts the air any more
        _close(self._line)
        self._line, self._unsent = -1, 0
        self._leaving.clear()
        while self._peers:
            connection, (_three[1], _three[2]) = self._peers.popitem()
            _three[0] = connection
            self._call(_DISCONNECTED, _three)

    def _event(self, event, size):
        if event == _SCAN_RESULT:
            if not self._scan:
                return
            length = size - 10
            if _adverts[length] is None:
                _adverts[length] = _view[10:size]
            _five[0], _five[2], _five[3], _five[4] = _packet[1], _packet[8], _packet[9] - 256, _adverts[length]
            self._call(event, _five)
            return
        if event == _SENT:
            self._unsent -= 1
            return
        if event == _SCAN_DONE:
            self._scan = None
            self._call(event, ())
            return
        connection, number = _packet[1] | _packet[2] << 8, _packet[3] | _packet[4] << 8
        if event in (_CONNECTED, _DISCONNECTED):
            if connection in self._leaving:
                self._leaving.remove(connection)
            if event == _CONNECTED:
                self._peers[connection] = _packet[3], bytes(_packet[4:10])
                if self._advert and self._advert[5]:
                    self._advert = None  # the stack has stopped it
            _three[0] = connection
            _three[1], _three[2] = self._peers.pop(connection) if event == _DISCONNECTED else self._peers[connection]
            self._call(event, _three)
        elif event in (_WRITTEN, _MTU):
            if event == _WRITTEN:
                try:
                    self._values[number] = bytes(_view[5 : min(size, 5 + self._lengths[number])])
                except MemoryError:
                    self._values[number] = None
            _two[0], _two[1] = connection, number
            self._call(event, _two)
            if event == _WRITTEN:
                _write(self._line, b"W", 1, _SEND_FLAGS)

    def _call(self, event, values):
        if self._handler is None:
            return
        failed = None
        micropython.heap_lock()
        try:
            self._handler(event, values)
        except Exception as error:  # noqa: BLE001 - printed below
            failed = error
        finally:
            micropython.heap_unlock()
        if failed:  # the firmware prints it, and calls this handler no more
            self._handler = None
            sys.print_exception(failed, sys.stderr)


def _own_address():
    # that of the chip plus 2, as Espressif gives them out
    address = bytearray(machine.unique_id())
    address[5] = (address[5] + 2) & 0xFF
    return bytes(address)


def _on_signal(_):
    # Runs at any instruction, so it only asks for a call between two bytecodes
    if not _radio._called:
        _radio._called = True
        try:
            micropython.schedule(_receive, None)
        except RuntimeError:  # too many calls are waiting; the next signal tries again
            _radio._called = False


_radio = BLE()
_receive = _radio._receive
_pid = _libc.func("i", "getpid", "")
_callback = ffi.callback("v", _on_signal, "i", lock=True)
_libc.func("p", "signal", "iC")(_SIGIO, _callback)
_libc.func("i", "siginterrupt", "ii")(_SIGIO, 1)  # a handler also runs while the program waits in a call of the system
