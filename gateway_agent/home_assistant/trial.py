"""Tries the broker of a section `[mqtt]` before a gateway uses it, for `keycast setup` and `keycast gateway check`."""

import asyncio
from dataclasses import replace
from pathlib import Path

from gateway_agent.home_assistant.home_broker import files_in_words, in_words, means_of
from gateway_agent.home_assistant.naming import MqttNames
from gateway_agent.home_assistant.section import HomeAssistantSection
from message_plane.errors import BrokerFilesRefused
from message_plane.links.mqtt_client import BrokerClient
from message_plane.links.mqtt_section import broker_of
from message_plane.links.mqtt_trouble import BrokerTrouble


async def try_broker(section: HomeAssistantSection, gateway_id: str, config_path: Path | None = None) -> str:
    """Connect once to the broker of `section`, as the gateway would. Return "", or what is wrong and what to change."""
    names = MqttNames(section.prefix, section.discovery, gateway_id)
    try:
        means = await asyncio.to_thread(means_of, section, names)
    except BrokerFilesRefused as problem:
        return files_in_words(problem, section, config_path)
    # with the client ID of the gateway it would end the gateway's own connection
    own = replace(means, client_id=f"{means.client_id}-trial")
    said = ""
    for is_5 in (True, False):
        client = BrokerClient(broker_of(section.broker), own, _ignored, _ignored, None, is_5=is_5, clean=True)
        try:
            await client.connect()
            return ""
        except BrokerTrouble as problem:
            said = said or in_words(problem, section, config_path)
            if not problem.of_version:
                return said
        finally:
            await client.end()
    return said


def _ignored(*_: object) -> None:
    pass
