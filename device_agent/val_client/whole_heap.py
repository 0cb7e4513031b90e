"""The VAL client's work at boot, before the agent is loaded, if the heap is too small for both.

`service` puts a Key Message into the store and resets the board. `work` opens it with the whole heap, puts the answer
into the store and asks for another reset, after which the agent sends it. Each message is tried once: it leaves the
queue before the work begins, and the server repeats notices without answer.
"""

import os

from cpns import cborlite
from cpns.errors import CpnsError
from device_agent.val_client import records


def waiting(store, folder):
    """Return True if there is something to do: a message in the queue, or an RSK without cache file."""
    if store.load(records.QUEUE) is not None:
        return True
    try:
        for number in records.load_rsks(store):
            os.stat(records.cache_path(folder, number))
    except OSError:
        return True
    return False


def work(store, folder, progress):
    """Make missing caches and open the message that waits. Returns True if the caller must reset the board.

    `store` is a KeyStore. It calls `progress(period number, percent)`. Raises MemoryError, OSError.
    """
    records.load_client_modules()
    from device_agent.val_client.client import BoardClient

    client = records.load_client(store)
    if client is None:
        return False
    worked = []

    def told(number, percent):
        worked.append(number)
        del worked[1:]
        progress(number, percent)

    unix_time, octets = 0, b""
    queued = store.load(records.QUEUE)
    if queued is not None:
        unix_time, octets = cborlite.decode(queued)
        store.erase(records.QUEUE)
    worker = BoardClient(store, folder, client)
    try:
        for _ in worker.prepare(unix_time, told):
            pass
    except ValueError:  # an RSK that is not ours, erased by `prepare`
        worked.append(0)
    if octets:
        try:
            store.save(records.ANSWER, _value(worker.receive(octets, unix_time)))
        except CpnsError:
            return True
    return bool(worked or octets)


def _value(steps):
    try:
        while True:
            next(steps)
    except StopIteration as end:
        return end.value
