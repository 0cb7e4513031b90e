"""The page as an onlooker of the gateway. It is imported with the configuration, the rest of the page when it opens."""

from typing import TYPE_CHECKING

from gateway_agent.web.section import WebSection

if TYPE_CHECKING:
    from gateway_agent.observe.sight import Sight
    from gateway_agent.web.web_onlooker import WebOnlooker

SECTION = WebSection
EXTRA = ("aiohttp", "jinja2", "segno")


def open_onlooker(section: WebSection, sight: "Sight") -> "WebOnlooker":
    """Return the page of this section. Raises ImportError if a package of the extra `web` is not installed."""
    from gateway_agent.web.web_onlooker import WebOnlooker

    return WebOnlooker(section, sight)
