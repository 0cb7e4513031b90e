"""Tries the MQTT brokers of a configuration that is not written yet, as the gateway itself will use them."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway_agent.config.load import parse
from gateway_agent.errors import ConfigError
from gateway_agent.uplinks.by_kind import try_brokers
from keycast.setup.answers import Answers, settings_of
from keycast.setup.first_file import new_text
from message_plane.errors import PlaneError
from private_store import files


@dataclass(frozen=True)
class BrokerTrials:
    """Implements `keycast.setup.questions.Trials`; names of files are relative to `folder`."""

    folder: Path

    def home_assistant(self, answers: Answers, password: str) -> str:
        """Connect to the broker of Home Assistant, and say nothing there."""
        from gateway_agent.home_assistant.trial import try_broker  # its package belongs to an extra

        with _in_a_file(password) as typed:
            text = new_text(settings_of(replace(answers, mqtt_password_file=typed or answers.mqtt_password_file)))
            try:
                config: Any = parse(text.encode(), folder=self.folder)
            except ConfigError as wrong:
                return str(wrong)
            return asyncio.run(try_broker(config.mqtt, answers.gateway))

    def uplink(self, answers: Answers, password: str) -> str:
        """Connect to the brokers on the way to the CPNS Server; one that lets this gateway in is enough."""
        with _in_a_file(password) as typed:
            text = new_text(settings_of(replace(answers, broker_password_file=typed or answers.broker_password_file)))
            try:
                config = parse(text.encode(), folder=self.folder)
                found = asyncio.run(try_brokers(config.uplink, answers.gateway))
            except PlaneError as problem:
                return str(problem)
        return "" if any(not each.problem for each in found) else " ".join(each.problem for each in found)


@contextlib.contextmanager
def _in_a_file(password: str) -> Iterator[str]:
    """Yield the path of a private file with `password` while the `with` block runs, "" for an empty one."""
    if not password:
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="keycast-setup-") as folder:
        path = Path(folder) / "password"
        files.write_new(path, password.encode() + b"\n")
        yield str(path)
