# Runs on a board that waits in its REPL. The tool sends this text with the call of one function after it, and reads the
# last line that is printed, which is JSON.
import json
import os
import sys


def tell(value):
    print(json.dumps(value))


def look():
    # Version of MicroPython, name of the machine, whether it has a partition for ROMFS, octets that are free for files,
    # octets of memory
    try:
        import vfs

        slots = vfs.rom_ioctl(1)
    except (ImportError, AttributeError):
        slots = 0
    try:
        import esp32

        memory = sum([block[0] for block in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError):
        memory = 0
    flash = os.statvfs("/")
    tell(
        [
            list(sys.implementation[1][:3]),
            getattr(sys.implementation, "_machine", ""),
            slots > 0,
            flash[0] * flash[3],
            memory,
        ]
    )


def remove(paths):
    for path in paths:
        try:
            os.remove(path)
        except OSError:  # there is none
            continue
    tell(True)


def make_folders(paths):
    for path in paths:
        try:
            os.mkdir(path)
        except OSError:  # it is there
            continue
    tell(True)


def save(record, octets):
    from nvs_store import NvsStore

    from device_agent.key_store import KeyStore

    KeyStore(NvsStore()).save(record, octets)
    tell(True)
