"""`keycast mikey` as a person or a program runs it."""

import base64
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from keycast.mikey_form.key_file import read_keys
from keycast.mikey_form.text_forms import NoMessage, octets_of
from keycast.program import program
from mikey_sakke import i_message
from mikey_sakke import message as mikey
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.key_parameters import Parameters
from tests import typed_command

KEYS = Path(__file__).parents[1] / "vectors" / "mikey_sakke_public.json"
TEST = json.loads(KEYS.read_text())["payload_tests"][0]
MESSAGE = TEST["i_message_base64"]
AT = str(TEST["decoded"]["unix_seconds"])


def keycast(*arguments: str, typed: str = "") -> "subprocess.CompletedProcess[str]":
    return typed_command.keycast("mikey", *arguments, typed=typed, folder=KEYS.parents[2])


def here(*arguments: str) -> Any:
    """As `keycast`, in this process."""
    return CliRunner().invoke(program(["mikey"]), ["mikey", *arguments], env={"COLUMNS": "200"})


def decoded(*arguments: str, user: str = "Alice", message: str = MESSAGE) -> tuple[int, dict[str, object]]:
    run = keycast("decode", "--keys", str(KEYS), "--user", user, "--json", *arguments, message)
    return run.returncode, json.loads(run.stdout)


SDP = """v=0\r
o=gms 1 1 IN IP4 192.0.2.1\r
s=-\r
a=key-mgmt:other QUJD\r
{a}m=audio 49000 RTP/SAVP 98\r
a=rtpmap:98 AMR/8000\r
{b}a=sendrecv\r
"""
LINE = f"a=key-mgmt:mikey {MESSAGE}\r\n"


@pytest.mark.parametrize(
    "message",
    [
        MESSAGE,
        f"mikey {MESSAGE}",
        f"MIKEY  {MESSAGE}\n",
        f"Mikey\t{MESSAGE.rstrip('=')}",
        "\n".join(MESSAGE[at : at + 76] for at in range(0, len(MESSAGE), 76)),
        LINE,
        f"a=key-mgmt:MIKEY {MESSAGE}",
        f"key-mgmt:mikey {MESSAGE}",
        f" A=KEY-MGMT: mikey  {MESSAGE} ",
        SDP.format(a=LINE, b=""),
        SDP.format(a="", b=LINE),
        SDP.format(a=LINE, b=LINE),
        f'KeyMgmt: prot=mikey;uri="rtsp://example.org/x";data="{MESSAGE}"\r\n',
    ],
    ids=lambda text: text[:20],
)
def test_a_message_is_read_as_it_stands(message: str) -> None:
    assert octets_of(message) == bytes.fromhex(TEST["i_message_hex"])


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (SDP.format(a="", b=""), "has no line a=key-mgmt:mikey"),
        ("v=0", "has no line a=key-mgmt:mikey"),
        (SDP.format(a=LINE, b="a=key-mgmt:mikey QUJD\r\n"), "holds 2 messages"),
        ("a=key-mgmt:mikey !!", "is not base64"),
        ("QUJDR", "is not base64"),
        ("mikey \u00e4", "is not base64"),
    ],
)
def test_a_text_without_one_message_is_told(message: str, sentence: str) -> None:
    with pytest.raises(NoMessage, match=sentence):
        octets_of(message)


def test_an_sdp_comes_from_standard_input_too() -> None:
    run = keycast("decode", "--keys", str(KEYS), "--user", "Alice", "--json", "-", typed=SDP.format(a=LINE, b=""))
    assert run.returncode == 0 and json.loads(run.stdout)["key"] == TEST["key"]


@pytest.mark.parametrize("message", [MESSAGE, LINE])
def test_the_public_message_is_decoded(message: str) -> None:
    code, result = decoded("--sender", "GMS", message=message)
    assert code == 0
    wanted = ("key", "key_id", "guk_id", "initiator_uri", "responder_uri")
    assert {name: result[name] for name in wanted} == {name: TEST[name] for name in wanted}
    assert (result["purpose"], result["signature_valid"], result["fault"]) == ("GMK", True, None)
    assert result["key_parameters"] == {
        "key_type": 0,
        "status": 1,
        "activation": 0,
        "expiry": 0,
        "text": "",
        "groups": [],
    }


def test_people_see_every_payload_with_its_offset() -> None:
    run = keycast("decode", "--keys", str(KEYS), "--user", "Alice", MESSAGE)
    assert run.returncode == 0
    for payload in TEST["payloads"]:
        name = payload["payload"]
        assert any(line.split()[:2] == [str(payload["offset"]), name] for line in run.stdout.splitlines()), name


def test_a_message_for_somebody_else_and_from_somebody_else_is_refused() -> None:
    code, result = decoded(user="GMS")
    assert code == 1 and result["fault"] == {
        "code": "wrong-receiver",
        "reason": "the message is not for gms@streamwide.com in this key period",
    }
    code, result = decoded("--sender", "Alice")
    assert code == 1 and result["key"] is None


def test_a_changed_message_is_refused_and_its_payloads_are_still_shown() -> None:
    octets = bytearray.fromhex(TEST["i_message_hex"])
    octets[300] ^= 1
    code, result = decoded(message=base64.b64encode(octets).decode())
    assert code == 1 and result["signature_valid"] is False and result["key"] is None
    assert [line["payload"] for line in result["payloads"]][-1] == "SIGN"  # type: ignore[attr-defined]


def test_what_encode_writes_decode_reads() -> None:
    key, key_id = "000102030405060708090a0b0c0d0e0f", "01234567"
    run = keycast(
        *("encode", "--keys", str(KEYS), "--user", "Alice", "--sender", "GMS", "--at", AT),
        *("--key", key, "--key-id", key_id, "--group", "sip:crew@example.org", "--text", "crew"),
    )
    assert run.returncode == 0 and run.stdout.startswith("mikey ")
    code, result = decoded(message=run.stdout.strip())
    assert (code, result["key"], result["key_id"]) == (0, key, key_id)
    assert result["key_parameters"]["groups"] == ["sip:crew@example.org"]  # type: ignore[index]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file as the command makes it."""
    file = tmp_path_factory.mktemp("lab") / "keys.json"
    run = here("keys", str(file), "--user", "GMS=sip:gms.lab", "--user", "Alice=sip:alice@lab", "--kms", "kms.lab")
    assert run.exit_code == 0 and "GMS, Alice" in run.stdout and file.stat().st_mode & 0o777 == 0o600
    return file


def lab_message(lab: Path, key_id: str, extension: bytes | None) -> str:
    """A message of GMS to Alice as another vendor makes it: no key parameters, or other octets in their place."""
    file = read_keys(lab)
    unsigned = i_message.make(
        *(file.kms, file.signing_key("GMS"), file.uri("GMS"), file.uri("Alice"), bytes(16), bytes.fromhex(key_id)),
        *(None, int(time.time()) + NTP_OFFSET, os.urandom, 12345),
    )
    message = mikey.parse(unsigned)
    message.payloads.pop()
    if extension is not None:
        message.payloads.append(mikey.Extension(mikey.EXTENSION_KEY_PARAMETERS, extension))
    text = mikey.encode(message)
    return base64.b64encode(text + file.signing_key("GMS").sign(text, 12345)).decode()


def lab_decoded(lab: Path, message: str) -> tuple[int, dict[str, Any]]:
    run = here("decode", "--keys", str(lab), "--user", "Alice", "--json", message)
    return run.exit_code, json.loads(run.stdout)


@pytest.mark.parametrize(("key_id", "purpose"), [("21234567", "CSK"), ("01234567", "GMK")])
def test_key_parameters_are_optional(lab: Path, key_id: str, purpose: str) -> None:
    code, result = lab_decoded(lab, lab_message(lab, key_id, None))
    assert (code, result["fault"], result["key_parameters"]) == (0, None, None)
    assert (result["key"], result["purpose"], result["signature_valid"]) == ("00" * 16, purpose, True)


@pytest.mark.parametrize(
    "extension", [bytes([1]) + bytes(16), b"\x43" + bytes(60), b""], ids=["17-in-clear", "sealed-otherwise", "none"]
)
def test_where_only_the_parameters_are_refused_the_key_is_shown(lab: Path, extension: bytes) -> None:
    message = lab_message(lab, "21234567", extension)
    code, result = lab_decoded(lab, message)
    assert code == 3 and result["fault"]["code"] == result["code"] == "bad-parameters"
    assert (result["key"], result["key_id"], result["signature_valid"]) == ("00" * 16, "21234567", True)
    assert result["key_parameters"] is None and result["initiator_uri"] == "sip:gms.lab"
    run = here("decode", "--keys", str(lab), "--user", "Alice", message)
    assert run.exit_code == 3 and "the key parameters are refused (bad-parameters)" in run.stdout
    assert "3 if signature and key are right" in " ".join(here("decode", "--help").stdout.replace("│", "").split())


def test_what_is_made_for_a_laboratory_opens_and_is_not_made_twice(lab: Path) -> None:
    made = ("encode", "--keys", str(lab), "--sender", "GMS", "--user", "Alice")
    run = here(*made, "--sdp")
    assert run.stdout.startswith("a=key-mgmt:mikey ")
    code, result = lab_decoded(lab, run.stdout)
    assert code == 0 and result["responder_uri"] == "sip:alice@lab"
    before = lab.read_bytes()
    run = here("keys", str(lab), "--json")
    assert run.exit_code == 1 and "exists already" in json.loads(run.stdout)["error"] and lab.read_bytes() == before


def test_a_revocation_is_made_of_the_key_that_it_revokes(lab: Path) -> None:
    made = ("encode", "--keys", str(lab), "--sender", "GMS", "--user", "Alice", "--revoked")
    key = ("--key", "00" * 16, "--key-id", "01234567")
    run = here(*made, *key, "--json")
    answer = json.loads(run.stdout)
    assert (answer["revoked"], answer["key_id"]) == (True, "01234567")
    code, result = lab_decoded(lab, answer["message"])
    assert (code, result["key"], result["key_id"]) == (0, "00" * 16, "01234567")
    assert Parameters(**result["key_parameters"]).revoked(strict=True)
    run = here(*made, *key[:2])
    assert run.exit_code == 2 and "--key and --key-id" in said(run.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--user", "Alice"), "NAME=URI"),
        (("--user", "Alice="), "NAME=URI"),
        (("--user", "=sip:a@b"), "NAME=URI"),
        (("--user", "A=sip:a", "--user", "A=sip:b"), "each name once"),
        (("--kms", "k ms"), "without blanks"),
        (("--period", "1"), "a key period has"),
    ],
)
def test_a_key_file_that_cannot_be_is_told(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    run = here("keys", str(tmp_path / "k"), *arguments)
    assert run.exit_code == 2 and sentence in said(run.stderr) and not (tmp_path / "k").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--user", "Nobody", MESSAGE), "no user 'Nobody'"),
        (("--user", "Alice", "!!"), "MESSAGE is not base64"),
        (("--user", "Alice", "ähm"), "MESSAGE is not base64"),
        (("--user", "Alice", "--sender", "Nobody", MESSAGE), "no user 'Nobody'"),
        (("--user", "Alice", "--keys", "no-such-file.json", MESSAGE), "'no-such-file.json' does not exist"),
        (("--user", "Alice", "--keys", "tests", MESSAGE), "is a directory"),
        (("--user", "Alice", "--keys", "README.md", MESSAGE), "README.md: "),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    run = keycast("decode", "--keys", str(KEYS), *arguments)
    assert run.returncode == 2 and sentence in said(run.stderr)


def said(stderr: str) -> str:
    return " ".join(stderr.replace("│", " ").split())


ALICE, BUREAU = ("users", "Alice"), ("kms",)


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        ((*ALICE, "user_decrypt_key"), "zz", "user_decrypt_key of 'Alice' is no hexadecimal text"),
        ((*ALICE, "user_uri"), None, "user_uri of 'Alice' is missing, or is no str"),
        ((*ALICE, "key_period_no"), "236", "key_period_no of 'Alice' is missing, or is no int"),
        (ALICE, 1, "user_uri of 'Alice' is missing"),
        (("users",), [1], "dictionary"),
        ((*BUREAU, "user_key_period"), 0, "user_key_period must be above 0"),
        ((*BUREAU, "user_key_offset"), -1, "user_key_offset from 0"),
        ((*BUREAU, "pub_enc_key"), "04", "not an uncompressed point of 257 octets"),
        ((*BUREAU, "pub_auth_key"), "04" + 64 * "01", "the point does not lie on the curve"),
        (BUREAU, [], "list indices"),
    ],
)
def test_what_is_wrong_in_the_key_file_is_told_in_a_sentence(
    tmp_path: Path, where: tuple[str, ...], value: object, sentence: str
) -> None:
    data = json.loads(KEYS.read_text())
    inner = data
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    file = tmp_path / "k"
    file.write_text(json.dumps(data))
    run = keycast("decode", "--keys", str(file), "--user", "Alice", MESSAGE)
    assert run.returncode == 2 and sentence in said(run.stderr)


def test_keys_of_somebody_else_in_the_key_file_open_and_sign_nothing(tmp_path: Path) -> None:
    data = json.loads(KEYS.read_text())
    data["users"]["Alice"], gms = {**data["users"]["GMS"], "user_uri": data["users"]["Alice"]["user_uri"]}, "GMS"
    data["users"][gms]["user_signing_key_ssk"] = 64 * "1"
    file = tmp_path / "k"
    file.write_text(json.dumps(data))
    run = keycast("decode", "--keys", str(file), "--user", "Alice", "--json", MESSAGE)
    assert run.returncode == 1 and json.loads(run.stdout)["fault"]["code"] == "bad-key"
    run = keycast("encode", "--keys", str(file), "--user", "Alice", "--sender", gms, "--at", AT)
    assert run.returncode == 2 and "SSK and PVT do not belong" in said(run.stderr)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--key", "00"), "--key must be 32 hex digits"),
        (("--key-id", "71234567"), "has the tag of no purpose"),
        (("--activation", "-1"), "'--activation'"),
        (("--expiry", str(1 << 40)), "'--expiry'"),
        (("--group", "g" * 5000), "too long for a message"),
        (("--text", "t" * 70000), "too long for a message"),
        (("--at", "1"), "see --at"),
        (("--at", str(1 << 33)), "'--at'"),
        (("--sender", "Nobody"), "no user 'Nobody'"),
    ],
)
def test_what_cannot_be_encoded_is_told_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    run = keycast("encode", "--keys", str(KEYS), "--user", "Alice", "--sender", "GMS", "--at", AT, *arguments)
    assert run.returncode == 2 and sentence in said(run.stderr) and not run.stdout


def test_a_name_in_a_message_is_shown_as_it_stands() -> None:
    octets = bytes.fromhex(TEST["i_message_hex"]).replace(b"kms.mydev", b"[/x]mydev")
    run = keycast("decode", "--keys", str(KEYS), "--user", "Alice", base64.b64encode(octets).decode())
    assert run.returncode == 1 and "IDRkmsi: [/x]mydev" in run.stdout and "refused (wrong-kms)" in run.stdout
