"""The door of the servers of key material against an outsider on the same network: real sockets on loopback."""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from http_door import connections, tls, tuning
from http_door.admission import Limits
from key_servers.cms.app import CmsConfig, CmsServer
from mikey_sakke.kms_exchange import ROOT_PATH
from tests.integration.kms_https_world import ALICE, World, running

SMALL = Limits(strangers=16, strangers_of_one_address=8, members=8, members_of_one_user=2)
LONG = 20.0  # seconds until a test gives up; nothing is measured by it
INIT = f"{ROOT_PATH}init"


@pytest.fixture
async def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[World]:
    caplog.set_level(logging.INFO)  # asyncio and aiohttp say nothing below that of what they read
    async with running(tmp_path, SMALL) as started:
        yield started


@asynccontextmanager
async def hurried(folder: Path) -> AsyncIterator[World]:
    """A KMS that gives a stranger next to no time."""
    async with running(folder, SMALL.model_copy(update={"first_request_s": 0.05})) as started:
        yield started


class Outsider:
    """Opens what is asked for, and holds it. `host` and `port` of the server; TLS with its certificate if wanted."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self.host, port = url.partition("://")[2].rsplit(":", 1)
        self.port = int(port)
        self.context = ssl.create_default_context(cafile=ca_file) if ca_file else None
        self.held: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open(self, octets: bytes = b"") -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.context)
        self.held.append((reader, writer))
        if octets:
            writer.write(octets)
        return reader

    async def __aenter__(self) -> "Outsider":
        return self

    async def __aexit__(self, *ignored: object) -> None:
        for _, writer in self.held:
            writer.transport.abort()


async def rest(reader: asyncio.StreamReader) -> bytes:
    """What comes until the server ends the connection; it must end it."""
    octets = b""
    async with asyncio.timeout(LONG):
        try:
            while piece := await reader.read(4096):
                octets += piece
        except OSError:
            pass
    return octets


async def alice(world: World) -> tuple[str, Callable[[], Awaitable[int]]]:
    """The token of an honest user, and its request, which gives the status."""
    token = (await world.access(ALICE)).token.get_secret_value()

    async def ask() -> int:
        async with asyncio.timeout(LONG):
            return (await world.post(INIT, None, token))[0]

    return token, ask


def door_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the door logged; nobody else may have logged anything but the KMS."""
    own = ("key_servers.", "http_door.")
    loud = [r for r in caplog.records if not r.name.startswith(own) and r.levelno >= logging.WARNING]
    assert loud == [], loud
    assert all(record.exc_info is None for record in caplog.records), "a traceback"
    return [record.getMessage() for record in caplog.records if record.name.startswith("http_door")]


@pytest.mark.req("SEC-35")
@pytest.mark.parametrize("with_tls", [False, True], ids=["tcp", "tls"])
async def test_silent_connections_of_one_address_keep_nobody_out(
    world: World, caplog: pytest.LogCaptureFixture, with_tls: bool
) -> None:
    _, ask = await alice(world)
    async with Outsider(world.url, world.ca_file if with_tls else None) as outsider:
        readers = [await outsider.open() for _ in range(200)]
        assert await ask() == 200
        ended = [reader for reader in readers[: -SMALL.strangers_of_one_address] if await rest(reader) == b""]
        assert len(ended) == 200 - SMALL.strangers_of_one_address
        assert world.kms.connections["displaced"] >= len(ended)
        assert await ask() == 200
    assert len(door_lines(caplog)) == 1, "one line in a while"


@pytest.mark.req("SEC-35")
async def test_who_is_inside_stays_inside(world: World) -> None:
    token, _ = await alice(world)
    head = f"POST {INIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    async with Outsider(world.url, world.ca_file) as user, Outsider(world.url) as outsider:
        reader = await user.open()
        for _ in range(3):
            user.held[0][1].write(head)
            async with asyncio.timeout(LONG):
                assert b"</KmsResponse>" in await reader.readuntil(b"</KmsResponse>")
            for _ in range(50):
                await outsider.open()
        assert world.kms.connections["displaced"] >= 100
        (member,) = [each for each in world.kms._door._connections._all if each.is_member]
        assert member._late.cancelled(), "the time limit of strangers is over"
        user.held[0][1].write(head.replace(token.encode(), b"f" * 64))
        assert b" 401 " in await rest(reader), "a token that is valid no more ends the connection"


@pytest.mark.req("SEC-35")
@pytest.mark.parametrize(
    ("octets", "with_tls"),
    [
        (b"", False),
        (b"", True),
        (b"\x16\x03\x01\x02\x00", False),
        (b"POST ", True),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nX: ", True),
        (b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\nx", True),
        (f"POST {INIT} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n".encode(), True),
    ],
    ids=["silent-tcp", "silent-tls", "half-hello", "half-line", "half-headers", "half-body", "half-chunk"],
)
async def test_a_request_has_to_come_in_time(tmp_path: Path, octets: bytes, with_tls: bool) -> None:
    async with hurried(tmp_path) as world, Outsider(world.url, world.ca_file if with_tls else None) as outsider:
        try:
            reader = await outsider.open(octets)
        except OSError:
            return  # so little time that TLS was not agreed on
        await rest(reader)
        assert world.kms.connections["late"] <= 1


@pytest.mark.req("SEC-35")
async def test_a_user_has_the_time_its_answer_takes_and_no_more_between(tmp_path: Path) -> None:
    async with running(tmp_path, SMALL.model_copy(update={"idle_s": 0.05})) as world:
        token, _ = await alice(world)
        async with Outsider(world.url, world.ca_file) as outsider:
            head = f"POST {INIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
            answer = await rest(await outsider.open(head.encode()))
        assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.req("SEC-35")
@pytest.mark.parametrize(
    "broken",
    [
        b"GET / HTTP/9.9 {secret}\r\n\r\n",
        b"\x00\xff{secret}\r\n\r\n",
        b"POST /x HTTP/1.1\r\nAuthorization Bearer {secret}\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}" + b"x" * 9000 + b"\r\n\r\n",
        b"POST /{secret}" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\n" + b"A: {secret}\r\n" * 500 + b"\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {secret}\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: {secret}\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_counted_and_never_quoted(
    world: World, caplog: pytest.LogCaptureFixture, broken: bytes
) -> None:
    _, ask = await alice(world)
    async with Outsider(world.url, world.ca_file) as outsider:
        for _ in range(5):
            answer = await rest(await outsider.open(broken.replace(b"{secret}", b"s3cr3t")))
            assert answer.startswith(b"HTTP/1.") and b" 4" in answer[:14] and b"s3cr3t" not in answer
    assert await ask() == 200
    assert world.kms.counters["refused.no-http"] == 5
    assert len(door_lines(caplog)) == 1 and "s3cr3t" not in caplog.text and "Traceback" not in caplog.text


@pytest.mark.req("SEC-35")
async def test_what_is_no_tls_is_counted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    _, ask = await alice(world)
    async with Outsider(world.url) as outsider:
        for octets in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(600), b"\x80" * 600):
            await rest(await outsider.open(octets))
    assert world.kms.connections["no-tls"] == 4 and len(door_lines(caplog)) == 1
    assert await ask() == 200


@pytest.mark.req("SEC-35")
def test_tls_is_agreed_on_once_a_connection(world: World) -> None:
    context = tls.server_context(world.ca_file, world.folder / "tls_key.pem")
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.req("SEC-35")
@pytest.mark.parametrize("path", [INIT, "/elsewhere"])
async def test_a_stranger_gets_one_answer_a_connection(world: World, path: str) -> None:
    async with Outsider(world.url, world.ca_file) as outsider:
        request = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n".encode()
        answer = await rest(await outsider.open(request * 3))
    assert answer.count(b"HTTP/1.1 4") == 1 and b"Connection: close" in answer


@pytest.mark.req("SEC-35")
async def test_a_user_who_opens_too_many_displaces_its_own(world: World) -> None:
    token, _ = await alice(world)
    head = f"POST {INIT} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    async with Outsider(world.url, world.ca_file) as outsider:
        readers = []
        for _ in range(SMALL.members_of_one_user + 1):
            readers.append(await outsider.open(head))
            async with asyncio.timeout(LONG):
                assert b"200" in await readers[-1].readline()
        assert b"KmsResponse" in await rest(readers[0])
        assert world.kms.connections["displaced"] == 1


@pytest.mark.req("SEC-35")
async def test_a_machine_without_descriptors_is_one_line_and_no_end(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ask = await alice(world)
    accept, refused_with = socket.socket.accept, [errno.EMFILE]

    def failing(listening: socket.socket) -> tuple[socket.socket, object]:
        if refused_with:
            raise OSError(refused_with[0], "no room")
        return accept(listening)

    door = world.kms._door._connections
    monkeypatch.setattr(tuning, "ACCEPT_PAUSE_S", 3600)
    async with Outsider(world.url) as outsider:
        silent = await outsider.open()
        while not door.admission.strangers:
            await asyncio.sleep(0.001)
        monkeypatch.setattr(socket.socket, "accept", failing)
        asking = asyncio.create_task(ask())
        assert await rest(silent) == b"", "a silent stranger made room"
        for code in (errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
            for _ in range(20):
                await asyncio.sleep(0.001)  # in which a loop that does not pause fails again and again
            refused_with[0] = code
            door._resume()
            while door._paused is None:
                await asyncio.sleep(0.001)
        assert world.kms.connections["no room for it on this machine (no room)"] == 4
        refused_with.clear()
        door._resume()
        assert await asking == 200
    assert len(door_lines(caplog)) == 1


@pytest.mark.req("SEC-35")
async def test_a_fault_of_the_program_is_told_by_its_place_and_not_by_what_it_says(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ask = await alice(world)

    async def faulty(*arguments: object) -> None:
        raise RuntimeError(f"s3cr3t {arguments}")

    with monkeypatch.context() as patch:
        patch.setattr("key_servers.kms.service.KeyService.answer", faulty)
        assert [await ask() for _ in range(3)] == [500] * 3
    assert await ask() == 200
    (line,) = door_lines(caplog)
    assert "RuntimeError at test_https_door.py:" in line and "s3cr3t" not in caplog.text


@pytest.mark.req("SEC-35")
async def test_a_cms_has_the_same_door_and_ends_at_once_with_strangers_inside(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        outsiders = []
        async with await CmsServer.open(CmsConfig(state_dir=tmp_path, limits=SMALL)) as cms:
            outsider = await stack.enter_async_context(Outsider(cms.urls[0]))
            outsiders = [await outsider.open() for _ in range(40)]
            assert b"401" in await rest(await outsider.open(b"GET /cms/v1/profile HTTP/1.1\r\nHost: x\r\n\r\n"))
        for reader in outsiders:
            assert await rest(reader) == b""


@pytest.mark.req("SEC-35")
async def test_the_end_of_a_server_waits_for_no_stranger(tmp_path: Path) -> None:
    async with asyncio.timeout(LONG), AsyncExitStack() as stack:
        async with running(tmp_path, SMALL.model_copy(update={"first_request_s": 3600})) as world:
            outsider = await stack.enter_async_context(Outsider(world.url))
            readers = [await outsider.open() for _ in range(4)]
            while world.kms._door._connections.admission.strangers < len(readers):
                await asyncio.sleep(0.001)
        assert [await rest(reader) for reader in readers] == [b""] * len(readers)


def test_a_process_asks_for_the_descriptors_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (1024, 4096))
    monkeypatch.setattr(connections.resource, "setrlimit", lambda _, limits: asked.append(limits))
    assert connections._descriptors(100) == 1024 and asked == []
    assert connections._descriptors(16_896) == 4096 and asked == [(4096, 4096)]
