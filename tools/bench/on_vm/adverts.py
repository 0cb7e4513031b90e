# Runs inside the VM, with all code in ROM as on a board. It prints what adverts cost: "name value" in microseconds, the
# quickest of ROUNDS, or octets of heap. The fixture (tools/bench/advert_steps.py) has the frame key and adverts.
import gc
import os
import sys
import time

from cpns import advert, cborlite, erasure_code

_, fixture = sys.argv
with open(fixture, "rb") as file:
    given = cborlite.decode(file.read(), 1 << 16)
key, pn_alias = given["key"], given["pn_alias"]
ROUNDS = 40
MINUTE = 60001  # ms: after that the adverts of a finished object are no longer known


def quickest(work, prepare):
    times = []
    for _ in range(ROUNDS):
        made = prepare()
        gc.collect()
        begun = time.ticks_us()
        work(made)
        times.append(time.ticks_diff(time.ticks_us(), begun))
    return min(times)


def run(steps):
    for _ in steps:
        pass


def allocated():
    gc.collect()
    return gc.mem_alloc()


def opened(octets):
    return advert.opened(key, octets)[1]


def decode(name, octets):
    indexes = bytes([opened(each)[3] for each in octets])

    def rows():
        out = bytearray()
        for each in octets:
            out += opened(each)[4:]
        return out

    print(name, quickest(lambda rows: run(erasure_code.decode(rows, indexes)), rows))


objects = given["objects"]
for name in objects:
    decode(name, objects[name])

octets = objects["decode_62"]
one = octets[0]
print("open", quickest(lambda _: [advert.opened(key, one) for _ in range(100)], lambda: None) / 100)

receiver = advert.Reassembly()
before = allocated()
for each in octets[:-1]:
    receiver.take(opened(each), 0)
print("rows", allocated() - before)

receiver = advert.Reassembly()
small, strangers, now = given["small"], [os.urandom(24) for _ in range(14)], 0
before = 0
for _ in range(11):
    for _ in range(50):  # an object of 6 rows, and 14 strangers
        for each in strangers:
            advert.opened(key, each)
        for each in small:
            whole = receiver.take(opened(each), now)
            if whole:
                run(receiver.finish(whole, pn_alias))
        now += MINUTE
    before = before or allocated()
print("growth", allocated() - before)
