"""A session of a board with the CPNS Server, made through its PN GW, recorded for the VM to make it once more.

The same code with the same random octets and the same flash sends the same requests. So the answers that it got here,
from a PN GW and a Server in this process, fit there.
"""

import hashlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite, key_ring, messages, numbers
from device_agent import membership, oscore, session
from device_agent.agent import Agent
from device_agent.clock import Clock
from device_agent.coap import message as coap
from device_agent.key_store import KeyStore
from device_agent.provisioning import RECORD
from keycast.provisioning.board import Trust, new_board
from message_plane import credentials, edhoc
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from tools.bench.octets import PN_ALIAS, PN_ID, SG_ALIAS, SG_ID, VERSION
from tools.bench.pnes import MemoryStorage

_CONTEXT = (b"S" * 16, b"salt" * 2, b"pne", b"gw")  # of PNE and PN GW: secret, salt, IDs of the PNE and of the PN GW
_C_R = b"srv"


def recorded(folder: Path) -> list[Any]:
    """Return [records of a board, answers of its PN GW, the floor that it has then]. `folder` is for keys.

    The board is a member of one end-to-end group and has a session with its PN GW. The answers are those to one pull,
    as [code, options, payload]: to two messages of EDHOC, to the first request, and to the pull itself.
    """
    server = OwnIdentity.create(folder / "server.key", "cpns.example", credentials.ROLE_SERVER)
    gateway = OwnIdentity.create(folder / "carrier.key", "gw.home", credentials.ROLE_GATEWAY)
    signing = BroadcastSigningKey(ec.generate_private_key(ec.SECP256R1()))
    trust = Trust(gateway.credential, signing.public_key, 1, PN_ID, "192.168.1.10", server_ccs=server.credential.ccs)
    provisioned, credential = new_board("lamp.hall", trust)
    storage = MemoryStorage()
    store = KeyStore(storage)
    store.save(RECORD, provisioned)
    store.save(session.RECORD, cborlite.encode([*_CONTEXT, 0]))
    ring = key_ring.KeyRing(numbers.PROTECTION_SEALED, None, True)
    store.save(membership.RECORD, cborlite.encode([PN_ALIAS, [SG_ID], [SG_ID]]))
    store.save(membership.record_name("g", SG_ID), cborlite.encode([SG_ID, True, SG_ALIAS, 1000, ring.dump(0)]))
    records = dict(storage.octets)

    agent = Agent(storage, [_Link()], [], Clock(), _Known(), lambda name, values: None)
    agent.session.address = agent.session, ""
    group = agent.membership.groups[SG_ID]
    other_end = _OtherEnd(server, credential)
    answers = []
    flow, value = agent.membership.pull(group), None
    try:
        while True:
            wanted = flow.send(value)
            value = None
            if wanted is not None:
                answers.append(other_end.answer(wanted[2], wanted[3]))
                code, options, payload = answers[-1]
                value = coap.Message(coap.NON, code, 0, b"", options, payload)
    except StopIteration:
        return [records, answers, group.ring.floor]


class _Link:
    def address(self, text: str) -> str:
        return text

    def up(self) -> bool:
        return True


class _Known:
    """The generator of octets that on_vm/steps.py has, too."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.sha256(b"known %d" % self._count).digest()[:size]


class _OtherEnd:
    """The PN GW, and behind it the CPNS Server `server`, to which the PNE `credential` speaks."""

    def __init__(self, server: OwnIdentity, credential: credentials.Credential) -> None:
        self._server, self._credential = server, credential
        secret, salt, pne, gateway = _CONTEXT
        self._gateway = oscore.Context(secret, salt, gateway, pne, 0, lambda ceiling: None, fresh=True)
        self._responder: edhoc.Responder | None = None
        self._context: Any = None

    def answer(self, options: Any, payload: bytes) -> list[Any]:
        """Return [code, options, payload] of the PN GW's answer to a TunnelRequest."""
        _, _, octets, request = self._gateway.unprotect_request(options, payload)
        _, fields = messages.decode(octets)
        asked = coap.decode(fields[messages.DATAGRAM])
        code, more, octets = self._served(asked)
        datagram = coap.Message(coap.NON, code, 1, asked.token, more, octets).encode()
        response = {messages.RESULT: numbers.RESULT_SUCCESS, messages.DATAGRAM: datagram}
        octets = messages.encode(numbers.TUNNEL_RESPONSE, response)
        return list(self._gateway.protect_response(request, 0x44, [], octets))

    def _served(self, asked: Any) -> Any:
        if coap.path(asked.options) != ".well-known/edhoc":
            _, _, octets, request = self._context.unprotect_request(asked.options, asked.payload)
            return self._context.protect_response(request, 0x44, [], _pulled() if octets else b"")
        if self._responder is None:
            self._responder = edhoc.Responder(self._server, asked.payload[1:], _C_R, by_value=False)
            return 0x44, [], self._responder.message_2
        _, message_3 = edhoc.split_message_3(asked.payload)
        self._responder.offered(message_3)
        message_4, made = self._responder.finish(self._credential, provisional=False)
        keys = made.export(0, 16), made.export(1, 8), made.sender_id, made.recipient_id
        self._context = oscore.Context(*keys, 0, lambda ceiling: None, fresh=True)
        return 0x44, [], message_4


def _pulled() -> bytes:
    answer = {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: SG_ID, messages.VERSION: VERSION}
    return bytes(messages.encode(numbers.KEY_PULL_RESPONSE, answer))
