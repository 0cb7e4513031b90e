"""One connection to the broker of Home Assistant, and why there is none, in words that name the line to change."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aiomqtt

from gateway_agent.config.toml_lines import line_of
from gateway_agent.home_assistant.naming import OFFLINE, ONLINE, MqttNames
from gateway_agent.home_assistant.section import HomeAssistantSection
from message_plane.errors import BrokerFilesRefused
from message_plane.links import mqtt_files, mqtt_trouble
from message_plane.links.mqtt_client import QOS, Arrived, BrokerClient, Means
from message_plane.links.mqtt_section import broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble

OPEN_MAX = 100
"""Messages that the broker has not acknowledged."""


def means_of(section: HomeAssistantSection, names: MqttNames) -> Means:
    """Return what the gateway shows to the broker. It reads files. Raises BrokerFilesRefused."""
    context = mqtt_files.tls_context(section.files) if broker_of(section.broker).tls else None
    client_id = names.gateway_device
    password = mqtt_files.password_of(section.files)
    known_as = section.user or mqtt_files.common_name(section.files)
    return Means(client_id, client_id, section.user, password, context, known_as)


class HomeBroker:
    """The connection to the broker of a section, from `open` until `lost` returns. It is made anew for each attempt."""

    def __init__(
        self,
        section: HomeAssistantSection,
        names: MqttNames,
        means: Means,
        arrived: Arrived,
        refused: Callable[[BrokerTrouble], None],
        *,
        is_5: bool,
    ) -> None:
        """`arrived` is called with each message, `refused` with each topic where the gateway may not publish."""
        self.broker = broker_of(section.broker)
        self._names = names
        self._means = means
        self._refused = refused
        self._open: dict[int, str] = {}  # message ID -> topic of what the broker has not acknowledged
        self._has_room = asyncio.Event()
        self._is_empty = asyncio.Event()
        will = aiomqtt.Will(names.availability, OFFLINE, QOS, retain=True)
        self._client = BrokerClient(self.broker, means, arrived, self._acknowledged, will, is_5=is_5, clean=True)
        self._open_max = OPEN_MAX

    async def open(self) -> None:
        """Connect. Raises BrokerTrouble."""
        await self._client.connect()
        self._open_max = max(1, min(OPEN_MAX, self._client.limit("ReceiveMaximum", OPEN_MAX)))
        self._note_room()

    async def subscribe(self, *topics: str) -> None:
        """Subscribe to topics. Raises BrokerTrouble if one is refused, or the connection is lost."""
        for topic in topics:
            try:
                (reason,) = await self._client.subscribe(topic, QOS)
            except (aiomqtt.MqttError, ValueError) as problem:
                raise mqtt_trouble.lost(self.broker, problem) from None
            refused = reason >= mqtt_trouble.REFUSED if isinstance(reason, int) else mqtt_trouble.is_refusal(reason)
            if refused:
                raise mqtt_trouble.topic_refused(self.broker, topic, "read", self._means.known_as)

    async def say_online(self) -> None:
        """Say that this gateway is there."""
        await self.put(self._names.availability, ONLINE)

    async def put(self, topic: str, payload: bytes, *, retain: bool = True) -> None:
        """Publish a message, once the broker has acknowledged enough of the earlier ones."""
        await self._has_room.wait()
        number = self._client.publish_now(topic, payload, retain=retain)
        if number is not None:  # else the connection is lost
            self._open[number] = topic
            self._note_room()

    async def settled(self) -> None:
        """Wait until the broker has acknowledged everything."""
        await self._is_empty.wait()

    async def lost(self) -> BrokerTrouble:
        """Wait until the connection is lost and return why."""
        return mqtt_trouble.lost(self.broker, await self._client.ended())

    async def close(self) -> None:
        """Say that this gateway is gone, if the broker still listens, and end the connection."""
        if self._client.is_connected:
            self._client.publish_now(self._names.availability, OFFLINE, retain=True)
        await self._client.end()

    def _note_room(self) -> None:
        for event, is_so in ((self._has_room, len(self._open) < self._open_max), (self._is_empty, not self._open)):
            event.set() if is_so else event.clear()

    def _acknowledged(self, number: int, reason: int) -> None:
        topic = self._open.pop(number, "")
        self._note_room()
        if topic and reason >= mqtt_trouble.REFUSED:
            self._refused(mqtt_trouble.topic_refused(self.broker, topic, "write", self._means.known_as))


def in_words(trouble: BrokerTrouble, section: HomeAssistantSection, config_path: Path | None) -> str:
    """Return what is wrong with the broker, with the settings to change and their lines in the file `config_path`."""
    said = str(trouble)
    if trouble.of_user:
        whom = f"the user {section.user} or its password" if section.user else "a gateway without a user"
        said = f"The broker {trouble.broker} refuses {whom}. Correct user and password_file, or the user at the broker."
    keys = ["user", "password_file", "broker"] if trouble.of_user else ["broker"]
    return f"Home Assistant is told nothing: {said} {_place(keys, config_path)}"


def files_in_words(problem: BrokerFilesRefused, section: HomeAssistantSection, config_path: Path | None) -> str:
    """Return what is wrong with a file that `section` names, with the setting that names it and its line."""
    named = {name: getattr(section, name) for name in ("password_file", "ca", "certificate", "key")}
    keys = [name for name, path in named.items() if path is not None and str(path) in str(problem)]
    return f"Home Assistant is told nothing: {problem} {_place(keys or ['broker'], config_path)}"


def _place(keys: list[str], path: Path | None) -> str:
    text = ""
    if path is not None:
        with suppress(OSError, UnicodeDecodeError):
            text = path.read_text("utf-8-sig")
    for key in keys:
        if line := line_of(text, ("mqtt", key)):
            return f"See {path}, line {line}: {key} in [mqtt]."
    return f"See {keys[0]} in [mqtt] of the configuration."
