"""The pages of a made-up home in a real Chromium: read by people, by axe-core, with and without JavaScript."""

import asyncio
import dataclasses
import logging
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytest_asyncio

from cpns.errors import NotAllowed
from gateway_agent.core import events
from gateway_agent.observe.snapshot import PairingView
from tests.unit.page_world import HOSTILE, MadeUp, happened, snapshot
from tests.waiting import until
from tools.pages.chromium import PROGRAM, Restarted, driver, logged_in
from tools.pages.stage import served

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="no Chromium: apt install chromium"),
    pytest.mark.real_time,
    pytest.mark.asyncio(loop_scope="module"),
]

BUILD = Path(__file__).parents[2] / "build" / "pages"
AXE = Path(__file__).parents[1] / "vendor" / "axe" / "axe.js"
SECRET = "QRST-UVWX-YZ23-4567"
PAGES = {
    "home": "/",
    "board": "/board?pne=lamp.porch",
    "group": "/group?sg=home/lights",
    "expel": "/group?sg=home/lights&ask=expel&pne=lamp.porch",
    "delete": "/group?sg=home/lights&ask=delete",
    "events": "/events",
    "log": "/log",
    "settings": "/settings",
    "let-in": "/let-in",
    "missing": "/board?pne=nobody",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromiums():
    """What starts Chromium, once for all tests of this file."""
    async with driver() as playwright:
        yield Restarted(playwright)


@pytest_asyncio.fixture(loop_scope="module")
async def chromium(chromiums):
    """A browser that runs and has nothing open; each test opens a context of its own in it."""
    opened = await chromiums.running()
    yield opened
    for context in opened.contexts:
        await context.close()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "light"),
        (1280, "dark"),
        pytest.param(390, "dark", marks=pytest.mark.long),
        pytest.param(1280, "light", marks=pytest.mark.long),
    ],
)
async def test_every_page_is_good_for_axe_and_fits_into_its_window(tmp_path, scheme, width, chromium):
    """Screenshots go into build/pages, for people to look at."""
    BUILD.mkdir(parents=True, exist_ok=True)
    made = MadeUp(tmp_path, snapshot(hostile=True))
    happened(made.stream)
    _line(made, logging.INFO, "the gateway runs")
    _line(made, logging.WARNING, "KC1203 mDNS announcement is off: no interface")
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 844 if width < 600 else 800}}
    async with served(made.sight) as (url, link), logged_in(chromium, link(), **how) as page:

        async def examine(name):
            await page.locator("main").wait_for()
            await page.screenshot(path=BUILD / f"{name}-{scheme}-{width}.png", full_page=True)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
            await page.evaluate(AXE.read_text())
            found = await page.evaluate("axe.run({ resultTypes: ['violations'] }).then(found => found.violations)")
            told = [(each["impact"], each["id"], [node["html"] for node in each["nodes"]]) for each in found]
            assert not [each for each in told if each[0] in ("serious", "critical")], (name, told)

        for name, path in PAGES.items():
            await page.goto(url + path)
            await examine(name)
        made.shown = dataclasses.replace(made.shown, pairing=PairingView("lamp.new", int(time.time()) + 247))
        await page.goto(url + "/let-in")
        await examine("waiting")
        made.shown = dataclasses.replace(snapshot(0, (), alarmed=False), uplink=made.shown.uplink)
        await page.goto(url)
        await examine("empty")
        await page.context.clear_cookies()
        await page.goto(url + "/log-in")
        await examine("log-in")
        problems = [each for each in page.complaints if "404" not in each and "503" not in each]
        assert not problems  # neither an error of a script, nor anything that the CSP has stopped


async def test_names_with_markup_and_marks_are_shown_and_do_nothing(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot(3, hostile=True))
    happened(made.stream)
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        dialogs = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        for path in ("/", "/events", "/group?sg=home/lights"):
            await page.goto(url + path)
            text = await page.locator("main").inner_text()
            assert '<script>alert("x")</script>U+202Egnp.exe' in text and "\u202e" not in text
        await page.get_by_role("link", name="alert").first.click()
        assert "U+202Egnp.exe" in await page.locator("h1").inner_text()
        await page.goto(url + "/events")
        made.stream(events.Joined(HOSTILE, "home/lights"))  # this one a script puts on the page
        await page.get_by_text("has joined home/lights").first.wait_for()
        assert "\u202e" not in await page.locator("main").inner_text() and not dialogs


@pytest.mark.parametrize("scripted", [True, False], ids=["with-javascript", "without-javascript"])
async def test_a_person_updates_permits_expels_and_deletes_by_clicking(tmp_path, scripted, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link(), java_script_enabled=scripted) as page:
        await page.get_by_role("link", name="home/lights").first.click()
        await page.get_by_role("button", name="Update the key").click()
        await page.get_by_text("A new key is on its way to all members.").wait_for()

        await page.get_by_label("Permit a board to join").fill("lamp.far")
        await page.get_by_role("button", name="Permit").click()
        await page.get_by_text("lamp.far may join.").wait_for()

        made.answers["group.permit"] = NotAllowed("lamp.never is no board of this home")
        await page.get_by_label("Permit a board to join").fill("lamp.never")
        await page.get_by_role("button", name="Permit").click()
        await page.get_by_role("alert").get_by_text("Lamp.never is no board of this home").wait_for()
        assert await page.get_by_label("Permit a board to join").input_value() == "lamp.never"

        await page.get_by_role("link", name="Expel lamp.porch").click()
        await page.get_by_text("lamp.porch keeps what it knows of the past; it reads nothing from now on.").wait_for()
        await page.get_by_role("link", name="Leave it as it is").click()
        assert not [name for name, _ in made.asked if name == "group.expel"]
        await page.get_by_role("link", name="Expel lamp.porch").click()
        (group, *others) = made.shown.groups
        left = tuple(each for each in group.members if each.pne_id != "lamp.porch")
        made.shown = dataclasses.replace(made.shown, groups=(dataclasses.replace(group, members=left), *others))
        await page.get_by_role("button", name="Expel lamp.porch").click()
        await page.get_by_text("lamp.porch is out; a new key is on its way to the others.").wait_for()

        await page.get_by_role("link", name="Delete the group").click()
        await page.get_by_text("This cannot be taken back.").wait_for()
        await page.get_by_role("button", name="Delete the group").click()
        await page.wait_for_url(f"{url}/")
    assert made.asked == [
        ("group.update", {"sg_id": "home/lights"}),
        ("group.permit", {"sg_id": "home/lights", "pne_id": "lamp.far"}),
        ("group.permit", {"sg_id": "home/lights", "pne_id": "lamp.never"}),
        ("group.expel", {"sg_id": "home/lights", "pne_id": "lamp.porch"}),
        ("group.delete", {"sg_id": "home/lights"}),
    ]


class Window:
    """A pairing window of the made-up gateway: it is open until `end` is set to a name or to an error."""

    def __init__(self, made):
        self.made = made
        self.end = None
        self.shown = made.shown

    async def pair(self, pne_id, secret, replace):
        until_ = int(time.time()) + 300
        self.made.shown = dataclasses.replace(self.shown, pairing=PairingView(pne_id, until_))
        self.made.stream(events.PairingOpened(pne_id, until_))
        outcome = "cancelled"
        self.end = None
        try:
            while self.end is None:
                await asyncio.sleep(0.01)
            outcome = "in"
            if isinstance(self.end, tuple):
                outcome, text = self.end
                raise NotAllowed(text)
            return self.end
        finally:
            self.made.shown = self.shown
            self.made.stream(events.PairingEnded(pne_id, outcome))


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize("scripted", [True, False], ids=["with-javascript", "without-javascript"])
async def test_a_board_is_let_in_with_a_countdown_and_a_clear_end(tmp_path, scripted, chromium):
    made = MadeUp(tmp_path, snapshot())
    window = Window(made)
    made.answers |= {"board.pair": window.pair, "board.list": [{"pne_id": "lamp.new", "credential": "00"}]}
    async with served(made.sight) as (url, link), logged_in(chromium, link(), java_script_enabled=scripted) as page:

        async def begin():
            await page.goto(url + "/let-in")
            await page.get_by_label("Name for the board").fill("lamp.new")
            await page.get_by_label("Its secret").first.fill(SECRET)
            await page.get_by_role("button", name="Wait for the board").click()
            await page.get_by_text("Waiting for lamp.new").wait_for()
            assert re.fullmatch(r"[45]:\d\d", await page.locator("[data-until]").first.inner_text())

        await page.goto(url + "/let-in")
        await page.get_by_label("Name for the board").fill("lamp.new")
        await page.get_by_label("Its secret").first.fill("ABC")
        await page.get_by_role("button", name="Wait for the board").click()
        await page.get_by_role("alert").get_by_text("A pairing secret is 16 characters of A-Z and 2-7.").wait_for()
        assert not made.asked

        await begin()
        window.end = ("refused", "no board has proved that it shows this secret")
        await page.get_by_text("lamp.new is not let in.").wait_for()
        await page.get_by_text("No board has proved that it shows this secret.").wait_for()

        await begin()
        window.end = ("run out", "no board came")
        await page.get_by_text("The time has run out.").wait_for()

        await begin()
        await page.get_by_role("button", name="Stop waiting").click()
        await page.get_by_text("lamp.new is not let in any more: the window is closed.").wait_for()

        await begin()
        window.end = "lamp.new"
        await page.get_by_text("lamp.new is in.").wait_for()
        await page.get_by_text("compare that with what the board shows").wait_for()
        await page.get_by_role("button", name="Wait for the board").wait_for()  # for the next one
        assert made.asked[0] == ("board.pair", {"pne_id": "lamp.new", "secret": SECRET, "replace": False})
        assert SECRET not in await page.content()


async def test_a_label_has_the_code_of_the_board_and_nothing_is_kept(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.goto(url + "/let-in")
        await page.get_by_label("Name of the board").fill("lamp.<b>")
        await page.get_by_label("Its secret").last.fill(SECRET.lower())
        await page.get_by_role("button", name="Make the label").click()
        await page.locator(".label svg").wait_for()
        assert await page.locator(".label").inner_text() == f"lamp.<b>\n{SECRET}"
        await page.goto(url + "/let-in")
        assert not await page.locator(".label").count() and not made.asked


async def test_the_camera_reads_the_secret_where_the_browser_can(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.add_init_script(
            "window.BarcodeDetector = class { async detect() {"
            " return [{ rawValue: 'KEYCAST:LAMP:ABCDEFGHIJKLMNOP' }] } };"
            "Object.defineProperty(navigator, 'mediaDevices', { value: { getUserMedia: async () =>"
            " document.createElement('canvas').captureStream() } });"
            "HTMLMediaElement.prototype.play = async function () {};"
        )
        await page.goto(url + "/let-in")
        await page.get_by_role("button", name="Scan with the camera").click()
        await page.get_by_text("The code is read.").wait_for()
        assert await page.get_by_label("Its secret").first.input_value() == "KEYCAST:LAMP:ABCDEFGHIJKLMNOP"


async def test_without_such_a_browser_there_is_no_camera(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.add_init_script("delete window.BarcodeDetector")
        await page.goto(url + "/let-in")
        await page.get_by_label("Its secret").first.wait_for()
        assert not await page.get_by_role("button", name="Scan with the camera").is_visible()


async def test_events_come_live_through_the_filter_and_stop_while_paused(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    happened(made.stream)
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.goto(url + "/events")
        await page.get_by_text("Live:").wait_for()
        rows = page.locator("#events li")
        before = await rows.count()
        made.stream(events.Joined("lamp.<i>new", "home/lights"))
        await page.get_by_text("lamp.<i>new has joined home/lights").wait_for()
        assert await rows.count() == before + 1

        await page.get_by_role("button", name="Pause").click()
        made.stream(events.Left("lamp.later", "home/lights"))
        await page.get_by_role("button", name="Go on (1 new)").wait_for()
        assert not await page.get_by_text("lamp.later").count()
        await page.get_by_role("button", name="Go on (1 new)").click()
        await page.get_by_text("lamp.later has left home/lights").wait_for()

        await page.get_by_label("Board, group or word").fill("SWITCH.kit")
        await page.get_by_role("button", name="Filter").click()
        await page.get_by_text("Live:").wait_for()
        assert await rows.count() == 1
        made.stream(events.Joined("lamp.other", "home/lights"))
        made.stream(events.Joined("switch.kitchen", "home/lights"))
        await page.get_by_text("switch.kitchen has joined home/lights").wait_for()
        assert not await page.get_by_text("lamp.other").count()

        await page.get_by_label("Show").select_option("what a person should look at")
        await page.get_by_role("button", name="Filter").click()
        await page.locator("#events li.is-warning").wait_for()
        assert await rows.count() == 1


async def test_an_open_page_follows_what_happens_and_keeps_the_focus(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (_, link), logged_in(chromium, link()) as page:
        await page.get_by_text("Live:").wait_for()
        await page.get_by_role("link", name="lamp.garden").focus()
        made.shown = dataclasses.replace(made.shown, alarms=())
        made.stream(events.AlarmEnded("network", "wlan1", "No keys can be broadcast on wlan1."))
        await page.get_by_role("heading", name="No alarm.").wait_for()
        assert await page.evaluate("document.activeElement.textContent") == "lamp.garden"


async def test_the_page_is_used_by_keyboard_alone(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.goto(url)
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the content"
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "home/lights"
        assert await page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Update the key").focus()
        await page.keyboard.press("Enter")
        await page.get_by_text("A new key is on its way to all members.").wait_for()


async def test_a_long_list_of_boards_comes_in_pages_and_is_small(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot(1000))
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        session = await page.context.new_cdp_session(page)
        received = []
        session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
        await session.send("Network.enable")
        await session.send("Network.clearBrowserCache")
        await page.goto(url, wait_until="load")
        await until(lambda: len(received) >= 4)  # the page, its style, two scripts
        assert sum(received) <= 150 * 1024
        names = page.locator("table.boards tbody th")
        assert await names.count() == 50
        await page.get_by_role("link", name="Later names").click()
        await page.get_by_text(re.compile("51.100 of 1000")).wait_for()
        await page.get_by_label("Name").fill("porch9")
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("link", name="lamp.porch9").wait_for()
        assert await names.count() == 4
        await page.get_by_label("Name").fill("")
        await page.get_by_label("Show").select_option("those that need a look")
        await page.get_by_role("button", name="Find").click()
        await page.get_by_role("link", name="lamp.attic").wait_for()
        assert "did not reach it" in await page.locator("main").inner_text()


def _line(made, level, text):
    made.log_lines.emit(logging.LogRecord("gateway_agent.core", level, __file__, 0, text, None, None))


async def test_the_log_comes_live_through_the_filter_and_stops_while_paused(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        _line(made, logging.INFO, "a quiet line <b>")
        _line(made, logging.WARNING, "KC1203 a loud line")
        await page.goto(url + "/log?level=warning")
        await page.get_by_text("KC1203 a loud line").wait_for()
        assert not await page.get_by_text("a quiet line").count()
        await page.goto(url + "/log")
        await page.get_by_text("a quiet line <b>").wait_for()
        await page.get_by_text("Live: what happens").wait_for()
        reads = []
        page.on("request", lambda request: reads.append(request.url))
        _line(made, logging.WARNING, "KC1203 a later line <i>\u202e")
        row = page.locator("#events li").first
        await page.get_by_text("a later line <i>\\u202e").wait_for()
        assert await row.get_attribute("class") == "fresh is-warning"
        assert "gateway_agent.core KC1203 a later line" in await row.inner_text()
        await page.get_by_role("button", name="Pause").click()
        _line(made, logging.INFO, "the last line")
        await page.get_by_role("button", name="Go on (1 new)").wait_for()
        assert not await page.get_by_text("the last line").count()
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_text("the last line").wait_for()
        assert not reads, "what is new was pushed, and the page was not read again"
        await page.goto(url + "/log?level=warning&about=core")
        await page.get_by_text("Live: what happens").wait_for()
        _line(made, logging.INFO, "a line that is quiet")
        _line(made, logging.WARNING, "KC1203 a line that is loud")
        await page.get_by_text("a line that is loud").wait_for()
        assert not await page.get_by_text("a line that is quiet").count()


async def test_settings_say_what_is_set_and_where_and_nothing_secret(tmp_path, chromium):
    made = MadeUp(tmp_path, snapshot())
    async with served(made.sight) as (url, link), logged_in(chromium, link()) as page:
        await page.goto(url + "/settings")
        text = re.sub(r"\s+", " ", await page.locator("main").inner_text())
        assert 'id "gw.home" keycast.toml, line 2' in text
        assert "unicast_up_to 3 keycast.toml, line 7" in text and "datagrams_max 8 default" in text


class MadeUpBrowser:
    connected = True

    def is_connected(self):
        return self.connected


async def test_a_browser_runs_on_until_it_has_crashed_and_is_replaced_then():
    launched = []

    async def launch(**how):
        launched.append(MadeUpBrowser())
        return launched[-1]

    browsers = Restarted(SimpleNamespace(chromium=SimpleNamespace(launch=launch)))
    first = await browsers.running()
    assert await browsers.running() is first
    first.connected = False
    second = await browsers.running()
    assert second is not first and await browsers.running() is second and len(launched) == 2
