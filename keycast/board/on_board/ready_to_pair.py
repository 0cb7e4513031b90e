# Runs on a board that waits in its REPL, and prints in its last line, which is JSON, the name and the pairing secret of
# a board without gateway, or null. It is a program of its own, as making a key needs most of a small heap.
import gc
import json

from nvs_store import NvsStore
from pairing_window import prepare

from device_agent import provisioning, unpaired
from device_agent.key_store import KeyStore

gc.collect()
storage = NvsStore()
store = KeyStore(storage)
told = None
try:
    if not prepare(storage, store):
        told = [provisioning.parse(store.load("prov")).pne_id, unpaired.shown(unpaired.secret(store))]
except MemoryError:  # the code is not in the flash
    pass
print(json.dumps(told))
