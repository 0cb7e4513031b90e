"""The section `[web]` of the configuration: where the page listens, and under which names it may be opened."""

import ipaddress
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from gateway_agent.config.section import Addresses, Host, Port, Section
from gateway_agent.web import tuning
from message_plane.links.mqtt_section import PemFile

if TYPE_CHECKING:
    from gateway_agent.web.page_listening import PageListening


class WebSection(Section):
    """The web page of this gateway. Without this section there is none."""

    listen: Addresses = Field(["127.0.0.1"], description="IP addresses at which the page can be opened")
    port: Port = Field(tuning.PORT, description="TCP port of the page")
    tls_certificate: PemFile | None = Field(None, description="PEM file; needed on addresses others can reach")
    tls_key: PemFile | None = Field(None, description="PEM file of mode 0600")
    plain: bool = Field(False, description="true: no TLS, although others can reach the page and read along")
    hosts: list[Host] = Field([], description='further names under which the page is opened, such as "gateway.local"')

    @model_validator(mode="after")
    def _plain_is_said(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        if self.is_read_along and not self.plain:
            raise ValueError(
                "others on the network could read the page and its password: set tls_certificate and tls_key, "
                "or allow it with plain = true"
            )
        return self

    @property
    def is_read_along(self) -> bool:
        """Return True if the page is sent without TLS to addresses that other machines can reach."""
        return self.tls_certificate is None and not all(ipaddress.ip_address(each).is_loopback for each in self.listen)

    def listening(self) -> "PageListening":
        """Return the settings of the HTTP server."""
        from gateway_agent.web.page_listening import PageListening

        return PageListening(
            listen=self.listen,
            port=self.port,
            tls_certificate=self.tls_certificate,
            tls_key=self.tls_key,
            limits=tuning.LIMITS,
        )
