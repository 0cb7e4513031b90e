# Runs on a board that waits in its REPL. The tool sends this text with the call of one function after it, and reads the
# last line that is printed, which is JSON. Private keys are made here and are not printed.
import json
import os
import sys
from binascii import hexlify, unhexlify
from hashlib import sha256

from nvs_store import NvsStore
from wifi import Station

from cpns import cborlite
from device_agent import pending, provisioning
from device_agent.entropy import Entropy
from device_agent.key_store import KeyStore

# Of `provisioning`, `pending`, `wifi` and `unpaired`: in the files of a board constants are written out where they are
# used, and have no names.
PRESENT, PENDING, WIFI, BLE, BOARD = "prov", "pend", "wifi", "ble", "board"
IN_FORCE = 2
SECRET_LEN = 10

storage = NvsStore()
store = KeyStore(storage)


def tell(value):
    print(json.dumps(value))


def text(octets):
    return hexlify(octets).decode()


def look():
    # What is in the flash: identities, the name of the Wi-Fi, whether Bluetooth is to be used, which board it is, and
    # records of which both copies are damaged; which chip it has, and whether the firmware has Bluetooth
    pending.finish(store)
    octets = store.load(PRESENT)
    waiting = pending.load(store)
    wifi = store.load(WIFI)
    board = store.load(BOARD)
    names = PRESENT, PENDING, WIFI, BLE
    both = [name for name in names if storage.get(name + "0") and storage.get(name + "1")]
    tell(
        {
            "present": octets and shown(provisioning.parse(octets)),
            "pending": waiting and shown(waiting[1]),
            "wifi": wifi and cborlite.decode(wifi)[1],
            "ble": store.load(BLE) is not None,
            "board": board and cborlite.decode(board)[1],
            "machine": getattr(sys.implementation, "_machine", ""),
            "has_bluetooth": has_bluetooth(),
            "damaged": [name for name in both if store.load(name) is None],
            "repaired": store.repaired,
        }
    )


def has_bluetooth():
    try:
        import bluetooth  # noqa: F401
    except ImportError:
        return False
    return True


def shown(identity):
    # Files from before end-to-end groups know of no CPNS Server
    server_ccs = getattr(identity, "server_ccs", b"")
    return [identity.pne_id, text(identity.ccs), text(identity.gateway_ccs), text(server_ccs)]


def begin(pne_id, fresh):
    Station().switch_on()  # before the key is made: only with a radio on are random numbers good (SEC-17)
    if fresh:
        pending.drop(store)
    tell(text(pending.begin(store, pne_id, Entropy(store, os.urandom))))


def begin_again():
    tell(text(pending.begin_again(store)))


def complete(octets, digest, labelled):
    octets, label = unhexlify(octets), None
    if text(sha256(octets).digest()) != digest:
        raise ValueError("damaged on its way to the board")
    if labelled:
        Station().switch_on()
        label = Entropy(store, os.urandom)(SECRET_LEN)
    tell([text(pending.complete(store, octets, label)), label and text(label)])


def confirm():
    tell(text(pending.confirm(store)))


def put_in_force():
    pending.put_in_force(store)
    tell(True)


def in_force(ccs):
    # Whether the identity with this credential is that of the board, or will be at the next start
    octets, waiting = store.load(PRESENT), pending.load(store)
    on_its_way = waiting and waiting[0] == IN_FORCE
    identity = waiting[1] if on_its_way else octets and provisioning.parse(octets)
    tell(bool(identity) and text(identity.ccs) == ccs)


def drop():
    pending.drop(store)
    tell(True)
