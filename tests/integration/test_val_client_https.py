"""How clients of KMS, GMS and CMS connect: HTTPS only, bounded answers, no redirects."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr, ValidationError

from gateway_agent.errors import ConfigError
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from key_servers.gms.provisioning import KmsOverHttps, NotProvisioned
from mikey_sakke.https import checked_url, client_tls, read_capped
from mikey_sakke.kms_xml import RESPONSE_MAX


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://kms.example.org:8443/", "https://kms.example.org:8443"),
        ("https://192.0.2.1", "https://192.0.2.1"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://127.9.9.9:80", "http://127.9.9.9:80"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://localhost:80", "http://localhost:80"),
    ],
)
def test_https_and_loopback_are_taken(url: str, same: str) -> None:
    assert checked_url(url) == same


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://kms.example.org", "over https only"),
        ("http://localhost.example.org", "over https only"),
        ("http://192.0.2.1:8443", "over https only"),
        ("https://", "https://host:port"),
        ("https://kms.example.org/path", "https://host:port"),
        ("https://kms.example.org?x=1", "https://host:port"),
        ("https://user:password@kms.example.org", "https://host:port"),
        ("https://kms.example.org:99999", "https://host:port"),
        ("https://[::1", "https://host:port"),
        ("ftp://kms.example.org", "https://host:port"),
        ("kms.example.org", "https://host:port"),
    ],
)
def test_other_urls_are_refused_everywhere(url: str, reason: str) -> None:
    token = SecretStr("secret")
    with pytest.raises(ValueError, match=reason):
        checked_url(url)
    for make in (
        lambda: ServerAccess(url=url, token=token),
        lambda: GmsAccess(url=url, token=token, gms_uri="sip:gms.example.org"),
        lambda: KmsAccess(url=url, token=token, kms_uri="kms.example.org", user_uri="sip:alice@example.org"),
    ):
        with pytest.raises(ValidationError, match=reason):
            make()
    with pytest.raises(NotProvisioned, match=reason) as raised:
        KmsOverHttps(url, "kms.example.org", "sip:gms.example.org", "token", None, lambda: 0)
    assert "password" not in str(raised.value)


@pytest.mark.parametrize("content", [None, "", "no PEM"])
def test_a_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=str(file)):
        client_tls("https://kms.example.org", file)
    with pytest.raises(ConfigError, match=str(file)):
        ServerAccess(url="https://kms.example.org", token=SecretStr("secret"), ca_file=file).tls()
    with pytest.raises(NotProvisioned, match=str(file)):
        KmsOverHttps("https://kms.example.org", "kms.example.org", "sip:gms.example.org", "token", file, lambda: 0)


class Pieces:
    """A body in pieces of 7 octets."""

    def __init__(self, octets: bytes) -> None:
        self.rest = octets

    async def read(self, n: int) -> bytes:
        piece, self.rest = self.rest[: min(n, 7)], self.rest[min(n, 7) :]
        return piece


@pytest.mark.parametrize("length", [0, 1, 20, 21, 1000])
async def test_a_body_is_read_to_its_end_or_to_one_octet_too_many(length: int) -> None:
    assert len(await read_capped(Pieces(bytes(length)), 20)) == min(length, 21)


class Impostor:
    """A server on loopback that answers the KMS's paths with whatever a test wants."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.answer = web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        return self.answer


@pytest_asyncio.fixture
async def impostor() -> AsyncIterator[tuple[Impostor, KmsOverHttps]]:
    made, application = Impostor(), web.Application()
    application.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield made, KmsOverHttps(f"http://127.0.0.1:{port}", "kms.example.org", "sip:gms.example.org", "t", None, lambda: 9)
    await runner.cleanup()


async def test_the_gms_follows_no_redirect_with_its_token(impostor: tuple[Impostor, KmsOverHttps]) -> None:
    server, link = impostor
    server.answer = web.Response(status=307, headers={"Location": "/elsewhere"})
    with pytest.raises(NotProvisioned, match="not usable"):
        await link.certificate()
    assert server.paths == ["/keymanagement/identity/v1/init"]


@pytest.mark.parametrize(
    ("body", "reason"), [(b"x" * (RESPONSE_MAX + 9), "more than"), (b"", "well-formed"), (b"<a/>", "no KmsResponse")]
)
async def test_the_gms_takes_no_other_answer_of_a_kms(
    impostor: tuple[Impostor, KmsOverHttps], body: bytes, reason: str
) -> None:
    server, link = impostor
    server.answer = web.Response(body=body)
    with pytest.raises(NotProvisioned, match=reason):
        await link.certificate()
