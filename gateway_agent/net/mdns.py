"""The DNS-SD announcement of the PN GW, `_keycast._udp.local.`.

It is only a hint for boards, which check the credential of the gateway that they find.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence

from zeroconf import Error, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

from gateway_agent.repeating import Repeating

_log = logging.getLogger(__name__)

SERVICE_TYPE = "_keycast._udp.local."
LOOK_AGAIN_S = 30.0
"""How long the announcement may contain an address that is gone."""


def label_of(gateway_id: str) -> str:
    """Return the label of a PN GW in the name of its service and of its host."""
    return gateway_id.replace(".", "-")[:63]


class _WithoutTraceback(logging.Filter):
    """Removes tracebacks of the library from the log. For a network that goes away one line in the log is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = record.exc_text = None
        return True


logging.getLogger("zeroconf").addFilter(_WithoutTraceback())


class Announcement:
    """Announces one PN GW until `close`. A failure to announce is logged and has no other effect.

    `addresses` returns the IPv4 addresses to announce. It is called again from time to time, and its new result
    replaces the old one.
    """

    def __init__(self, gateway_id: str, pn_id: str, addresses: Callable[[], Sequence[str]], port: int) -> None:
        self._label = label_of(gateway_id)
        self._pn_id = pn_id
        self._port = port
        self._find = addresses
        self._told: list[str] | None = None
        self._info: ServiceInfo
        self._is_registered = False
        self._zeroconf: AsyncZeroconf | None = None
        self._turns = Repeating("mDNS announcement", LOOK_AGAIN_S, self._follow)

    async def open(self) -> bool:
        """Start to announce. Returns False, after one line in the log, if multicast is not available now."""
        is_announced = await self._announce()
        self._turns.start()
        return is_announced

    async def close(self) -> None:
        """Withdraw the announcement and stop."""
        await self._turns.close()
        await self._withdraw()

    async def _follow(self) -> None:
        if list(self._find()) != self._told:
            await self._withdraw()
            await self._announce()

    async def _announce(self) -> bool:
        self._told = list(self._find())
        try:
            if not self._told:
                raise OSError("this machine has no address that other machines could reach")
            for address in self._told:  # zeroconf leaks its sockets if an address is not of this machine
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((address, 0))
            self._info = ServiceInfo(
                SERVICE_TYPE,
                f"{self._label}.{SERVICE_TYPE}",
                addresses=[socket.inet_aton(address) for address in self._told],
                port=self._port,
                properties={"pn": self._pn_id},
                server=f"{self._label}.local.",
            )
            self._zeroconf = AsyncZeroconf(interfaces=self._told)
            await self._zeroconf.async_register_service(self._info)
            self._is_registered = True
        except (TimeoutError, OSError, Error) as error:
            _log.warning("KC1102 mDNS announcement is off: %s; boards still find the gateway by CoAP discovery", error)
            await self._withdraw()
            return False
        return True

    async def _withdraw(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        if zeroconf is None:
            return
        if self._is_registered:  # otherwise another host may have the name, whose record a good-bye would withdraw
            self._is_registered = False
            with contextlib.suppress(TimeoutError, OSError, Error):  # the network of the announcement may be gone
                await zeroconf.async_unregister_service(self._info)
        await zeroconf.async_close()
