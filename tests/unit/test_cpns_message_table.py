"""The table is the specification's: messages, ways, levels, elements, each declared once, extensions marked."""

import subprocess
import sys

import pytest

from cpns import message_table as table
from cpns import messages as m
from cpns import numbers as n
from cpns.message_table import GATEWAY, PNE, SERVER
from keycast.micropython_vm import board_files


def row_of(code, cpns_name):
    (found,) = [row for row in table.rows(code) if row.name == cpns_name]
    return found


MESSAGES_OF_SEED_000 = [
    pytest.param(code, name, ways, level, marks=pytest.mark.req(requirement), id=name)
    for requirement, code, name, ways, level in (
        ("CPNS-GKM-39", 1, "GKDKAssignmentRequest", [(PNE, GATEWAY)], "Highly recommended"),
        ("CPNS-GKM-40", 2, "GKDKAssignmentResponse", [(GATEWAY, PNE)], "Highly recommended"),
        ("CPNS-GKM-41", 3, "GroupKeyDeliveryRequest", [(SERVER, GATEWAY), (GATEWAY, PNE)], "Mandatory"),
        ("CPNS-GKM-42", 4, "GroupKeyDeliveryResponse", [(PNE, GATEWAY), (GATEWAY, SERVER)], "Mandatory"),
    )
]


@pytest.mark.parametrize(("code", "name", "ways", "level"), MESSAGES_OF_SEED_000)
def test_message_has_its_name_ways_and_level(code, name, ways, level):
    assert table.name(code) == name
    assert list(table.ways(code)) == ways
    assert table.PAIRS[code if code % 2 else code - 1].level == level


ELEMENTS_OF_SEED_000 = [
    pytest.param(*rest, marks=pytest.mark.req(requirement), id=requirement)
    for requirement, *rest in (
        ("CPNS-GKM-43", 1, "PNE ID", "1", "E", str),
        ("CPNS-GKM-44", 2, "Result", "1", "E", str),
        ("CPNS-GKM-45", 2, "GKDK", "1", "E", bytes),
        ("CPNS-GKM-46", 3, "SG ID", "1", "E", str),
        ("CPNS-GKM-47", 3, "Group Key", "1..n", "E", bytes),
        ("CPNS-GKM-48", 3, "Encryption Key index", "0..1", "A", str),
        ("CPNS-GKM-49", 4, "Result", "1", "E", str),
    )
]


@pytest.mark.parametrize(("code", "name", "cardinality", "t", "kind"), ELEMENTS_OF_SEED_000)
def test_element_is_as_the_specification_prints_it(code, name, cardinality, t, kind, request):
    row = row_of(code, name)
    assert (row.cardinality, row.t, row.kind[0]) == (cardinality, t, kind)
    assert not row.extension
    assert row.requirements == request.node.callspec.id


@pytest.mark.req("CPNS-GKM-86", "CPNS-GKM-87", "CPNS-GKM-88")
def test_simplified_request_has_sgid_attribute_and_group_key_info_element():
    code = n.S_GROUP_KEY_DELIVERY_REQUEST
    assert table.name(code) == "SGroupKeyDeliveryRequest"
    assert row_of(code, "SGID").t == "A"
    assert row_of(code, "GroupKeyInfo").t == "E"
    assert (row_of(code, "PNEID").label, row_of(code, "PNEID").t) == (m.GROUP_KEY_INFO, "A")
    encrypted = row_of(code, "EncryptedGroupKey")
    assert (encrypted.label, encrypted.t, encrypted.cardinality) == (m.GROUP_KEY_INFO, "A", "1")


@pytest.mark.req("CPNS-GKM-79", "CPNS-GKM-80")
def test_simplified_response_has_return_attribute_and_pnid():
    code = n.S_GROUP_KEY_DELIVERY_RESPONSE
    assert table.name(code) == "SGroupKeyDeliveryResponse"
    assert (row_of(code, "Return").t, row_of(code, "Return").cardinality) == ("A", "1")
    assert row_of(code, "PNID").cardinality == "1"


def test_simplified_messages_travel_between_server_and_pne_through_the_gateway():
    assert table.ways(n.S_GROUP_KEY_DELIVERY_REQUEST) == ((SERVER, GATEWAY), (GATEWAY, PNE))
    assert table.ways(n.S_GROUP_KEY_DELIVERY_RESPONSE) == ((PNE, GATEWAY), (GATEWAY, SERVER))


def test_every_message_and_code_point_is_declared_once():
    codes = {value for name, value in vars(n).items() if name.endswith(("_REQUEST", "_RESPONSE"))}
    assert set(table.MESSAGES) == codes
    assert set(table.PAIRS) | {code + 1 for code in table.PAIRS} == codes
    assert len({table.name(code) for code in codes}) == len(codes)


def test_every_label_has_one_number_one_type_and_one_name():
    numbers = [value for name, value in vars(m).items() if name.isupper() and isinstance(value, int)]
    labels = [number for number in numbers if number < m.OPTIONAL]  # the others are cardinalities
    assert len(labels) == len(set(labels))
    assert sorted([*m.TYPES[::2], *m.ELEMENTS]) == sorted(labels)
    parts = {(label, row[0]) for label, rows in m.ELEMENTS.items() for row in rows if row[0]}
    assert set(table.NAMES) == set(labels) | parts


def test_what_the_specifications_do_not_name_is_marked_as_extension():
    added = (  # fields of the specifications, in messages that have them by this project
        (n.GROUP_KEY_DELIVERY_RESPONSE, m.SG_ID),
        (n.S_GROUP_KEY_DELIVERY_RESPONSE, m.PNE_ID),
        (n.S_GROUP_KEY_DELIVERY_RESPONSE, m.SGID),
    )
    for code in table.MESSAGES:
        for row in table.rows(code):
            if row.label >= m.VERSION or code >= n.JOIN_REQUEST:
                assert row.extension, (table.name(code), row.name)
            elif (code, row.label) not in added:
                assert not row.extension, (table.name(code), row.name)
        assert (table.requirement(code) == "") == (code >= n.JOIN_REQUEST)


def test_no_board_has_the_messages_of_delivery_reports():
    assert "cpns/delivery_report.py" not in board_files.listed()
    alone = "from cpns import messages as m; print(m.type_of(m.REASON)[0] is int, m._row(26), m._row(27))"
    run = subprocess.run([sys.executable, "-c", alone], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "b''", "b''"]


def test_only_labels_that_are_arrays_repeat():
    for code in table.MESSAGES:
        for row in table.rows(code):
            if row.part is None and row.cardinality in (table.SOME, table.ANY):
                assert row.label in m.REPEATED


def test_names_are_unique_within_their_element():
    for code in table.MESSAGES:
        names = [(row.label if row.part else None, row.t, row.xml_name) for row in table.rows(code)]
        assert len(names) == len(set(names)), table.name(code)
