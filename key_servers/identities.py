"""The form of identities of users, groups and group management servers: URIs (RFC 3986) with their scheme.

An identity is compared letter for letter and goes into every UID, so one that only looks like another is refused:
"alice@example.org" and "SIP:alice@example.org" would be users that no client ever is.
"""

import re

_CHARACTERS = re.compile(r"[A-Za-z0-9:/?#@!$&'()*+,;=\[\]._~%-]+")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.+)")
_SIP = re.compile(r"(?:[^@]+@)?(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?(?:[;?].*)?")
_TEL = re.compile(r"\+?[0-9A-Fa-f*#().-]+(?:;.*)?")
_REST = {"sip": _SIP, "sips": _SIP, "tel": _TEL}


def fault_of_name(text: str, most: int) -> str:
    """Return what is wrong with the unique name of a KMS, a URI or host name of at most `most` octets, or ""."""
    if not text:
        return "A name or URI is missing."
    if len(text.encode(errors="surrogatepass")) > most:
        return f"A name or URI has at most {most} octets."
    if not _CHARACTERS.fullmatch(text):
        return f"{text!a} is no name or URI: blanks and letters outside of ASCII are written as %20 and the like."
    return ""


def fault_of(text: str, most: int) -> str:
    """Return what is wrong with an identity of at most `most` octets, in a sentence with the next step, or ""."""
    if fault := fault_of_name(text, most):
        return fault
    found = _SCHEME.fullmatch(text)
    if not found:
        example = f"sip:{text}" if _SIP.fullmatch(text) and "@" in text else "sip:alice@example.org"
        return f"{text} is no URI: write it with its scheme, such as {example}."
    scheme, rest = found.groups()
    if scheme != scheme.lower():
        return f"{text}: write {scheme.lower()}:{rest}, as identities are compared letter for letter."
    if scheme in _REST and not _REST[scheme].fullmatch(rest):
        return f"{text} is no {scheme} URI, such as {'tel:+15550100' if scheme == 'tel' else 'sip:alice@example.org'}."
    return ""
