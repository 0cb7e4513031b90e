"""The section `[metrics]`: figures for Prometheus at /metrics, where the page listens or at addresses of their own."""

from typing import TYPE_CHECKING

from pydantic import Field

from gateway_agent.config.section import Addresses, Port, Section

if TYPE_CHECKING:
    from gateway_agent.observe.onlookers import Onlooker
    from gateway_agent.observe.sight import Sight

EXTRA = ("aiohttp", "jinja2", "prometheus_client")


class MetricsSection(Section):
    """Figures for Prometheus, at /metrics. With [web] they are at the address and port of the page."""

    open: bool = Field(False, description="true: for programs on other machines, too; false: on this machine only")
    listen: Addresses = Field(["127.0.0.1"], description="IP addresses, only without [web]")
    port: Port = Field(8686, description="TCP port, only without [web]")


SECTION = MetricsSection


def open_onlooker(section: MetricsSection, sight: "Sight") -> "Onlooker | None":
    """Return the listener of /metrics, None if the page has a listener, which serves them."""
    if getattr(sight.config, "web", None) is not None:
        return None
    from gateway_agent.web.application import bare_application
    from gateway_agent.web.listener import Listener
    from gateway_agent.web.section import WebSection

    listening = WebSection(listen=section.listen, port=section.port, plain=True).listening()
    return Listener(listening, bare_application(sight), sight, "metrics")
