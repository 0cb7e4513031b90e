# Runs on a board that waits in its REPL. The tool sends this text with the call of one function after it, and reads the
# last line that is printed, which is JSON. Only `look` and `begin_anew` need files of ours, which may be broken.
import json


def look():
    # Starts that failed in a row, the error that ended the agent last, and the identity; or why that cannot be read
    try:
        from nvs_store import NvsStore

        from cpns import cborlite
        from device_agent import provisioning
        from device_agent.key_store import KeyStore

        storage = NvsStore()
        store = KeyStore(storage)
        last = store.load("last")  # micropython/strikes.py
        identity = store.load("prov")
        told = {
            "starts": cborlite.decode(last)[1] if last else 0,
            "error": cborlite.decode(last)[2] if last else "",
            "pne_id": identity and provisioning.parse(identity).pne_id,
            "cleared": storage.cleared,
        }
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the files: they are written anew
        told = {"broken": type(error).__name__ + ": " + str(error)[:120]}
    print(json.dumps(told))


def begin_anew():
    import strikes
    from nvs_store import NvsStore

    strikes.over(NvsStore())
    print("null")


def erase():
    # Erase each sector of NVS, and remove updates and the caches of a VAL client; print the octets of NVS that are not
    # erased, and the number of caches. A reset must follow, as the firmware knows of nothing of this
    import os

    import esp32

    left = 0
    for nvs in esp32.Partition.find(esp32.Partition.TYPE_DATA, label="nvs"):
        sector = bytearray(4096)
        for number in range(nvs.info()[3] // 4096):
            nvs.ioctl(6, number)
            nvs.readblocks(number, sector)
            left += 4096 - sector.count(b"\xff")
    for name in os.listdir("/"):
        if name in ("agent.1", "agent.2") or name.startswith("update."):
            os.remove("/" + name)
    try:
        caches = os.listdir("/val")
    except OSError:
        caches = []
    for name in caches:
        os.remove("/val/" + name)
    print(json.dumps((left, len(caches))))
