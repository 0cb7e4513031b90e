"""The onlooker that shows a gateway in Home Assistant: its section, and how it begins."""

from typing import TYPE_CHECKING

from gateway_agent.home_assistant.section import HomeAssistantSection

if TYPE_CHECKING:
    from gateway_agent.observe.onlookers import Onlooker
    from gateway_agent.observe.sight import Sight

SECTION = HomeAssistantSection
EXTRA = ("aiomqtt",)


def open_onlooker(section: HomeAssistantSection, sight: "Sight") -> "Onlooker":
    """Return the onlooker, which has not begun."""
    from gateway_agent.home_assistant.service import HomeAssistant

    return HomeAssistant(section, sight)
