"""Errors of the store that stop the gateway."""

from gateway_agent.errors import GatewayError


class StoreInUse(GatewayError):
    """Another process has the store open (SEC-23)."""


class StoreDamaged(GatewayError):
    """The store is not what this program wrote, or its parts do not belong together."""
