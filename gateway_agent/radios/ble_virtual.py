"""The sender `virtual`: no radio, but an air on this computer for virtual boards (`virtual_air`)."""

import os
from collections import Counter
from pathlib import Path

from bumble.transport.common import AsyncPipeSink, TransportSink, TransportSource

from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.bumble_controller import OpenTransport, OwnController
from gateway_agent.radios.bumble_sender import BumbleSender
from gateway_agent.radios.virtual_air.air import VirtualAir
from gateway_agent.radios.virtual_air.boards import BoardSocket
from gateway_agent.radios.virtual_air.controller import AirController
from gateway_agent.radios.virtual_air.place import default_socket
from private_store import folders

_REMEDY = "End the other program, or name another socket as adapter in [ble]."


def open_sender(section: BleSection, counters: Counter[str]) -> BumbleSender:
    """Return the sender on an air of its own. Virtual boards join it at the socket that `adapter` names.

    With "auto" that is the one at which the boards of `keycast board run` look for an air.
    """
    path = default_socket() if section.adapter == "auto" else Path(section.adapter)

    async def open_air() -> OpenTransport:
        folders.make(path.parent, lambda what, next_step: OSError(f"{what} {next_step}"))
        return _AirAndController(path)

    return BumbleSender("virtual", OwnController(str(path), open_air, _REMEDY), section.company_id)


class _AirAndController:
    """An air, the socket of its boards, and the gateway's controller, to which it is the transport."""

    def __init__(self, path: Path) -> None:
        self._air = VirtualAir()
        self._boards = BoardSocket(self._air, path)
        self._boards.open()
        self._controller = AirController(self._air, _address(), extended=True)
        self.source: TransportSource = self._controller
        self.sink: TransportSink = AsyncPipeSink(self._controller)

    async def close(self) -> None:
        self._air.remove_controller(self._controller)
        await self._boards.close()


def _address() -> str:
    """Return a public address that belongs to no manufacturer: it is locally administered."""
    return ":".join(f"{octet:02X}" for octet in (2, *os.urandom(5)))
