"""The settings of the HTTP server of the page."""

from typing import ClassVar

from http_door.listening import HttpListening


class PageListening(HttpListening):
    """The settings of an HTTP server which a person may let others on the network read along."""

    plain_only_on_loopback: ClassVar[bool] = False
