"""The parts of the page that need no server: its section, password, log-in and the names it answers to."""

import json
import stat
from pathlib import Path

import pytest

from gateway_agent.config.load import load, parse
from gateway_agent.errors import ConfigError
from gateway_agent.web import hosts, password, tuning
from gateway_agent.web.failures import Failures
from gateway_agent.web.password import PasswordUnusable
from gateway_agent.web.sessions import PageSessions
from private_store import files

HEAD = '[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "state"\n'


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def section(lines: str):
    return parse(f"{HEAD}[web]\n{lines}".encode()).web


def test_the_page_is_off_and_then_for_this_machine_only():
    assert not hasattr(parse(HEAD.encode()), "web")
    made = section("")
    assert (made.listen, made.port, made.is_read_along) == (["127.0.0.1"], 8686, False)


def test_files_are_beside_the_configuration(tmp_path: Path):
    (tmp_path / "keycast.toml").write_text(f'{HEAD}[web]\ntls_certificate = "page.pem"\ntls_key = "page.key"\n')
    config = load(tmp_path / "keycast.toml")
    assert config.web.listening().tls_key == tmp_path / "page.key"


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.1.7", "::", "2001:db8::1"])
def test_without_tls_others_reach_the_page_only_if_a_person_says_so(address):
    with pytest.raises(ConfigError, match=r"set tls_certificate and tls_key, or allow it with plain = true"):
        section(f'listen = ["127.0.0.1", "{address}"]')
    assert section(f'listen = ["{address}"]\nplain = true').is_read_along
    with_tls = section(f'listen = ["{address}"]\ntls_certificate = "c.pem"\ntls_key = "k.pem"')
    assert not with_tls.is_read_along


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ('listen = ["wlan0"]', "an IP address of this machine"),
        ("listen = []", "at least 1"),
        ('tls_certificate = "c.pem"', "belong together"),
        ('hosts = ["http://gw.local"]', "a host name or an IP address"),
        ('hosts = ["gw.local:8686"]', "a host name or an IP address"),
        ('hosts = ["*"]', "a host name or an IP address"),
        ("port = 0", "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_told(lines, word):
    with pytest.raises(ConfigError, match=word):
        section(lines)


def test_a_password_is_stored_as_what_scrypt_makes_of_it(tmp_path: Path):
    state = tmp_path / "state"
    assert password.mark(state) == 0 and not password.fits(state, "")
    password.set_password(state, "un mot de passé")
    path = state / password.FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(state.stat().st_mode) == 0o700
    assert "mot" not in path.read_text() and json.loads(path.read_text())["scheme"] == "scrypt"
    assert password.fits(state, "un mot de passe\u0301"), "another keyboard"
    for wrong in ("un mot de passe", "", " un mot de passé", "x" * 5000, "\ud800" * 9):
        assert not password.fits(state, wrong)


def test_the_same_password_is_stored_in_another_way_each_time(tmp_path: Path):
    password.set_password(tmp_path, "correct horse")
    first, mark = (tmp_path / password.FILE).read_text(), password.mark(tmp_path)
    password.set_password(tmp_path, "correct horse")
    assert (tmp_path / password.FILE).read_text() != first and password.mark(tmp_path) != mark


@pytest.mark.parametrize("text", ["", "1234567", "       1       ", "x" * 1025])
def test_a_password_has_a_length(tmp_path: Path, text):
    with pytest.raises(PasswordUnusable, match=r"less than 8 characters|more than 1024 octets"):
        password.set_password(tmp_path, text)
    assert password.mark(tmp_path) == 0


@pytest.mark.parametrize(
    "changed", [{"n": 2**30}, {"r": 4096}, {"hash": "xx"}, {"scheme": "md5"}, {"n": 3}, {"salt": None}]
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, changed):
    password.set_password(tmp_path, "correct horse")
    path = tmp_path / password.FILE
    stored = json.loads(path.read_text()) | changed
    with files.exchanging(path) as write:
        write(json.dumps(stored).encode())
    with pytest.raises(PasswordUnusable, match="keycast web password"):
        password.fits(tmp_path, "correct horse")


def test_a_file_that_others_can_read_lets_nobody_in(tmp_path: Path):
    password.set_password(tmp_path, "correct horse")
    (tmp_path / password.FILE).chmod(0o640)
    with pytest.raises(PasswordUnusable, match="chmod 600"):
        password.fits(tmp_path, "correct horse")


@pytest.mark.req("SEC-35")
def test_an_address_has_five_wrong_passwords_a_minute(clock: Clock):
    failures = Failures(clock)
    for _ in range(tuning.FAILURES):
        assert failures.wait_s("10.0.0.1") == 0
        failures.begun("10.0.0.1")
    assert failures.wait_s("10.0.0.1") == 60 and failures.wait_s("10.0.0.2") == 0
    clock.now += 59.9
    assert failures.wait_s("10.0.0.1") > 0
    clock.now += 0.2
    assert failures.wait_s("10.0.0.1") == 0 and not failures._of and not failures._of_strangers


@pytest.mark.req("SEC-35")
def test_many_addresses_guess_no_faster_and_lock_no_person_of_the_house_out(clock: Clock):
    failures = Failures(clock)
    failures.begun("10.0.0.7")
    failures.succeeded("10.0.0.7")
    for number in range(1000):
        if failures.wait_s(f"10.1.{number % 250}.1") == 0:
            failures.begun(f"10.1.{number % 250}.1")
    assert len(failures._of_strangers) == tuning.FAILURES_OF_ALL
    assert failures.wait_s("10.0.0.99") > 0 and failures.wait_s("10.0.0.7") == 0
    for _ in range(tuning.FAILURES):
        failures.begun("10.0.0.7")
    assert failures.wait_s("10.0.0.7") == 60, "it has no more than others"


def test_addresses_that_are_known_are_few(clock: Clock):
    failures = Failures(clock)
    for number in range(tuning.KNOWN_ADDRESSES + 1):
        failures.begun(f"a{number}")
        failures.succeeded(f"a{number}")
    assert len(failures._known) == tuning.KNOWN_ADDRESSES and "a0" not in failures._known


def test_sessions_are_few_and_end(clock: Clock):
    mark = 1
    sessions = PageSessions(clock, lambda: mark)
    secrets = [sessions.begin() for _ in range(tuning.SESSIONS)]
    assert sessions.of(secrets[0]), "used last now"
    newer = sessions.begin()
    assert sessions.of(secrets[0]) and sessions.of(newer) and not sessions.of(secrets[1])
    assert len(sessions) == tuning.SESSIONS
    held = sessions.of(newer)
    clock.now += tuning.SESSION_IDLE_S - 1
    assert held and sessions.of(newer) is held
    clock.now += 2
    assert sessions.of(secrets[0]) is None and sessions.of(newer), "one was not used for a day"
    for _ in range(7):
        clock.now += tuning.SESSION_IDLE_S - 1
        sessions.of(newer)
    assert sessions.of(newer) is None and held.ended.is_set(), "a week is the end"
    last = sessions.begin()
    mark = 2
    assert sessions.of(last) is None, "there is another password"


def test_no_memory_of_sessions_has_their_secrets(clock: Clock):
    sessions = PageSessions(clock, lambda: 1)
    secret, token = sessions.begin(), sessions.new_link()
    assert secret not in repr(vars(sessions)) and token not in repr(vars(sessions))


def test_a_link_logs_in_once_and_soon(clock: Clock):
    sessions = PageSessions(clock, lambda: 1)
    first = sessions.new_link()
    assert sessions.use_link(first) and not sessions.use_link(first)
    late = sessions.new_link()
    clock.now += tuning.LINK_AGE_S
    assert not sessions.use_link(late) and not sessions.use_link("") and not sessions.use_link("é")
    many = [sessions.new_link() for _ in range(tuning.LINKS + 1)]
    assert not sessions.use_link(many[0]) and sessions.use_link(many[1])


def test_a_form_is_of_one_cookie_and_looks_different_each_time(clock: Clock):
    sessions = PageSessions(clock, lambda: 1)
    one, again = sessions.form_token("cookie"), sessions.form_token("cookie")
    assert one != again and sessions.accepts_form("cookie", one) and sessions.accepts_form("cookie", again)
    for token in ("", one[:-1], one + "0", one.swapcase(), "é" * 80, again[:16] + one[16:]):
        assert not sessions.accepts_form("cookie", token)
    assert not sessions.accepts_form("other", one) and not PageSessions(clock, lambda: 1).accepts_form("cookie", one)


@pytest.mark.parametrize(
    ("authority", "own", "is_ours"),
    [
        ("127.0.0.1:8686", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("localhost:8686", "127.0.0.1", True),
        ("LOCALHOST", "::1", True),
        ("[::1]:8686", "::1", True),
        ("192.168.1.7:8686", "::ffff:192.168.1.7", True),
        ("192.168.1.8:8686", "192.168.1.7", False),
        ("gateway.local:1", "192.168.1.7", True),
        ("gateway.local.:1", "192.168.1.7", True),
        ("10.9.9.9", "192.168.1.7", True),
        ("gateway.local.evil.example", "192.168.1.7", False),
        ("evil.example:8686", "127.0.0.1", False),
        ("evil.example", "", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("localhost@evil.example", "127.0.0.1", False),
        ("localhost:x", "127.0.0.1", False),
        ("localhost/", "127.0.0.1", False),
        ("localhost?", "127.0.0.1", False),
        ("[::1", "::1", False),
        ("0x7f.1", "127.0.0.1", False),
        ("2130706433", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        (" localhost", "127.0.0.1", False),
    ],
)
def test_a_host_means_this_page_or_not(authority, own, is_ours):
    assert hosts.is_ours(authority, own, ["gateway.local", "10.9.9.9"]) is is_ours


@pytest.mark.parametrize(
    ("origin", "site", "is_same"),
    [
        ("http://gw:8686", "same-origin", True),
        ("https://gw:8686", None, True),
        ("http://GW:8686", None, True),
        ("http://gw:8687", None, False),
        ("http://gw", None, False),
        ("http://gw:8686", "same-site", False),
        ("http://gw:8686", "cross-site", False),
        ("http://gw:8686", "none", False),
        ("null", None, False),
        ("", None, False),
        (None, "same-origin", False),
        ("ftp://gw:8686", None, False),
        ("http://gw:8686/", None, False),
        ("http://gw:8686.evil.example", None, False),
    ],
)
def test_a_form_comes_from_a_page_of_ours_or_not(origin, site, is_same):
    assert hosts.is_same_origin(origin, site, "gw:8686") is is_same
