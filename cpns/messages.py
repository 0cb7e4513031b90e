"""CPNS messages: their codes, field labels and types in one table, and the CBOR form made from it.

This module is the one home of what stands on the wire; `cpns/delivery_report.py` adds messages that no board has.
Names, directions, meanings and requirement ids are added per code and label by `cpns/message_table.py`, which no board
loads; `docs/messages.md` shows the whole.

A message is a pair (code, fields): code is one of `numbers.*_REQUEST` / `*_RESPONSE`, fields maps labels to values:
str for String, bytes for Binary, int for uint; a label of `REPEATED` has a list, which is left out on the wire when
empty; an element of `ELEMENTS` is a tuple of its parts, None for an absent one: GROUP_KEY [(key, index or None)],
GROUP_KEY_INFO (PNE ID, wrapped key), VERSION_ENTRY [(version, SG ID)].
"""

from cpns import cborlite, tuning
from cpns import numbers as n
from cpns.errors import MalformedMessage

# Field labels: one number for one meaning in every message. 1..9 are CPNS's own, the others are extensions.
PNE_ID = 1
RESULT = 2
GKDK = 3
SG_ID = 4
GROUP_KEY = 5
SGID = 6  # labels 6..9: the simplified messages of CPNS 1.1 have names of their own
GROUP_KEY_INFO = 7
RETURN = 8
PNID = 9
VERSION = 16
ACTIVATION = 17
REASON = 18
GENERATION = 19
PROOF = 20
PN_ID = 21
PN_ALIAS = 22
SG_ALIAS = 23
PROTECTION = 24
TIME = 25
LEISURE = 26
REVISION = 27
MEMBER = 28
ERROR = 29
ERROR_TEXT = 30
CONFIRMED = 31
UNREACHABLE = 32
EXCLUDED = 33
VERSION_ENTRY = 34
AUTHENTICATOR = 35
SIGNING_KEY = 36
SIGNING_EPOCH = 37
SIGNATURE = 38
GATEWAY_ID = 39
EUK_ID = 40
MAC = 41
SLOT = 42
WINDOWS_LOST = 43
KEY_MESSAGE = 44
RECEIPT = 45
SOFTWARE = 46
DATAGRAM = 47
TRUST = 48
SERVER_CREDENTIAL = 49
DELIVERY = 50

# Types: (kind, least, most): an integer's range, the octets of bytes or text, or the range of a one-digit text
_ENTITY_ID = (str, 1, tuning.ENTITY_ID_MAX)
_NUMBER = (int, 0, 0xFFFFFFFF)

# Their codes, above all labels; `type_of` has the types
_ID, _U16, _U32, _OCTETS_8, _OCTETS_32, _OCTETS_64 = 0x80, 0x81, 0x82, 0x83, 0x84, 0x85
_RESULT, _RETURN, _GKDK, _REASON, _PROTECTION, _ERROR = 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B
_TEXT, _KEY_MESSAGE, _RECEIPT, _SOFTWARE = 0x8C, 0x8D, 0x8E, 0x8F
_DATAGRAM, _TRUST, _CREDENTIAL = 0x90, 0x91, 0x92

# Each label that has no parts, and the code of its type: in one piece, as a dict takes a kilobyte of a board's heap
TYPES = bytes(
    (PNE_ID, _ID, RESULT, _RESULT, GKDK, _GKDK, SG_ID, _ID, SGID, _ID, RETURN, _RETURN, PNID, _ID)
    + (VERSION, _U32, ACTIVATION, _U32, REASON, _REASON, GENERATION, _U16, PROOF, _OCTETS_8)
    + (PN_ID, _ID, PN_ALIAS, _U32, SG_ALIAS, _U16, PROTECTION, _PROTECTION, TIME, _U32, LEISURE, _U32)
    + (REVISION, _U32, MEMBER, _ID, ERROR, _ERROR, ERROR_TEXT, _TEXT)
    + (CONFIRMED, _ID, UNREACHABLE, _ID, EXCLUDED, _ID, AUTHENTICATOR, _OCTETS_32)
    + (SIGNING_KEY, _OCTETS_64, SIGNING_EPOCH, _U32, SIGNATURE, _OCTETS_64, GATEWAY_ID, _ID)
    + (EUK_ID, _OCTETS_8, MAC, _OCTETS_8, SLOT, _U32, KEY_MESSAGE, _KEY_MESSAGE, WINDOWS_LOST, _U32)
    + (RECEIPT, _RECEIPT, SOFTWARE, _SOFTWARE, DATAGRAM, _DATAGRAM, TRUST, _TRUST)
    + (SERVER_CREDENTIAL, _CREDENTIAL)
)


def type_of(label):
    """Return the type of a label that has no parts: (kind, least, most). Raises ValueError for another label."""
    code = TYPES[TYPES.index(bytes((label,))) + 1]
    if code == _ID:
        return _ENTITY_ID
    if code == _U32:
        return _NUMBER
    if code == _U16:
        return int, 1, 0xFFFF
    if code == _OCTETS_8:
        return bytes, 8, 8
    if code == _OCTETS_32:
        return bytes, 32, 32
    if code == _OCTETS_64:
        return bytes, 64, 64
    if code == _RESULT:
        return str, n.RESULT_SUCCESS, n.RESULT_FAIL
    if code == _RETURN:
        return str, n.RETURN_SUCCESS, n.RETURN_UNKNOWN_EUK
    if code == _GKDK:
        return bytes, 0, tuning.GKDK_MAX
    if code == _REASON:
        return int, n.REASON_CREATE, n.REASON_BY_HAND
    if code == _PROTECTION:
        return int, n.PROTECTION_AUTHENTICATED, n.PROTECTION_SEALED
    if code == _ERROR:
        return int, 1, 0xFF
    if code == _TEXT:
        return str, 1, tuning.ERROR_TEXT_MAX
    if code == _KEY_MESSAGE:
        return bytes, 1, tuning.KEY_MESSAGE_MAX
    if code == _DATAGRAM:
        return bytes, 1, tuning.TUNNEL_DATAGRAM_MAX
    if code == _TRUST:
        return int, n.TRUST_GATEWAY, n.TRUST_END_TO_END
    if code == _CREDENTIAL:
        return bytes, 1, tuning.CREDENTIAL_MAX
    if code == _RECEIPT:
        return bytes, 0, tuning.RECEIPT_MAX
    return str, 1, tuning.SOFTWARE_MAX


# Elements of several parts: rows (key in the element's CBOR map: 0 is its value; must be there; type)
ELEMENTS = {
    GROUP_KEY: ((0, True, (bytes, tuning.GROUP_KEY_LEN, tuning.WRAPPED_KEY_LEN)), (1, False, (str, 1, 32))),
    GROUP_KEY_INFO: ((1, True, _ENTITY_ID), (2, True, (bytes, tuning.WRAPPED_KEY_LEN, tuning.WRAPPED_KEY_LEN))),
    VERSION_ENTRY: ((0, True, _NUMBER), (1, True, _ENTITY_ID)),
}

# Labels that are an array wherever they stand, and how many elements a message may have
REPEATED = {
    GROUP_KEY: tuning.ENTRIES_PER_OBJECT,
    MEMBER: tuning.LISTED_MAX,
    VERSION_ENTRY: tuning.LISTED_MAX,
}

# Cardinalities; each holds for the labels after it, up to the next
OPTIONAL = 0x80  # 0..1
ONE = OPTIONAL | 2  # 1
ANY = OPTIONAL | 1  # 0..n
SOME = OPTIONAL | 3  # 1..n

# The rows of all messages: 0, code, cardinalities and labels; 0 at the end. In one piece, because a board then reads
# them from where its code lies: a dict of them would take a kilobyte of its heap.
TABLE = bytes(
    (0, n.GKDK_ASSIGNMENT_REQUEST, ONE, PNE_ID, OPTIONAL, SOFTWARE)
    + (0, n.GKDK_ASSIGNMENT_RESPONSE, ONE, RESULT, GKDK, OPTIONAL, PN_ALIAS)
    + (0, n.GROUP_KEY_DELIVERY_REQUEST, ONE, SG_ID, SOME, GROUP_KEY, ONE)
    + (VERSION, ACTIVATION, REASON, OPTIONAL, TIME, REVISION)
    + (0, n.GROUP_KEY_DELIVERY_RESPONSE, ONE, RESULT, SG_ID, VERSION, OPTIONAL, GENERATION, SLOT, PROOF)
    + (0, n.S_GROUP_KEY_DELIVERY_REQUEST, ONE, SGID, GROUP_KEY_INFO, VERSION, EUK_ID)
    + (0, n.S_GROUP_KEY_DELIVERY_RESPONSE, ONE, RETURN, PNID, MAC, OPTIONAL, PNE_ID, SGID, VERSION, EUK_ID)
    + (0, n.JOIN_REQUEST, ONE, PNE_ID, SG_ID, OPTIONAL, PN_ID, TRUST)
    + (0, n.JOIN_RESPONSE, ONE, RESULT, SG_ID, VERSION, PROTECTION, OPTIONAL)
    + (PN_ID, PN_ALIAS, SG_ALIAS, TIME, LEISURE, REVISION, TRUST)
    + (0, n.LEAVE_REQUEST, ONE, PNE_ID, SG_ID, OPTIONAL, PN_ID)
    + (0, n.LEAVE_RESPONSE, ONE, RESULT, SG_ID, OPTIONAL, REVISION)
    + (0, n.CREATE_SERVICE_GROUP_REQUEST, ONE, PNE_ID, SG_ID, OPTIONAL, PN_ID, PROTECTION, TRUST)
    + (0, n.CREATE_SERVICE_GROUP_RESPONSE, ONE, RESULT, SG_ID, VERSION, PROTECTION, OPTIONAL)
    + (PN_ID, PN_ALIAS, SG_ALIAS, TIME, LEISURE, REVISION, TRUST)
    + (0, n.DELETE_SERVICE_GROUP_REQUEST, ONE, SG_ID, VERSION, OPTIONAL, PNE_ID, REASON)
    + (0, n.DELETE_SERVICE_GROUP_RESPONSE, ONE, RESULT, SG_ID)
    + (0, n.INVENTORY_UPDATE_REQUEST, ONE, SG_ID, PN_ID, REVISION, ANY, MEMBER, OPTIONAL, TRUST)
    + (0, n.INVENTORY_UPDATE_RESPONSE, ONE, RESULT, SG_ID, OPTIONAL, REVISION)
    + (0, n.KEY_PULL_REQUEST, ONE, SG_ID, VERSION, OPTIONAL, PNE_ID)
    + (PN_ID, GENERATION, WINDOWS_LOST, RECEIPT, SOFTWARE)
    + (0, n.KEY_PULL_RESPONSE, ONE, RESULT, SG_ID, VERSION, OPTIONAL, GROUP_KEY)
    + (ACTIVATION, REASON, SG_ALIAS, PROTECTION, TIME, LEISURE, RECEIPT)
    + (0, n.VERSION_LIST_REQUEST, ONE, PN_ID, ANY, VERSION_ENTRY)
    + (0, n.VERSION_LIST_RESPONSE, ONE, RESULT, ANY, VERSION_ENTRY)
    + (0, n.PAIRING_REQUEST, ONE, PNE_ID, OPTIONAL, AUTHENTICATOR)
    + (0, n.PAIRING_RESPONSE, ONE, RESULT, OPTIONAL, AUTHENTICATOR)
    + (GATEWAY_ID, PN_ID, SIGNING_KEY, SIGNING_EPOCH, PNE_ID, SERVER_CREDENTIAL)
    + (0, n.ROLL_OVER_REQUEST, ONE, SIGNING_KEY, SIGNING_EPOCH, SIGNATURE)
    + (0, n.ROLL_OVER_RESPONSE, ONE, RESULT)
    + (0, n.GENERATION_REQUEST, ONE, GKDK, GENERATION)
    + (0, n.GENERATION_RESPONSE, ONE, RESULT)
    + (0, n.KEY_MESSAGE_REQUEST, ONE, KEY_MESSAGE)
    + (0, n.KEY_MESSAGE_RESPONSE, ONE, RESULT)
    + (0, n.RETIREMENT_REQUEST, ONE, PNE_ID, PN_ID)
    + (0, n.RETIREMENT_RESPONSE, ONE, RESULT)
    + (0, n.TUNNEL_REQUEST, ONE, PNE_ID, DATAGRAM)
    + (0, n.TUNNEL_RESPONSE, ONE, RESULT, OPTIONAL, DATAGRAM, 0)
)

# What a response that reports failure may have besides, and what it must still have (Q-03: an empty GKDK)
ON_FAIL = bytes((OPTIONAL, ERROR, ERROR_TEXT))
KEPT_ON_FAIL = (RESULT, RETURN, PNID, GKDK)


def encode(code, fields):
    """Return the CBOR form of a message. Raises MalformedMessage if `check` does."""
    check(code, fields)
    message = {0: code}
    for label in fields:
        value = fields[label]
        if label in ELEMENTS:
            value = [_map_of(label, parts) for parts in value] if label in REPEATED else _map_of(label, value)
        if value != []:
            message[label] = value
    return cborlite.encode(message)


def decode(data, limit=tuning.MESSAGE_MAX):
    """Return (code, fields) of a message in CBOR form, `data` being bytes or a memoryview of at most `limit` octets.

    Only PN GW and CPNS Server, which list whole PNs, raise the limit to `tuning.UPLINK_MESSAGE_MAX`.
    Raises MalformedMessage; its reason names message and field by code and label, never a value.
    """
    fields = cborlite.decode(data, limit)
    if type(fields) is not dict or type(fields.get(0)) is not int:
        raise MalformedMessage("no message code")
    code = fields.pop(0)
    for label in fields:
        value = fields[label]
        if value == []:
            raise MalformedMessage("an array without elements")
        if label in ELEMENTS:
            parts = [_parts_of(label, element) for element in (value if type(value) is list else (value,))]
            fields[label] = parts if type(value) is list else parts[0]
    return accept(code, fields)


def accept(code, fields):
    """Return (code, fields) of a decoded message after `check`. A field of 0..n that is absent is []."""
    check(code, fields)
    for label in _row(code):
        if label & OPTIONAL:
            cardinality = label
        elif cardinality == ANY:
            fields.setdefault(label, [])
    return code, fields


def check(code, fields):
    """Raise MalformedMessage unless `fields` are what the table demands of message `code`."""
    row = _row(code)
    if not row:
        raise MalformedMessage(f"message {code} is unknown")
    failed = fields.get(RESULT, fields.get(RETURN, n.RESULT_SUCCESS)) != n.RESULT_SUCCESS
    known = 0
    for label in row + ON_FAIL if failed else row:
        if label & OPTIONAL:
            cardinality = label
        elif label in fields:
            known += 1
            fault = _fault(label, cardinality, fields[label])
            if fault is None and label == GKDK and failed == bool(fields[label]):
                fault = "is empty exactly on failure"
            if fault:
                raise MalformedMessage(f"message {code}, field {label}: {fault}")
        elif cardinality & 2 and (not failed or label in KEPT_ON_FAIL):
            raise MalformedMessage(f"message {code}, field {label}: missing")
    if known != len(fields):
        raise MalformedMessage(f"message {code}: unknown field")


def failure(request, error):
    """Return the CBOR response with Result `2` to a message of code `request` that ended in `error`, a CpnsError.

    Not for SGroupKeyDeliveryRequest, whose response is made by the PNE only.
    """
    text = error.reason
    while len(text.encode()) > tuning.ERROR_TEXT_MAX:
        text = text[:-1]
    fields = {RESULT: n.RESULT_FAIL, ERROR: error.code}
    if text:
        fields[ERROR_TEXT] = text
    if request == n.GKDK_ASSIGNMENT_REQUEST:
        fields[GKDK] = b""
    return encode(request + 1, fields)


def _row(code):
    """Return labels and cardinalities of a message, b"" of one that there is not."""
    at = TABLE.find(bytes((0, code))) if 0 < code < OPTIONAL else -1
    return TABLE[at + 2 : TABLE.find(b"\0", at + 1)] if at >= 0 else b""


def _fault(label, cardinality, value):
    """Return what is wrong with the value of one field, or None."""
    if label in REPEATED:
        if type(value) is not list:
            return "is no array"
        if len(value) > (REPEATED[label] if cardinality & 1 else 1) or (cardinality & 2 and not value):
            return "too few or too many elements"
    else:
        value = (value,)
    for element in value:
        if label not in ELEMENTS:
            if not _fits(type_of(label), element):
                return "wrong type, length or range"
        elif type(element) is not tuple or len(element) != len(ELEMENTS[label]):
            return "wrong parts"
        else:
            for i, (_, needed, kind) in enumerate(ELEMENTS[label]):
                if needed if element[i] is None else not _fits(kind, element[i]):
                    return "wrong type, length or range of a part"
    if label == GROUP_KEY:  # without index it is the one plain key, 16 octets; with index W16 or W24
        for key, index in value:
            if len(key) & 7 or (index is None and (len(key) != tuning.GROUP_KEY_LEN or len(value) != 1)):
                return "neither one plain key nor indexed ones"
    return None


def _fits(kind, value):
    python, least, most = kind
    if type(value) is not python:
        return False
    if python is str:
        if type(least) is str:
            return len(value) == 1 and least <= value <= most
        for unprintable in value:
            if (
                unprintable < " " or unprintable in "\x7f\ufffe\uffff"
            ):  # characters that XML, logs and terminals cannot show
                return False
        value = value.encode()
    return least <= (value if python is int else len(value)) <= most


def _map_of(label, parts):
    return {row[0]: parts[i] for i, row in enumerate(ELEMENTS[label]) if parts[i] is not None}


def _parts_of(label, element):
    """Return the parts of an element's CBOR map, or what `_fault` refuses."""
    if type(element) is not dict or None in element.values():
        return None
    parts = tuple([element.pop(row[0], None) for row in ELEMENTS[label]])
    return None if element else parts
