"""The page of a gateway that is not there: the real server on loopback, and a browser that keeps cookies."""

import functools
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from gateway_agent.config.load import parse
from gateway_agent.control import Command
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.figures import Figures
from gateway_agent.observe.health import HealthView
from gateway_agent.observe.log_lines import LogLines
from gateway_agent.observe.sight import Sight
from gateway_agent.observe.snapshot import Snapshot, UplinkView
from gateway_agent.web import password
from gateway_agent.web.application import application
from gateway_agent.web.listener import Listener
from gateway_agent.web.log_in import LogIn
from gateway_agent.web.section import WebSection
from private_store import files

PASSWORD = "correct horse battery"
FILE = '[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "{state}"\n[web]\n{more}\n'
_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


def snapshot(**changed: Any) -> Snapshot:
    """A gateway without groups and boards."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("brokers", "addresses", "networks", "groups", "boards", "alarms", "held"), ()
    )
    uplink = UplinkView("embedded", "server.local", True, 1.0, "")
    every = nothing | {"at": 1_800_000_000, "event_number": 0, "version": "0.1.0", "started_at": 1_799_990_000}
    every |= {"gateway_id": "gw.home", "pn_id": "home", "pn_alias": 1, "uplink": uplink, "stopped": ""}
    every |= {"withholds_keys": False, "pairing": None, "counters": {}, "commits": 0, "backed_up_at": 0}
    return Snapshot(**{name: value for name, value in (every | changed).items() if name in Snapshot.__slots__})


@dataclass
class Seen:
    """What the page sees of a gateway, and what it did to it."""

    snapshot: Snapshot = field(default_factory=snapshot)
    health: HealthView = field(default_factory=lambda: HealthView((), (), 0.0))
    stream: EventStream = field(default_factory=EventStream)
    log_lines: LogLines = field(default_factory=LogLines)
    alarms: dict[str, str] = field(default_factory=dict)
    commands: dict[str, Command] = field(default_factory=dict)

    def set_alarm(self, kind: str, text: str, about: str = "") -> None:
        self.alarms.pop(kind, None)
        if text:
            self.alarms[kind] = text

    def sight(self, folder: Path, more: str = "") -> Sight:
        config = parse(FILE.format(state=folder, more=more).encode(), "keycast.toml", folder)
        return Sight(
            config=config,
            config_path=folder / "keycast.toml",
            stream=self.stream,
            snapshot=lambda: self.snapshot,
            figures=lambda: Figures("0.1.0", (), {}, True, {}, 0, {}),
            health=lambda: self.health,
            set_alarm=self.set_alarm,
            counters={},
            log_lines=self.log_lines,
            commands=self.commands,
        )


@dataclass
class Page:
    """A page that is open. `url` has no path."""

    url: str
    seen: Seen
    log_in: LogIn
    folder: Path
    listener: Listener
    application: Any

    @asynccontextmanager
    async def browser(self, **how: Any) -> AsyncIterator["Browser"]:
        # an IP address keeps no cookies by default
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, cookie_jar=jar, auto_decompress=True, **how) as session:
            yield Browser(session, self)


@dataclass
class Answer:
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def token(self) -> str:
        """The token of the first form."""
        found = _TOKEN.search(self.text)
        assert found, self.text
        return found[1]


@dataclass
class Browser:
    """It keeps cookies, and sends where a form comes from."""

    session: aiohttp.ClientSession
    page: Page

    async def get(self, path: str, **headers: str) -> Answer:
        async with self.session.get(path, headers=headers, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def post(self, path: str, fields: Mapping[str, str] | bytes, **headers: str) -> Answer:
        headers = {"Origin": self.page.url, "Sec-Fetch-Site": "same-origin"} | headers
        async with self.session.post(path, data=fields, headers=headers, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def logs_in(self, text: str = PASSWORD) -> Answer:
        """Open the page of the log-in and send the password."""
        token = (await self.get("/log-in")).token
        return await self.post("/log-in", {"form_token": token, "password": text})

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it would send."""
        return {name: each.value for name, each in self.session.cookie_jar.filter_cookies(URL(self.page.url)).items()}


@asynccontextmanager
async def opened(folder: Path, seen: Seen | None = None, *, more: str = "", **changed: Any) -> AsyncIterator[Page]:
    """The page, on a free port; `more`: lines of `[web]`; `changed`: settings of the server that no file can have."""
    seen = seen or Seen()
    sight = seen.sight(folder, more)
    section: WebSection = sight.config.web  # type: ignore[attr-defined]
    log_in = LogIn(folder, section.port)
    made = application(sight, log_in, section.hosts)
    listener = Listener(section.listening().model_copy(update={"port": 0} | changed), made, sight)
    await listener.start()
    try:
        yield Page(listener.urls[0] if listener.urls else "", seen, log_in, folder, listener, made)
    finally:
        await listener.close()


def with_password(folder: Path) -> None:
    """Set the password of tests: a copy of what the product once made of it, as each time takes 0.1 s of scrypt."""
    with files.exchanging(folder / password.FILE) as write:
        write(_password_file())


@functools.cache
def _password_file() -> bytes:
    with tempfile.TemporaryDirectory() as made:
        password.set_password(Path(made), PASSWORD)
        return (Path(made) / password.FILE).read_bytes()
