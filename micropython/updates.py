"""The port `Updates` of a board. Its modules are loaded for each call, and leave the heap after it but for those of an
open Collection, which `device_agent.update.service` unloads when that has ended.
"""

import sys

from device_agent.key_store import KeyStore


class UpdatesOnDemand:
    """The updates of the board with this ports.Storage."""

    def __init__(self, storage):
        self._store = KeyStore(storage)

    def __getattr__(self, name):
        return lambda *arguments: self._call(name, arguments)

    def _call(self, name, arguments):
        import update_slots

        try:
            if name == "room" and arguments[0] == "agent":
                import slot_heap

                slot_heap.check()
            return getattr(update_slots.updates(self._store), name)(*arguments)
        finally:
            update_slots.unload("device_agent.update.collection" in sys.modules)
