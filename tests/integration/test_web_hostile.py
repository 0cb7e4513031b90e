"""The page against an outsider on the same network: octets as they come, on the real server."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway_agent.core import events
from gateway_agent.net.interfaces import Interface
from gateway_agent.observe.sight import Sight
from gateway_agent.web import application, tuning
from gateway_agent.web.page import WebPage
from gateway_agent.web.render import render
from gateway_agent.web.static_files import StaticFiles
from http_door.admission import Limits
from tests.integration.web_world import Browser, Page, Seen, opened, with_password

LONG = 20.0  # seconds until a test gives up; nothing is measured by it
SMALL = Limits(strangers=8, strangers_of_one_address=8, members=8, members_of_one_user=8)
NAME = "<script>alert(1)</script>\"'&\u202egnp.exe\x1b[31m"


@pytest.fixture
async def page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Page]:
    caplog.set_level(logging.INFO)
    with_password(tmp_path)
    async with opened(tmp_path, limits=SMALL) as made:
        yield made


async def raw(page: Page, octets: bytes) -> bytes:
    """What the server answers to octets, until it ends the connection."""
    host, port = page.url.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    try:
        writer.write(octets)
        async with asyncio.timeout(LONG):
            while piece := await reader.read(65536):
                answer += piece
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "path",
    [
        "/static/../password.py",
        "/static/x/../../../gateway_agent/web/password.py",
        "/static/x/%2e%2e/%2e%2e/web.password",
        "/static/x/..%2f..%2fweb.password",
        "/static/x/..%5c..%5cweb.password",
        "/static/x//etc/passwd",
        "/static/x/%00",
        "/static/../../../../../../etc/passwd",
        "//etc/passwd",
        "/health/../api/snapshot",
        "/static/../api/snapshot",
        "/metrics/../api/snapshot",
        "/health/%2e%2e/api/snapshot",
        "/.git/config",
        "/web.password",
    ],
)
async def test_no_path_leads_to_another_file_or_past_the_log_in(page: Page, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    answer = await raw(page, request.encode())
    assert status_of(answer) in (303, 401, 404), answer[:200]
    assert b"scrypt" not in answer and b"root:" not in answer and b"gateway_id" not in answer
    digest = StaticFiles().url(next(iter(StaticFiles()._octets))).split("/")[2] if StaticFiles()._octets else "x"
    answer = await raw(page, request.replace("/x/", f"/{digest}/").encode())
    assert status_of(answer) in (303, 401, 404), answer[:200]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8686", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost@evil", "127.0.0.1/"],
)
async def test_a_name_of_somebody_else_that_leads_here_shows_nothing(page: Page, host: str) -> None:
    async with page.browser() as browser:
        await browser.logs_in()
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for path in ("/", "/log-in", "/api/snapshot", "/live", "/static/x/y", "/metrics"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        answer = await raw(page, request.encode())
        assert status_of(answer) == 421 and b"gw.home" not in answer and b"evil" not in answer
    request = f"GET /health/live HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert status_of(await raw(page, request.encode())) == 200, "it has no name in it"


@pytest.mark.parametrize("hosts", ["", "Host: 127.0.0.1\r\nHost: evil.example\r\n"])
async def test_a_request_names_one_host(page: Page, hosts: str) -> None:
    answer = await raw(page, f"GET /log-in HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
    assert status_of(answer) in (400, 421)


async def test_an_absolute_target_does_not_stand_in_for_the_host(page: Page) -> None:
    request = b"GET http://127.0.0.1/log-in HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert status_of(await raw(page, request)) == 421


@pytest.mark.parametrize(
    "head",
    [
        b"A: b\r\n" * 500,
        b"A: " + b"x" * 20_000 + b"\r\n",
        b"Cookie: " + b"a=b; " * 4000 + b"\r\n",
        b"Cookie: keycast-8686=" + b"x" * 5000 + b"\r\n",
        b"\x00: x\r\n",
    ],
    ids=["many", "long", "cookies", "long-cookie", "nul"],
)
async def test_a_flood_of_headers_gets_one_answer_and_no_line_quotes_it(
    page: Page, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await raw(page, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n")
    assert not answer or status_of(answer) in (303, 400, 431)
    assert "xxxx" not in caplog.text and "a=b" not in caplog.text
    async with page.browser() as browser:
        assert (await browser.get("/log-in")).status == 200


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_of_10_mib_is_not_read(page: Page, is_chunked: bool) -> None:
    size = 10 * 1024 * 1024

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield b"x" * 65536

    async with page.browser() as browser:
        try:
            data = pieces() if is_chunked else io.BytesIO(b"password=" + b"x" * size)
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await browser.post("/log-in", data, **headers)  # type: ignore[arg-type]
            assert answer.status == 413 and "more than a form" in answer.text
        except OSError:
            pass  # the server has ended the connection while the browser still sent
        assert (await browser.logs_in()).status == 303


async def test_a_browser_that_sends_its_form_slowly_is_given_up(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("http_door.tuning.REQUEST_TIMEOUT_S", 0.05)
    head = "POST /log-in HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99\r\n\r\nform_"
    assert status_of(await raw(page, head.encode())) == 408


@pytest.mark.req("SEC-35")
async def test_silent_strangers_keep_nobody_out(page: Page) -> None:
    host, port = page.url.removeprefix("http://").rsplit(":", 1)
    async with page.browser() as browser:
        await browser.logs_in()
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(4 * SMALL.strangers)]
        async with page.browser() as another:
            assert (await another.logs_in()).status == 303
        assert (await browser.get("/")).status == 200
        for _, writer in silent:
            writer.transport.abort()


@pytest.mark.req("SEC-35")
async def test_the_connection_of_a_person_who_is_logged_in_stays(page: Page) -> None:
    host, port = page.url.removeprefix("http://").rsplit(":", 1)
    async with page.browser() as browser:
        await browser.logs_in()
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    reader, writer = await asyncio.open_connection(host, int(port))
    for _ in range(3):
        writer.write(f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        async with asyncio.timeout(LONG):
            head = await reader.readuntil(b"\r\n\r\n")
            assert status_of(head) == 200 and await reader.readexactly(2) == b"[]"
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(4 * SMALL.strangers)]
        for _, each in silent:
            each.transport.abort()
    writer.transport.abort()


async def test_names_of_others_are_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board chooses its name, and a page shows it."""

    async def handle(request: web.Request, sight: Sight) -> web.Response:
        return await render(request, "error.html", title=NAME, text=NAME)

    monkeypatch.setattr(application, "PAGES", (WebPage("/named", handle),))
    with_password(tmp_path)
    async with opened(tmp_path) as page, page.browser() as browser:
        await browser.logs_in()
        answer = await browser.get("/named")
        assert "<script>" not in answer.text and "&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;" in answer.text
        assert "U+202Egnp.exeU+001B[31m" in answer.text and "\u202e" not in answer.text and "\x1b" not in answer.text


async def told(browser: Browser, most: int, path: str = "/live", **headers: str) -> list[dict[str, str]]:
    """The first events of a stream; fields by name."""
    found: list[dict[str, str]] = []
    async with browser.session.get(path, headers=headers) as answer, asyncio.timeout(LONG):
        assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
        while len(found) < most:
            lines = (await answer.content.readuntil(b"\n\n")).decode().strip().splitlines()
            fields = dict(line.partition(": ")[::2] for line in lines)
            if "event" in fields:
                found.append(fields)
    return found


async def test_events_come_as_they_are_told_and_again_to_a_browser_that_was_away(tmp_path: Path) -> None:
    with_password(tmp_path)
    seen = Seen()
    async with opened(tmp_path, seen) as page, page.browser() as browser:
        await browser.logs_in()
        reading = asyncio.create_task(told(browser, 2))
        async with asyncio.timeout(LONG):
            while not seen.stream._subscriptions:
                await asyncio.sleep(0.001)
        seen.stream(events.Paired("lamp"))
        seen.stream(events.Joined("lamp\u202e<b>\n\ndata: x", "home/lights"))
        first, second = await reading
        assert first["event"] == "told" and json.loads(first["data"])["pne_id"] == "lamp"
        assert json.loads(second["data"])["pne_id"] == "lamp\u202e<b>\n\ndata: x", "one line, whatever is in it"
        seen.stream(events.Paired("door"))
        (missed,) = await told(browser, 1, **{"Last-Event-ID": second["id"]})
        assert json.loads(missed["data"])["pne_id"] == "door"
        seen.stream(events.Paired("desk"))
        (chosen,) = await told(browser, 1, "/live?pne=desk", **{"Last-Event-ID": first["id"]})
        assert json.loads(chosen["data"])["pne_id"] == "desk"
        for strange in ("otherboot-1", first["id"] + "9" * 30, "\u00e9", "-", "x" * 3000):
            (again,) = await told(browser, 1, **{"Last-Event-ID": strange})
            assert again["event"] == "again"
        for _ in range(600):
            seen.stream(events.Paired("many"))
        (again,) = await told(browser, 1, **{"Last-Event-ID": first["id"]})
        assert again["event"] == "again", "it is not remembered any more"
    assert not seen.stream._subscriptions


async def test_lines_of_the_log_come_in_the_same_way(tmp_path: Path) -> None:
    with_password(tmp_path)
    seen = Seen()

    def write(text: str) -> None:
        seen.log_lines.emit(logging.LogRecord("gateway_agent.core", logging.WARNING, __file__, 0, text, None, None))

    async with opened(tmp_path, seen) as page, page.browser() as browser:
        assert (await browser.get("/live/log")).status == 401, "nobody is logged in"
        await browser.logs_in()
        reading = asyncio.create_task(told(browser, 1, "/live/log"))
        async with asyncio.timeout(LONG):
            while not seen.log_lines._readers:
                await asyncio.sleep(0.001)
        write("KC1203 a lamp\u202e<b>\n\ndata: x")
        (line,) = await reading
        wanted = {"level": "warning", "area": "gateway_agent.core", "code": "KC1203"}
        assert line["event"] == "line" and json.loads(line["data"]).items() >= wanted.items()
        assert json.loads(line["data"])["text"] == "a lamp\\u202e<b>\\n\\ndata: x"
        write("KC1203 another")
        (missed,) = await told(browser, 1, "/live/log", **{"Last-Event-ID": line["id"]})
        assert json.loads(missed["data"])["text"] == "another"
        (since,) = await told(browser, 1, "/live/log?after=1")  # a page that was made before the second one
        assert json.loads(since["data"])["number"] == 2
        (both, _) = await told(browser, 2, "/live/log?after=0")
        assert json.loads(both["data"])["number"] == 1
        for strange in ("-1", "x", "9" * 30):
            (again,) = await told(browser, 1, f"/live/log?after={strange}")
            assert again["event"] == "again"
    assert not seen.log_lines._readers


async def test_a_slow_reader_loses_events_and_is_told_how_many(tmp_path: Path) -> None:
    with_password(tmp_path)
    seen = Seen()
    async with opened(tmp_path, seen) as page, page.browser() as browser:
        await browser.logs_in()
        reading = asyncio.create_task(told(browser, 2))
        async with asyncio.timeout(LONG):
            while not seen.stream._subscriptions:
                await asyncio.sleep(0.001)
        for number in range(1000):  # in one turn of the event loop: nobody can read meanwhile
            seen.stream(events.Paired(f"board {number}"))
        lost, first = await reading
        assert lost["event"] == "lost" and json.loads(lost["data"]) == {"count": 1000 - 256}
        assert json.loads(first["data"])["pne_id"] == f"board {1000 - 256}"


@pytest.mark.req("SEC-35")
async def test_streams_are_few_and_end_with_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STREAMS", 2)
    with_password(tmp_path)
    async with opened(tmp_path) as page, page.browser() as browser:
        await browser.logs_in()
        streams = [await browser.session.get("/live") for _ in range(2)]
        full = await browser.get("/live")
        assert full.status == 503 and full.headers["Retry-After"]
        home = await browser.get("/")
        assert home.status == 200, "the rest of the page goes on"
        await browser.post("/log-out", {"form_token": home.token})
        async with asyncio.timeout(LONG):
            for each in streams:
                await each.content.read()
                each.close()


async def test_a_reader_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STREAM_STUCK_S", 0.05)
    monkeypatch.setattr(tuning, "STREAM_PAUSE_S", 0.0)
    with_password(tmp_path)
    seen = Seen()
    async with opened(tmp_path, seen) as page, page.browser() as browser:
        await browser.logs_in()
        host, port = page.url.removeprefix("http://").rsplit(":", 1)
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        _, writer = await asyncio.open_connection(host, int(port), limit=1)
        writer.transport.pause_reading()
        writer.write(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: {cookie}\r\n\r\n".encode())
        async with asyncio.timeout(LONG):
            while not seen.stream._subscriptions:
                await asyncio.sleep(0.001)
            while seen.stream._subscriptions:
                for _ in range(200):
                    seen.stream(events.Paired("x" * 2000))
                await asyncio.sleep(0.001)
        writer.transport.abort()
        assert (await browser.get("/")).status == 200


async def test_a_label_has_a_name_that_a_board_can_have(page: Page) -> None:
    async with page.browser() as browser:
        await browser.logs_in()
        for name in ("x" * 5000, "lamp\u202e", ""):
            token = (await browser.get("/let-in")).token
            fields = {"form_token": token, "do": "label", "pne": name, "secret": "A" * 16}
            answer = await browser.post("/let-in", fields)
            assert answer.status == 409 and "The PNE ID" in answer.text and "<svg" not in answer.text.split("<main")[1]


async def test_a_browser_that_leaves_before_its_stream_begins_is_no_fault(page: Page, caplog, monkeypatch) -> None:
    """So do browsers whose reader goes on to another page at once."""
    left = asyncio.Event()
    prepare = web.StreamResponse.prepare

    async def gone(response: web.StreamResponse, request: web.Request) -> object:
        if request.path == "/live" and request.transport is not None:
            request.transport.abort()
            left.set()
        return await prepare(response, request)

    async with page.browser() as browser:
        await browser.logs_in()
        monkeypatch.setattr(web.StreamResponse, "prepare", gone)
        with pytest.raises(aiohttp.ClientError):
            await browser.get("/live")
    await asyncio.wait_for(left.wait(), LONG)
    await page.listener.close()
    assert "fault" not in caplog.text


async def test_the_log_names_addresses_that_a_browser_reaches(tmp_path: Path, caplog, monkeypatch) -> None:
    caplog.set_level(logging.INFO)
    found = [Interface("lo", "127.0.0.1", "127.255.255.255"), Interface("wlan0", "192.0.2.7", "192.0.2.255")]
    monkeypatch.setattr("gateway_agent.web.addresses.ipv4_interfaces", lambda: found)
    async with opened(tmp_path, listen=["0.0.0.0"]) as made:
        port = made.url.rsplit(":", 1)[1]
    assert f"the page is at http://192.0.2.7:{port}" in caplog.text and "0.0.0.0" not in caplog.text


async def test_a_form_that_is_not_utf_8_is_no_fault_of_the_gateway(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    async with page.browser() as browser:
        token = (await browser.get("/log-in")).token
        octets = f"form_token={token}&password=".encode() + b"\xff\xfe"
        answer = await browser.post("/log-in", octets, **{"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 400 and "No form of this page sends that." in answer.text
    assert "fault of this program" not in caplog.text


async def test_letters_of_other_alphabets_are_no_secret(page: Page) -> None:
    async with page.browser() as browser:
        await browser.logs_in()
        for do in ("pair", "label"):
            token = (await browser.get("/let-in")).token
            fields = {"form_token": token, "do": do, "pne": "lamp", "secret": "\u00c4BCD-EFGH-IJKL-MNOP"}
            answer = await browser.post("/let-in", fields)
            assert answer.status == 409 and "A pairing secret is 16 characters of A-Z and 2-7." in answer.text
            assert "\u00c4BCD" not in answer.text


async def test_a_fault_of_the_program_is_told_in_words_without_what_it_was_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: web.Request, sight: Sight) -> web.Response:
        raise ZeroDivisionError(NAME)

    pages = (WebPage("/broken", handle), WebPage("/api/broken", handle))
    monkeypatch.setattr(application, "PAGES", pages)
    with_password(tmp_path)
    async with opened(tmp_path) as page, page.browser() as browser:
        await browser.logs_in()
        answer = await browser.get("/broken")
        assert answer.status == 500 and "This is a fault of keycast." in answer.text and "alert(1)" not in answer.text
        assert json.loads((await browser.get("/api/broken")).text)["code"] == "internal-server-error"
    assert "ZeroDivisionError at test_web_hostile.py" in caplog.text and "alert(1)" not in caplog.text
