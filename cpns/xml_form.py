"""The XML form of CPNS messages, for the uplink, from the same table as the CBOR form (docs/protocol.md section 4).

The root element is named as the message and has the default namespace `urn:keycast:cpns:1`; prefixes are not read.
Fields are elements or attributes by their CPNS names without blanks, in the order of the table; Binary is base64
without white space, uint decimal without leading zeros. Elements are read in any order.
"""

import binascii

from cpns import message_table, messages, tuning
from cpns.errors import MalformedMessage
from cpns.xml_subset import parse, serialise

NAMESPACE = "urn:keycast:cpns:1"

_CODES = {message_table.name(code): code for code in message_table.MESSAGES}


def encode(code, fields):
    """Return the XML form of a message as `messages.encode` takes it. Raises MalformedMessage."""
    messages.check(code, fields)
    attributes = {"xmlns": NAMESPACE}
    children = []
    for row, places in _LAYOUTS[code]:
        value = fields.get(row.label)
        if value is None:
            continue
        if row.t == "A":
            attributes[row.xml_name] = _text(value)
            continue
        for element in value if row.label in messages.REPEATED else (value,):
            parts = element if row.label in messages.ELEMENTS else (element,)
            texts = {places[i][0]: _text(part) for i, part in enumerate(parts) if part is not None}
            text = texts.pop(None, "")
            children.append((row.xml_name, texts, text))
    return serialise(message_table.name(code), attributes, children)


def decode(data, limit=tuning.UPLINK_MESSAGE_MAX):
    """Return (code, fields) of a message in XML form, at most `limit` octets. Raises MalformedMessage."""
    name, attributes, children = parse(data, limit)
    code = _CODES.get(name)
    if code is None or attributes.pop("xmlns", "") != NAMESPACE:
        raise MalformedMessage("XML: unknown message or namespace")
    layout = {(row.t, row.xml_name): (row.label, places) for row, places in _LAYOUTS[code]}
    fields = {}
    for key, raw in attributes.items():
        label, places = _known(layout, code, "A", key)
        fields[label] = _value(places[0][1], raw)
    for key, named, text in children:
        label, places = _known(layout, code, "E", key)
        named[None] = text
        parts = [_value(kind, named.pop(place)) if place in named else None for place, kind in places]
        if named.pop(None, "") or named:
            raise MalformedMessage(f"{name}: text or attribute that {key} does not have")
        value = tuple(parts) if label in messages.ELEMENTS else parts[0]
        if label in messages.REPEATED:
            fields.setdefault(label, []).append(value)
        elif label in fields:
            raise MalformedMessage(f"{name}: {key} repeated")
        else:
            fields[label] = value
    return messages.accept(code, fields)


def _known(layout, code, t, xml_name):
    found = layout.get((t, xml_name))
    if found is None:
        raise MalformedMessage(f"{message_table.name(code)}: unknown element or attribute")
    return found


def _places(row):
    """Return (attribute name or None for the text, type) of each part of an element, in the order of its tuple."""
    if row.label not in messages.ELEMENTS:
        return ((None, row.kind),)
    named = {part.part: part.xml_name for part in message_table.rows(row.code) if part.label == row.label}
    return tuple((named[part] if part else None, kind) for part, _, kind in messages.ELEMENTS[row.label])


def _text(value):
    if type(value) is bytes:
        return str(binascii.b2a_base64(value).strip(), "ascii")
    return str(value)


def _value(kind, text):
    """Return the value that `text` stands for, in its only spelling. `messages.check` looks at range and length."""
    if kind[0] is str:
        return text
    try:
        value = int(text) if kind[0] is int else binascii.a2b_base64(text)
    except ValueError:
        raise MalformedMessage("XML: no integer or base64") from None
    if _text(value) != text:
        raise MalformedMessage("XML: integer or base64 in an unusual spelling")
    return value


_LAYOUTS = {
    code: [(row, _places(row)) for row in message_table.rows(code) if row.part is None]
    for code in message_table.MESSAGES
}
