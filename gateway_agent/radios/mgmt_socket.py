"""The kernel's Bluetooth management socket: commands with their answers, and events.

The kernel answers in the order of the commands except that some wait for the controller. Its answers carry the code of
the command but no number, so answers to the same code are told apart by the first octet that they return.
"""

import asyncio
import ctypes
import os
import select
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from gateway_agent.radios import mgmt_packets as packets
from gateway_agent.radios.ble_sender import NoSender

COMMAND_MAX_S = 5.0
"""The kernel waits 2 s for a controller; a command that has no answer after this time will never have one."""
PACKET_MAX = 65_535 + 6

_AF_BLUETOOTH, _BTPROTO_HCI, _CHANNEL_CONTROL = 31, 1, 3
_ADDRESS = struct.Struct("=HHH")  # struct sockaddr_hci: family, controller, channel
_IMMEDIATELY_S = 1.0
_NO_SUCH_CONTROLLER = 0xFFFE

Events = Callable[[packets.KernelEvent], None]
"""A function that is called with each event that is not an answer to a command."""
OpenSocket = Callable[[], socket.socket]


class MgmtError(Exception):
    """A command that has failed. `status`: the kernel's; `is_lost`: it has no answer; the socket must be renewed."""

    def __init__(self, opcode: int, status: int = 0, is_lost: bool = False) -> None:
        super().__init__(f"command {opcode:#06x}: {'no answer' if is_lost else packets.words(status)}")
        self.status = status
        self.is_lost = is_lost


def open_socket() -> socket.socket:
    """Return a new management socket, non-blocking. Raises OSError if the kernel has none.

    Linux opens one for each process, but without CAP_NET_ADMIN only a few commands that read are accepted.
    """
    sock = socket.socket(_AF_BLUETOOTH, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, _BTPROTO_HCI)
    try:
        # Python's own bind knows no channel before 3.14, and nothing of Bluetooth if it was built without its headers.
        address = _ADDRESS.pack(_AF_BLUETOOTH, packets.NO_CONTROLLER, _CHANNEL_CONTROL)
        if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), address, len(address)):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
    except OSError:
        sock.close()
        raise
    return sock


def require(open_it: OpenSocket = open_socket) -> None:
    """Raise NoSender, with the next step, unless this process may advertise through the management socket."""
    try:
        sock = open_it()
    except PermissionError:
        raise _no_capability() from None
    except OSError as error:
        raise NoSender(
            f"This kernel or container offers no Bluetooth sockets ({error.strerror}).",
            "Next: modprobe bluetooth; a container needs the network of the host",
        ) from None
    with sock:
        # The kernel looks at the capability first, so an adapter is not needed to find out.
        if ask_now(sock, packets.READ_ADVERTISING_FEATURES, _NO_SUCH_CONTROLLER).status == packets.PERMISSION_DENIED:
            raise _no_capability()
        known = ask_now(sock, packets.READ_COMMANDS)
        if packets.ADD_ADVERTISING_DATA not in packets.commands(known.returned):
            raise NoSender("This kernel cannot set the interval of adverts.", "Next: Linux 5.11 or later")


def _no_capability() -> NoSender:
    return NoSender(
        "This process may not use the kernel's Bluetooth management socket: it lacks the capability CAP_NET_ADMIN.",
        "Next: AmbientCapabilities=CAP_NET_ADMIN in the [Service] section of its systemd unit; or, without systemd, "
        "setcap cap_net_admin+ep on the interpreter of a virtual environment made with --copies",
    )


def ask_now(sock: socket.socket, opcode: int, index: int = packets.NO_CONTROLLER) -> packets.KernelReply:
    """Return the answer to a command that only reads, which the kernel answers while it is written.

    Raises NoSender, packets.MalformedPacket, OSError.
    """
    sock.send(packets.command(opcode, index))
    while select.select([sock], [], [], _IMMEDIATELY_S)[0]:
        answer = packets.reply(packets.event(sock.recv(PACKET_MAX)))
        if answer is not None and answer.opcode == opcode:
            return answer
    raise NoSender("The kernel's Bluetooth management socket does not answer.", "Next: restart this machine")


@dataclass(slots=True, eq=False)
class _Waiting:
    """A command without an answer yet. `first`: the octet that its result begins with, None if that says nothing."""

    opcode: int
    index: int
    first: int | None
    answer: "asyncio.Future[bytes]"


class MgmtSocket:
    """One open management socket on the running event loop."""

    def __init__(self, events: Events, lost: Callable[[str], None], open_it: OpenSocket = open_socket) -> None:
        """Open the socket. `lost` is called, with the reason, if it fails later. Raises OSError."""
        self._events = events
        self._lost = lost
        self._waiting: list[_Waiting] = []
        self._socket: socket.socket | None = open_it()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._receive)

    async def ask(self, opcode: int, index: int = packets.NO_CONTROLLER, parameters: bytes = b"") -> bytes:
        """Write a command; return the result of its answer. Raises MgmtError, OSError."""
        answer = self.write(opcode, index, parameters)
        try:
            async with asyncio.timeout(COMMAND_MAX_S):
                return await answer
        except TimeoutError:
            raise MgmtError(opcode, is_lost=True) from None

    def write(self, opcode: int, index: int, parameters: bytes) -> "asyncio.Future[bytes]":
        """Write a command before this call returns; return the future of its result, which may raise MgmtError.

        Raises OSError, and ConnectionError if the socket is closed.
        """
        if self._socket is None:
            raise ConnectionError("the management socket is closed")
        self._socket.send(packets.command(opcode, index, parameters))
        answer: asyncio.Future[bytes] = self._loop.create_future()
        answer.add_done_callback(_retrieve)
        first = parameters[0] if opcode in _WITH_INSTANCE else None
        self._waiting.append(_Waiting(opcode, index, first, answer))
        return answer

    def give_up(self, index: int, instance: int) -> None:
        """Let the parameters of an instance that was removed fail, which Linux does not answer then."""
        for waiting in list(self._waiting):
            if (waiting.opcode, waiting.index, waiting.first) == (_PARAMETERS, index, instance):
                self._waiting.remove(waiting)
                _settle(waiting, MgmtError(_PARAMETERS, packets.INVALID_PARAMETERS))

    def close(self) -> None:
        """Close the socket; commands without an answer fail."""
        if self._socket is None:
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        for waiting in self._waiting:
            _settle(waiting, MgmtError(waiting.opcode, is_lost=True))
        self._waiting.clear()

    def _receive(self) -> None:
        """Handle all packets that have arrived."""
        while self._socket is not None:
            try:
                packet = self._socket.recv(PACKET_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self._fail(error.strerror or str(error))
                return
            if not packet:
                self._fail("the kernel has closed it")
                return
            try:
                self._handle(packets.event(packet))
            except packets.MalformedPacket:
                continue  # an event of a newer kernel

    def _fail(self, why: str) -> None:
        self.close()
        self._lost(why)

    def _handle(self, event: packets.KernelEvent) -> None:
        answer = packets.reply(event)
        if answer is None:
            self._events(event)
            return
        fitting = [each for each in self._waiting if (each.opcode, each.index) == (answer.opcode, event.index)]
        if not fitting:
            return
        first = answer.returned[0] if answer.returned else None
        waiting = next((each for each in fitting if each.first is not None and each.first == first), fitting[0])
        self._waiting.remove(waiting)
        _settle(waiting, answer.returned if not answer.status else MgmtError(answer.opcode, answer.status))


_PARAMETERS = packets.ADD_ADVERTISING_PARAMETERS
_WITH_INSTANCE = (_PARAMETERS, packets.ADD_ADVERTISING_DATA, packets.REMOVE_ADVERTISING)
"""The commands whose parameters and results begin with the same instance."""


def _settle(waiting: _Waiting, result: bytes | MgmtError) -> None:
    if waiting.answer.done():
        return
    if isinstance(result, MgmtError):
        waiting.answer.set_exception(result)
    else:
        waiting.answer.set_result(result)


def _retrieve(answer: "asyncio.Future[bytes]") -> None:
    """Mark an exception as seen: a command may be written without waiting for its answer."""
    if not answer.cancelled():
        answer.exception()
