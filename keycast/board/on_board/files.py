# Runs on a board that waits in its REPL. The tool sends this text with the call of one function after it, and reads the
# last line that is printed, which is JSON.
import json
import os
import sys


def tell(value):
    print(json.dumps(value))


def is_frozen():
    # Whether the firmware has the agent's files in it
    path = sys.path[:]
    sys.path[:] = [".frozen"]
    try:
        sys.modules.pop("agent_slots", None)
        import agent_slots  # noqa: F401

        return True
    except ImportError:
        return False
    finally:
        sys.modules.pop("agent_slots", None)
        sys.path[:] = path


def look():
    # Version of MicroPython, name of the machine, whether our files are frozen into it, octets of its partition for
    # ROMFS, octets that are free for files, octets of memory
    try:
        import vfs

        romfs = len(memoryview(vfs.rom_ioctl(2, 0)))
    except (ImportError, AttributeError, TypeError):  # there is none
        romfs = 0
    try:
        import esp32

        memory = sum([block[0] for block in esp32.idf_heap_info(esp32.HEAP_DATA)])
    except (ImportError, AttributeError):
        memory = 0
    flash = os.statvfs("/")
    machine = getattr(sys.implementation, "_machine", "")
    tell([list(sys.implementation[1][:3]), machine, is_frozen(), romfs, flash[0] * flash[3], memory])


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


def run_these():
    # The files that came by cable run from now on, not those that came over the air. The floors of these stay
    names = os.listdir("/")
    marked = "update.floors" in names  # slot_record.MARK
    for name in names:
        if name in ("agent.1", "agent.2") or (name.startswith("update.") and name != "update.floors"):
            os.remove("/" + name)
    try:
        from nvs_store import NvsStore

        from device_agent.key_store import KeyStore
        from device_agent.update import slot_record

        store = KeyStore(NvsStore())
        record = slot_record.load(store)
        if record.wanted or record.reason or marked:  # something was tried once, or the floors are lost
            record.by_cable()
            slot_record.save(store, record)
    except ImportError:  # files frozen in before there were slots
        pass
    tell(True)


def save(record, octets):
    from nvs_store import NvsStore

    from device_agent.key_store import KeyStore

    KeyStore(NvsStore()).save(record, octets)
    tell(True)
