"""Errors of the store, which stop the gateway or its present operation."""

from gateway_agent.errors import GatewayError
from private_store.errors import Faults


class StoreInUse(GatewayError):
    """Another process has the store open (SEC-23)."""


class StoreDamaged(GatewayError):
    """The store cannot be used: another program wrote it, its parts do not fit together, or other users can read it."""


class StoreFailed(GatewayError):
    """A file cannot be written or read now, as when the disk is full. Nothing of the transaction is stored."""


RESTORE_BACKUP = (
    "Put back a backup: keycast gateway restore FILE. Without one, set up the gateway in another state folder."
)
FAULTS = Faults(StoreDamaged, StoreInUse, StoreFailed)
