"""`keycast mikey` as a person or a program runs it."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

KEYS = Path(__file__).parents[1] / "vectors" / "mikey_sakke_public.json"
TEST = json.loads(KEYS.read_text())["payload_tests"][0]
MESSAGE = TEST["i_message_base64"]
AT = str(TEST["decoded"]["unix_seconds"])


def keycast(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; sys.argv[0] = 'keycast'; from tools.keycast import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, "mikey", *arguments],
        cwd=KEYS.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )


def decoded(*arguments: str, user: str = "Alice", message: str = MESSAGE) -> tuple[int, dict[str, object]]:
    run = keycast("decode", "--keys", str(KEYS), "--user", user, "--json", *arguments, message)
    return run.returncode, json.loads(run.stdout)


@pytest.mark.parametrize("message", [MESSAGE, f"mikey {MESSAGE}"])
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
    assert run.returncode == 2 and sentence in said(run)


def said(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join(run.stderr.replace("│", " ").split())


ALICE, BUREAU = ("users", "Alice"), ("kms",)


@pytest.mark.parametrize(
    ("where", "value", "sentence"),
    [
        ((*ALICE, "user_decrypt_key"), "zz", "user_decrypt_key of 'Alice' is no hexadecimal text"),
        ((*ALICE, "user_uri"), None, "user_uri of 'Alice' is missing, or is no str"),
        ((*ALICE, "key_period_no"), "236", "key_period_no of 'Alice' is missing, or is no int"),
        (ALICE, 1, "user_uri of 'Alice' is missing"),
        (("users",), [1], "dictionary"),
        ((*BUREAU, "user_key_period"), 0, "user_key_period is above 0"),
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
    assert run.returncode == 2 and sentence in said(run)


def test_keys_of_somebody_else_in_the_key_file_open_and_sign_nothing(tmp_path: Path) -> None:
    data = json.loads(KEYS.read_text())
    data["users"]["Alice"], gms = {**data["users"]["GMS"], "user_uri": data["users"]["Alice"]["user_uri"]}, "GMS"
    data["users"][gms]["user_signing_key_ssk"] = 64 * "1"
    file = tmp_path / "k"
    file.write_text(json.dumps(data))
    run = keycast("decode", "--keys", str(file), "--user", "Alice", "--json", MESSAGE)
    assert run.returncode == 1 and json.loads(run.stdout)["fault"]["code"] == "bad-key"
    run = keycast("encode", "--keys", str(file), "--user", "Alice", "--sender", gms, "--at", AT)
    assert run.returncode == 2 and "SSK and PVT do not belong" in said(run)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--key", "00"), "--key takes 32 hex digits"),
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
    assert run.returncode == 2 and sentence in said(run) and not run.stdout


def test_a_name_in_a_message_is_shown_as_it_stands() -> None:
    octets = bytes.fromhex(TEST["i_message_hex"]).replace(b"kms.mydev", b"[/x]mydev")
    run = keycast("decode", "--keys", str(KEYS), "--user", "Alice", base64.b64encode(octets).decode())
    assert run.returncode == 1 and "IDRkmsi: [/x]mydev" in run.stdout and "refused (wrong-kms)" in run.stdout
