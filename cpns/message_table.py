"""The messages as the specification prints them: names, directions, levels, E/A, meanings and requirement ids.

They add to the wire facts of `cpns/messages.py`, by code or label. `rows` puts both together; the XML form,
`docs/messages.md` and the tests are made from the rows. No board loads this module.
"""

from collections import namedtuple

from cpns import delivery_report  # noqa: F401 - adds its messages to the tables
from cpns import messages as m
from cpns import numbers as n

PNE = "pne"
GATEWAY = "gateway"
SERVER = "server"

MANDATORY = "Mandatory"
HIGHLY_RECOMMENDED = "Highly recommended"
SIMPLIFIED = "CPNS 1.1"  # seed 002 states no level
EXTENSION = "extension"

# Cardinalities in words, those of `messages` and one more
ONE, OPTIONAL, SOME, ANY, ON_FAILURE = "1", "0..1", "1..n", "0..n", "0..1 on failure"
MESSAGES = {row[0]: row[1:] for row in m.TABLE.split(b"\0") if row}  # code -> cardinalities and labels
_CARDINALITIES = {m.ONE: ONE, m.OPTIONAL: OPTIONAL, m.SOME: SOME, m.ANY: ANY}

Pair = namedtuple("Pair", ("name", "level", "request_ways", "requirements", "meaning"))
Row = namedtuple(
    "Row",
    ("code", "label", "part", "name", "xml_name", "t", "kind", "cardinality", "extension", "requirements", "meaning"),
)

_UP = ((PNE, GATEWAY), (GATEWAY, SERVER))
_DOWN = ((SERVER, GATEWAY), (GATEWAY, PNE))

# One entry for each request and its response, whose code is one more and whose ways are the same, back
PAIRS = {
    n.GKDK_ASSIGNMENT_REQUEST: Pair(
        "GKDKAssignment",
        HIGHLY_RECOMMENDED,
        ((PNE, GATEWAY),),
        ("CPNS-GKM-39", "CPNS-GKM-40"),
        "a PNE without GKDK gets one",
    ),
    n.GROUP_KEY_DELIVERY_REQUEST: Pair(
        "GroupKeyDelivery", MANDATORY, _DOWN, ("CPNS-GKM-41", "CPNS-GKM-42"), "a Group Key goes to the members"
    ),
    n.S_GROUP_KEY_DELIVERY_REQUEST: Pair(
        "SGroupKeyDelivery",
        SIMPLIFIED,
        _DOWN,
        ("CPNS-GKM-85", "CPNS-GKM-78"),
        "a Group Key goes to one PNE, end to end under its Entity User Key",
    ),
    n.JOIN_REQUEST: Pair("Join", EXTENSION, _UP, ("", ""), "a PNE joins a Service Group"),
    n.LEAVE_REQUEST: Pair("Leave", EXTENSION, _UP, ("", ""), "a PNE leaves, or has left, a Service Group"),
    n.CREATE_SERVICE_GROUP_REQUEST: Pair(
        "CreateServiceGroup", EXTENSION, _UP, ("", ""), "a PNE creates a Service Group and owns it"
    ),
    n.DELETE_SERVICE_GROUP_REQUEST: Pair(
        "DeleteServiceGroup", EXTENSION, _UP + _DOWN, ("", ""), "a Service Group ends; its keys are wiped, floors stay"
    ),
    n.INVENTORY_UPDATE_REQUEST: Pair(
        "InventoryUpdate", EXTENSION, ((SERVER, GATEWAY),), ("", ""), "the full list of members of a group in one PN"
    ),
    n.DELIVERY_REPORT_REQUEST: Pair(
        "DeliveryReport", EXTENSION, ((GATEWAY, SERVER),), ("", ""), "which PNEs confirmed a Group Key"
    ),
    n.KEY_PULL_REQUEST: Pair("KeyPull", EXTENSION, _UP, ("", ""), "a member asks for the newest Group Key"),
    n.VERSION_LIST_REQUEST: Pair(
        "VersionList", EXTENSION, ((GATEWAY, SERVER),), ("", ""), "both sides compare the versions they know"
    ),
    n.PAIRING_REQUEST: Pair("Pairing", EXTENSION, ((PNE, GATEWAY),), ("", ""), "board and PN GW prove the secret"),
    n.ROLL_OVER_REQUEST: Pair(
        "RollOver", EXTENSION, ((GATEWAY, PNE),), ("", ""), "the PN GW's signing key is followed by a new one"
    ),
    n.GENERATION_REQUEST: Pair(
        "Generation", EXTENSION, ((GATEWAY, PNE),), ("", ""), "a GKDK record of a new tree generation"
    ),
    n.KEY_MESSAGE_REQUEST: Pair(
        "KeyMessage",
        EXTENSION,
        ((GATEWAY, PNE), (PNE, GATEWAY)),
        ("", ""),
        "a notice of a group management server or a profile to a PNE that is a VAL client, or its answer",
    ),
    n.RETIREMENT_REQUEST: Pair(
        "Retirement",
        EXTENSION,
        ((GATEWAY, SERVER),),
        ("", ""),
        "a PNE is no more one of the PN: every right of its name ends",
    ),
    n.TUNNEL_REQUEST: Pair(
        "Tunnel",
        EXTENSION,
        _UP,
        ("", ""),
        "a datagram of the session of PNE and CPNS Server, which the PN GW carries and cannot read, and its answer",
    ),
}

# Fields by label, parts by (label, part): CPNS name and meaning
NAMES = {
    m.PNE_ID: ("PNE ID", "entity ID of the PNE that asks; in a PairingResponse the one that a person has for it"),
    m.RESULT: ("Result", "`1` success, `2` fail"),
    m.GKDK: ("GKDK", "the assigned GKDK; empty on failure"),
    m.SG_ID: ("SG ID", "the Service Group"),
    m.GROUP_KEY: ("Group Key", "one plain key inside a session, or the key encrypted for each index"),
    (m.GROUP_KEY, 1): ("Encryption Key index", "generation and subset index of the key that encrypts this Group Key"),
    m.SGID: ("SGID", "the Service Group"),
    m.GROUP_KEY_INFO: ("GroupKeyInfo", "the Group Key for one PNE"),
    (m.GROUP_KEY_INFO, 1): ("PNEID", "the PNE whose Entity User Key encrypts it (Q-14)"),
    (m.GROUP_KEY_INFO, 2): ("EncryptedGroupKey", "RFC 3394 wrap of the Group Key"),
    m.RETURN: ("Return", "`1` success, `2` fail, `3` unknown Entity User Key"),
    m.PNID: ("PNID", "the current PN"),
    m.VERSION: ("Version", "epoch ‖ counter of the Group Key; in a JoinResponse the floor, 0 is none"),
    m.ACTIVATION: ("Activation", "Unix seconds from when the key is sent with, 0 when stored"),
    m.REASON: ("Reason", "0 create, 1 join, 2 leave, 3 periodic, 4 by hand"),
    m.GENERATION: ("Generation", "generation of the tree of the GKDK"),
    m.PROOF: ("Proof", "this slot opened this Group Key (protocol, section 7)"),
    m.PN_ID: ("PN ID", "the PN"),
    m.PN_ALIAS: ("PN Alias", "short name of the PN on air"),
    m.SG_ALIAS: ("SG Alias", "short name of the Service Group on air"),
    m.PROTECTION: ("Protection", "of group messages: 1 authenticated, 2 sealed"),
    m.TIME: ("Time", "the sender's Unix seconds, 0 unknown"),
    m.LEISURE: ("Leisure", "milliseconds over which answers to a broadcast spread"),
    m.REVISION: ("Revision", "number of the membership of the group in the PN, only grows"),
    m.MEMBER: ("Member", "entity ID of a member"),
    m.ERROR: ("Error", "code of the failure"),
    m.ERROR_TEXT: ("Error Text", "the failure in words"),
    m.CONFIRMED: ("Confirmed", "entity ID of a PNE that confirmed the version"),
    m.UNREACHABLE: ("Unreachable", "entity ID of a PNE that did not answer"),
    m.EXCLUDED: ("Excluded", "entity ID of a PNE that left meanwhile"),
    m.DELIVERY: ("Delivery", "how the version came to one PNE, which is in one of the lists too"),
    (m.DELIVERY, 1): ("PNE ID", "the PNE"),
    (m.DELIVERY, 2): ("Link", "`unicast`, `wifi`, `ble` or `end-to-end`; absent unless the PNE confirmed the version"),
    (m.DELIVERY, 3): ("Tries", "how often the key was sent to the PNE"),
    (m.DELIVERY, 4): ("Time", "Unix seconds of the confirmation; absent without one, 0 unknown"),
    m.VERSION_ENTRY: ("Version Entry", "highest version of the Service Group, 0 for none"),
    (m.VERSION_ENTRY, 1): ("SG ID", "the Service Group"),
    m.AUTHENTICATOR: ("Authenticator", "proof of the pairing secret over this session"),
    m.SIGNING_KEY: ("Signing Key", "x ‖ y of the PN GW's P-256 key for broadcasts"),
    m.SIGNING_EPOCH: ("Signing Epoch", "number of that key, 1 more with each roll-over"),
    m.SIGNATURE: ("Signature", "ES256 by the key before"),
    m.GATEWAY_ID: ("Gateway ID", "entity ID of the PN GW"),
    m.EUK_ID: ("EUK ID", "which Entity User Key"),
    m.MAC: ("MAC", "the PNE opened this Group Key for this group and version"),
    m.SLOT: ("Slot", "place of the PNE in the tree"),
    m.KEY_MESSAGE: ("Key Message", "docs/protocol.md section 12; the PN GW cannot open the I_MESSAGE in it"),
    m.WINDOWS_LOST: ("Windows Lost", "the replay windows under this version were lost: a new key is wanted (SEC-24)"),
    m.RECEIPT: (
        "Receipt",
        "the PN GW's own word of what it knew, kept and shown by the PNE unread; empty for none yet",
    ),
    m.DATAGRAM: (
        "Datagram",
        "a CoAP datagram with EDHOC or OSCORE in it; absent in a TunnelResponse if the other end sent none",
    ),
    m.TRUST: (
        "Trust",
        "1 gateway: the PN GW delivers the keys; 2 end-to-end: the CPNS Server wraps them for each PNE (SEC-26)",
    ),
    m.SERVER_CREDENTIAL: ("Server Credential", "CCS octets of the CPNS Server, of which the PNE shows the fingerprint"),
    m.SOFTWARE: ("Software", "version of the PNE's agent, for people to see"),
}

# Fields that stand as an XML attribute of the message; parts always are attributes of their element
ATTRIBUTES = (m.SGID, m.RETURN, m.PNID)

# The fields the specifications define, by (code, label) or (code, label, part); every other field is an extension
REQUIREMENTS = {
    (n.GKDK_ASSIGNMENT_REQUEST, m.PNE_ID): "CPNS-GKM-43",
    (n.GKDK_ASSIGNMENT_RESPONSE, m.RESULT): "CPNS-GKM-44",
    (n.GKDK_ASSIGNMENT_RESPONSE, m.GKDK): "CPNS-GKM-45",
    (n.GROUP_KEY_DELIVERY_REQUEST, m.SG_ID): "CPNS-GKM-46",
    (n.GROUP_KEY_DELIVERY_REQUEST, m.GROUP_KEY): "CPNS-GKM-47",
    (n.GROUP_KEY_DELIVERY_REQUEST, m.GROUP_KEY, 1): "CPNS-GKM-48",
    (n.GROUP_KEY_DELIVERY_RESPONSE, m.RESULT): "CPNS-GKM-49",
    (n.S_GROUP_KEY_DELIVERY_REQUEST, m.SGID): "CPNS-GKM-86",
    (n.S_GROUP_KEY_DELIVERY_REQUEST, m.GROUP_KEY_INFO): "CPNS-GKM-87",
    (n.S_GROUP_KEY_DELIVERY_REQUEST, m.GROUP_KEY_INFO, 1): "CPNS-GKM-88",
    (n.S_GROUP_KEY_DELIVERY_REQUEST, m.GROUP_KEY_INFO, 2): "CPNS-GKM-90",
    (n.S_GROUP_KEY_DELIVERY_RESPONSE, m.RETURN): "CPNS-GKM-79",
    (n.S_GROUP_KEY_DELIVERY_RESPONSE, m.PNID): "CPNS-GKM-80",
}


def name(code):
    """Return the CPNS name of a message. Raises KeyError for an unknown code, as all functions here."""
    return PAIRS[_request(code)].name + ("Request" if code in PAIRS else "Response")


def ways(code):
    """Return the (from, to) pairs of roles in which a message travels, in the order of the flow."""
    request_ways = PAIRS[_request(code)].request_ways
    return request_ways if code in PAIRS else tuple((to, source) for source, to in reversed(request_ways))


def requirement(code):
    """Return the requirement id that defines a message, '' for an extension."""
    return PAIRS[_request(code)].requirements[code - _request(code)]


def rows(code):
    """Return the rows of a message's table: each field, after it the parts of its element, then those of a failure."""
    table = []
    for label, cardinality in _fields(code):
        if label not in m.ELEMENTS:
            table.append(_row(code, label, None, cardinality, m.type_of(label)))
            continue
        parts = {part: (needed, kind) for part, needed, kind in m.ELEMENTS[label]}
        table.append(_row(code, label, None, cardinality, parts.pop(0, (True, None))[1]))
        for part, (needed, kind) in parts.items():
            table.append(_row(code, label, part, ONE if needed else OPTIONAL, kind))
    return table


def _request(code):
    return code if code in PAIRS else code - 1


def _fields(code):
    cardinality = None
    for item in MESSAGES[code]:
        if item & m.OPTIONAL:
            cardinality = _CARDINALITIES[item]
        else:
            yield item, cardinality
    if m.RESULT in MESSAGES[code] or m.RETURN in MESSAGES[code]:
        for label in m.ON_FAIL[1:]:
            yield label, ON_FAILURE


def _row(code, label, part, cardinality, kind):
    place = label if part is None else (label, part)
    cpns_name, meaning = NAMES[place]
    ids = REQUIREMENTS.get((code, label) if part is None else (code, label, part), "")
    t = "E" if part is None and label not in ATTRIBUTES else "A"
    xml_name = cpns_name.replace(" ", "")
    return Row(code, label, part, cpns_name, xml_name, t, kind, cardinality, not ids, ids, meaning)
