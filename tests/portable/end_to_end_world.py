"""A PNE in virtual time with a scripted CPNS Server behind a scripted PN GW, which carries the tunnel (SEC-25, SEC-26).

The session of PNE and Server is there already, as `device_world` has it for the PN GW; handshakes are in
`tests/unit/test_device_end_to_end_handshake.py`.
"""

import hashlib

import device_world
from device_world import World

from cpns import cborlite, entity_user_key, messages
from cpns import numbers as n
from cpns.errors import CpnsError, NotMember
from device_agent import oscore, provisioning
from device_agent.coap import message as coap
from device_agent.cose import Credential
from device_agent.end_to_end import entity_user_keys
from device_agent.key_store import KeyStore

SG = "home/alarm"
SERVER = Credential.of("server", bytes(31) + b"\x05")
SERVER_SESSION = (b"E" * 16, b"salt" * 2, b"srv", b"\x61\x62")  # secret, salt, the PNE's sender ID, its recipient ID
EUK, OLDER_EUK = b"u" * 16, b"o" * 16


def secret_of(version):
    """The Group Key of a version that this world's Server made for SG, which the PN GW never has."""
    return hashlib.sha256(b"end-to-end%d" % version).digest()[:16]


class Server:
    """The CPNS Server: `versions` of its groups, of which this PNE is a member; `heard` are the messages of the PNE."""

    def __init__(self):
        self.versions = {}
        self.heard = []
        self.refuse = None  # CpnsError
        self.silent = False
        self.forgetful = False  # the session is lost
        self.mids = []
        self.numbers = []  # sender numbers of the PNE
        secret, salt, theirs, ours = SERVER_SESSION
        self._oscore = oscore.Context(secret, salt, ours, theirs, 0, lambda ceiling: None, fresh=True)

    def carry(self, datagram):
        """Return the datagram that answers one in the tunnel, or None."""
        message = coap.decode(datagram)
        assert message.type == coap.NON and 0 < len(datagram) <= 1280
        self.mids.append(message.mid)
        value = coap.option(message.options, 9)
        if value:
            self.numbers.append(int.from_bytes(value[1 : 1 + (value[0] & 7)], "big"))
        if self.silent:
            return None
        if self.forgetful:
            return coap.Message(coap.NON, 0x81, 1, message.token).encode()
        _, options, octets, request = self._oscore.unprotect_request(message.options, message.payload)
        assert coap.path(options) == "cpns"
        answer = self.answer(octets) if octets else b""
        code, options, payload = self._oscore.protect_response(request, 0x44, [], answer)
        return coap.Message(coap.NON, code, 1, message.token, options, payload).encode()

    def answer(self, octets):
        code, fields = messages.decode(octets)
        assert code == n.KEY_PULL_REQUEST and fields[messages.PNE_ID] == "pne-1"
        self.heard.append(fields)
        try:
            if self.refuse:
                raise self.refuse
            sg_id = fields[messages.SG_ID]
            if sg_id not in self.versions:
                raise NotMember("no member")
            answer = {messages.RESULT: "1", messages.SG_ID: sg_id, messages.VERSION: self.versions[sg_id]}
            answer[messages.TIME] = 0
            answer[messages.PROTECTION] = n.PROTECTION_SEALED
            return messages.encode(n.KEY_PULL_RESPONSE, answer)
        except CpnsError as error:
            return messages.failure(code, error)


def wrapped(version, euk=EUK, sg_id=SG, pne_id="pne-1", key=None, **renamed):
    """The fields of a SGroupKeyDeliveryRequest; `renamed` are those that a PN GW has changed on the way."""
    encrypted = entity_user_key.encrypt(euk, pne_id, sg_id, version, key or secret_of(version))
    return {
        messages.SGID: renamed.get("sgid", sg_id),
        messages.GROUP_KEY_INFO: (renamed.get("pne", pne_id), encrypted),
        messages.VERSION: renamed.get("named", version),
        messages.EUK_ID: renamed.get("key_id", entity_user_key.key_id(euk)),
    }


class Gateway(device_world.Gateway):
    """The PN GW, which carries for `server`. `spoil`: what it makes of the datagram that comes back."""

    def __init__(self):
        super().__init__()
        self.server = Server()
        self.trusts = {}  # SG ID -> numbers.TRUST_*, in answers to joins
        self.spoil = lambda datagram: datagram
        self.tunnelled = 0
        self.extra = {}  # code -> fields that its answers have besides

    def answer(self, code, fields):
        m = messages
        if code == n.TUNNEL_REQUEST:
            assert fields[m.PNE_ID] == "pne-1"
            self.tunnelled += 1
            answer = {m.RESULT: n.RESULT_SUCCESS}
            datagram = self.spoil(self.server.carry(fields[m.DATAGRAM]))
            if datagram is not None:
                answer[m.DATAGRAM] = datagram
            return m.encode(code + 1, answer)
        octets = super().answer(code, fields)
        more = dict(self.extra.get(code, {}))
        if code in (n.JOIN_REQUEST, n.CREATE_SERVICE_GROUP_REQUEST) and fields[m.SG_ID] in self.trusts:
            more[m.TRUST] = self.trusts[fields[m.SG_ID]]
        if more:
            _, answer = m.decode(octets)
            answer.update(more)
            octets = m.encode(code + 1, answer)
        return octets


class Home(World):
    """A World whose PNE has sessions with both. Without `server` its record has no credential of the Server."""

    def __init__(self, server=True, euk=True):
        self._server, self._euk = server, euk
        self._begun = False
        super().__init__()

    def boot(self):
        if not self._begun:
            self._begun = True
            self.gateway = Gateway()
            store = KeyStore(self.medium)
            if self._server:
                identity = cborlite.decode(store.load(provisioning.RECORD))
                store.save(provisioning.RECORD, cborlite.encode(identity + [SERVER.ccs]))
                store.save("ssess", cborlite.encode(list(SERVER_SESSION) + [0]))
            if self._euk:
                store.save(entity_user_keys.RECORD, entity_user_keys.pack(EUK))
        super().boot()

    @property
    def server(self):
        return self.gateway.server

    def enter(self, sg_id=SG, version=6, trust=n.TRUST_END_TO_END):
        """Join an end-to-end group, whose newest version at the Server is `version`."""
        self.server.versions[sg_id] = version
        self.gateway.trusts[sg_id] = n.TRUST_END_TO_END
        known = self.gateway.groups.get(sg_id)
        self.gateway.groups[sg_id] = [known[0] if known else len(self.gateway.groups) + 1, version, False]
        return self.perform(self.agent.membership.enter(sg_id, None, trust))

    def bring(self, fields):
        """The PN GW brings a SGroupKeyDeliveryRequest -> fields of the response, or a CoAP code."""
        code, answer = self.ask(n.S_GROUP_KEY_DELIVERY_REQUEST, fields)
        if answer is not None:
            assert code == n.S_GROUP_KEY_DELIVERY_RESPONSE
            assert answer[messages.PNID] == "home" and answer[messages.PNE_ID] == "pne-1"
            for label in (messages.SGID, messages.VERSION, messages.EUK_ID):
                assert answer[label] == fields[label]
        return answer or code

    def bring_raw(self, fields):
        """The same of fields that `messages.encode` may refuse -> CoAP code of the answer."""
        octets = {0: n.S_GROUP_KEY_DELIVERY_REQUEST}
        octets.update(fields)
        info = fields[messages.GROUP_KEY_INFO]
        parts = [{1: pne, 2: key} for pne, key in (info if isinstance(info, list) else [info])]
        octets[messages.GROUP_KEY_INFO] = parts if isinstance(info, list) else parts[0]
        return self.ask_octets(cborlite.encode(octets))[0]

    def ring(self, sg_id=SG):
        return self.agent.membership.groups[sg_id].ring

    def held(self, sg_id=SG):
        return self.ring(sg_id).receiving_keys(self.clock.ms // 1000)


def proved(answer, version, sg_id=SG):
    """Is this a Return of `1` with the MAC under the Group Key of `version`?"""
    mac = entity_user_key.response_mac(secret_of(version), "pne-1", sg_id, version)
    return answer[messages.RETURN] == n.RETURN_SUCCESS and answer[messages.MAC] == mac


def member(version=6):
    """-> a Home whose PNE holds `version` of SG, and that group."""
    home = Home()
    group = home.enter(version=version)
    home.run_for(100)
    assert proved(home.bring(wrapped(version)), version)
    return home, group


def euks(home):
    """Return the Entity User Keys in the flash of the PNE: (current, previous)."""
    return entity_user_keys.parse(KeyStore(home.medium).load("euk"))
