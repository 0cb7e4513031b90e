"""EDHOC (RFC 9528), the initiator: method 3, cipher suite 2, credentials are CCS, message_4 required.

One object is one handshake; a failure ends it for good (SEC-21). Messages are those of RFC 9528: put `f5` before
message_1 and C_R before message_3 as docs/protocol.md section 3 says (`coap_1`, `coap_3` do it).
"""


class Initiator:
    """`own` cose.Credential and 32-octet `private` key; `ephemeral` a fresh private key; `c_i` 1..2 octets.

    `peer` is the pinned Credential of the responder; None while pairing, when it must come by value.
    `by_value` sends our own credential by value.
    """

    def __init__(self, own, private, ephemeral, c_i, peer=None, by_value=False):
        raise NotImplementedError

    def message_1(self):
        """Steps -> message_1."""
        raise NotImplementedError

    def message_3(self, message_2):
        """Steps: check message_2 -> message_3. Raises NotAuthentic, MalformedMessage, Unknown, NotAllowed (peer's error)."""
        raise NotImplementedError

    def finish(self, message_4):
        """Check message_4; from now on `peer`, `c_r`, `export` and `oscore` are good. Raises like message_3."""
        raise NotImplementedError

    def export(self, label, context, length):
        """-> EDHOC_Exporter(label, context, length)."""
        raise NotImplementedError

    def oscore(self):
        """-> (master secret, master salt, sender ID, recipient ID) for oscore.Context (RFC 9528, A.1)."""
        raise NotImplementedError
