"""What is wired on this board: the record `board` of the key store, which `keycast board` writes from `hw_configs/`.

CBOR `[1, name of the file in hw_configs, pin of the light or -1, kind of the light ("plain", "inverted", "rgb"), pin of
the button or -1, [UART, tx, rx] that nothing else uses, or []]`.
"""

from cpns import cborlite

RECORD = "board"
FORMAT = 1
_UNKNOWN = ["", -1, "plain", -1, []]


def parts(store):
    """Return [name, light pin, kind, button pin, uart] from `store`, a KeyStore; without a record nothing is wired."""
    record = store.load(RECORD)
    if record is not None:
        form, *found = cborlite.decode(record)
        if form == FORMAT:
            return found
    return _UNKNOWN
