"""A scripted kernel at the other end of a management socket: not Linux, but as strict about the protocol.

It follows net/bluetooth/mgmt.c of Linux 6.1 in what the sender relies on: lengths, statuses, the order of answers, who
hears which event, instances that outlive their socket and end by their timeout, the rotation of a 4.x controller. Each
controller keeps what it sent in `on_air`.
"""

import asyncio
import random
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

ROTATION_S = 2.0
POWERED, BR_EDR, LOW_ENERGY, ADVERTISING = 1, 1 << 7, 1 << 9, 1 << 10
ADVERTISING_FLAGS = 0x1F00F | 1 << 5 | 1 << 6
EXTENDED_FLAGS = 1 << 7 | 1 << 10 | 1 << 11
FIXED = {0x02: 0, 0x03: 0, 0x04: 0, 0x05: 1, 0x3D: 0, 0x3F: 1}
AT_LEAST = {0x54: 18, 0x55: 3}
WITHOUT_CONTROLLER = {0x02, 0x03}
UNTRUSTED = {0x02, 0x03, 0x04}


@dataclass(eq=False)
class Instance:
    """One advertising instance of a controller."""

    number: int
    timeout_s: int = 0
    interval_s: float = 1.28
    data: bytes = b""
    is_enabled: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    def cancel(self) -> None:
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()


class ScriptedController:
    """One adapter. `on_air` has (moment, instance, data) of each advert; `removed_by_others` is for tests to fill."""

    def __init__(self, kernel: "ScriptedKernel", index: int, *, extended: bool, instances: int, dual: bool) -> None:
        self.kernel = kernel
        self.index = index
        self.is_extended = extended
        self.max_instances = instances
        self.supported = POWERED | LOW_ENERGY | (BR_EDR if dual else 0)
        self.settings = self.supported
        self.is_blocked = False
        self.instances: dict[int, Instance] = {}
        self.current = 0  # of a 4.x controller
        self.rotation: asyncio.TimerHandle | None = None
        self.on_air: list[tuple[float, int, bytes]] = []
        self._random = random.Random(7)

    @property
    def payloads(self) -> list[bytes]:
        """Each payload of the air once, in the order of its first advert."""
        return list(dict.fromkeys(data for _, _, data in self.on_air))

    def add(self, number: int, data: bytes, interval_s: float = 0.1) -> None:
        """Add an instance as another program does that uses another socket."""
        self.instances[number] = Instance(number, 0, interval_s, data)
        self.kernel.tell(0x23, self.index, bytes([number]))
        self.enable(self.instances[number])

    def remove(self, number: int, told_not: object = None) -> None:
        instance = self.instances.pop(number)
        instance.cancel()
        self.kernel.tell(0x24, self.index, bytes([number]), told_not)
        if self.current == number:
            self.current = 0
            self._rotate()

    def remove_all(self) -> None:
        """Remove all instances, as bluetoothd does when it starts."""
        for number in list(self.instances):
            self.remove(number)

    def switch(self, is_on: bool, told_not: object = None) -> None:
        if is_on == bool(self.settings & POWERED):
            return
        self.settings ^= POWERED
        if not is_on:
            for instance in list(self.instances.values()):
                instance.is_enabled = False
                if instance.timeout_s:
                    self.remove(instance.number)
        self.kernel.tell(0x06, self.index, struct.pack("<I", self.settings), told_not)

    def block(self) -> None:
        """Block the adapter by rfkill."""
        self.is_blocked = True
        self.switch(False)

    def enable(self, instance: Instance) -> None:
        """Begin to advertise one instance, if the controller can do so now."""
        if self.is_extended:
            instance.is_enabled = True
            self._events(instance, self.kernel.loop.time())
        elif not self.current or self.current == instance.number:
            self._show(instance)

    def _events(self, instance: Instance, at: float) -> None:
        instance.cancel()
        if instance.timeout_s:
            instance.timers.append(self.kernel.loop.call_later(instance.timeout_s, self._expired, instance))
        self._next_event(instance)

    def _next_event(self, instance: Instance) -> None:
        wait = instance.interval_s + self._random.uniform(0, 0.010)
        instance.timers.append(self.kernel.loop.call_later(wait, self._transmit, instance))

    def _transmit(self, instance: Instance) -> None:
        if self.instances.get(instance.number) is instance and self.settings & POWERED:
            self.on_air.append((self.kernel.loop.time(), instance.number, instance.data))
            self._next_event(instance)

    def _expired(self, instance: Instance) -> None:
        if self.instances.get(instance.number) is instance:
            self.remove(instance.number)

    def _show(self, instance: Instance) -> None:
        """Let a 4.x controller advertise an instance now, for ROTATION_S if there are others."""
        for each in self.instances.values():
            each.cancel()
        self.current, instance.is_enabled = instance.number, True
        self.on_air.append((self.kernel.loop.time(), instance.number, instance.data))
        instance.interval_s = max(instance.interval_s, 0.1)
        self._events(instance, self.kernel.loop.time())
        if self.rotation is not None:
            self.rotation.cancel()
        self.rotation = self.kernel.loop.call_later(ROTATION_S, self._rotate)

    def _rotate(self) -> None:
        if self.rotation is not None:
            self.rotation.cancel()
        following = [n for n in sorted(self.instances) if n > self.current] or sorted(self.instances)
        if following and (following[0] != self.current):
            self._show(self.instances[following[0]])


class ScriptedKernel:
    """The management protocol for any number of sockets and controllers, on the running loop.

    `refusals` has the statuses with which the next commands of a code are refused; commands whose code is in `mute` are
    never answered. `asked` lists (code, index, parameters) of all commands, `faults` what Linux would have refused.
    """

    def __init__(self, *, trusted: bool = True, commands: tuple[int, ...] = (*FIXED, *AT_LEAST)) -> None:
        self.loop = asyncio.get_running_loop()
        self.controllers: dict[int, ScriptedController] = {}
        self.is_trusted = trusted
        self.commands = commands
        self.hci_s = 0.004  # that a controller takes for what is behind one management command
        self.refusals: dict[int, list[int]] = {}
        self.mute: set[int] = set()
        self.asked: list[tuple[int, int, bytes]] = []
        self.faults: list[str] = []
        self._sockets: list[socket.socket] = []
        self._ready_at: dict[int, float] = {}

    def plug_in(
        self, index: int = 0, *, extended: bool = True, instances: int = 6, dual: bool = False, on: bool = True
    ) -> ScriptedController:
        controller = ScriptedController(self, index, extended=extended, instances=instances, dual=dual)
        if not on:
            controller.settings &= ~POWERED
        self.controllers[index] = controller
        self.tell(0x04, index, b"")
        return controller

    def pull_out(self, index: int = 0) -> None:
        for instance in self.controllers.pop(index).instances.values():
            instance.cancel()
        self.tell(0x05, index, b"")

    def open(self) -> socket.socket:
        """Return a new management socket."""
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for each in (theirs, ours):
            each.setblocking(False)
        self._sockets.append(ours)
        self.loop.add_reader(ours, self._receive, ours)
        return theirs

    def hang_up(self) -> None:
        """Close all sockets."""
        for each in self._sockets:
            self.loop.remove_reader(each)
            each.close()
        self._sockets.clear()

    def tell(self, code: int, index: int, parameters: bytes, told_not: object = None) -> None:
        """Send an event to all sockets except the one whose command has caused it."""
        for each in self._sockets:
            if each is not told_not:
                each.send(struct.pack("<HHH", code, index, len(parameters)) + parameters)

    def close(self) -> None:
        self.hang_up()
        for index in list(self.controllers):
            controller = self.controllers[index]
            self.pull_out(index)
            if controller.rotation is not None:
                controller.rotation.cancel()

    def _receive(self, sock: socket.socket) -> None:
        try:
            packet = sock.recv(70_000)
        except OSError:
            packet = b""
        if not packet:
            self.loop.remove_reader(sock)
            sock.close()
            if sock in self._sockets:
                self._sockets.remove(sock)
            return
        opcode, index, length = struct.unpack_from("<HHH", packet)
        parameters = packet[6:]
        if length != len(parameters):
            self.faults.append(f"{opcode:#x}: length {length} of {len(parameters)} octets")
            return  # Linux: the write fails with EINVAL
        self.asked.append((opcode, index, parameters))
        if opcode in self.mute:
            return
        status = self._objection(opcode, index, parameters)
        if not status and self.refusals.get(opcode):
            status = self.refusals[opcode].pop(0)
            if opcode == 0x54:
                self._forget(index, parameters[0], sock)
            if opcode == 0x55:
                self._drop_unfinished(index)
        if status:
            self._answer(sock, opcode, index, status)
        else:
            self._do(sock, opcode, index, parameters)

    def _objection(self, opcode: int, index: int, parameters: bytes) -> int:
        """Return the status with which Linux refuses a command before it looks at its meaning, 0 for none."""
        if opcode not in self.commands:
            return 0x01
        if not self.is_trusted and opcode not in UNTRUSTED:
            return 0x14
        if (index == 0xFFFF) != (opcode in WITHOUT_CONTROLLER) or (index != 0xFFFF and index not in self.controllers):
            return 0x11
        if len(parameters) < AT_LEAST.get(opcode, 0) or len(parameters) != FIXED.get(opcode, len(parameters)):
            self.faults.append(f"{opcode:#x}: {len(parameters)} octets")
            return 0x0D
        return 0

    def _do(self, sock: socket.socket, opcode: int, index: int, parameters: bytes) -> None:
        controller = self.controllers.get(index)

        def answer(status: int, returned: bytes = b"") -> None:
            self._answer(sock, opcode, index, status, returned)

        if controller is None:
            numbers = sorted(self.commands if opcode == 0x02 else self.controllers)
            events = b"\x00\x00" if opcode == 0x02 else b""
            answer(0, struct.pack("<H", len(numbers)) + events + struct.pack(f"<{len(numbers)}H", *numbers))
        elif opcode == 0x04:
            address = bytes([controller.index, 0x44, 0x33, 0x22, 0x11, 0x00])
            fixed = struct.pack("<6sBHII", address, 9, 2, controller.supported, controller.settings)
            answer(0, fixed + bytes(3 + 249 + 11))
        elif opcode == 0x05:
            self._set_powered(controller, parameters[0], sock, answer)
        elif opcode == 0x3D:
            used = bytes(n for n in sorted(controller.instances) if n <= len(controller.instances))  # as Linux has it
            flags = ADVERTISING_FLAGS | (EXTENDED_FLAGS if controller.is_extended else 0)
            answer(0, struct.pack("<IBBBB", flags, 31, 31, controller.max_instances, len(used)) + used)
        elif opcode == 0x3F:
            self._remove(controller, parameters[0], sock, answer)
        elif opcode == 0x54:
            self._add_parameters(controller, parameters, answer)
        elif opcode == 0x55:
            self._add_data(controller, parameters, sock, answer)

    def _set_powered(
        self, controller: ScriptedController, value: int, sock: socket.socket, answer: Callable[..., None]
    ) -> None:
        if value and controller.is_blocked:
            answer(0x12)
            return

        def done() -> None:
            controller.switch(bool(value), sock)
            answer(0, struct.pack("<I", controller.settings))

        self._later(controller, done)

    def _remove(
        self, controller: ScriptedController, number: int, sock: socket.socket, answer: Callable[..., None]
    ) -> None:
        if number == 0:
            self.faults.append("the instances of all programs are removed")
        if number not in controller.instances:
            answer(0x0D)
            return

        def done() -> None:
            if number in controller.instances:
                controller.remove(number, sock)
            answer(0, bytes([number]))

        self._later(controller, done)

    def _add_parameters(self, controller: ScriptedController, parameters: bytes, answer: Callable[..., None]) -> None:
        number, flags, _, timeout, least, most, _ = struct.unpack("<BIHHIIb", parameters[:18])
        allowed = ADVERTISING_FLAGS | (EXTENDED_FLAGS if controller.is_extended else 0)
        if not 1 <= number <= controller.max_instances or flags & ~allowed:
            answer(0x0D)
        elif not controller.settings & POWERED:
            answer(0x0B)
        elif flags & 1 << 14 and not 0x20 <= least <= most <= 0xFFFFFF:
            answer(0x03)
        else:
            instance = controller.instances.setdefault(number, Instance(number))
            instance.cancel()
            instance.data = b""
            instance.timeout_s = timeout if flags & 1 << 13 else 0
            instance.interval_s = least * 0.000625 if flags & 1 << 14 else 1.28

            def done() -> None:
                if controller.instances.get(number) is instance:  # otherwise there is no answer
                    answer(0, bytes([number, 0x7F, 31, 31]))

            self._later(controller, done) if controller.is_extended else done()

    def _add_data(
        self, controller: ScriptedController, parameters: bytes, sock: socket.socket, answer: Callable[..., None]
    ) -> None:
        number, length, scan_length = parameters[:3]
        if len(parameters) != 3 + length + scan_length:
            self.faults.append(f"data of {len(parameters)} octets that says {length} and {scan_length}")
        instance = controller.instances.get(number)
        if instance is None:
            answer(0x0D)
            return
        data = parameters[3 : 3 + length]
        if not controller.settings & POWERED or not _is_advertising_data(data):
            self._forget(controller.index, number, sock)
            answer(0x0D if controller.settings & POWERED else 0x0B)
            return
        instance.data = data
        if not controller.is_extended and controller.current not in (0, number):
            answer(0, bytes([number]))  # its turn comes in the rotation
            return

        def done() -> None:
            if controller.instances.get(number) is not instance:
                answer(0x03)
                return
            if not instance.timers or not controller.is_extended:
                controller.enable(instance)
            answer(0, bytes([number]))

        if not instance.is_enabled:
            self.tell(0x23, controller.index, bytes([number]), sock)
        self._later(controller, done)

    def _forget(self, index: int, number: int, sock: socket.socket) -> None:
        """Drop an instance because of a command that has failed."""
        controller = self.controllers.get(index)
        if controller is not None and number in controller.instances:
            controller.remove(number, sock)

    def _drop_unfinished(self, index: int) -> None:
        """Drop all instances that have no data yet, as Linux does if the data of one are refused by the controller."""
        controller = self.controllers[index]
        for instance in list(controller.instances.values()):
            if not instance.is_enabled:
                instance.cancel()
                del controller.instances[instance.number]

    def _later(self, controller: ScriptedController, done: Callable[[], None]) -> None:
        """Do something after all that the controller has been told before."""
        at = max(self._ready_at.get(controller.index, 0.0), self.loop.time()) + self.hci_s
        self._ready_at[controller.index] = at
        self.loop.call_at(at, done)

    def _answer(self, sock: socket.socket, opcode: int, index: int, status: int, returned: bytes = b"") -> None:
        if sock not in self._sockets:
            return
        code = 0x02 if status else 0x01
        parameters = struct.pack("<HB", opcode, status) + returned
        sock.send(struct.pack("<HHH", code, index, len(parameters)) + parameters)


def _is_advertising_data(data: bytes) -> bool:
    """Whether at most 28 octets are whole AD structures: three are left for Flags."""
    at = 0
    while at < len(data):
        at += 1 + data[at]
    return at == len(data) and len(data) <= 28
