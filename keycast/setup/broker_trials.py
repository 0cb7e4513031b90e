"""Tries the MQTT brokers of a configuration that is not written yet, as the gateway itself will use them."""

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway_agent.config.load import parse
from gateway_agent.uplinks.by_kind import try_brokers
from keycast.setup.answers import Answers, settings_of
from keycast.setup.first_file import new_text
from message_plane.errors import PlaneError
from message_plane.links.mqtt_client import means_of
from message_plane.links.mqtt_connection import BrokerConnection
from message_plane.links.mqtt_section import MqttSection, broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble
from private_store import files


@dataclass(frozen=True)
class BrokerTrials:
    """Implements `keycast.setup.questions.Trials`; names of files are relative to `folder`."""

    folder: Path

    def home_assistant(self, answers: Answers, password: str) -> str:
        """Connect to the broker of Home Assistant, and say nothing there."""
        with _in_a_file(password) as typed:
            named = answers.mqtt_password and str(self.folder / answers.mqtt_password)
            paths = {"password_file": typed or named, "ca": answers.mqtt_ca}
            how: dict[str, Any] = {key: self.folder / path for key, path in paths.items() if path}
            try:
                section = MqttSection(brokers=[answers.mqtt_broker], user=answers.mqtt_user, **how)
                asyncio.run(_connect(section, answers.gateway))
            except (PlaneError, ValueError) as problem:
                return _sentence(problem)
        return ""

    def uplink(self, answers: Answers, password: str) -> str:
        """Connect to the brokers on the way to the CPNS Server; one that lets this gateway in is enough."""
        with _in_a_file(password) as typed:
            text = new_text(settings_of(replace(answers, broker_password=typed or answers.broker_password)))
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


async def _connect(section: MqttSection, gateway_id: str) -> None:
    """Connect and end the connection. Raises PlaneError."""
    broker, means = broker_of(section.brokers[0]), means_of(section, gateway_id, "setup")
    is_5 = True
    while True:
        connection = BrokerConnection(
            broker, means, lambda *_: None, lambda trouble: None, Counter(), is_5=is_5, clean=True
        )
        try:
            await connection.open()
            return
        except BrokerTrouble as trouble:
            if not (trouble.of_version and is_5):
                raise
            is_5 = False
        finally:
            await connection.close()


def _sentence(problem: Exception) -> str:
    if isinstance(problem, PlaneError):
        return str(problem)
    return str(problem).rpartition("Value error, ")[2].partition(" [type")[0]
