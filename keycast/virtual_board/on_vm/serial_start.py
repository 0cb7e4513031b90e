# Start as the firmware of an ESP32 does: mount the flash. Its root is the folder BOARD_VFS; BOARD_HARDWARE is an image
# of the modules that stand in for native ones. `serial_repl.run()` comes next, called from outside of this module,
# because nested calls take from the C stack.
import os
import sys

import ffi
import rom
import vfs

ffi.open(None).func("i", "prctl", "ii")(1, 9)  # this process ends with the one that stands for its power supply
rom.mount(os.getenv("BOARD_HARDWARE"), "/hardware")
sys.path[:] = ["/hardware", ".frozen"]
# All of them now, while paths of the host are valid; then nothing of them is to be seen, as with native modules.
for name in ("air", "bluetooth", "machine", "network", "pins", "romfs_partition", "serial_repl", "socket"):
    __import__(name)

romfs_partition = sys.modules["romfs_partition"]
romfs_partition.open(os.getenv("BOARD_ROM"))
romfs_partition.open(os.getenv("BOARD_SLOTS"))
__import__("esp32")
vfs.umount("/hardware")
vfs.umount("/")
vfs.mount(vfs.VfsPosix(os.getenv("BOARD_VFS")), "/")
os.chdir("/")
sys.path[:] = ["", ".frozen", "/lib"]
romfs_partition.mount()
sys.modules["vfs"] = romfs_partition.module()
