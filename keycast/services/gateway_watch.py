"""What the service manager is told of a running gateway, and when it restarts it."""

import time
from collections.abc import Callable

from gateway_agent.app import GatewayApp

MEDIA_PATIENCE_S = 600.0
"""Seconds for which no medium may work before a restart: a cable or a router comes back without one, and a restarted
gateway has neither a page nor alarms before its network is there."""


class GatewayWatch:
    """Looks at a gateway for the service manager. `clock` returns monotonic seconds."""

    def __init__(self, app: GatewayApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._media_at = clock()

    def status(self) -> str:
        """Return in one line what the gateway serves, how many alarms stand, and the oldest of them."""
        app = self._app
        gateway = app.config.gateway
        where = ", ".join(app.networks()) or "no network: keys go by unicast"
        alarms = app.gateway.administration.alarms()
        wrong = f"; alarms: {len(alarms)}, since longest: {alarms[0].text}" if alarms else ""
        return f"{gateway.id} serves {gateway.pn}; broadcasts to {where}{wrong}"

    def trouble(self) -> str:
        """Return what a restart may mend, "" for nothing: the store cannot be read, or no medium works for long.

        A disk that is full or read-only is an alarm and no reason: a restart makes no room, and what is stored already
        goes on.
        """
        unreadable = self._app.unreadable()
        if unreadable:
            return unreadable
        no_network = self._app.no_network()
        if not no_network:
            self._media_at = self._clock()
        return no_network if self._clock() - self._media_at >= MEDIA_PATIENCE_S else ""
