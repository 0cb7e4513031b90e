"""Names of entities, PNs and Service Groups as they enter key derivations, tags and headers."""


def lp(name):
    """Return lp(name) of docs/protocol.md: one length octet and the UTF-8 octets, at most 255 (ValueError beyond)."""
    octets = name.encode()
    return bytes((len(octets),)) + octets
