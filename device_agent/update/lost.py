"""Whether a record was lost, as opposed to never stored: in this room, whose modules leave the heap again."""


def lost(store, name):
    """Return True if both copies of the record `name` in `store`, a KeyStore, are there and neither is whole.

    One copy alone is a first write that the power has cut: nothing was stored yet (SEC-04).
    """
    return bool(store.storage.get(name + "0") and store.storage.get(name + "1")) and store.load(name) is None
