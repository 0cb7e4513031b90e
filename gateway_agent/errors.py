"""Errors that stop a gateway or one of its commands: what happened, where, and what to do next."""

import re


class GatewayError(Exception):
    """Base. The text is one or two sentences for a person and never holds a secret.

    `next_step` is what the person can do about it.
    """

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(f"{what} {next_step}".strip())
        self.what = what
        self.next_step = next_step


class ConfigError(GatewayError):
    """A configuration file that cannot be read, parsed or accepted."""


class NoBroadcastInterface(GatewayError):
    """No chosen network interface can send an IPv4 directed broadcast."""


class ControlUnavailable(GatewayError):
    """No gateway answers on the control socket, or another one already owns it."""


class Refused(GatewayError):
    """What answers on the control socket refuses; the text is its own sentence, `code` the word for programs."""

    def __init__(self, what: str, code: str) -> None:
        super().__init__(what, "")
        self.code = code


def code_of(error: Exception) -> str:
    """Return the word that tells programs the kind of an error, for example "not-member" or "store-in-use".

    It is the `word` of the class or, without one, its name; docs/commands.md promises that it stays.
    """
    if isinstance(error, Refused):
        return error.code
    word: str | None = getattr(error, "word", None)
    return word or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
