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
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    run = keycast("decode", "--keys", str(KEYS), *arguments)
    assert run.returncode == 2 and sentence in " ".join(run.stderr.replace("│", " ").split())
