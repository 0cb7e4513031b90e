# Runs inside the VM, with all code in ROM as on a board, and files of the host as its flash. Arguments: images of what
# stands in for hardware and of the packages; a folder with the pages and the coded frames of an image, and its digest;
# which step. It prints the microseconds of all frames (step "hear") or of the installing (step "install").
import sys
import time

import rom

_, hardware, image, folder, step = sys.argv
rom.mount(image, "/rom")
rom.mount(hardware, "/hardware")
sys.path[:] = ["/rom", "/hardware", ".frozen"]

from device_agent.key_store import KeyStore
from device_agent.update import install
from device_agent.update.places import FilePlace
from device_agent.update.slots import FlashUpdates
from suit import frames
from suit.erasure import Code

# constants of the packages are written out there, and not to be imported
FRAME, BLOCK, PAGE = 2, 1024, 64 * 16
SIZE, LOST_EACH = 100 * 1024, 5  # one frame of five is lost
UPDATE_ID = b"update 1"


class Memory(dict):
    def set(self, name, octets):
        self[name] = bytes(octets)

    def delete(self, name):
        self.pop(name, None)

    def commit(self):
        pass


class Flash:
    def __init__(self, folder):
        self.folder = folder

    def running(self):
        return 0

    def room(self, kind):
        return None

    def place(self, slot):
        return FilePlace(self.folder + "agent.1")

    def stage(self, octets):
        return None

    def closed(self):
        pass


def piece(name, index, size):
    with open(folder + name, "rb") as file:
        file.seek(index * size)
        return file.read(size)


code = Code(SIZE)
store = KeyStore(Memory())
updates = FlashUpdates(store, Flash(folder))
collection = updates.begin("agent", 1, SIZE, piece("digest", 0, 32), b"envelope")
for index in range(collection.pages()):
    collection.put_page(index, piece("pages", index, PAGE))
heard = [index for index in range(code.frames) if index % LOST_EACH]
while code.solve(0, lambda index: index in heard) is not None:
    heard.pop()
heard.append(heard[-1] + 1 if (heard[-1] + 1) % LOST_EACH else heard[-1] + 2)
begun = time.ticks_us()
for index in heard:
    datagram = frames.build(FRAME, UPDATE_ID, index, piece("frames", index, BLOCK))
    if step == "prepare":
        continue
    frame = frames.parse(datagram)
    page, place = frames.page_of(frame.index)
    if not frames.listed(collection.page(page), place, frame.body):
        raise ValueError("a frame is not the one of its page")
    collection.put(frame.index, frame.body)
if step == "hear":
    print(time.ticks_diff(time.ticks_us(), begun), len(heard))
if step == "install":
    collection.full()
    collection = install.due(updates)
    begun = time.ticks_us()
    if not install.run(updates, store, collection, lambda: None):
        raise ValueError("it was not installed")
    print(time.ticks_diff(time.ticks_us(), begun), len(heard))
