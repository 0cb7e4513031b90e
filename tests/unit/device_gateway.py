"""A PN GW for tests of the board's agent: EDHOC of lakers; CoAP and OSCORE are the board's own, reversed."""

import secrets

import lakers

from cpns import messages
from cpns import numbers as n
from cpns.cborlite import encode
from cpns.crypto import hkdf
from cpns.crypto.hmac import hmac_sha256
from device_agent import oscore
from device_agent.coap import message as coap
from device_agent.coap.message import Message
from device_agent.cose import Credential
from device_agent.crypto import p256

OK, UNAUTHORIZED = 0x44, 0x81


class Party:
    """An entity with its EDHOC key and credential."""

    def __init__(self, entity_id):
        self.private = p256.private_key(secrets.token_bytes)
        self.credential = Credential.of(entity_id, p256.run(p256.public_key(self.private))[:32])


class LakersGateway:
    """Answers CoAP requests: `coap(...)` takes what a flow yields and returns what it is to be sent.

    `boards`: credentials it knows. `answer(code, fields, session)` makes the octets of an answer.
    """

    def __init__(self, party, boards=()):
        self.party = party
        self.boards = {board.ccs for board in boards}
        self.spoil = None  # changes message_2 on its way
        self.handshakes = 0
        self.asked = []
        self.by_value = False
        self._half_open = {}  # C_R -> (responder, C_I)
        self.sessions = {}  # kid of the board's requests -> (Context, PRK_out)

    def answer(self, code, fields, session):
        answer = {messages.RESULT: n.RESULT_SUCCESS}
        if messages.SG_ID in fields:
            answer[messages.SG_ID] = fields[messages.SG_ID]
        return messages.encode(code + 1, answer)

    def coap(self, address, code, options, payload, timeout):
        if address is None:
            return []
        if coap.path(options) == ".well-known/core":
            return Message(2, 0x45, 0, b"", [], b'</cpns>;rt="keycast.gw"')
        if coap.path(options) == ".well-known/edhoc":
            return Message(2, OK, 0, b"", [], self._edhoc(payload))
        kid = oscore.kid_of(options)
        if kid not in self.sessions:
            return Message(2, UNAUTHORIZED, 0, b"", [], b"")
        context = self.sessions[kid][0]
        _, _, octets, request = context.unprotect_request(options, payload)
        asked, fields = messages.decode(octets)
        self.asked.append((asked, fields))
        code, options, payload = context.protect_response(request, OK, [], self.answer(asked, fields, kid))
        return Message(2, code, 0, b"", options, payload)

    def _edhoc(self, payload):
        transfer = lakers.CredentialTransfer.ByValue if self.by_value else lakers.CredentialTransfer.ByReference
        if payload[:1] == b"\xf5":
            self.handshakes += 1
            responder = lakers.EdhocResponder(self.party.private, self.party.credential.ccs)
            c_i, _ = responder.process_message_1(payload[1:])
            c_r = secrets.token_bytes(3)
            message_2 = responder.prepare_message_2(transfer, c_r)
            self._half_open[c_r] = (responder, c_i)
            return self.spoil(message_2) if self.spoil else message_2
        c_r = payload[1:4]
        responder, c_i = self._half_open.pop(c_r)
        id_cred, _ = responder.parse_message_3(payload[4:])
        if id_cred[:2] == b"\xa1\x0e":
            ccs = id_cred[2:]
        else:
            (ccs,) = [known for known in self.boards if encode({4: Credential.parse(known).kid}) == id_cred]
        prk_out = responder.verify_message_3(ccs)
        message_4 = responder.prepare_message_4()
        secret, salt = responder.edhoc_exporter(0, b"", 16), responder.edhoc_exporter(1, b"", 8)
        context = oscore.Context(secret, salt, c_i, c_r, 0, lambda ceiling: None, fresh=True)
        self.sessions[c_r] = (context, prk_out)
        return message_4

    def binding(self, session):
        """The exporter output that pairing is bound to."""
        exporter = hkdf.expand(self.sessions[session][1], encode(10) + encode(b"") + encode(32), 32)
        return hkdf.expand(exporter, encode(32768) + encode(b"") + encode(32), 32)


class PairingGateway(LakersGateway):
    """A gateway whose window is open for the secret it was told, if it was."""

    def __init__(self, party, secret=None, signing=b"", name=None):
        super().__init__(party)
        self.by_value = True
        self.secret = secret
        self.signing = signing
        self.name = name or party.credential.entity_id
        self.proved = False  # by the board
        self.once = False  # the window closes with that
        self.board_name = ""  # that a person has given the board, if any
        self.server_ccs = b""  # of the CPNS Server that it names, if any

    def answer(self, code, fields, session):
        if code != n.PAIRING_REQUEST:
            return super().answer(code, fields, session)
        m = messages
        if self.secret is None or (self.once and self.proved and m.AUTHENTICATOR not in fields):
            return m.encode(n.PAIRING_RESPONSE, {m.RESULT: n.RESULT_FAIL, m.ERROR: n.ERROR_NOT_ALLOWED})
        answer = {m.RESULT: n.RESULT_SUCCESS}
        if m.AUTHENTICATOR in fields:
            expected = hmac_sha256(self.secret, b"pne", self.binding(session))
            self.proved = fields[m.AUTHENTICATOR] == expected
            if not self.proved:
                answer = {m.RESULT: n.RESULT_FAIL, m.ERROR: n.ERROR_NOT_AUTHENTIC}
        else:
            answer[m.AUTHENTICATOR] = self.proof(session)
            answer[m.GATEWAY_ID] = self.name
            answer[m.PN_ID] = "home"
            answer[m.SIGNING_KEY] = self.signing
            answer[m.SIGNING_EPOCH] = 1
            if self.server_ccs:
                answer[m.SERVER_CREDENTIAL] = self.server_ccs
            if self.board_name:
                answer[m.PNE_ID] = self.board_name
        return m.encode(n.PAIRING_RESPONSE, answer)

    def proof(self, session):
        return hmac_sha256(self.secret, b"gateway", self.binding(session))
