"""Errors that stop a gateway or one of its commands. They say what happened, where, and what to do next."""

import re


class GatewayError(Exception):
    """The base class. The text is one or two sentences for a person and never holds a secret.

    `what` says what happened, `next_step` what the person can do about it.
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
    """The process behind the control socket has refused a request.

    The text is the sentence of that process, `code` the word for programs.
    """

    def __init__(self, what: str, code: str) -> None:
        super().__init__(what, "")
        self.code = code


def code_of(error: Exception) -> str:
    """Return the word by which programs know the kind of an error, for example "not-member" or "store-in-use".

    It is the `word` of the class or, without one, made of the name of the class. docs/commands.md promises that the
    words do not change.
    """
    if isinstance(error, Refused):
        return error.code
    word: str | None = getattr(error, "word", None)
    return word or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", type(error).__name__).lower()
