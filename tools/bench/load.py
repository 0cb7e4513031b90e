"""The PNEs' side of confirmations, in a process of its own: as many requests as the PN GW accepts, from one socket.

It holds the keys of many PNEs and sends for all of them, with the board's own CoAP and OSCORE. All that takes time is
done before the clock runs: meanwhile it only sends ready datagrams and matches answers.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from cpns import broadcast_object, messages, numbers, proof
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.errors import MalformedMessage
from device_agent import oscore
from device_agent.coap.message import CON, Message, decode
from tools.bench.home import EVERYBODY, PN_ID, SG_ID, PneKeys

Options = list[tuple[int, bytes]]
Plain = tuple[int, Options, bytes]
"""Code, options and payload of a CoAP message."""
Protected = tuple[int, Options, bytes, Any]
"""A message under OSCORE, and the request that opens its answer."""

IN_FLIGHT = 400  # more than the PN GW collects for one commit, fewer than it handles at once
IN_FLIGHT_PLAIN = 32  # aiocoap's own socket has a small buffer, and requests lost in it are repeated only after seconds
_GIVE_UP_S = 10.0
_AGAIN_S = 2.0  # ACK_TIMEOUT (RFC 7252, 4.8)
_CPNS = [(11, b"cpns"), (12, bytes([numbers.CONTENT_CBOR]))]
_ECHO, _POST, _UNAUTHORIZED, _CHANGED = 252, 0x02, 0x81, 0x44


class NoAnswers(Exception):
    """The other end does not answer, or answers something else."""


class Client:
    """A UDP socket towards one CoAP server."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.connect(server)
        self._mid = 0

    def ask_all(self, requests: Sequence[Plain], in_flight: int = IN_FLIGHT) -> tuple[list[Message], float]:
        """Send each (code, options, payload) as a confirmable request, at most `in_flight` unanswered at a time.

        Returns the answers in order, and the seconds from the first request to the last answer. Requests without
        answer are repeated, as in RFC 7252. Raises NoAnswers.
        """
        datagrams: dict[bytes, bytes] = {}
        for code, options, payload in requests:
            self._mid = self._mid + 1 & 0xFFFF
            token = self._mid.to_bytes(4, "big")
            datagrams[token] = Message(CON, code, self._mid, token, options, payload).encode()
        waiting = iter(datagrams.items())
        open_: dict[bytes, float] = {}
        answers: dict[bytes, bytes] = {}
        begun = now = last = time.perf_counter()
        while len(answers) < len(datagrams):
            while len(open_) < in_flight and (entry := next(waiting, None)) is not None:
                self._socket.send(entry[1])
                open_[entry[0]] = now
            readable, _, _ = select.select([self._socket], [], [], 0.5)
            now = time.perf_counter()
            if readable:
                data = self._socket.recv(2048)
                if data[0] >> 4 & 3 == CON:  # a separate answer, sent after the acknowledgement
                    self._socket.send(bytes((0x60, 0)) + data[2:4])
                token = data[4 : 4 + (data[0] & 15)]
                if data[1] and open_.pop(token, None) is not None:
                    answers[token] = data
                    last = now
            if now - last > _GIVE_UP_S:
                raise NoAnswers(f"{len(datagrams) - len(answers)} of {len(datagrams)} requests were not answered")
            if not readable:
                for token, sent in open_.items():
                    if now - sent > _AGAIN_S:
                        self._socket.send(datagrams[token])
                        open_[token] = now
        return [decode(answers[token]) for token in datagrams], last - begun

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _Pne:
    """One PNE: its session, and all that it needs to confirm a key."""

    def __init__(self, keys: PneKeys) -> None:
        self.pne_id = keys.pne_id
        self.session = oscore.Context(
            keys.secret, keys.salt, keys.sender_id, keys.recipient_id, 0, lambda ceiling: None, echo=bytes(8)
        )
        self.record: GkdkRecord
        self.pn_alias = self.sg_alias = self.floor = 0


class Pnes:
    """All PNEs of the home, behind one Client."""

    def __init__(self, keys: Sequence[PneKeys], gateway: tuple[str, int]) -> None:
        self._client = Client(gateway)
        self._pnes = [_Pne(each) for each in keys]

    def become_members(self) -> None:
        """Get a GKDK for each PNE, and let it join SG_ID."""
        for pne, answer in zip(
            self._pnes, self._ask(lambda pne: _request(pne, numbers.GKDK_ASSIGNMENT_REQUEST)), strict=True
        ):
            pne.record = GkdkRecord.parse(answer[messages.GKDK])
            pne.pn_alias = answer[messages.PN_ALIAS]
        for pne, answer in zip(self._pnes, self._ask(lambda pne: _request(pne, numbers.JOIN_REQUEST)), strict=True):
            pne.sg_alias, pne.floor = answer[messages.SG_ALIAS], answer[messages.VERSION]

    def confirm(self, received: broadcast_object.Received) -> float:
        """Open and confirm the broadcast for each PNE. Return the seconds from the first request to the last answer."""
        _, seconds = self._exchange([self._protected(pne, self._confirmation(pne, received)) for pne in self._pnes])
        return seconds

    def close(self) -> None:
        """Close the socket."""
        self._client.close()

    def _confirmation(self, pne: _Pne, received: broadcast_object.Received) -> bytes:
        received.check(pne.pn_alias, pne.sg_alias, pne.record, pne.floor)
        key, _ = received.open(PN_ID, SG_ID)
        version = pne.floor = received.version
        own = (pne.record.report_key(), pne.record.generation, pne.record.slot)
        fields = {
            messages.RESULT: numbers.RESULT_SUCCESS,
            messages.SG_ID: SG_ID,
            messages.VERSION: version,
            messages.GENERATION: pne.record.generation,
            messages.SLOT: pne.record.slot,
            messages.PROOF: proof.confirmation(*own, version, numbers.RESULT_SUCCESS, PN_ID, SG_ID, key),
        }
        return bytes(messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields))

    def _ask(self, make: Callable[[_Pne], bytes]) -> list[dict[int, Any]]:
        answers, _ = self._exchange([self._protected(pne, make(pne)) for pne in self._pnes])
        challenged = [at for at, (_, options, _) in enumerate(answers) if any(number == _ECHO for number, _ in options)]
        again = []
        for at in challenged:
            echo = next(pair for pair in answers[at][1] if pair[0] == _ECHO)
            again.append((at, self._protected(self._pnes[at], make(self._pnes[at]), [*_CPNS, echo])))
        if again:
            repeated, _ = self._exchange([each for _, each in again], [self._pnes[at] for at, _ in again])
            for (at, _), answer in zip(again, repeated, strict=True):
                answers[at] = answer
        decoded = [messages.decode(payload)[1] for _, _, payload in answers]
        for fields in decoded:
            if fields[messages.RESULT] != numbers.RESULT_SUCCESS:
                raise NoAnswers(f"a PNE was refused: {fields.get(messages.ERROR_TEXT)}")
        return decoded

    def _protected(self, pne: _Pne, payload: bytes, options: Options = _CPNS) -> Protected:
        protected: Protected = pne.session.protect_request(_POST, options, payload)
        return protected

    def _exchange(self, protected: list[Protected], pnes: list[_Pne] | None = None) -> tuple[list[Plain], float]:
        """Return the verified answers, and the time of the exchanges, without that of opening the answers."""
        answers, seconds = self._client.ask_all([each[:3] for each in protected])
        opened = [
            pne.session.unprotect_response(sent[3], answer.options, answer.payload)
            for pne, sent, answer in zip(pnes or self._pnes, protected, answers, strict=True)
        ]
        for code, _, _ in opened:
            if code not in (_CHANGED, _UNAUTHORIZED):
                raise NoAnswers(f"a PNE was answered with {code >> 5}.{code & 31:02}")
        return opened, seconds


def confirm_deliveries(link: Connection, keys: list[PneKeys], gateway: tuple[str, int], broadcast_port: int) -> None:
    """Run the process: let all join, then for each version received confirm its broadcast and send the seconds."""
    air = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    air.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    air.bind((EVERYBODY, broadcast_port))
    air.settimeout(_GIVE_UP_S)
    pnes = Pnes(keys, gateway)
    pnes.become_members()
    link.send("members")
    while isinstance(version := link.recv(), int):
        link.send(pnes.confirm(_broadcast_of(version, air)))
    pnes.close()
    air.close()


def _broadcast_of(version: int, air: socket.socket) -> broadcast_object.Received:
    """Return the broadcast of a version, and pass over beacons and frames of earlier deliveries."""
    while True:
        with contextlib.suppress(MalformedMessage):
            received = group_key_object(air.recv(2048))
            if received.version == version:
                return received


def group_key_object(datagram: bytes) -> broadcast_object.Received:
    """Return the content of a broadcast that carries a key. Raises NoAnswers for another one."""
    received = broadcast_object.parse(datagram)
    if not isinstance(received, broadcast_object.Received):
        raise NoAnswers("another broadcast than one of a Group Key")
    return received


def post_plain(link: Connection, server: tuple[str, int], payload: bytes, requests: int) -> None:
    """Run the process for the peer: for each "again" do as many requests without OSCORE and send the seconds."""
    client = Client(server)
    while link.recv() == "again":
        answers, seconds = client.ask_all([(_POST, _CPNS, payload)] * requests, IN_FLIGHT_PLAIN)
        if any(answer.code != _CHANGED for answer in answers):
            raise NoAnswers("the peer refused")
        link.send(seconds)
    client.close()


def _request(pne: _Pne, code: int) -> bytes:
    fields: dict[int, object] = {messages.PNE_ID: pne.pne_id}
    if code == numbers.JOIN_REQUEST:
        fields[messages.SG_ID] = SG_ID
    return bytes(messages.encode(code, fields))
