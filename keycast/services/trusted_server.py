"""The CPNS Server elsewhere that a gateway trusts: its credential is bound to its name before the gateway starts."""

from gateway_agent.config.schema import GatewayConfig
from gateway_agent.state_files import SESSIONS_FILE, own_keys
from message_plane.credentials import Credential
from message_plane.session_file import SessionFile


def trust_server(config: GatewayConfig, server: Credential, *, replace: bool = False) -> None:
    """Register `server` at the gateway of `config`, which does not run; its keys and its store are made if need be.

    `replace`: also in place of another credential of that name. Raises IdentityError, StoreDamaged and PlaneError.
    """
    own_keys(config)
    store = SessionFile(config.gateway.state_dir / SESSIONS_FILE)
    try:
        store.bind(server, replace=replace, reserved=(config.gateway.id,))
    finally:
        store.close()
