"""Documents of the KMS protocol (TS 33.180 annex D): values to XML and back, by the rows of `kms_table`.

Elements are read in any order, and what the table does not have is ignored: TLS has proven who wrote the document, so
nothing depends on its form. What the table has must be there, once, with a valid value. Signed documents and wrapped
keys, the security extension, are refused: nobody here holds its keys. Only CPython; the only module that imports lxml.
"""

from typing import Any, TypeVar

from lxml import etree

from mikey_sakke.kms_faults import (
    DoctypeRefused,
    MissingElement,
    NotWellFormed,
    RepeatedElement,
    TooLarge,
    UnknownElement,
    Unsupported,
    WrongNamespace,
    WrongRoot,
    WrongValue,
)
from mikey_sakke.kms_table import CERTIFICATE, NAMESPACE, REQUEST, RESPONSE, TEXT, Element, Text, Type
from mikey_sakke.kms_values import Certificate, Request, Response

MEDIA_TYPE = "application/xml"
REQUEST_MAX = 16 * 1024  # octets; a request has about 600
RESPONSE_MAX = 512 * 1024  # octets; a certificate has about 1,300, a key set 1,500

_SCHEMA_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_KEY_CONTENT = "KeyContentType"
_ROOTS: dict[type[Any], Element] = {
    Request: Element("KmsRequest", None, REQUEST),
    Response: Element("KmsResponse", None, RESPONSE),
    Certificate: Element("KmsCertificate", None, CERTIFICATE),
}
_NOT_READ_OVER = {
    "http://www.w3.org/2000/09/xmldsig#": "a signed document, which needs keys of the security extension",
    "http://www.w3.org/2001/04/xmlenc#": "an encrypted one, which needs keys of the security extension",
    "http://www.w3.org/2001/XInclude": "a part of it stands elsewhere",
}
_SIGNED = {"SignedKmsRequest", "SignedKmsResponse", "SignedKmsCertificate"}
_XSI_TYPE = f"{{{_SCHEMA_INSTANCE}}}type"


# Writing


def encode(value: Request | Response | Certificate) -> bytes:
    """Return the XML document of `value`, in UTF-8. Raises WrongValue for what would not be read back."""
    row = _ROOTS[type(value)]
    prefixes: Any = {None: NAMESPACE, "xsi": _SCHEMA_INSTANCE}
    root = etree.Element(row.tag, nsmap=prefixes)
    _write(root, row, value, row.name)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _write(node: Any, row: Element, value: Any, path: str) -> None:
    kind = row.kind
    if isinstance(kind, Text):
        if row.key:
            node.set(_XSI_TYPE, _KEY_CONTENT)
        node.text = _checked_text(kind, value, path)
        return
    for attribute in kind.attributes:
        part = getattr(value, attribute.field)
        if part is not None:
            node.set(attribute.name, _checked_text(attribute.kind, part, f"{path}/@{attribute.name}"))
    _check_choice(kind, value, path)
    for child in kind.children:
        if child.field is None:
            continue
        part = getattr(value, child.field)
        several = part if child.most > 1 else () if part is None else (part,)
        if not child.least <= len(several) <= child.most:
            raise WrongValue(f"{path}/{child.name}: {child.least} to {child.most} are expected.")
        for each in several:
            _write(etree.SubElement(node, child.tag), child, each, f"{path}/{child.name}")


def _checked_text(kind: Text, value: Any, path: str) -> str:
    try:
        text = kind.write(value)
        kind.read(text)
    except (ValueError, OverflowError, OSError):
        raise WrongValue(f"{path}: {kind.expects} is expected.") from None
    return text


# Reading

R = TypeVar("R", Request, Response, Certificate)


def decode(octets: bytes, expected: type[R]) -> R:
    """Return the value of type `expected` in an XML document. Raises one KmsFault, of `mikey_sakke.kms_faults`."""
    row = _ROOTS[expected]
    root = _parsed(octets, REQUEST_MAX if expected is Request else RESPONSE_MAX)
    if root.tag != row.tag:
        name = etree.QName(root)
        if name.localname == row.name:
            raise WrongNamespace(f"{row.name} is not in the namespace {NAMESPACE}.")
        _refuse_signed(name.localname, "document")
        raise WrongRoot(f"The document is no {row.name}.")
    value: R = _read(root, row, row.name)
    return value


def _parsed(octets: bytes, limit: int) -> Any:
    if len(octets) > limit:
        raise TooLarge(f"The document has more than {limit} octets.")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise NotWellFormed("The document is not in UTF-8.") from None
    # Looked for before parsing, so that no declaration in it is ever acted on.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DoctypeRefused("The document has a document type declaration.")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=False,
        remove_pis=False,
    )
    try:
        root = etree.fromstring(octets, parser)
    except (etree.XMLSyntaxError, ValueError):
        # lxml's words would quote the document
        raise NotWellFormed("The document is not well-formed XML.") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise DoctypeRefused("The document has a document type declaration.")
    return root


def _read(node: Any, row: Element, path: str) -> Any:
    kind = row.kind
    if isinstance(kind, Text):
        return _read_text(node, kind, row.key, path)
    values = _read_attributes(node, kind, path)
    rows = {child.tag: child for child in kind.children}
    found: dict[str, list[Any]] = {child.name: [] for child in kind.children}
    read_over = []
    for each in _children(node, path):
        child = rows.get(each.tag)
        if child is None:
            _check_read_over(each, path)
            read_over.append(etree.QName(each).localname)
        elif child.field is not None and not _stands_for_nothing(each, child):
            if len(found[child.name]) == child.most:
                raise RepeatedElement(f"{path}/{child.name} may stand there {child.most} times.")
            found[child.name].append(_read(each, child, f"{path}/{child.name}"))
    for child in kind.children:
        if len(found[child.name]) < child.least:
            if child.name in read_over:
                raise WrongNamespace(f"{path}/{child.name} is in a foreign namespace.")
            raise MissingElement(f"{path}/{child.name} is missing.")
        if child.field is None:
            continue
        if child.most > 1:
            values[child.field] = tuple(found[child.name])
        elif found[child.name]:
            values[child.field] = found[child.name][0]
    value = kind.value(**values)
    _check_choice(kind, value, path)
    return value


def _check_read_over(node: Any, path: str) -> None:
    """Raise Unsupported for an element that may not be ignored: the document would mean something else."""
    name = etree.QName(node)
    _refuse_signed(name.localname, path)
    if name.namespace in _NOT_READ_OVER:
        raise Unsupported(f"{path}: {_NOT_READ_OVER[name.namespace]}.")


def _stands_for_nothing(node: Any, row: Element) -> bool:
    """Return True for an element that need not be there, has nothing in it, and would have no value."""
    return row.least == 0 and isinstance(row.kind, Text) and row.kind is not TEXT and not len(node) and not node.text


def _children(node: Any, path: str) -> list[Any]:
    """Return the child elements of an element that has no text of its own; comments between them are ignored."""
    found = []
    texts = [node.text]
    for child in node:
        texts.append(child.tail)
        if child.tag is not etree.Comment:
            if not isinstance(child.tag, str):
                raise UnknownElement(f"{path}: neither an element nor a comment.")
            found.append(child)
    if any(text and text.strip(" \t\r\n") for text in texts):
        raise UnknownElement(f"{path}: text between elements.")
    return found


def _read_text(node: Any, kind: Text, key: bool, path: str) -> Any:
    _read_type(node, key, path)
    if len(node):
        raise WrongValue(f"{path}: {kind.expects} is expected.")
    try:
        return kind.read((node.text or "").strip(" \t\r\n"))
    except (ValueError, OverflowError):
        raise WrongValue(f"{path}: {kind.expects} is expected.") from None


def _read_type(node: Any, key: bool, path: str) -> None:
    """Accept xsi:type only where it says what stands there anyway."""
    text = node.get(_XSI_TYPE)
    if text is None:
        return
    prefix, _, name = text.strip().rpartition(":")
    if not key or name != _KEY_CONTENT or node.nsmap.get(prefix or None) != NAMESPACE:
        raise Unsupported(f"{path}: a type that needs keys of the security extension, or is unknown.")


def _read_attributes(node: Any, kind: Type, path: str) -> dict[str, Any]:
    _read_type(node, False, path)
    rows = {attribute.name: attribute for attribute in kind.attributes}
    values: dict[str, Any] = {}
    for name, text in node.attrib.items():
        row = rows.get(name)
        if row is None:
            continue
        try:
            values[row.field] = row.kind.read(text.strip(" \t\r\n"))
        except (ValueError, OverflowError):
            raise WrongValue(f"{path}/@{name}: {row.kind.expects} is expected.") from None
    for row in kind.attributes:
        if row.required and row.field not in values:
            raise MissingElement(f"{path}/@{row.name} is missing.")
    return values


def _refuse_signed(name: str, path: str) -> None:
    if name in _SIGNED:
        raise Unsupported(f"{path}: a signed document, which needs keys of the security extension.")


def _check_choice(kind: Type, value: Any, path: str) -> None:
    present = [name for name in kind.choice if getattr(value, name) is not None]
    if len(present) > 1:
        raise RepeatedElement(f"{path}: more than one of what excludes each other.")
    if len(present) < kind.choice_least:
        raise MissingElement(f"{path} is empty.")
