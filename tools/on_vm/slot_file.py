# Runs inside the VM: the agent out of a file on a real littlefs. Arguments: image of the board, and the same with its
# seal, as a file of the host. Prints as JSON whether it is whole, what its mounting takes of the heap, from where the
# agent came, what came of other paths, and whether images that were cut or changed are whole.
import gc
import json
import os
import sys

import rom
import vfs

_, IMAGE, SLOT = sys.argv
SECTOR, SECTORS = 4096, 100


class Disk:
    octets = bytearray(b"\xff" * SECTOR * SECTORS)

    def readblocks(self, block, buffer, offset=0):
        at = block * SECTOR + offset
        buffer[:] = memoryview(self.octets)[at : at + len(buffer)]

    def writeblocks(self, block, buffer, offset):
        at = block * SECTOR + offset
        self.octets[at : at + len(buffer)] = buffer

    def ioctl(self, operation, argument):
        return {4: SECTORS, 5: SECTOR}.get(operation, 0)


def write(octets):
    with open("/flash/agent.1", "wb") as file:
        file.write(octets)


rom.mount(IMAGE, "/rom")
sys.path[:] = ["/rom", ".frozen"]
vfs.VfsLfs2.mkfs(Disk(), readsize=32, progsize=32, lookahead=32)
vfs.mount(vfs.VfsLfs2(Disk(), readsize=32, progsize=32, lookahead=32), "/flash")
import slot_images

with open(SLOT, "rb") as file:
    octets = file.read()
damaged = [octets[:-1], octets[:4096], octets + b"\0", b"", octets[:5000] + b"\xa5" + octets[5001:]]
told = {"damaged": []}
for each in damaged:
    write(each)
    told["damaged"].append(slot_images.whole(None, 1))
write(octets)
told["whole"] = slot_images.whole(None, 1)
gc.collect()
before = gc.mem_alloc()
slot_images.mount(None, 1)
gc.collect()
told["heap"] = gc.mem_alloc() - before
for name in ("esp32", "machine", "network"):  # native modules
    sys.modules[name] = None
import device_agent.agent
import suit

told["from"] = [device_agent.agent.__file__, suit.__file__]
told["kinds"] = [os.stat("/agent1/" + name)[0] for name in ("cpns", "device_agent/agent.mpy", "main.py")]
try:
    import no_such_module  # noqa: F401 # pyright: ignore[reportMissingImports]
except ImportError as error:
    told["missing"] = str(error)
print(json.dumps(told))
