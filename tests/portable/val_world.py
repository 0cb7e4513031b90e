"""A board that is a VAL client, with the values of tests/vectors, for tests on both Pythons."""

import json
import os

from vector_files import part, unhex

from cpns import cborlite
from device_agent.key_store import KeyStore
from device_agent.val_client import records
from device_agent.val_client.client import BoardClient
from mikey_sakke.curve import run
from mikey_sakke.identifiers import NTP_OFFSET

FOLDER = "build/val-cache-%d-" % id(object())
if "build" not in os.listdir():
    os.mkdir("build")


class Flash:
    """A Storage in the heap."""

    def __init__(self):
        self.kept = {}

    def get(self, name):
        return self.kept.get(name)

    def set(self, name, octets):
        self.kept[name] = bytes(octets)

    def delete(self, name):
        self.kept.pop(name, None)

    def commit(self):
        pass


class World:
    """Alice's board, provisioned, with its cache."""

    def __init__(self):
        kms = part("mikey_sakke_public", "kms")
        user = part("mikey_sakke_public", "users", "Alice")
        given = part("board_val_client")
        self.gms = given["gms"]
        self.number = user["key_period_no"]
        self.group = given["group"]
        self.store = KeyStore(Flash())
        client = records.Client(
            user["user_uri"],
            kms["kms_uri"],
            kms["user_key_period"],
            kms["user_key_offset"],
            unhex(kms["pub_auth_key"]),
            unhex(kms["pub_enc_key"]),
            {self.group: self.gms},
        )
        self.store.save(records.PROVISIONING, records.pack_client(client))
        records.save_rsks(self.store, {self.number: unhex(user["user_decrypt_key"])})
        self.client = BoardClient(self.store, FOLDER, records.load_client(self.store))
        self.user = user["user_uri"]

    def prepare(self, unix_time=0):
        run(self.client.prepare(unix_time, lambda number, percent: None))

    def message(self, name):
        """Return (octets, Unix seconds) of a message of the file, one line of which is in the heap at a time."""
        with open("tests/vectors/board_val_client_messages.jsonl") as file:
            for line in file:
                each = json.loads(line)
                if each["name"] == name:
                    return unhex(each["i_message_hex"]), each["ntp_seconds"] - NTP_OFFSET

    def notice(self, name, purpose="key", gms=None, now=None, octets=None):
        """-> (GMK-ID, proof, error code) of the answer."""
        message, sent = self.message(name)
        octets = cborlite.encode(["n-1", purpose, gms or self.gms, octets or message])
        unix_time = sent if now is None else now
        answered, gmk_id, shown, code, text = cborlite.decode(run(self.client.receive(octets, unix_time)))
        assert answered == "n-1" and bool(code) == bool(text) != bool(gmk_id)
        return gmk_id, shown, code

    @property
    def keys(self):
        found = records.load_gmks(self.store)
        return [(gmk.gmk_id.hex(), gmk.gmk.hex() if gmk.gmk else "") for gmk in found]  # b"".hex() differs on the VM
