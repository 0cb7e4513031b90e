"""All that an onlooker of a gateway sees, and the one way in which it acts: the commands of the control socket."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cpns.errors import Unknown
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control import Command, asked_by
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures
from gateway_agent.observe.health import HealthView
from gateway_agent.observe.log_lines import LogLines
from gateway_agent.observe.snapshot import Snapshot


class SetAlarm(Protocol):
    """A function that raises an alarm of a kind of `core.alarms`, or ends it with an empty `text`."""

    def __call__(self, kind: str, text: str, about: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """What page, MQTT and metrics see of a gateway. Nothing in it is secret but what `command` may be told.

    `config_path`: the file of `config`, None if it has none; `state_dir`: the private folder of the gateway.
    `snapshot`, `figures` and `health` return the state of this moment; the first two raise StoreFailed. `counters`
    counts incidents by name; `log_lines` keeps the newest lines of the log.
    """

    config: GatewayConfig
    config_path: Path | None
    stream: EventStream
    snapshot: Callable[[], Snapshot]
    figures: Callable[[], Figures]
    health: Callable[[], HealthView]
    set_alarm: SetAlarm
    counters: Mapping[str, int]
    commands: Mapping[str, Command]
    log_lines: LogLines = field(default_factory=LogLines)

    @property
    def state_dir(self) -> Path:
        """The private folder of the gateway."""
        return self.config.gateway.state_dir

    async def command(self, name: str, /, *, by: str = "", **arguments: Any) -> Any:
        """Carry out a command as the control socket does, for the person `by`, and return its value.

        Cancelling the call cancels the command. Raises the same exceptions as the command, and Unknown.
        """
        command = self.commands.get(name)
        if command is None:
            raise Unknown(f"{name} is no command of a gateway")
        token = asked_by.set(by)
        try:
            value = command(**arguments)
            return await value if inspect.isawaitable(value) else value
        finally:
            asked_by.reset(token)
