"""The PN GW's side of broadcasts as Bluetooth LE adverts: from a signed broadcast or a beacon to 24 octets (SEC-10).

`advert` says what an advert is, and has the side of a board.
"""

from cpns import cborlite, erasure_code, tuning
from cpns.advert import BEACON, ROW_SIZE, SHAPES, SIGNATURE_SIZE, SIZE, from_air, known
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from cpns.crypto import keywrap
from cpns.errors import MalformedMessage
from cpns.numbers import FRAME_BEACON

INDEXES = 256  # of the rows of an object: 0 to k - 1 are the object itself, the others repair rows
_BEACON_SIZE = 19


def to_air(signed: bytes, pn_alias: int) -> bytes:
    """Return the air form of a signed broadcast, 17 octets shorter: what every receiver knows is left out.

    It is the array head of the payload, the items after the PN alias, and the signature. Raises MalformedMessage for
    octets that `from_air` would not make the same object of.
    """
    start, end = len(FRAME_HEAD), len(signed) - SIGNATURE_SIZE - len(SIGNATURE_HEAD)
    payload = cborlite.decode_prefix(signed, start)[0] if start < end else b""
    if type(payload) is bytes and payload[:1] and payload[0] in SHAPES:
        air = payload[:1] + payload[len(known(payload[0], pn_alias)) :] + signed[-SIGNATURE_SIZE:]
        if from_air(air, pn_alias) == signed:
            return air
    raise MalformedMessage("no signed broadcast that has an air form")


def rows_of(air: bytes) -> "list[bytes]":
    """Return the rows of an air form, 1 to tuning.ADVERT_ROWS_MAX of 19 octets. Raises ValueError if it is longer."""
    rows = [air[at : at + ROW_SIZE] for at in range(0, len(air), ROW_SIZE)]
    if len(rows) > tuning.ADVERT_ROWS_MAX:
        raise ValueError("an object of too many rows for adverts")
    rows[-1] += bytes(ROW_SIZE - len(rows[-1]))
    return rows


def row_advert(frame_key: bytes, identification: bytes, rows: "list[bytes]", index: int) -> bytes:
    """Return the advert (24 octets) of row `index` (0 to 255) of the object that has these rows.

    `identification` is that of the object (`advert.identification`).
    """
    row = rows[index] if index < len(rows) else erasure_code.repair(rows, index)
    return keywrap.encipher(frame_key, bytes((0, len(rows) - 1)) + identification + bytes((index,)) + row)


def beacon_advert(frame_key: bytes, datagram: bytes) -> bytes:
    """Return the advert (24 octets) of a beacon of 19 octets (`beacon.build`). Raises ValueError for other octets."""
    if len(datagram) != _BEACON_SIZE or datagram[0] != FRAME_BEACON:
        raise ValueError("no beacon")
    return keywrap.encipher(frame_key, (bytes((0, BEACON)) + datagram[1:] + bytes(SIZE))[:SIZE])
