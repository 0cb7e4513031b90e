"""A PNE in virtual time with a scripted PN GW, for the tests of `device_agent`: one process, no sockets, no waiting.

The PN GW is made of `cpns` and of the other side of `device_agent.oscore`; it holds the tree master secret and the
signing key. `World.run_until` does the PNE's duties as the agent's loop does them, jumping from one to the next.
"""

import hashlib

from cpns import cborlite, group_message, messages
from cpns import numbers as n
from cpns.broadcast_encryption import cover, keys, subset_index
from cpns.broadcast_encryption.wrapping import commitment, w16_wrap
from cpns.broadcast_object import CONTEXT_DELETE, CONTEXT_GROUP_KEY, FRAME_HEAD, SIGNATURE_HEAD, to_be_signed
from cpns.errors import CpnsError, Unknown
from cpns.proof import confirmation
from device_agent import oscore, provisioning
from device_agent.agent import Agent
from device_agent.coap.message import Message, option, path
from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.key_store import KeyStore

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
HEIGHT = 3
SLOT, NEIGHBOUR = 5, 6
PN_ALIAS = 0x11223344
SIGNING = bytes(31) + b"\x07"
GET = 0x01
THERE = Message(2, 0x45, 0, b"", [], b'</cpns>;rt="keycast.gw"')  # what a PN GW answers to discovery
SESSION = (b"S" * 16, b"salt" * 2, b"gwc", b"\x51\x52")  # secret, salt, the PNE's sender ID, its recipient ID


def key_of(version):
    """The Group Key this world's Server made for a version."""
    return hashlib.sha256(b"gk%d" % version).digest()[:16]


def sign(private, octets):
    """ES256, 64 octets, as a PN GW makes it (the board's code only verifies)."""
    digest = hashlib.sha256(octets).digest()
    k = int.from_bytes(hashlib.sha256(private + digest).digest(), "big") % ORDER
    r = int.from_bytes(p256.run(p256.public_key(k.to_bytes(32, "big")))[:32], "big") % ORDER
    s = pow(k, ORDER - 2, ORDER) * (int.from_bytes(digest, "big") + r * int.from_bytes(private, "big")) % ORDER
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class Medium:
    """A ports.Storage in memory. `fails`: writing raises OSError."""

    def __init__(self):
        self.octets = {}
        self.writes = 0
        self.fails = False

    def get(self, name):
        return self.octets.get(name)

    def set(self, name, octets):
        if self.fails:
            raise OSError(28)
        self.writes += 1
        self.octets[name] = bytes(octets)

    def delete(self, name):
        self.octets.pop(name, None)

    def commit(self):
        pass


class Link:
    reports = False

    def __init__(self):
        self.broadcasts = []

    def address(self, text):
        if ":" in text:
            raise ValueError("not of this network")
        return text

    def text(self, address):
        return address

    def up(self):
        return True

    def standing(self):
        return True

    def send(self, address, datagram):
        raise AssertionError("the tests carry CoAP messages themselves")

    def air(self, datagram):
        self.broadcasts.append(datagram)


class Clock:
    def __init__(self):
        self.ms = 0

    def now(self):
        return self.ms


class Gateway:
    """The PN GW and, behind it, the Server: what it knows of Service Groups, what it heard, what it says."""

    def __init__(self):
        self.generation = 1
        self.groups = {}  # SG ID -> [SG alias, newest version, does a pull bring its key]
        self.heard = []  # (code, fields) of every message
        self.refuse = {}  # code -> CpnsError
        self.deaf = False
        self.forgetful = False  # the OSCORE context is lost
        self.leisure = 4000
        self.time = 0
        self.receipt = None  # octets that answers to pulls carry
        self.resources = {}  # further ones: path -> function of a body that returns (CoAP code, body)
        secret, salt, theirs, ours = SESSION
        self._oscore = oscore.Context(secret, salt, ours, theirs, 0, lambda ceiling: None, fresh=True)

    def tree(self, generation=None):
        return hashlib.sha256(b"tm%d" % (generation or self.generation)).digest()

    def codes(self):
        return [code for code, _ in self.heard]

    def coap(self, address, code, options, payload, timeout):
        """Answer one request of the PNE as the network would: a coap Message, or None."""
        if self.deaf or address is None:
            return [] if address is None else None
        if code == GET:
            return THERE
        if self.forgetful:
            return Message(2, 0x81, 0, b"", [], b"")
        _, inner, octets, request = self._oscore.unprotect_request(options, payload)
        if path(inner) != "cpns":
            code, answer = self.resources.get(path(inner), lambda body: (0x84, b""))(octets)
            code, options, payload = self._oscore.protect_response(request, code, [], answer)
            return Message(2, code, 0, b"", options, payload)
        asked, fields = messages.decode(octets)
        self.heard.append((asked, fields))
        try:
            if asked in self.refuse:
                raise self.refuse[asked]
            answer = self.answer(asked, fields)
        except CpnsError as error:
            answer = messages.failure(asked, error)
        code, options, payload = self._oscore.protect_response(request, 0x44, [], answer)
        return Message(2, code, 0, b"", options, payload)

    def answer(self, code, fields):
        m = messages
        if code == n.GROUP_KEY_DELIVERY_RESPONSE:
            return b""
        answer = {m.RESULT: n.RESULT_SUCCESS}
        if code == n.GKDK_ASSIGNMENT_REQUEST:
            answer[m.GKDK] = self.gkdk()
            answer[m.PN_ALIAS] = PN_ALIAS
            return m.encode(code + 1, answer)
        sg_id = answer[m.SG_ID] = fields[m.SG_ID]
        if sg_id not in self.groups:
            raise Unknown("no such Service Group")
        alias, version, pulls = self.groups[sg_id]
        if code != n.LEAVE_REQUEST:
            answer[m.VERSION] = version
            answer[m.SG_ALIAS] = alias
            answer[m.PROTECTION] = fields.get(m.PROTECTION, n.PROTECTION_SEALED)
            answer[m.TIME] = self.time
            answer[m.LEISURE] = self.leisure
        if code in (n.JOIN_REQUEST, n.CREATE_SERVICE_GROUP_REQUEST):
            answer[m.PN_ID] = "home"
            answer[m.PN_ALIAS] = PN_ALIAS
        if code == n.KEY_PULL_REQUEST and pulls and fields[m.VERSION] < version:
            answer[m.GROUP_KEY] = [(key_of(version), None)]
            answer[m.ACTIVATION] = 0
            answer[m.REASON] = n.REASON_PERIODIC
        if code == n.KEY_PULL_REQUEST and self.receipt is not None:
            answer[m.RECEIPT] = self.receipt
        return m.encode(code + 1, answer)

    def gkdk(self):
        return keys.TreeKeys(self.tree(), HEIGHT).record(2, self.generation, SLOT).pack()

    def object(self, sg_id, version, slots=(SLOT, NEIGHBOUR), key=None, private=SIGNING, reason=n.REASON_PERIODIC):
        """A signed broadcast object that brings the key of `version` to `slots`."""
        key = key or key_of(version)
        head = (PN_ALIAS, self.groups[sg_id][0], self.generation)
        items = [n.GROUP_KEY_DELIVERY_REQUEST]
        items.extend(head)
        items.extend((version, 0, reason, commitment(key, *head, version)))
        entries = b""
        for subset in cover.cover(HEIGHT, 2, set(slots)):
            wrapped = w16_wrap(keys.TreeKeys(self.tree(), HEIGHT).subset_key(subset), key)
            entries += subset_index.encode(HEIGHT, subset) + wrapped
        items.append(entries)
        return frame(CONTEXT_GROUP_KEY, sg_id, items, private)

    def signed_delete(self, sg_id, version, private=SIGNING):
        items = [n.DELETE_SERVICE_GROUP_REQUEST, PN_ALIAS, self.groups[sg_id][0], version]
        return frame(CONTEXT_DELETE, sg_id, items, private)

    def proves(self, fields):
        """Is the proof in a GroupKeyDeliveryResponse that of this PNE's slot and key?"""
        m = messages
        report_key = keys.TreeKeys(self.tree(), HEIGHT).report_key(SLOT)
        version = fields[m.VERSION]
        names = (self.generation, SLOT, version, n.RESULT_SUCCESS, "home", fields[m.SG_ID], key_of(version))
        return fields[m.PROOF] == confirmation(report_key, *names)

    def protect(self, octets, echo=None, to="cpns"):
        options = [(11, to.encode()), (12, bytes((60,)))]
        if echo:
            options.append((252, echo))
        code, options, payload, request = self._oscore.protect_request(0x02, options, octets)
        return Message(0, code, 1, b"t", options, payload), request

    def unprotect(self, request, reply):
        return self._oscore.unprotect_response(request, reply[1], reply[2])


def frame(context, sg_id, items, private):
    payload = cborlite.encode(items)
    signature = sign(private, to_be_signed(context, "home", sg_id, payload))
    return FRAME_HEAD + cborlite.encode(payload) + SIGNATURE_HEAD + signature


class World:
    """`agent` on `medium`, provisioned and with a session; `events` are (name, values) as the agent told them."""

    def __init__(self, session=True, address="gw", updates=None):
        self.updates = updates
        self.clock = Clock()
        self.medium = Medium()
        self.gateway = Gateway()
        self.failures = []
        self._drawn = 0
        store = KeyStore(self.medium)
        store.save(provisioning.RECORD, identity(address).pack())
        if session:
            record = list(SESSION)
            record.append(0)
            store.save("sess", cborlite.encode(record))
        self.boot()

    def boot(self):
        """Start the PNE anew from what its medium holds, as after a power cut."""
        self.events = []
        self.link = Link()
        parts = self.clock, self.random, self._tell, self.updates
        self.agent = Agent(self.medium, [self.link], [self.link], *parts)
        self.at = self.link, "gw"  # the PN GW's address
        if self.agent.identity.address == "gw":
            self.agent.session.address = self.at

    def _tell(self, name, values):
        self.events.append((name, values))

    def random(self, size):
        self._drawn += 1
        return hashlib.sha256(b"random%d" % self._drawn).digest()[:size]

    def told(self, name):
        return [values for what, values in self.events if what == name]

    def perform(self, flow):
        """Drive a flow to its end, the PN GW answering."""
        value = None
        try:
            while True:
                wanted = flow.send(value)
                value = None
                if isinstance(wanted, int):
                    self.clock.ms += wanted
                elif wanted is not None:
                    address, *request = wanted
                    value = self.gateway.coap(address and address[1], *request)
                    if address is None:
                        value = [((self.link, each), answer) for each, answer in value]
                    elif value is None:
                        self.clock.ms += wanted[4]
        except StopIteration as end:
            return end.value

    def run_until(self, ms):
        """Do the PNE's duties up to this time."""
        while True:
            due, make_flow = self.agent._duty(self.clock.ms)
            if due is None or due > ms:
                break
            self.clock.ms = max(self.clock.ms, due)
            try:
                self.perform(make_flow())
            except (CpnsError, OSError) as error:
                self.failures.append(error)
        self.clock.ms = max(self.clock.ms, ms)

    def run_for(self, ms):
        self.run_until(self.clock.ms + ms)

    def ask(self, code, fields):
        """The PN GW asks the PNE over the session -> (code, fields) of the answer, or (CoAP code, None)."""
        return self.ask_octets(messages.encode(code, fields))

    def ask_octets(self, octets):
        """The same with the octets of a message."""
        code, payload = self.ask_resource("cpns", octets)
        return messages.decode(payload) if code == 0x44 else (code, None)

    def ask_resource(self, to, octets):
        """The PN GW asks a resource of the PNE -> (CoAP code, body) of the answer."""
        echo = None
        for _ in (0, 1):
            message, request = self.gateway.protect(octets, echo, to)
            answer, asked = self.agent.session.unprotect(message, self.at)
            if asked is None:
                coap, options, payload = self.gateway.unprotect(request, answer)
                echo = option(options, 252)
                if echo:
                    continue
                return coap, b""
            reply = answer(*self.perform(self.agent.requests.answer(*asked)))
            coap, _, payload = self.gateway.unprotect(request, reply)
            return coap, payload

    def deliver(self, sg_id, version, key=None, reason=n.REASON_PERIODIC):
        """The PN GW delivers a key by unicast -> fields of the answer."""
        m = messages
        fields = {
            m.SG_ID: sg_id,
            m.GROUP_KEY: [(key or key_of(version), None)],
            m.VERSION: version,
            m.ACTIVATION: 0,
            m.REASON: reason,
        }
        return self.ask(n.GROUP_KEY_DELIVERY_REQUEST, fields)[1]

    def join(self, sg_id, version, pulls=False):
        """Be a member of `sg_id`, whose floor is `version`; a pull brings no key unless `pulls`."""
        known = self.gateway.groups.get(sg_id)
        self.gateway.groups[sg_id] = [known[0] if known else len(self.gateway.groups) + 1, version, pulls]
        return self.perform(self.agent.membership.enter(sg_id))

    def hear(self, datagram):
        """A datagram of the broadcast plane arrives."""
        self.perform(self.agent.receiver.receive(datagram))


class Peer:
    """Another member of `group`, sending."""

    def __init__(self, group, sender="pne-2", inc=b"I" * 8):
        names = group_message.Group(group.id, PN_ALIAS, group.alias, group.ring.protection)
        self._sender = group_message.Sender(names, sender)
        self._inc = inc
        self._sender.start(6, inc)

    def skip_to(self, version, inc, number):
        """Go on with the numbers from `number` on under `inc`, whoever's it is."""
        self._inc = inc
        self._sender.resume((version, inc, number))

    def say(self, data, version=6):
        """The datagram in which it says `data` under `version`."""
        if self._sender.record[0] != version:
            self._sender.start(version, self._inc)
        if self._sender.must_reserve():
            self._sender.reserved(self._sender.reserve())
        return self._sender.protect(version, key_of(version), data)


def member(time=0):
    """-> a World whose PNE holds version 6 of "kitchen", from a gateway whose clock says `time`, and that group."""
    world = World()
    world.gateway.time = time
    group = world.join("kitchen", 5)
    world.deliver("kitchen", 6)
    return world, group


def identity(address="gw"):
    own = Credential.of("pne-1", bytes(31) + b"\x01")
    gateway = Credential.of("gw-1", bytes(31) + b"\x02")
    signing = p256.run(p256.public_key(SIGNING))
    return provisioning.Provisioning(
        "pne-1", bytes(31) + b"\x03", own.ccs, "gw-1", gateway.ccs, signing, 1, "home", address
    )
