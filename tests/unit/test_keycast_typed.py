"""Mistakes of a shell: an empty text where a folder belongs, a folder of an unknown user, other encodings."""

import inspect
import json
import os
import typing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cpns.errors import NotAllowed
from key_servers.cpns_server.operators.operator import typed_credential
from keycast.program import program
from keycast.provisioning.end_to_end import server_credential
from message_plane import credentials
from message_plane.credentials import ROLE_SERVER
from private_store import files
from private_store.errors import StoreUnusable
from tests.unit.test_keycast_answers import every_command

POINT = bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296")
SERVER = credentials.of("server.local", ROLE_SERVER, POINT).ccs.hex()
NOT_UTF_8 = os.fsdecode(b"lamp\xff")
COMMANDS: dict[str, Any] = every_command()
WITH_STATE = [name for name, what in COMMANDS.items() if any("--state" in each.opts for each in what.params)]


def keycast(*words: str, octets: bytes = b"") -> tuple[int, str, str]:
    """Exit code, standard output, and standard error without the frame around a sentence."""
    run = CliRunner().invoke(program(list(words)), words, input=octets, env={"COLUMNS": "300"})
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run.exit_code, run.stdout, " ".join(run.stderr.replace("│", " ").split())


def needed(name: str) -> list[str]:
    """Any words for what the command needs."""
    found = []
    for each in COMMANDS[name].params:
        if each.required:
            found += [each.opts[0], "x"] if each.opts[0].startswith("-") else ["x"]
    return found


@pytest.mark.parametrize("name", WITH_STATE)
def test_no_name_is_not_the_folder_one_is_in(name: str) -> None:
    for nothing in ("", " "):
        code, _, sentence = keycast(*name.split(), *needed(name), "--state", nothing)
        if name == "gateway init":  # which writes it into a file, and refuses what that file may not hold
            assert code == 1 and "expected the name of a folder" in sentence
        else:
            assert code == 2 and "a folder has a name" in sentence


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_cannot_be_read_is_refused_as_any_other(name: str) -> None:
    """Not as a word that was mistyped, and not where the file is not needed."""
    hints = typing.get_type_hints(inspect.unwrap(COMMANDS[name].callback), include_extras=True)
    paths = [
        hint
        for hint in hints.values()
        if hasattr(hint, "__metadata__") and Path in (hint.__origin__, *typing.get_args(hint.__origin__))
    ]
    assert not [how for hint in paths for how in hint.__metadata__ if how.readable and how.parser is None]


def test_what_is_not_utf_8_is_no_command() -> None:
    for words in (("group", "show", NOT_UTF_8), ("kms", "user", "revoke", NOT_UTF_8), ("gateway", "backup", NOT_UTF_8)):
        code, _, sentence = keycast(*words)
        assert code == 2 and "is not UTF-8" in sentence
        code, answer, sentence = keycast(*words, "--json")
        assert (code, json.loads(answer)["code"], sentence) == (2, "usage", "")


LOOKED_UP = [
    *(("gms", "group", "show"), ("gms", "key", "show", "0e09b85a"), ("gms", "user", "withdraw", "sip:a@b")),
    *(("gms", "group", "add", "sip:g", "sip:a@b"), ("gms", "group", "remove", "sip:g", "sip:a@b")),
    *(("gms", "key", "make", "sip:g"), ("gms", "key", "revoke", "0e09b85a"), ("gms", "key", "retry", "0e09b85a")),
    *(("cms", "show"), ("cms", "put", "sip:a@b", "sip:g", "--gms", "sip:gms"), ("cms", "remove", "sip:a@b", "sip:g")),
]


@pytest.mark.parametrize("words", LOOKED_UP, ids=" ".join)
def test_nothing_is_looked_up_in_a_folder_that_is_made_for_it(words: tuple[str, ...], tmp_path: Path) -> None:
    code, _, sentence = keycast(*words, "--state", str(tmp_path / "typo"))
    assert code == 1 and f"There is no state of a {words[0].upper()} in {tmp_path / 'typo'}" in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("gms", "group", "show"), ("cms", "show")], ids=" ".join)
def test_a_store_that_was_lost_is_not_told_as_another_folder(words: tuple[str, ...], tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = ("user", "add") if words[0] == "gms" else ("user",)
    assert keycast(words[0], *first, "sip:a@b", "--state", str(state))[0] == 0
    (state / f"{words[0]}.sqlite3").unlink()
    code, _, sentence = keycast(*words, "--state", str(state))
    assert code == 1 and f"{words[0]}.sqlite3" in sentence


@pytest.mark.parametrize("name", ["", ".", "/"])
def test_a_folder_is_no_file_to_write(name: str) -> None:
    with pytest.raises(StoreUnusable, match="is a folder"):
        files.write_new(Path(name), b"octets")
    with pytest.raises(StoreUnusable, match="is a folder"), files.exchanging(Path(name)) as write:
        write(b"octets")
    assert keycast("gateway", "init", name)[::2] == (1, f"keycast: {Path(name)} is a folder. Name a file.")


@pytest.mark.parametrize("text", ["", "  ", "zz", SERVER[:60], SERVER[:-1], SERVER + "00", "00" + SERVER])
def test_what_is_no_credential_is_told_so_in_words(text: str, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="copy the whole line"):
        typed_credential(text, ROLE_SERVER)
    with pytest.raises(NotAllowed, match="take what `keycast server credential` prints"):
        server_credential(text)
    assert keycast("gateway", "init", str(tmp_path / "keycast.toml"))[0] == 0
    code, _, sentence = keycast("gateway", "trust-server", "-c", str(tmp_path / "keycast.toml"), "--", text)
    assert code == 1 and "take what `keycast server credential` prints" in sentence
    assert not (tmp_path / "keycast-state").exists()


@pytest.mark.parametrize("option", ["--key", "--key-id"])
def test_a_key_that_is_empty_is_not_drawn(option: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    assert keycast("mikey", "keys", str(file), "--kms", "kms.lab")[0] == 0
    code, _, sentence = keycast("mikey", "encode", "--keys", str(file), "--sender", "GMS", "--user", "Bob", option, "")
    assert code == 2 and f"{option} must be" in sentence


@pytest.mark.parametrize(("name", "word"), [("fifo", "is a pipe"), ("large", "more than"), ("utf-16", "is not UTF-8")])
def test_a_key_file_that_is_none_is_told_and_never_waited_for(name: str, word: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if name == "fifo":
        os.mkfifo(file)
    else:
        file.write_bytes(" ".encode("utf-16") if name == "utf-16" else b" " * (1 << 21))
    code, _, sentence = keycast("mikey", "encode", "--keys", str(file), "--sender", "GMS", "--user", "Bob")
    assert code in (1, 2) and word in sentence


@pytest.mark.parametrize("octets", [b"\xff\xfe", "AAAA".encode("utf-16"), b"\0" * 100, b""])
def test_standard_input_that_is_no_text_is_told(octets: bytes, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    assert keycast("mikey", "keys", str(file), "--kms", "kms.lab")[0] == 0
    code, shown, sentence = keycast("mikey", "decode", "-", "--keys", str(file), "--user", "Bob", octets=octets)
    assert (code == 2 and "is not base64" in sentence) or (code == 1 and "refused" in shown)
