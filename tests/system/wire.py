"""A path between one board and its PN GW on which every datagram is seen, with a check of OSCORE's nonces.

RFC 8613, 5.2: a nonce is made of the sender ID of the endpoint that made the Partial IV, and that number; under one
sender key it may protect one message only. Sender keys belong to sender IDs, and these are seen in the handshake: C_I
in message_1, C_R in front of message_3.
"""

import asyncio

from cpns.errors import MalformedMessage
from device_agent.coap import message as coap

_OSCORE = 9
_C_I_LEN, _C_R_LEN = 2, 3


class NonceWatch:
    """Keeps account of the nonces on one path. `reused` must stay empty."""

    def __init__(self) -> None:
        self.protected = 0  # messages that were looked at
        self.reused: list[str] = []
        self._c_i = b""
        self._peer_of: dict[bytes, bytes] = {}  # sender ID -> sender ID of the other end
        self._requests: dict[tuple[bool, bytes], tuple[bytes, bytes]] = {}  # (from the board, token) -> kid, number
        self._uses: dict[tuple[bytes, bytes, bytes], bytes] = {}  # (sender key, ID, number) -> ciphertext

    def see(self, datagram: bytes, from_board: bool) -> None:
        """Look at one datagram."""
        try:
            message = coap.decode(datagram)
        except MalformedMessage:
            return
        option = coap.option(message.options, _OSCORE)
        if option is None:
            if from_board and message.payload:
                self._handshake(message.payload)
            return
        number, kid = _parse(option)
        self.protected += 1
        if message.code >> 5 == 0:
            assert kid is not None
            self._requests[from_board, message.token] = kid, number
            self._use(kid, kid, number, message.payload)
            return
        request = self._requests.get((not from_board, message.token))
        if request is None:
            return  # of a request before this watch began
        own = self._peer_of.get(request[0])
        if own is None:
            return
        if number:
            self._use(own, own, number, message.payload)
        else:
            self._use(own, *request, message.payload)

    def _handshake(self, payload: bytes) -> None:
        if payload[0] == 0xF5:
            self._c_i = payload[-_C_I_LEN:]
        elif payload[0] == 0x40 | _C_R_LEN:
            c_r = payload[1 : 1 + _C_R_LEN]
            self._peer_of[c_r], self._peer_of[self._c_i] = self._c_i, c_r

    def _use(self, key: bytes, maker: bytes, number: bytes, ciphertext: bytes) -> None:
        before = self._uses.setdefault((key, maker, number), ciphertext)
        if before != ciphertext:
            self.reused.append(f"key of {key.hex()}: number {number.hex()} of {maker.hex()}")


def _parse(option: bytes) -> tuple[bytes, bytes | None]:
    """Partial IV (b"" if there is none) and kid of an OSCORE option (RFC 8613, 6.1)."""
    if not option:
        return b"", None
    length = option[0] & 7
    rest = option[1 + length :]
    if option[0] & 0x10:
        rest = rest[1 + rest[0] :]
    return option[1 : 1 + length], rest if option[0] & 8 else None


class Wire:
    """Relays datagrams between a board, which takes `address` for its PN GW's, and the PN GW at `gateway`."""

    def __init__(self, gateway: tuple[str, int]) -> None:
        self.watch = NonceWatch()
        self._gateway = gateway
        self._board: tuple[str, int] | None = None
        self._front: asyncio.DatagramTransport
        self._back: asyncio.DatagramTransport

    @classmethod
    async def open(cls, gateway: tuple[str, int]) -> "Wire":
        """Two loopback sockets; `close` them."""
        wire, loop = cls(gateway), asyncio.get_running_loop()
        wire._front, _ = await loop.create_datagram_endpoint(lambda: _Side(wire._from_board), ("127.0.0.1", 0))
        wire._back, _ = await loop.create_datagram_endpoint(lambda: _Side(wire._from_gateway), ("127.0.0.1", 0))
        return wire

    @property
    def address(self) -> str:
        """Where the board sends to, as a provisioning hint."""
        host, port = self._front.get_extra_info("sockname")
        return f"{host}:{port}"

    def close(self) -> None:
        """Close both sockets."""
        self._front.close()
        self._back.close()

    def _from_board(self, datagram: bytes, address: tuple[str, int]) -> None:
        self._board = address
        self.watch.see(datagram, True)
        self._back.sendto(datagram, self._gateway)

    def _from_gateway(self, datagram: bytes, address: tuple[str, int]) -> None:
        self.watch.see(datagram, False)
        if self._board is not None:
            self._front.sendto(datagram, self._board)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received) -> None:  # type: ignore[no-untyped-def]
        self.datagram_received = received
