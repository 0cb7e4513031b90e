"""The PN GW's DNS-SD announcement, heard by a zeroconf browser of its own."""

import asyncio
import logging

import pytest
from zeroconf import ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from gateway_agent.net import interfaces
from gateway_agent.net.mdns import SERVICE_TYPE, Announcement


def address() -> str:
    """An address with multicast, or the reason to skip."""
    found = [each.address for each in interfaces.ipv4_interfaces() if not each.is_loopback]
    if not found:
        pytest.skip("no network interface but loopback: multicast DNS has nowhere to go")
    return found[0]


async def test_the_gateway_is_found_with_its_pn_and_port() -> None:
    here = address()
    announcement = Announcement("gw.home", "home", lambda: [here], 5683)
    if not await announcement.open():
        pytest.skip("multicast is not allowed on this machine")
    seen = asyncio.Event()

    def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if name == f"gw-home.{SERVICE_TYPE}":
            seen.set()

    browser = AsyncZeroconf(interfaces=[here])
    listening = AsyncServiceBrowser(browser.zeroconf, SERVICE_TYPE, handlers=[changed])
    try:
        async with asyncio.timeout(20):
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
