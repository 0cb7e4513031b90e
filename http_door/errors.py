"""Errors that keep an HTTP server from listening: what happened, and what to do next."""


class DoorError(Exception):
    """The base class. The text is one or two sentences for a person and never holds a secret.

    `next_step` is what the person can do about it.
    """

    def __init__(self, what: str, next_step: str = "") -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class ListenFailed(DoorError):
    """The server cannot listen at an address."""


class TlsUnusable(DoorError):
    """TLS cannot use a certificate or key file."""


class TlsKeyUnusable(DoorError):
    """A private key of TLS is missing, readable by others, there already, or cannot be written."""

    word = "secret-file-unusable"
