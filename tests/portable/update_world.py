"""A PNE that can be updated: its flash in memory, updates, and the resource `update` of a scripted PN GW."""

from hashlib import sha256

import suit_world
from device_world import World, sign

from cpns import cborlite
from device_agent.crypto import p256
from device_agent.update.slot_record import SlotRecord
from suit import frames
from suit import numbers as n
from suit.class_id import VENDOR, agent, class_id
from suit.envelope import parse
from suit.erasure import Code, xor

AGENT, FIRMWARE = class_id(agent(6)), class_id("firmware ESP32_GENERIC-OTA")
PRIVATE = bytes(31) + b"\x0b"
KEY = p256.run(p256.public_key(PRIVATE))
TREE_GENERATION = 1
_SHORT = 7  # octets that the last block of an image lacks


def record(agent_number=4, trial=0, wanted=0, reason=n.NO_REASON):
    """A SlotRecord of a board that runs this number."""
    made = SlotRecord()
    made.agent_number, made.trial, made.wanted, made.reason = agent_number, trial, wanted, reason
    made.agent_failed = wanted if reason else 0
    return made


class Flash:
    """A ports.Updates in memory, which outlives the agent. `free`: octets; `fails`: writing raises OSError (5).

    `small_heap`: an agent in a file has no room; `no_slot`: both slots are in use.
    """

    def __init__(self, state):
        self.record = state
        self.free = 1 << 20
        self.fails = self.small_heap = self.no_slot = False
        self.restarts = self.begun = self.dropped = 0
        self.collection = None

    def classes(self):
        return {AGENT: "agent", FIRMWARE: "firmware"}

    def state(self):
        return self.record

    def room(self, kind, size):
        if self.small_heap:
            raise OSError(12)
        if self.no_slot:
            raise OSError(16)
        if size > self.free:
            raise OSError(28)

    def begin(self, kind, number, size, digest, envelope):
        self.check()
        self.begun += 1
        self.collection = Collection(self, size, envelope)
        return self.collection

    def resume(self):
        return self.collection

    def confirm(self):
        self.record.confirm()

    def restart(self):
        self.restarts += 1

    def check(self):
        if self.fails:
            raise OSError(5)


class Collection:
    """A ports.Collection in memory."""

    def __init__(self, flash, size, envelope):
        self._flash = flash
        self.size = size
        self.envelope = envelope
        self.flushed = self.is_full = self.is_closed = False
        self.room = 1 << 16  # frames
        self.pages = {}
        self.frames = {}

    def put_page(self, index, octets):
        self._flash.check()
        self.pages[index] = bytes(octets)

    def page(self, index):
        return self.pages.get(index)

    def put(self, index, octets):
        self._flash.check()
        if self.room > len(self.frames):
            self.frames[index] = bytes(octets)

    def held(self, index):
        return index in self.frames

    def flush(self):
        self._flash.check()
        self.flushed = True

    def close(self):
        self.is_closed = True

    def full(self):
        self._flash.check()
        self.is_full = True

    def drop(self):
        self._flash.dropped += 1
        self._flash.collection = None


class Update:
    """An update `number` of `blocks` blocks, signed with `private`, and all that is broadcast of it."""

    def __init__(self, number=5, blocks=5, private=PRIVATE, of_class=AGENT, kind=b"agent", seed=b"", vendor=VENDOR):
        self.size = size = blocks * n.BLOCK - _SHORT
        self.code = Code(size)
        self._seed = seed
        hashes = [frames.hashed(self.frame(index)) for index in range(self.code.frames)]
        self.pages = [b"".join(hashes[at : at + n.PAGE_FRAMES]) for at in range(0, len(hashes), n.PAGE_FRAMES)]
        page_list = b"".join([frames.hashed(page) for page in self.pages])
        image = sha256()
        for index in range(blocks):
            image.update(self.block(index)[: size - index * n.BLOCK])
        parameters = {"DIGEST": suit_world.digest(image.digest()), "SIZE": size, "CLASS_ID": of_class}
        parameters["VENDOR_ID"] = vendor
        commands = suit_world.shared(suit_world.image(**parameters), page_list)
        octets = suit_world.manifest(((kind,), (b"frames",)), number, shared=commands)
        unsigned = parse(suit_world.enveloped(octets, frames=page_list))
        signature = suit_world.sign1(signature=sign(private, unsigned.to_be_signed))
        self.envelope = suit_world.enveloped(octets, [signature], frames=page_list)
        self.id = unsigned.update_id
        self.number = number

    def block(self, index):
        """Block `index` of the image, which is made anew each time: a heap has no room for all."""
        octets = b"".join([sha256(self._seed + bytes((index, part))).digest() for part in range(n.BLOCK // 32)])
        return octets if index < self.code.blocks - 1 else octets[:-_SHORT] + bytes(_SHORT)

    def frame(self, index):
        """Coded frame `index`."""
        return xor(self.block, self.code.members(index))

    def piece(self, what, index):
        """What the PN GW answers to a PIECE."""
        return self.envelope if what == n.ENVELOPE else self.pages[index] if what == n.PAGE else self.frame(index)

    def aired(self, what, index=0, octets=None):
        """The datagram that broadcasts this piece, or other `octets` in its place."""
        return frames.build(what, self.id, index, octets or self.piece(what, index))

    def manifest(self, world, octets=None, update_id=None):
        """The datagram that broadcasts the envelope."""
        key = world.agent.membership.gkdks.frame_keys[TREE_GENERATION]
        update_id = update_id or self.id
        body = frames.manifest_body(key, TREE_GENERATION, update_id, octets or self.envelope)
        return frames.build(n.ENVELOPE, update_id, 0, body)

    def held_in(self, collection):
        """True if the image comes out of what a Collection holds."""
        for segment in range(self.code.segments):
            found = self.code.solve(segment, collection.held)
            if found is None:
                return False
            for block, sources in found:
                if xor(collection.frames.get, sources) != self.block(block):
                    return False
        return not [index for index in collection.frames if collection.frames[index] != self.frame(index)]


class Offers:
    """The PN GW's end: what it offers, the reports that it got, each (ms, list behind the code), and the pieces."""

    def __init__(self, world):
        self._world = world
        self.reports = []
        self.pulled = []  # (ms, what, index)
        self.update, self.key, self.by_air = None, b"", 0
        world.gateway.resources[n.PATH] = self._asked

    def states(self):
        """The (state, number, detail) of all reports."""
        return [tuple(told[4:]) for _, told in self.reports]

    def ask(self):
        """Ask the PNE for a report."""
        assert self._world.ask_resource(n.PATH, cborlite.encode([n.ASK])) == (0x44, b"")

    def _asked(self, octets):
        code, *rest = cborlite.decode(octets)
        update = self.update
        if code == n.REPORT:
            self.reports.append((self._world.clock.ms, rest))
            offer = [update.id, update.number] if update else [b"", 0]
            return 0x44, cborlite.encode(offer + [self.key, self.by_air])
        update_id, what, index = rest
        assert code == n.PIECE
        if update is None or update.id != update_id:
            return 0x83, b""
        self.pulled.append((self._world.clock.ms, what, index))
        return 0x44, cborlite.encode(update.piece(what, index))


def updatable(state=None):
    """-> (a World whose PNE can be updated, Offers of its PN GW)."""
    world = World(updates=Flash(state or record()))
    return world, Offers(world)


def member(update_key=KEY):
    """-> the same with a PNE that has a GKDK, an update key, and has reported."""
    world, offers = updatable()
    offers.key = update_key
    world.join("kitchen", 5)
    world.run_for(20000)
    offers.reports.clear()
    return world, offers


def in_a_group(world):
    """Be a member of "kitchen" with a key of it; return the group."""
    world.join("kitchen", 5)
    world.deliver("kitchen", 6)
    world.gateway.groups["kitchen"][1] = 6  # so that it pulls once a day only
    return world.agent.membership.groups["kitchen"]


def without_updates():
    """-> a World whose PN GW has no updates, and a list of the bodies by which it was asked for some."""
    world, _ = updatable()
    asked = []

    def not_found(octets):
        asked.append(octets)
        return 0x84, b""

    world.gateway.resources[n.PATH] = not_found
    return world, asked
