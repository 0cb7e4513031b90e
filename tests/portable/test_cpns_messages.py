"""CPNS messages in CBOR form: the fields that the specification demands of each, and what is refused."""

from vmtest import raises, req

from cpns import cborlite, tuning
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage, NotMember

KEY = bytes(range(16))

DELIVERY = {m.SG_ID: "lamps", m.GROUP_KEY: [(KEY, None)], m.VERSION: 65537, m.ACTIVATION: 0, m.REASON: n.REASON_LEAVE}
CONFIRMATION = {m.RESULT: n.RESULT_SUCCESS, m.SG_ID: "lamps", m.VERSION: 65537}
NO_RESULTS = ("0", "3", "", "11", " 1", 1, None, b"1")
SIMPLIFIED = {m.SGID: "lamps", m.GROUP_KEY_INFO: ("pne-1", bytes(24)), m.VERSION: 1, m.EUK_ID: bytes(8)}


def without(fields, *labels):
    return {label: fields[label] for label in fields if label not in labels}


def having(fields, label, value):
    fields = dict(fields)
    fields[label] = value
    return fields


def map_of(label, element):
    return {row[0]: element[i] for i, row in enumerate(m.ELEMENTS[label]) if element[i] is not None}


def refused(code, fields, label=None):
    """Both directions refuse `fields`, and the reason names message and field, never the value."""
    with raises(MalformedMessage) as caught:
        m.encode(code, fields)
    assert ("message %d" % code) in caught.value.reason
    if label is not None:
        assert ("field %d:" % label) in caught.value.reason
    wire = {0: code}
    wire.update(fields)
    for key in m.ELEMENTS:
        if wire.get(key):
            wire[key] = [map_of(key, e) for e in wire[key]] if key in m.REPEATED else map_of(key, wire[key])
    with raises(MalformedMessage):
        m.decode(cborlite.encode(wire))


def taken(code, fields):
    assert m.decode(m.encode(code, fields)) == (code, fields)


@req("CPNS-GKM-43")
def test_gkdk_assignment_request_has_one_pne_id():
    taken(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: "pne-1"})
    refused(n.GKDK_ASSIGNMENT_REQUEST, {}, m.PNE_ID)
    refused(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: b"pne-1"}, m.PNE_ID)
    assert m.encode(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: "pne-1"}) == b"\xa2\x00\x01\x01\x65pne-1"


@req("CPNS-GKM-44", "CPNS-GKM-45", "Q-03")
def test_gkdk_assignment_response_has_result_and_gkdk():
    response = {m.RESULT: "1", m.GKDK: bytes(100)}
    taken(n.GKDK_ASSIGNMENT_RESPONSE, response)
    taken(n.GKDK_ASSIGNMENT_RESPONSE, {m.RESULT: "2", m.GKDK: b""})  # present and empty on failure
    refused(n.GKDK_ASSIGNMENT_RESPONSE, {m.RESULT: "2"}, m.GKDK)
    refused(n.GKDK_ASSIGNMENT_RESPONSE, {m.RESULT: "2", m.GKDK: bytes(100)}, m.GKDK)
    refused(n.GKDK_ASSIGNMENT_RESPONSE, {m.RESULT: "1", m.GKDK: b""}, m.GKDK)
    refused(n.GKDK_ASSIGNMENT_RESPONSE, {m.GKDK: bytes(100)}, m.RESULT)
    for result in NO_RESULTS:
        for gkdk in (b"", bytes(100)):
            refused(n.GKDK_ASSIGNMENT_RESPONSE, {m.RESULT: result, m.GKDK: gkdk}, m.RESULT)
    taken(n.GKDK_ASSIGNMENT_RESPONSE, having(response, m.GKDK, bytes(tuning.GKDK_MAX)))
    refused(n.GKDK_ASSIGNMENT_RESPONSE, having(response, m.GKDK, bytes(tuning.GKDK_MAX + 1)), m.GKDK)


@req("CPNS-GKM-46", "CPNS-GKM-47", "CPNS-GKM-48")
def test_group_key_delivery_request_has_sg_id_and_group_keys_with_an_optional_index():
    code = n.GROUP_KEY_DELIVERY_REQUEST
    taken(code, DELIVERY)
    taken(code, having(DELIVERY, m.GROUP_KEY, [(KEY, "1.0a0b"), (bytes(24), "1.0c")]))
    refused(code, without(DELIVERY, m.SG_ID), m.SG_ID)
    refused(code, without(DELIVERY, m.GROUP_KEY), m.GROUP_KEY)
    refused(code, having(DELIVERY, m.GROUP_KEY, []), m.GROUP_KEY)


@req("Q-07")
def test_several_group_keys_are_encryptions_of_one_key_and_each_names_its_index():
    code = n.GROUP_KEY_DELIVERY_REQUEST
    for keys in (
        [(KEY, None), (KEY, None)],  # which is it?
        [(KEY, "1.0a"), (KEY, None)],
        [(bytes(24), None)],  # a plain key has 16 octets
        [(bytes(20), "1.0a")],
        [(bytes(15), None)],
        [(bytes(25), "1.0a")],
        [(KEY, "")],
        [("lamps", None)],
        [(KEY, "1.0a")] * (tuning.ENTRIES_PER_OBJECT + 1),
    ):
        refused(code, having(DELIVERY, m.GROUP_KEY, keys), m.GROUP_KEY)


@req("CPNS-GKM-49", "Q-04")
def test_group_key_delivery_response_has_result_and_names_what_it_answers():
    code = n.GROUP_KEY_DELIVERY_RESPONSE
    taken(code, CONFIRMATION)
    taken(code, having(having(having(CONFIRMATION, m.GENERATION, 1), m.SLOT, 0), m.PROOF, bytes(8)))
    taken(code, {m.RESULT: "2"})
    refused(code, without(CONFIRMATION, m.RESULT), m.RESULT)
    for result in NO_RESULTS:
        for fields in (CONFIRMATION, {}):
            refused(code, having(fields, m.RESULT, result), m.RESULT)
    refused(code, without(CONFIRMATION, m.VERSION), m.VERSION)
    refused(code, having(CONFIRMATION, m.PROOF, bytes(7)), m.PROOF)


@req("CPNS-GKM-86", "CPNS-GKM-87", "CPNS-GKM-88")
def test_simplified_request_has_sgid_and_group_key_info_of_pneid_and_encrypted_group_key():
    code = n.S_GROUP_KEY_DELIVERY_REQUEST
    taken(code, SIMPLIFIED)
    for label in SIMPLIFIED:
        refused(code, without(SIMPLIFIED, label), label)
    for info in ((None, bytes(24)), ("pne-1", None), ("pne-1", bytes(16)), ("", bytes(24)), (bytes(24), "pne-1")):
        refused(code, having(SIMPLIFIED, m.GROUP_KEY_INFO, info), m.GROUP_KEY_INFO)


@req("CPNS-GKM-79", "CPNS-GKM-80")
def test_simplified_response_has_return_and_pnid():
    code = n.S_GROUP_KEY_DELIVERY_RESPONSE
    response = {m.RETURN: n.RETURN_SUCCESS, m.PNID: "home", m.MAC: bytes(8)}
    taken(code, response)
    taken(code, {m.RETURN: n.RETURN_UNKNOWN_EUK, m.PNID: "home"})
    refused(code, {m.RETURN: n.RETURN_FAIL}, m.PNID)
    refused(code, without(response, m.RETURN), m.RETURN)
    refused(code, without(response, m.MAC), m.MAC)
    for value in ("0", "4", "", "one"):
        refused(code, having(response, m.RETURN, value), m.RETURN)


def test_a_failure_names_its_error_and_success_does_not():
    for code in (n.GROUP_KEY_DELIVERY_RESPONSE, n.JOIN_RESPONSE, n.KEY_PULL_RESPONSE, n.PAIRING_RESPONSE):
        taken(code, {m.RESULT: "2", m.ERROR: n.ERROR_NOT_MEMBER, m.ERROR_TEXT: "no member"})
        taken(code, {m.RESULT: "2"})
        refused(code, {m.RESULT: "2", m.ERROR_TEXT: "x" * (tuning.ERROR_TEXT_MAX + 1)}, m.ERROR_TEXT)
    refused(n.GROUP_KEY_DELIVERY_RESPONSE, having(CONFIRMATION, m.ERROR, 1))
    assert m.decode(m.failure(n.JOIN_REQUEST, NotMember("\u00e4" * 60))) == (
        n.JOIN_RESPONSE,
        {m.RESULT: "2", m.ERROR: n.ERROR_NOT_MEMBER, m.ERROR_TEXT: "\u00e4" * 48},
    )
    code, fields = m.decode(m.failure(n.GKDK_ASSIGNMENT_REQUEST, NotMember()))
    assert (code, fields[m.GKDK]) == (n.GKDK_ASSIGNMENT_RESPONSE, b"")


def test_ids_have_1_to_64_octets_that_can_be_shown():
    for name in ("x", "x" * 64, "\u00e4" * 32, "a b", "\U0001f4a1"):
        taken(n.JOIN_REQUEST, {m.PNE_ID: name, m.SG_ID: "lamps"})
    for name in ("", "x" * 65, "\u00e4" * 33, "a\nb", "a\x00", "\x7f", "\x1b[0m", "\ufffe", "\uffff"):
        refused(n.JOIN_REQUEST, {m.PNE_ID: name, m.SG_ID: "lamps"}, m.PNE_ID)


def test_integers_have_ranges():
    code = n.GROUP_KEY_DELIVERY_REQUEST
    for label, value in ((m.VERSION, 0xFFFFFFFF), (m.ACTIVATION, 0), (m.REASON, 4), (m.REVISION, 1), (m.TIME, 1 << 31)):
        taken(code, having(DELIVERY, label, value))
    for label, value in (
        (m.VERSION, 1 << 32),
        (m.VERSION, -1),
        (m.VERSION, "1"),
        (m.VERSION, True),
        (m.REASON, 5),
        (m.ACTIVATION, None),
    ):
        refused(code, having(DELIVERY, label, value), label)
    refused(n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: "a", m.SG_ID: "b", m.PROTECTION: 3}, m.PROTECTION)
    refused(n.GENERATION_REQUEST, {m.GKDK: b"x", m.GENERATION: 0}, m.GENERATION)


def test_unknown_messages_and_fields_are_refused():
    refused(7, {})
    refused(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: "a", m.SG_ID: "b"})  # known, but not here
    refused(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: "a", 99: "b"})
    refused(n.GKDK_ASSIGNMENT_REQUEST, {m.PNE_ID: "a", "x": "b"})
    for wire in ({}, {1: "a"}, {0: "1", 1: "a"}, {0: True, 1: "a"}, {0: b"\x01"}, [1, "a"], 1, None):
        with raises(MalformedMessage):
            m.decode(cborlite.encode(wire))


def test_elements_have_one_form():
    """Part maps and arrays as the table says: nothing else, no null, no empty array."""
    good = {0: 3, 4: "lamps", 5: [{0: KEY}], 16: 1, 17: 0, 18: 0}
    m.decode(cborlite.encode(good))
    for element in (KEY, {}, {0: KEY, 1: None}, {0: KEY, 2: 0}, {1: "1.0a"}, [KEY], {0: KEY, "a": 0}):
        with raises(MalformedMessage):
            m.decode(cborlite.encode(having(good, 5, [element])))
    for value in ({0: KEY}, KEY, [], "x", {}):
        with raises(MalformedMessage):
            m.decode(cborlite.encode(having(good, 5, value)))
    for info in ([], [{1: "pne-1", 2: bytes(24)}], bytes(24), {}, {1: "pne-1", 2: bytes(24), 3: 0}):
        with raises(MalformedMessage):
            m.decode(cborlite.encode({0: 5, 6: "lamps", 7: info, 16: 1, 40: bytes(8)}))


def test_a_key_pull_response_brings_at_most_one_plain_key():
    answer = {m.RESULT: "1", m.SG_ID: "lamps", m.VERSION: 3}
    taken(n.KEY_PULL_RESPONSE, answer)
    taken(n.KEY_PULL_RESPONSE, having(answer, m.GROUP_KEY, [(KEY, None)]))
    refused(n.KEY_PULL_RESPONSE, having(answer, m.GROUP_KEY, [(KEY, "1.0a"), (KEY, "1.0b")]), m.GROUP_KEY)


def test_what_may_repeat_and_does_not_is_an_empty_list():
    update = {m.SG_ID: "lamps", m.PN_ID: "home", m.REVISION: 1}
    octets = m.encode(n.INVENTORY_UPDATE_REQUEST, update)
    assert octets == m.encode(n.INVENTORY_UPDATE_REQUEST, having(update, m.MEMBER, []))
    assert m.decode(octets) == (n.INVENTORY_UPDATE_REQUEST, having(update, m.MEMBER, []))
    taken(n.INVENTORY_UPDATE_REQUEST, having(update, m.MEMBER, ["a", "b"]))
    refused(n.INVENTORY_UPDATE_REQUEST, having(update, m.MEMBER, "a"), m.MEMBER)
    refused(n.INVENTORY_UPDATE_REQUEST, having(update, m.MEMBER, ["a", 1]), m.MEMBER)
    taken(n.VERSION_LIST_RESPONSE, {m.RESULT: "1", m.VERSION_ENTRY: [(1, "lamps"), (0, "doors")]})


def test_a_message_is_bounded_before_it_is_read():
    octets = m.encode(n.VERSION_LIST_REQUEST, {m.PN_ID: "home", m.VERSION_ENTRY: [(1, "x" * 60)] * 130})
    assert len(octets) > tuning.MESSAGE_MAX
    with raises(MalformedMessage):
        m.decode(octets)
    m.decode(octets, tuning.UPLINK_MESSAGE_MAX)
