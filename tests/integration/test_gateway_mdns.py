"""The PN GW's DNS-SD announcement, heard by a zeroconf browser of its own."""

import asyncio
import logging
from typing import ClassVar

import pytest
from zeroconf import ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gateway_agent.net import interfaces, mdns
from gateway_agent.net.mdns import SERVICE_TYPE, Announcement
from tests.waiting import PATIENCE_S


def address() -> str:
    """An address with multicast, or the reason to skip."""
    found = [each.address for each in interfaces.ipv4_interfaces() if not each.is_loopback]
    if not found:
        pytest.skip("multicast DNS needs a network interface; with `--shards` (as `make test` has it) there is one")
    return found[0]


@pytest.mark.real_time
async def test_the_gateway_is_found_with_its_pn_and_port() -> None:
    here = address()
    announcement = Announcement("gw.home", "home", lambda: [here], 5683)
    if not await announcement.open():
        pytest.skip("multicast is not allowed on the network interfaces here; with `--shards` it is")
    seen = asyncio.Event()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name == f"gw-home.{SERVICE_TYPE}":
            seen.set()

    browser = AsyncZeroconf(interfaces=[here])
    listening = AsyncServiceBrowser(browser.zeroconf, SERVICE_TYPE, handlers=[changed])
    try:
        async with asyncio.timeout(PATIENCE_S):
            await seen.wait()
        info = AsyncServiceInfo(SERVICE_TYPE, f"gw-home.{SERVICE_TYPE}")
        assert await info.async_request(browser.zeroconf, 5000)
        assert (info.port, info.parsed_addresses(), info.properties[b"pn"]) == (5683, [here], b"home")
    finally:
        await listening.async_cancel()
        await browser.async_close()
        await announcement.close()


async def test_no_multicast_costs_only_the_announcement() -> None:
    announcement = Announcement("gw.home", "home", lambda: ["203.0.113.9"], 5683)  # no such address here
    assert await announcement.open() is False
    await announcement.close()


def test_what_the_library_meets_on_a_network_that_goes_away_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise OSError(101, "Network is unreachable")
    except OSError:
        logging.getLogger("zeroconf").warning("Error with socket 22", exc_info=True)
    assert "Error with socket 22" in caplog.text and "Traceback" not in caplog.text


class FakeZeroconf:
    """Keeps what is announced, by the addresses it was made for."""

    announced: ClassVar[list[tuple[list[str], list[str]]]] = []

    def __init__(self, interfaces: list[str]) -> None:
        self._interfaces = interfaces

    async def async_register_service(self, info: ServiceInfo) -> None:
        self.announced.append((self._interfaces, info.parsed_addresses()))

    async def async_unregister_service(self, info: ServiceInfo) -> None:
        self.announced.remove((self._interfaces, info.parsed_addresses()))

    async def async_close(self) -> None: ...


async def test_the_announcement_follows_the_addresses_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there was none at the start, and none of an address that is gone."""
    monkeypatch.setattr(mdns, "AsyncZeroconf", FakeZeroconf)
    monkeypatch.setattr(mdns, "LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(FakeZeroconf, "announced", [])
    now: list[str] = []
    announcement = Announcement("gw.home", "home", lambda: now, 5683)
    assert not await announcement.open()
    for address in ("127.0.0.1", "127.0.0.2"):
        now[:] = [address]
        async with asyncio.timeout(PATIENCE_S):
            while FakeZeroconf.announced != [([address], [address])]:
                await asyncio.sleep(0.001)
    await announcement.close()
    assert FakeZeroconf.announced == []
