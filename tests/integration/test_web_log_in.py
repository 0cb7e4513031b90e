"""The log-in of the page, on the real server: password, links, sessions, forms, and what an answer takes along."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from gateway_agent.web import guard, password, tuning
from http_door import tls
from tests.integration.web_world import PASSWORD, Page, Seen, opened, with_password


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    with_password(tmp_path)
    async with opened(tmp_path) as made:
        yield made


async def test_a_stranger_sees_the_log_in_and_nothing_else(page: Page) -> None:
    async with page.browser() as browser:
        for path in ("/", "/boards", "/no/such/page", "/log-out"):
            answer = await browser.get(path)
            assert (answer.status, answer.headers["Location"], answer.text) == (303, "/log-in", ""), path
        for path in ("/api/snapshot", "/api/events", "/api/openapi.json", "/live"):
            answer = await browser.get(path)
            assert answer.status == 401 and "Set-Cookie" not in answer.headers
        htmx = await browser.get("/", **{"HX-Request": "true"})
        assert (htmx.status, htmx.headers["HX-Redirect"]) == (401, "/log-in")
        assert (await browser.get("/log-in")).status == 200


async def test_a_password_logs_in_and_a_button_out(page: Page) -> None:
    async with page.browser() as browser, page.browser() as thief:
        answer = await browser.logs_in()
        assert (answer.status, answer.headers["Location"]) == (303, "/")
        cookie = next(each for each in answer.headers.getall("Set-Cookie") if each.startswith("keycast-8686="))  # type: ignore[attr-defined]
        assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.lower().split("; ")) and "domain" not in cookie
        home = await browser.get("/")
        assert home.status == 200
        assert (await browser.get("/log-in")).headers["Location"] == "/"
        stolen = browser.cookies["keycast-8686"]
        assert (await thief.get("/", Cookie=f"keycast-8686={stolen}")).status == 200
        left = await browser.post("/log-out", {"form_token": home.token})
        assert (left.status, left.headers["Location"]) == (303, "/log-in") and "keycast-8686" not in browser.cookies
        assert (await thief.get("/", Cookie=f"keycast-8686={stolen}")).status == 303, "the cookie is worth nothing now"


async def test_the_cookie_of_before_the_log_in_is_not_that_of_after(page: Page) -> None:
    async with page.browser() as browser:
        answer = await browser.get("/log-in", Cookie="keycast-8686=chosen-by-another")
        fields = {"form_token": answer.token, "password": PASSWORD}
        await browser.post("/log-in", fields)
        assert browser.cookies["keycast-8686"] != "chosen-by-another"
        assert (await browser.get("/")).status == 200


async def test_a_new_password_logs_everybody_out(page: Page) -> None:
    async with page.browser() as browser:
        await browser.logs_in()
        assert (await browser.get("/")).status == 200
        password.set_password(page.folder, "another one of these")
        assert (await browser.get("/")).status == 303
        assert (await browser.logs_in()).status == 403
        assert (await browser.logs_in("another one of these")).status == 303


async def test_without_a_password_the_page_says_how_to_set_one(tmp_path: Path) -> None:
    async with opened(tmp_path) as page, page.browser() as browser:
        answer = await browser.get("/log-in")
        assert "keycast web password" in answer.text and 'name="password"' not in answer.text
        token = (await browser.get("/log-in?token=x")).token
        assert (await browser.post("/log-in", {"form_token": token, "password": ""})).status == 403


async def test_a_link_logs_in_by_one_click_and_once(page: Page) -> None:
    token = page.log_in.sessions.new_link()
    async with page.browser() as previewer, page.browser() as browser, page.browser() as late:
        for _ in range(3):  # programs that look at links
            assert (await previewer.get(f"/log-in?token={token}")).status == 200
        asked = await browser.get(f"/log-in?token={token}")
        assert (await browser.post("/log-in", {"form_token": asked.token, "token": token})).status == 303
        assert (await browser.get("/")).status == 200
        asked = await late.get(f"/log-in?token={token}")
        refused = await late.post("/log-in", {"form_token": asked.token, "token": token})
        assert refused.status == 403 and "keycast web link" in refused.text and token not in refused.text


@pytest.mark.req("SEC-35")
async def test_five_wrong_passwords_a_minute_and_a_link_all_the_same(page: Page) -> None:
    async with page.browser() as browser:
        for _ in range(tuning.FAILURES - 1):
            assert (await browser.logs_in("a wrong password")).status == 403
        assert (await browser.logs_in("a wrong password")).status in (403, 429)
        answer = await browser.logs_in()
        assert answer.status == 429 and 0 < int(answer.headers["Retry-After"]) <= 60, "the right one is not looked at"
        assert "keycast web link" in answer.text
        token = page.log_in.sessions.new_link()
        assert (await browser.post("/log-in", {"form_token": answer.token, "token": token})).status == 303


@pytest.mark.req("SEC-35")
async def test_passwords_at_the_same_time_are_counted_before_they_are_looked_at(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(password, "fits", lambda folder, text: asked.append(text) or False)
    async with page.browser() as browser:
        token = (await browser.get("/log-in")).token
        fields = [{"form_token": token, "password": f"guess {number}"} for number in range(20)]
        answers = await asyncio.gather(*(browser.post("/log-in", each) for each in fields))
    assert len(asked) == tuning.FAILURES
    assert {answer.status for answer in answers} <= {403, 429}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/json"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded; charset=utf-16"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded; charset=none"}, 415),
        ({"Content-Encoding": "deflate"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_a_form_of_another_site_is_refused(page: Page, headers: dict[str, str], status: int) -> None:
    async with page.browser() as browser:
        await browser.logs_in()
        home = await browser.get("/")
        body = f"form_token={home.token}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"} | headers
        assert (await browser.post("/log-out", body, **headers)).status == status
        assert (await browser.get("/")).status == 200, "still logged in"


async def test_a_form_is_of_this_session(page: Page) -> None:
    async with page.browser() as one, page.browser() as other:
        before = (await one.get("/log-in")).token
        await one.logs_in()
        await other.logs_in()
        theirs = (await other.get("/")).token
        for token in ("", "x", before, theirs, theirs[:-1]):
            refused = await one.post("/log-out", {"form_token": token})
            assert refused.status == 403 and "load the page again" in refused.text
        own = (await one.get("/")).token
        assert (await one.post("/log-out", {}, **{guard.FORM_HEADER: own})).status == 303
        await one.logs_in()
        assert (await one.post("/log-out", {"form_token": own})).status == 403, "replayed in a later session"


async def test_every_answer_keeps_the_browser_here(page: Page) -> None:
    async with page.browser() as browser:
        answers = [await browser.get(path) for path in ("/log-in", "/", "/api/snapshot", "/health/live", "/static/x/y")]
        answers.append(await browser.post("/log-in", {"form_token": "wrong"}))
        await browser.logs_in()
        answers += [await browser.get(path) for path in ("/", "/no-such-page", "/api/snapshot", "/api/events")]
    for answer in answers:
        for name, value in guard.HEADERS.items():
            assert answer.headers[name] == value
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "keycast"
    policy = guard.HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'self';") and "unsafe" not in policy and "frame-ancestors 'none'" in policy


async def test_over_tls_the_cookie_is_for_tls_only(tmp_path: Path) -> None:
    with_password(tmp_path)
    certificate, key = tmp_path / "page.pem", tmp_path / "page.key"
    tls.make_self_signed(certificate, key, ["127.0.0.1"], datetime.datetime.now(datetime.UTC))
    more = f'tls_certificate = "{certificate}"\ntls_key = "{key}"'
    trusted = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate))
    async with opened(tmp_path, more=more) as page, page.browser(connector=trusted) as browser:
        assert page.url.startswith("https://")
        answer = await browser.logs_in()
        cookie = next(each for each in answer.headers.getall("Set-Cookie") if "keycast-8686=" in each)  # type: ignore[attr-defined]
        assert cookie.startswith("__Host-keycast-8686=") and "; Secure" in cookie
        assert (await browser.get("/")).status == 200


async def test_behind_a_proxy_with_tls_the_cookie_is_for_tls_only(tmp_path: Path) -> None:
    """The browser says in Origin that it speaks HTTPS."""
    with_password(tmp_path)
    async with opened(tmp_path, more='hosts = ["gw.example"]') as page, page.browser() as browser:
        behind = {"Host": "gw.example", "Origin": "https://gw.example"}
        asked = await browser.get("/log-in", Host="gw.example")
        cookie = asked.headers["Set-Cookie"].partition(";")[0]
        fields = {"form_token": asked.token, "password": PASSWORD}
        answer = await browser.post("/log-in", fields, Cookie=cookie, **behind)
        assert answer.status == 303
        assert any(
            each.startswith("__Host-") and "Secure" in each
            for each in answer.headers.getall("Set-Cookie")  # type: ignore[attr-defined]
        )


async def test_a_file_that_nobody_should_read_lets_nobody_in_and_says_why(page: Page) -> None:
    (page.folder / password.FILE).chmod(0o644)
    async with page.browser() as browser:
        answer = await browser.logs_in()
        assert answer.status == 409 and "chmod 600" in answer.text


async def test_a_page_that_cannot_listen_is_an_alarm_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "LISTEN_AGAIN_S", 0.01)
    first = tmp_path / "first"
    first.mkdir()
    async with opened(first) as page:
        port = int(page.url.rsplit(":", 1)[1])
        seen = Seen()
        opening = opened(tmp_path, seen, port=port)
        second = await opening.__aenter__()
        assert second.listener.urls == [] and "is used by another program, " in seen.alarms["page"]
        assert "port under [web] of" in seen.alarms["page"]
    async with asyncio.timeout(30):
        while seen.alarms:
            await asyncio.sleep(0.01)
    assert second.listener.urls == [f"http://127.0.0.1:{port}"]
    await opening.__aexit__(None, None, None)
