"""The XML that CPNS messages use: one element with attributes, in it elements with attributes and text, no deeper.

A strict subset of XML 1.0 in UTF-8: an XML declaration may stand first; no DOCTYPE, processing instruction, comment,
CDATA section or name prefix; references to characters and the five predefined entities only. An accepted document means
the same to any XML parser; it cannot expand (no entities) or load anything (no external references).
"""

from cpns.errors import MalformedMessage

_NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SPACE = " \t\r\n"
_ENTITIES = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}


def parse(data, limit):
    """Return (name, attributes, children) of a document of at most `limit` octets.

    `attributes` is a dict; `children` a list of (name, attributes, text). Raises MalformedMessage.
    """
    if len(data) > limit:
        raise MalformedMessage(f"XML: longer than {limit} octets")
    try:
        text = str(bytes(data), "utf-8")
    except UnicodeError:
        raise MalformedMessage("XML: not UTF-8") from None
    for sign in text:
        if (sign < " " and sign not in _SPACE) or sign in "\ufffe\uffff":
            raise MalformedMessage("XML: forbidden character")
    return _Reader(text).document()


def serialise(name, attributes, children):
    """Return the octets of a document of the parts that `parse` returns. Text must not have control characters."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n', _tag(name, attributes), ">"]
    for child, child_attributes, text in children:
        out.append(f"{_tag(child, child_attributes)}>{_escape(text)}</{child}>")
    out.append(f"</{name}>")
    return "".join(out).encode()


class _Reader:
    def __init__(self, text):
        self.text = text
        self.at = 0

    def document(self):
        if self.text.startswith("<?xml"):
            self.at = 5
            declaration = self.attributes()
            encoding = declaration.pop("encoding", "UTF-8")
            if declaration != {"version": "1.0"} or encoding.upper() != "UTF-8":
                raise MalformedMessage("XML: version or encoding")
            self.expect("?>")
        self.space()
        name, attributes, empty = self.start_tag()
        children = []
        while not empty:
            self.space()
            if self.text.startswith("</", self.at):
                self.end_tag(name)
                break
            children.append(self.child())
        self.space()
        if self.at != len(self.text):
            raise MalformedMessage("XML: something after the end")
        return name, attributes, children

    def child(self):
        name, attributes, empty = self.start_tag()
        text = ""
        if not empty:
            end = self.text.find("<", self.at)
            if end < 0:
                raise MalformedMessage("XML: truncated")
            text = _unescape(self.text[self.at : end])
            self.at = end
            self.end_tag(name)
        return name, attributes, text

    def start_tag(self):
        self.expect("<")
        name = self.name()
        attributes = self.attributes()
        empty = self.text.startswith("/", self.at)
        self.expect("/>" if empty else ">")
        return name, attributes, empty

    def end_tag(self, name):
        self.expect("</" + name)
        self.space()
        self.expect(">")

    def attributes(self):
        found = {}
        while self.space() and self.text[self.at : self.at + 1] not in ("/", ">", "?"):
            name = self.name()
            self.space()
            self.expect("=")
            self.space()
            quote = self.text[self.at : self.at + 1]
            end = self.text.find(quote, self.at + 1) if quote in ("'", '"') else -1
            if end < 0 or name in found:
                raise MalformedMessage("XML: attribute")
            found[name] = _unescape(self.text[self.at + 1 : end])
            self.at = end + 1
        return found

    def name(self):
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in _NAMES:
            self.at += 1
        if start == self.at:
            raise MalformedMessage("XML: a name is missing")
        return self.text[start : self.at]

    def space(self):
        """Skip white space. Returns True if there was any."""
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1
        return self.at > start

    def expect(self, what):
        if not self.text.startswith(what, self.at):
            raise MalformedMessage("XML: not well-formed or outside the subset")
        self.at += len(what)


def _unescape(text):
    if "<" in text or "]]>" in text:
        raise MalformedMessage("XML: markup inside text")
    parts = text.split("&")
    out = [parts[0]]
    for part in parts[1:]:
        reference, end, rest = part.partition(";")
        sign = _character(reference[1:]) if reference[:1] == "#" else _ENTITIES.get(reference)
        if not end or sign is None:
            raise MalformedMessage("XML: reference")
        out.append(sign + rest)
    return "".join(out)


def _character(number):
    """Return the character of a numeric reference, None if XML 1.0 has no such character."""
    digits, base = (number[1:], 16) if number[:1] == "x" else (number, 10)
    allowed = "0123456789abcdefABCDEF"[: 22 if base == 16 else 10]
    if not 0 < len(digits) < 9 or not all(digit in allowed for digit in digits):
        return None
    code = int(digits, base)
    if 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0x10000 <= code < 0x110000 or code in (9, 10, 13):
        return chr(code)
    return None


def _escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _tag(name, attributes):
    return "<" + name + "".join([f' {key}="{_escape(attributes[key])}"' for key in attributes])
