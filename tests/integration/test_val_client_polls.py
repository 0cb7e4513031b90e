"""The long polls of a VAL client, against servers that answer at once, with nothing or with old data."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr

from gateway_agent.val_client import servers
from gateway_agent.val_client.server_access import GmsAccess, ServerAccess
from gateway_agent.val_client.servers import Servers
from mikey_sakke.group_configuration import UserProfile, encode_profile
from tests.unit.seal_world import ALICE, CREW, GMS


class Client:
    """Keeps the newest profile, and hears nothing else."""

    user = ALICE

    def __init__(self) -> None:
        self.profile: UserProfile | None = None

    def apply_profile(self, profile: UserProfile) -> None:
        if self.profile is None or profile.revision >= self.profile.revision:
            self.profile = profile

    async def ready(self) -> None:
        pass

    def tick(self) -> None:
        pass


class Hasty:
    """CMS and GMS in one that never wait."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.profile = UserProfile(ALICE, 5, {CREW: GMS})

    async def handle(self, request: web.Request) -> web.Response:
        self.asked[request.path] += 1
        if request.path == "/cms/v1/profile" and request.query.get("after") != str(self.profile.revision):
            return web.Response(body=encode_profile(self.profile))
        return web.Response(status=204)


@pytest_asyncio.fixture
async def hasty() -> AsyncIterator[tuple[Hasty, str]]:
    made, application = Hasty(), web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield made, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_servers_that_do_not_wait_are_asked_once_in_a_while(
    hasty: tuple[Hasty, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when two clients poll for one user: each new poll ends the one before."""
    server, url = hasty
    monkeypatch.setattr(servers, "RETRY_FIRST_S", 0.1)
    access = [GmsAccess(url=url, token=SecretStr("t"), gms_uri=GMS)]
    async with Servers(Client(), ServerAccess(url=url, token=SecretStr("t")), access):
        await asyncio.sleep(0.55)
    assert 3 <= server.asked["/gms/v1/notifications"] <= 6
    assert 3 <= server.asked["/cms/v1/profile"] <= 7


async def test_a_cms_with_an_older_profile_than_before_is_told_and_asked_less_and_less(
    hasty: tuple[Hasty, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server, url = hasty
    monkeypatch.setattr(servers, "RETRY_FIRST_S", 0.05)
    client = Client()
    client.profile = UserProfile(ALICE, 9, {CREW: GMS})
    async with Servers(client, ServerAccess(url=url, token=SecretStr("t")), []):
        await asyncio.sleep(0.5)
        assert 2 <= server.asked["/cms/v1/profile"] <= 5
        assert "The CMS has profile 5 of sip:alice@example.org, where it had 9." in caplog.text
        assert client.profile.revision == 9
        server.profile = UserProfile(ALICE, 10, {})
        async with asyncio.timeout(5):
            while client.profile.revision != 10:
                await asyncio.sleep(0.01)
