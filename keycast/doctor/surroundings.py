"""What all checks know: the configuration, and what the running gateway says of itself. Nothing is changed for it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway_agent.config.load import load
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control_client import SOCKET_FILE, ask, who_answers
from gateway_agent.errors import ConfigError, GatewayError
from gateway_agent.net import interfaces
from gateway_agent.net.interfaces import Interface

ANSWERS_WITHIN_S = 5.0
"""How long the running gateway may take to answer."""


@dataclass(frozen=True)
class Surroundings:
    """A gateway's configuration `config`, None with the reason `config_error`, and the process that runs with it.

    `pid` is that of the running gateway, None if none runs, 0 if it is too busy to tell. `status` is its answer to the
    command `status`, None without one, then with the reason `silence` if it runs.
    """

    config_path: Path
    config: GatewayConfig | None
    config_error: str = ""
    pid: int | None = None
    status: dict[str, Any] | None = None
    silence: str = ""
    unknown_keys: tuple[str, ...] = ()
    """One sentence for each key of the configuration that this release does not know."""

    @property
    def state(self) -> Path | None:
        """The state folder that the configuration names, None if there is no configuration."""
        return None if self.config is None else self.config.gateway.state_dir

    def has_alarm(self, kind: str) -> bool:
        """Return True if the running gateway has an alarm of a kind (`gateway_agent.core.alarms`): what it is about is
        bad then, also for the check that looks at the same."""
        return self.status is not None and any(each["kind"] == kind for each in self.status["alarms"])

    def interfaces(self) -> list[Interface]:
        """Return the interfaces of this machine that the configuration wants broadcasts to be sent on."""
        wanted = self.config.broadcast.interfaces if self.config else [interfaces.AUTO]
        return interfaces.matching(wanted, interfaces.every_interface())


def look_around(config_path: Path) -> Surroundings:
    """Read the configuration, and ask the gateway that runs with it, if one does, for its status."""
    unknown: list[str] = []
    try:
        config = load(config_path, unknown.append)
    except (ConfigError, ImportError) as error:
        return Surroundings(config_path, None, str(error))
    return replace(_of_the_gateway(config_path, config), unknown_keys=tuple(unknown))


def _of_the_gateway(config_path: Path, config: GatewayConfig) -> Surroundings:
    pid = who_answers(config.gateway.state_dir / SOCKET_FILE)
    if pid is None:
        return Surroundings(config_path, config)
    try:
        status = ask(config.gateway.state_dir, "status", "keycast gateway run", ANSWERS_WITHIN_S)
    except (GatewayError, TimeoutError, OSError, json.JSONDecodeError) as error:
        return Surroundings(config_path, config, pid=pid, silence=str(error) or "it did not answer in time")
    return Surroundings(config_path, config, pid=pid, status=status)
