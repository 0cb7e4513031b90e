"""A board on CPython for tests of pairing: it speaks to a gateway as a true board does, but can lie."""

import asyncio
import secrets
import socket

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers
from cpns.crypto.hmac import hmac_sha256
from device_agent import provisioning
from device_agent.coap import message as coap
from device_agent.key_store import KeyStore
from device_agent.pairing import EXPORTER_LABEL
from device_agent.requests import CPNS
from device_agent.session import Session
from message_plane.credentials import ccs_of
from tests.waiting import PATIENCE_S

ECHO = 252


def unpaired(pne_id, address):
    """The record of a board that knows no gateway yet; `address` is where it looks first."""
    key = ec.generate_private_key(ec.SECP256R1())
    x = key.public_key().public_numbers().x.to_bytes(32, "big")
    private = key.private_numbers().private_value.to_bytes(32, "big")
    return provisioning.Provisioning(pne_id, private, ccs_of(pne_id, x), address=address)


def drive(flow, address, host="127.0.0.1"):
    """Run a flow of the board's stack over a plain UDP socket (no loss here, so no retransmission)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(PATIENCE_S)
        mid, value = secrets.randbits(16), None
        while True:
            try:
                wanted = flow.send(value)
            except StopIteration as end:
                return end.value
            value = None
            if not isinstance(wanted, tuple):
                continue
            _, code, options, payload, _ = wanted
            for _ in (0, 1):
                mid = mid + 1 & 0xFFFF
                request = coap.Message(coap.CON, code, mid, secrets.token_bytes(4), options, payload)
                sock.sendto(request.encode(), address)
                value = _answer(sock, address, request.token)
                echo = coap.option(value.options, ECHO)
                if echo is None:
                    break
                options = [*options, (ECHO, echo)]


def _answer(sock, address, token):
    """The response with this token. What takes the gateway long is acknowledged first and answered by itself."""
    while True:
        message = coap.decode(sock.recv(2048))
        if message.type == coap.CON:
            sock.sendto(coap.Message(coap.ACK, 0, message.mid).encode(), address)
        if message.code and message.token == token:
            return message


class FalseBoard:
    """Speaks to a gateway as a board that wants to be paired, and says what it likes."""

    def __init__(self, gateway, pne_id, host="127.0.0.1"):
        self._gateway = gateway
        self._host = host
        self.identity = unpaired(pne_id, "")
        self.session = Session(KeyStore(_Memory()), self.identity, secrets.token_bytes)

    async def shake_hands(self):
        flow = self.session.handshake(0, self._gateway, pairing=True)
        initiator, self._held = await self._drive(flow)
        self.binding = initiator.export(EXPORTER_LABEL, b"", 32)

    async def ask(self, authenticator=None):
        """One PairingRequest, with or without this proof; the fields of the answer."""
        fields = {messages.PNE_ID: self.identity.pne_id}
        if authenticator is not None:
            fields[messages.AUTHENTICATOR] = authenticator
        return messages.decode(await self.say(numbers.PAIRING_REQUEST, fields))[1]

    async def prove(self, secret):
        """The whole of a pairing but for the handshake, as an honest board does it; the last answer."""
        answer = await self.ask()
        if answer[messages.RESULT] != numbers.RESULT_SUCCESS:
            return answer
        assert answer[messages.AUTHENTICATOR] == hmac_sha256(secret, b"gateway", self.binding)
        return await self.ask(hmac_sha256(secret, b"pne", self.binding))

    async def pair(self, secret):
        """All of a pairing; True if the gateway says that the board is in."""
        await self.shake_hands()
        return (await self.prove(secret))[messages.RESULT] == numbers.RESULT_SUCCESS

    async def say(self, code, fields):
        """One CPNS message over the session of the last handshake; the octets of the answer."""
        flow = self.session.ask(CPNS, messages.encode(code, fields), self._held, self._gateway)
        return (await self._drive(flow))[1]

    async def _drive(self, flow):
        return await asyncio.to_thread(drive, flow, self._gateway, self._host)


class _Memory:
    def __init__(self):
        self._entries = {}
        self.get, self.set = self._entries.get, self._entries.__setitem__

    def delete(self, name):
        self._entries.pop(name, None)

    def commit(self):
        """Nothing to do."""
