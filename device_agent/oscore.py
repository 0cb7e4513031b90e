"""OSCORE (RFC 8613) with AES-CCM-16-64-128 and HKDF-SHA-256: POST and its answers, no Observe, no ID context.

Messages are (code, options, payload), as `coap.message` has them. Failures raise NotAuthentic, Stale or
MalformedMessage; what the caller then answers stands in docs/protocol.md section 3.
"""

from cpns.errors import Stale


class WindowLost(Stale):
    """An authentic request came before the replay window is known (after a reboot): answer it with challenge()."""

    def __init__(self, request):
        Stale.__init__(self, "replay window not known")
        self.request = request


class Context:
    """One security context, both directions.

    `ceiling`: sequence numbers below it may have been used. `reserve(n)` must make n the stored ceiling, in all
    copies, before it returns (SEC-22); it is called before the first number of each step of 64 is used.
    `fresh` is True when the keys are new, so that no request can have been seen; otherwise `echo`, 8 random octets
    drawn at boot, guards the first request (RFC 8613, B.1.2).
    """

    def __init__(self, secret, salt, sender_id, recipient_id, ceiling, reserve, fresh=False, echo=b""):
        raise NotImplementedError

    def protect_request(self, code, options, payload):
        """-> (code, options, payload, request): what goes out, and what unprotect_response needs. Raises TooMany."""
        raise NotImplementedError

    def unprotect_response(self, request, options, payload):
        """-> (code, options, payload). A 4.01 with Echo wants the request again with that option."""
        raise NotImplementedError

    def unprotect_request(self, options, payload):
        """-> (code, options, payload, request). Raises WindowLost, Stale for a replay, NotAuthentic."""
        raise NotImplementedError

    def protect_response(self, request, code, options, payload):
        """-> (code, options, payload)."""
        raise NotImplementedError

    def challenge(self, request):
        """-> (code, options, payload) of the protected 4.01 with Echo."""
        raise NotImplementedError


def kid_of(options):
    """-> kid of a protected request's OSCORE option, to find the context by, or None. Raises MalformedMessage."""
    raise NotImplementedError
