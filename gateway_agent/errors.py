"""Errors that stop a gateway or one of its commands: what happened, where, and what to do next."""


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
