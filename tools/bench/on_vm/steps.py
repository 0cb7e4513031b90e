# Runs inside the VM, with all code in ROM as on a board. It repeats one step of a board and prints the microseconds of
# each. The whole agent is composed from the records in the fixture (tools/bench/board_steps.py). With 0 repetitions it
# does the rest only, whose cost can so be subtracted.
import gc
import hashlib
import os
import sys
import time

for deep in ("cpns.broadcast_object", "device_agent.session"):  # as in micropython/board.py, to spare the C stack
    __import__(deep)

from cpns import cborlite, group_message
from device_agent.agent import Agent
from device_agent.clock import Clock
from device_agent.coap.message import Message
from device_agent.cose import Credential
from device_agent.crypto import p256


class Memory:
    def __init__(self, octets):
        self._octets = octets

    def get(self, name):
        return self._octets.get(name)

    def set(self, name, octets):
        self._octets[name] = octets

    def delete(self, name):
        self._octets.pop(name, None)

    def commit(self):
        pass


class Link:
    def address(self, text):
        return text

    def up(self):
        return True


class Known:
    # a generator of the octets that tools/bench/tunnelled.py has drawn, too
    count = 0

    def __call__(self, size):
        self.count += 1
        return hashlib.sha256(b"known %d" % self.count).digest()[:size]


_, fixture, step, count = sys.argv
with open(fixture, "rb") as file:
    given = cborlite.decode(file.read())
tunnelled = step == "tunnel"
records, random = (given["tunnel"][0], Known()) if tunnelled else (given["records"], os.urandom)
agent = Agent(Memory(records), [Link()], [], Clock(), random, lambda name, values: None)
group = next(iter(agent.membership.groups.values()))
if tunnelled:
    agent.session.address = agent.session, ""
else:
    traffic = agent.receiver.traffic(group)
if step not in ("prepare", "tunnel"):
    p256.run(agent.receiver.prepare())
gc.collect()
gc.threshold(given["garbage_max"])


def prepare(i):
    p256.run(agent.receiver.prepare())


def edhoc(i):
    from device_agent import edhoc as module

    own, (ephemeral, c_i, message_2, message_4, secret) = agent.identity, given["edhoc"]
    peer = Credential.parse(own.gateway_ccs)
    initiator = module.Initiator(Credential.parse(own.ccs), own.private_key, ephemeral, c_i, peer)
    p256.run(p256.unhurried(initiator.message_1()))  # as in device_agent/session.py
    p256.run(p256.unhurried(initiator.message_3(message_2)))
    initiator.finish(message_4)
    if initiator.export(0, b"", 16) != secret:
        raise ValueError("another secret than the PN GW's")


def tunnel(i):
    flow, value = agent.membership.pull(group), None
    answers = given["tunnel"][1]
    try:
        while True:
            wanted = flow.send(value)
            value = None
            if wanted is not None:
                code, options, payload = answers.pop(0)
                value = Message(2, code, 0, b"", [tuple(option) for option in options], payload)
    except StopIteration:
        pass
    if answers or group.ring.floor != given["tunnel"][2]:
        raise ValueError("the Server has not answered")


class Unsigned:
    # replaces the PN GW's signing key and accepts all signatures at once
    octets = agent.identity.signing_key

    def verify(self, digest, signature):
        return
        yield


def accept(i):
    agent.receiver.key = Unsigned()
    receive(i)


def receive(i):
    before = group.version
    p256.run(agent.receiver.receive(given["objects"][i]))
    if group.version != before + 1:
        raise ValueError("the key was not stored")


def protect(i):
    traffic.send(b"light on", agent.clock.now())


def open_(i):
    traffic.receive(group_message.parse(given["messages"][i]), agent.clock.now())


work = {
    "prepare": prepare,
    "edhoc": edhoc,
    "tunnel": tunnel,
    "receive": receive,
    "accept": accept,
    "protect": protect,
    "open": open_,
}
for i in range(int(count)):
    begun = time.ticks_us()
    work[step](i)
    print(time.ticks_diff(time.ticks_us(), begun))
