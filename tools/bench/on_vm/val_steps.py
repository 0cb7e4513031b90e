# Runs inside the VM. It opens the public I_MESSAGE as a board does, with the cache file or without, and prints the
# microseconds. Arguments: folder of the vectors, cache file, images of the packages and
# of what stands in for hardware, and one of nothing, cached, anew.
import json
import sys
import time

import rom

_, folder, path, image, hardware, what = sys.argv
rom.mount(image, "/rom")
rom.mount(hardware, "/hardware")
sys.path[:] = ["/rom", "/hardware", ".frozen"]

from device_agent.val_client import records

records.load_client_modules()

from device_agent.val_client import key_cache
from mikey_sakke import eccsi, i_message, sakke


def unhex(text):
    return bytes.fromhex(text)


with open(folder + "/mikey_sakke_public.json") as file:
    public = json.load(file)
kms, user, test = public["kms"], public["users"]["Alice"], public["payload_tests"][0]
octets, uri, period, gms = unhex(test["i_message_hex"]), user["user_uri"], user["key_period_no"], test["initiator_uri"]
identifier, z, rsk = unhex(user["user_id"]), unhex(kms["pub_enc_key"]), unhex(user["user_decrypt_key"])
signatures = eccsi.Community(unhex(kms["pub_auth_key"]), 0)
mine = i_message.Kms(kms["kms_uri"], kms["user_key_period"], kms["user_key_offset"], signatures, None)
wanted = unhex(test["key"])
del public, kms, user, test

if what != "nothing":
    start = time.ticks_us()
    if what == "cached":
        cache = key_cache.KeyCache(path, identifier, z, rsk)
        key = sakke.DecryptionKey(cache, identifier, rsk, lambda point: cache)
    else:
        key = sakke.DecryptionKey(sakke.Community(z, 2), identifier, rsk, sakke.FreshFunctions)
    received = i_message.open_(octets, mine, uri, {period: key}.get, [gms])
    if received.key != wanted:
        raise ValueError("another key")
    print(time.ticks_diff(time.ticks_us(), start))
