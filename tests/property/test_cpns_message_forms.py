"""Every message of the table, with any fields, survives both forms; lxml and cbor2 read the same."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from cpns import cborlite, messages, xml_form
from cpns import message_table as table
from tests.property.cpns_strategies import LIMIT, MESSAGES, fields

PARSER = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
CODES = sorted(table.MESSAGES)


@pytest.mark.parametrize("code", CODES, ids=table.name)
@given(data=st.data())
@settings(max_examples=40)  # of each message; those below draw from all messages
def test_cbor_and_xml_say_the_same(code, data):
    message = (code, data.draw(fields(code)))
    assert messages.decode(messages.encode(*message), LIMIT) == message
    assert xml_form.decode(xml_form.encode(*message)) == message


@given(MESSAGES)
def test_cbor_form_is_what_cbor2_reads(message):
    octets = messages.encode(*message)
    read = cbor2.loads(octets)
    assert read.pop(0) == message[0]
    assert set(read) == {label for label, value in message[1].items() if value != []}
    for label, value in read.items():
        if label not in messages.ELEMENTS:
            assert value == message[1][label]


@given(MESSAGES)
def test_xml_form_is_what_lxml_reads(message):
    code, expected = message
    root = etree.fromstring(xml_form.encode(code, expected), PARSER)
    name = etree.QName(root)
    assert (name.namespace, name.localname) == (xml_form.NAMESPACE, table.name(code))
    rows = {row.label: row for row in table.rows(code) if row.part is None}
    for label, value in expected.items():
        row = rows[label]
        if row.t == "A":
            assert root.get(row.xml_name) == value
            continue
        found = root.findall(f"{{{xml_form.NAMESPACE}}}{row.xml_name}")
        assert len(found) == (len(value) if label in messages.REPEATED else 1)
        if isinstance(value, str):
            assert (found[0].text or "") == value


@given(MESSAGES, st.booleans(), st.booleans())
def test_what_lxml_writes_is_read(message, declared, pretty):
    root = etree.fromstring(xml_form.encode(*message), PARSER)
    written = etree.tostring(root, xml_declaration=declared, encoding="UTF-8", pretty_print=pretty)
    assert xml_form.decode(written) == message


@given(MESSAGES, st.randoms(use_true_random=False))
def test_elements_may_come_in_any_order(message, random):
    root = etree.fromstring(xml_form.encode(*message), PARSER)
    groups: dict[str, list[etree._Element]] = {}
    for child in root:
        groups.setdefault(str(child.tag), []).append(child)
    names = list(groups)
    random.shuffle(names)
    root[:] = [child for name in names for child in groups[name]]
    assert xml_form.decode(etree.tostring(root)) == message


VALUES = st.recursive(
    st.one_of(
        st.integers(-(1 << 64), (1 << 64) - 1),
        st.binary(max_size=300),
        st.text(st.characters(codec="utf-8"), max_size=100),
        st.booleans(),
        st.none(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=30),
        st.dictionaries(
            st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.text(st.characters(codec="utf-8"), max_size=9)),
            inner,
            max_size=30,
        ),
    ),
    max_leaves=40,
)


def _depth(value):
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 0


def _sorted(value):
    """The value with its maps in the order of RFC 8949, 4.2.1 (cbor2's canonical order is that of RFC 7049)."""
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=cbor2.dumps)}
    return value


@given(VALUES.filter(lambda value: _depth(value) <= cborlite.DEPTH_MAX))
def test_cborlite_and_cbor2_write_and_read_the_same(value):
    octets = cborlite.encode(value)
    assert octets == cbor2.dumps(_sorted(value))
    assert cbor2.loads(octets) == value
    assert cborlite.decode(octets, len(octets)) == value
