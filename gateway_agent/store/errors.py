"""Errors of the store that stop the gateway, or what it does just now."""

from gateway_agent.errors import GatewayError
from private_store.errors import Faults


class StoreInUse(GatewayError):
    """Another process has the store open (SEC-23)."""


class StoreDamaged(GatewayError):
    """The store cannot be used: it is not what this program wrote, its parts do not belong together, others read it."""


class StoreFailed(GatewayError):
    """A file cannot be written or read now, as when the disk is full. Nothing of the transaction has happened."""


RESTORE_BACKUP = (
    "Put back a backup: keycast gateway restore FILE. Without one, set up the gateway in another state folder."
)
FAULTS = Faults(StoreDamaged, StoreInUse, StoreFailed)
