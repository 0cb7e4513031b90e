"""DNS-SD announcement of the PN GW: `_keycast._udp.local.`. A hint for boards; they pin the credential (SEC-20)."""

import logging
import socket
from collections.abc import Sequence

from zeroconf import Error, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf

_log = logging.getLogger(__name__)

SERVICE_TYPE = "_keycast._udp.local."


class Announcement:
    """Announces one PN GW until `close`. Failing to announce is logged and costs nothing else."""

    def __init__(self, gateway_id: str, pn_id: str, addresses: Sequence[str], port: int) -> None:
        label = gateway_id.replace(".", "-")[:63]
        self._addresses = list(addresses)
        self._info = ServiceInfo(
            SERVICE_TYPE,
            f"{label}.{SERVICE_TYPE}",
            addresses=[socket.inet_aton(address) for address in addresses],
            port=port,
            properties={"pn": pn_id},
            server=f"{label}.local.",
        )
        self._zeroconf: AsyncZeroconf | None = None

    async def open(self) -> bool:
        """Start announcing; False (and one log line) where multicast is not to be had."""
        zeroconf = None
        try:
            for address in self._addresses:  # zeroconf leaks its sockets when it meets one that is not ours
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind((address, 0))
            zeroconf = AsyncZeroconf(interfaces=self._addresses)
            await zeroconf.async_register_service(self._info)
        except (TimeoutError, OSError, Error) as error:
            _log.warning("mDNS announcement is off: %s; boards still find the gateway by CoAP discovery", error)
            if zeroconf is not None:
                await zeroconf.async_close()
            return False
        self._zeroconf = zeroconf
        return True

    async def close(self) -> None:
        """Say good-bye and stop."""
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_service(self._info)
            await self._zeroconf.async_close()
            self._zeroconf = None
