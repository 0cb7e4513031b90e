"""`keycast board pair` at a terminal: it asks for the secret, counts down, and Ctrl-C ends the gateway's window."""

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import sys
import termios
from hashlib import sha256

import pytest
from typer.testing import CliRunner

from gateway_agent import pairing_secret
from gateway_agent.app import GatewayApp
from gateway_agent.uplinks.udp import UdpUplinkSection
from keycast.program import program
from keycast.services.steering import commands
from tests.integration.test_gateway_pairing import a_secret, board_of, credential_of, key_of, window
from tests.unit.test_gateway_app import SilentServer, config, opened
from tests.waiting import until

SECRET = "ABCD-EFGH-IJKL-MNOP"
KEYCAST = (sys.executable, "-c", "from keycast import main; main()")


class Terminal:
    """A pseudo-terminal with a process in it, which gets Ctrl-C as one at a real terminal does."""

    def __init__(self, *words, **more):
        self.said = ""
        self._words = words
        self._environment = os.environ | {"COLUMNS": "200", "TERM": "xterm"} | more

    async def __aenter__(self):
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)

        def control():
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as a shell does, also if these tests run in the background
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        self._process = await asyncio.create_subprocess_exec(
            *KEYCAST, *self._words, **ends, env=self._environment, preexec_fn=control
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    def _read(self):
        try:
            self.said += os.read(self._master, 4096).decode(errors="replace")
        except OSError:  # the process has closed its end
            asyncio.get_running_loop().remove_reader(self._master)

    def type(self, text):
        os.write(self._master, text.encode())

    async def ended(self):
        return await asyncio.wait_for(self._process.wait(), 60)

    async def __aexit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@pytest.fixture
async def app(tmp_path):
    app = await opened(tmp_path)
    await app.start(commands(app, None, app.observer().snapshot))
    (tmp_path / "keycast.toml").write_text('[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "state"\n')
    yield app
    await app.close()


def is_open(app):
    return app.endpoint._incoming.pairing_resources is not None


@pytest.mark.real_time
@pytest.mark.req("SEC-20")
async def test_the_secret_is_asked_for_and_the_time_left_is_shown_until_the_board_is_in(app, tmp_path):
    secret, board = a_secret(), board_of(app)
    async with Terminal("board", "pair", "lamp", KEYCAST_CONFIG=str(tmp_path / "keycast.toml")) as terminal:
        await until(lambda: "The 16 characters that the board shows" in terminal.said)
        assert not is_open(app)
        characters = pairing_secret.base64.b32encode(secret).decode()
        terminal.type(pairing_secret.in_fours(characters) + "\n")
        await until(lambda: is_open(app))
        await until(lambda: re.search(r"Waiting for lamp: [0-5]:[0-5]\d left", terminal.said))
        assert await board.pair(secret)
        assert await terminal.ended() == 0
        await until(lambda: "lamp is paired and let in." in terminal.said)
    assert key_of(app) == board.identity.ccs


@pytest.mark.real_time
@pytest.mark.req("SEC-20")
async def test_ctrl_c_ends_the_window_at_the_gateway_and_says_so(app, tmp_path):
    async with Terminal("board", "pair", "lamp", SECRET, KEYCAST_CONFIG=str(tmp_path / "keycast.toml")) as terminal:
        await until(lambda: is_open(app))
        await until(lambda: "Ctrl-C ends it" in terminal.said)
        terminal.type("\x03")
        await until(lambda: not is_open(app))
        assert await terminal.ended() == 1
        await until(lambda: "Cancelled: lamp is not let in any more" in terminal.said)
    assert "Traceback" not in terminal.said and key_of(app) is None


@pytest.mark.parametrize("typed", ["", "ABC", "ABCD-EFGH-IJKL-MNO0", "KEYCAST:BOARD-1:ABC"])
def test_what_is_no_secret_is_refused_before_a_window_opens(monkeypatch, typed):
    asked = []
    monkeypatch.setattr("keycast.commands.board.pair.ask", lambda _, __, do, **___: asked.append(do) or [])
    done = CliRunner().invoke(program(["board"]), ["board", "pair", "lamp"], input=typed + "\n")
    assert done.exit_code == 1 and asked == ["board.list"]
    if typed:
        assert "16 characters of A-Z and 2-7" in done.output and done.output.count(typed) <= 1  # the echo


@pytest.mark.req("SEC-25")
async def test_the_board_and_the_person_are_told_of_the_same_cpns_server(tmp_path, monkeypatch):
    server = credential_of("server.elsewhere", "server")
    uplink = UdpUplinkSection(host="127.0.0.1", server_id="server.elsewhere")
    app = await GatewayApp.open(config(tmp_path).model_copy(update={"uplink": uplink}), SilentServer())
    assert "server_credential" not in app.trust()  # it has no credential of that Server yet
    app.credentials.register(server)
    windows, opened_by = [], app.gateway.administration.open_pairing
    monkeypatch.setattr(app.gateway.administration, "open_pairing", lambda *how: windows.append(how) or opened_by(*how))
    async with window(app, a_secret()):
        assert windows[0][2] == server.ccs
    answers = {"board.list": [], "trust": app.trust(), "board.pair": "lamp"}
    await app.close()
    monkeypatch.setattr("keycast.commands.board.pair.ask", lambda _, __, do, **___: answers[do])
    done = CliRunner().invoke(program(["board"]), ["board", "pair", "lamp", SECRET])
    shown = sha256(server.ccs).hexdigest()[:16]
    assert "-".join(shown[at : at + 4] for at in (0, 4, 8, 12)) in done.output.replace("\n", "")
    answers["trust"].pop("server_credential")
    assert "CPNS Server" not in CliRunner().invoke(program(["board"]), ["board", "pair", "lamp", SECRET]).output


@pytest.mark.parametrize("text", [SECRET, "abcdefghijklmnop", " ABCD EFGH IJKL MNOP\n"])
def test_the_characters_and_the_text_of_the_qr_code_are_the_same_secret(text):
    characters = SECRET.replace("-", "")
    secret = pairing_secret.octets(text)
    assert len(secret) == 10 and pairing_secret.octets(pairing_secret.qr_text("board-0a1b2c", characters)) == secret
    assert pairing_secret.in_fours(characters) == SECRET
