"""What `keycast doctor --bundle` gives away: no secret and no name of the home, whatever place or form it has."""

import asyncio
import base64
import json
import os
import stat
import uuid
import zipfile

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from gateway_agent import pairing_secret
from keycast.doctor import bundle
from keycast.doctor.redaction import SECRET, Redaction, is_secret
from keycast.doctor.surroundings import Surroundings, look_around
from keycast.program import program
from tests.unit.home_world import Home, configured

KEY = bytes.fromhex("4f9d3c0b1a8e7766554433221100ffee")
LONG_KEY = bytes(range(7, 39))
BASE32 = base64.b32encode(LONG_KEY[:10]).decode()
PRIVATE = ec.derive_private_key(0x1234567890ABCDEF1234567890ABCDEF, ec.SECP256R1())
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2FyZCJ9.c2lnbmF0dXJlb2ZpdA"

PLANTED = {
    "a Group Key in hexadecimal digits": (f"key {KEY.hex()} made", KEY.hex()),
    "a GKDK in capitals": (f"GKDK {KEY.hex().upper()}", KEY.hex().upper()),
    "a tree master of 32 octets": (f"master={LONG_KEY.hex()}", LONG_KEY.hex()),
    "octets with colons": (f"secret is {KEY.hex(':')} here", KEY.hex(":")),
    "octets as Python shows them": (f"value {LONG_KEY!r}", repr(LONG_KEY)[2:-1]),
    "a key in base64": (f"key {base64.b64encode(LONG_KEY).decode()}", base64.b64encode(LONG_KEY).decode()),
    "a key in base64 of URLs": (
        f"k {base64.urlsafe_b64encode(LONG_KEY).decode()}",
        base64.urlsafe_b64encode(LONG_KEY).decode(),
    ),
    "a pairing secret": (f"typed {BASE32} at the desk", BASE32),
    "a pairing secret in fours": (f"label {pairing_secret.in_fours(BASE32)}", pairing_secret.in_fours(BASE32)),
    "the QR code of a board": (pairing_secret.qr_text("PORCH", BASE32), BASE32),
    "a private key in PEM": (f"file:\n{PEM}\nend", PEM.splitlines()[1]),
    "a private key that was cut": (PEM[:120], PEM.splitlines()[1]),
    "a password in TOML": ('password = "hunter two"', "hunter two"),
    "a password with a quote in it": (r'password = "hun\"ter two"', "ter two"),
    "a Wi-Fi password in JSON": ('{"wifi_password": "blue-fish-9", "ssid": "x"}', "blue-fish-9"),
    "a token in TOML": ("token = 'abc.def'", "abc.def"),
    "a bearer token": ("Authorization: Bearer abcdef.ghijk", "abcdef.ghijk"),
    "a bearer token in a sentence": ("it sent Bearer s3cr3t-t0ken", "s3cr3t-t0ken"),
    "a JSON Web Token": (f"got {JWT}", JWT),
    "a token of our servers": ("user 0a1b2c3d.Zm9vYmFyYmF6cXV4MTIz", "Zm9vYmFyYmF6cXV4MTIz"),
    "the password of a database": ("postgresql://keycast:tiger@db/x", "tiger"),
    "the password of a broker": ("mqtts://gw:pa55@broker.lan:8883", "pa55"),
    "a one-time link": ("http://127.0.0.1:8686/log-in?token=Xy12", "Xy12"),
    "a cookie": ("Cookie: session=Q1w2e3", "Q1w2e3"),
    "a passphrase": ("backup_passphrase: correct horse", "correct"),
    "a passphrase of several words": ("backup_passphrase: correct horse battery", "battery"),
    "a passphrase of several lines": ('passphrase = """\ncorrect\nhorse\n"""', "horse"),
    "a passphrase of several lines in TOML's other quotes": ("passphrase = '''\ncorrect\nhorse\n'''", "horse"),
    "a cookie of the page": ("keycast-8686=ELMnRHhGyBTahYCJsnWJobbiGyweyqOT", "ELMnRHhGyBTahYCJsnWJobbiGyweyqOT"),
    "a cookie of the page over TLS": ("__Host-keycast-form-8686=abcdefgh_uv; Path=/", "abcdefgh_uv"),
    "further cookies": ("Cookie: session=Q1w2e3; other=R4t5", "R4t5"),
    "a pairing secret as it is typed": (f"typed {BASE32.lower()}", BASE32.lower()),
    "octets as numbers": (f"key {list(LONG_KEY)}", str(list(LONG_KEY))[1:-1]),
    "octets as numbers of C": ("0x4f, " * 15 + "0x9d", "0x4f, 0x9d"),
    "a PSK": ("psk=opensesame", "opensesame"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_taken_out(kind):
    planted, secret = PLANTED[kind]
    assert secret in planted
    told = Redaction({}).text(f"2026-01-02 INFO before {planted}\nafter")
    assert secret not in told
    assert SECRET in told and "after" in told


HARMLESS = (
    "2026-01-02T03:04:05+0100 INFO gateway_agent.event_log: version 0.7 is delivered: 3 of 3 boards after 0.4 s",
    'password_file = "secrets/mqtt"',
    "KC1203 mDNS announcement is off: this machine has no address that other machines could reach",
    "listen = ['0.0.0.0']",
    "token_version = 3",
    "/usr/lib/python3.11/asyncio/selector_events.py, line 120, in _accept_connection",
    "the CPNS Server answers again: keys are given out again",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_helps_to_help_stays(text):
    assert Redaction({}).text(text) == text


def test_names_and_addresses_become_the_same_word_each_time():
    redaction = Redaction({"board": ["porch lamp", "lamp"], "group": ["home/lights"], "home": ["home"]})
    told = redaction.text(
        "lamp and porch lamp of home/lights in home at 192.168.1.7; lamp again at 192.168.1.7, not 192.168.1.8; "
        "from 02:42:ac:11:00:02 and fe80::1%eth0; lamps are no lamp; by anna@example.org in /home/anna/x on 127.0.0.1"
    )
    assert told == (
        "board-2 and board-1 of group-1 in home-1 at address-1; board-2 again at address-1, not address-2; "
        "from mac-1 and address-3; lamps are no board-2; by mail-1 in /home/user-1/x on 127.0.0.1"
    )


def test_values_are_taken_out_by_their_type_and_by_their_key():
    redaction = Redaction({"board": ["lamp"]})
    told = redaction.value(
        {"key": 7, "nested": [{"api_key": "x", "password_file": "f", "octets": b"abc"}], "lamp": "lamp", "ok": True}
        | {"counters": {"tokens_refused": 3}, "age_s": 1.5, "none": None, "path": uuid.UUID(int=5)}
    )
    assert told["key"] == SECRET
    assert told["nested"] == [{"api_key": SECRET, "password_file": "f", "octets": SECRET}]
    assert told["board-1"] == "board-1"
    assert (told["ok"], told["age_s"], told["none"]) == (True, 1.5, None)


def test_which_settings_are_secrets():
    assert all(map(is_secret, ("password", "wifi_password", "token", "private_key", "key", "master_secret")))
    assert not any(map(is_secret, ("password_file", "key_age_s", "port", "signing_key_epoch", "monkey_count")))


@pytest.mark.real_time
async def test_no_secret_and_no_name_of_a_running_home_is_in_its_bundle(tmp_path):
    home = Home(tmp_path)
    async with home.running() as service:
        await home.live(service)
        here = await asyncio.to_thread(look_around, home.path)
        log = "\n".join(planted for planted, _ in PLANTED.values()) + "\nlamp has joined home/lights"
        texts = await asyncio.to_thread(bundle.collect, here, [], log)
        own = await asyncio.to_thread(bundle.collect, here, [])
    everything = "\n".join([*texts.values(), *own.values()])
    secrets = [secret for _, secret in PLANTED.values()] + [each.hex() for each in home.secrets]
    assert [each for each in secrets if each in everything] == []
    for name in ("gw.home", "home/lights", "lamp", "desk"):
        assert name not in everything, name
    assert "board-3 has joined group-1" in texts["log.txt"]
    assert json.loads(texts["schemas.json"])["store/gateway.db"] > 0
    assert json.loads(texts["status.json"])["groups"][0]["sg_id"] == "group-1"


def test_the_command_writes_a_private_file_once(tmp_path):
    path, target = configured(tmp_path), tmp_path / "doctor.zip"
    words = ["doctor", "-c", str(path), "--bundle", str(target)]
    done = CliRunner().invoke(program(["doctor"]), words)
    assert "is written" in done.stdout, done.output
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o600
    with zipfile.ZipFile(target) as archive:
        assert {"about.txt", "findings.json", "configuration.toml", "status.json", "log.txt"} <= set(archive.namelist())
    assert CliRunner().invoke(program(["doctor"]), words).exit_code == 1  # nothing is overwritten


def test_without_a_configuration_there_is_a_bundle_too(tmp_path):
    here = Surroundings(tmp_path / "none.toml", None, "there is none")
    assert bundle.collect(here, [], "")["configuration.toml"] == "there is none"


async def test_a_home_that_stands_still_has_no_name_in_its_bundle(tmp_path):
    home = Home(tmp_path)
    async with home.running() as service:
        await home.live(service)
    log = 'lamp has joined home/lights\n"text": "home/lights", GET /board?pne=lamp and ?sg=home%2Flights'
    home.path.write_text(home.path.read_text() + "# the Wi-Fi of aunt Emma is tea4two\n")
    texts = bundle.collect(await asyncio.to_thread(look_around, home.path), [], log)
    everything = "\n".join(texts.values())
    for name in ("gw.home", "home/lights", "home%2Flights", "lamp", "Emma", "tea4two"):
        assert name not in everything, name
    wrong = home.path.read_text().replace("[message_plane]", "[message_plane")
    home.path.write_text(wrong)
    texts = bundle.collect(await asyncio.to_thread(look_around, home.path), [], "gw.home starts")
    assert "gw.home" not in "\n".join(texts.values()), "the names of a configuration with a fault in it"


def test_a_name_is_the_same_word_however_it_is_written():
    redaction = Redaction({"board": ["Küche nord"], "machine": ["Pi-GW"]})
    forms = ("Küche nord", "K%C3%BCche%20nord", "K%C3%BCche+nord", r"K\u00fcche nord", r"K\xfcche nord", "KÜCHE NORD")
    assert {redaction.text(f"at {form}.") for form in (*forms, "Ku\u0308che nord")} == {"at board-1."}
    assert redaction.text("pi-gw.local") == "machine-1.local"


def test_what_is_below_a_secret_is_one():
    assert Redaction({}).value({"password": {"value": "tiger", "more": ["lily"]}}) == {
        "password": {"value": SECRET, "more": [SECRET]}
    }
