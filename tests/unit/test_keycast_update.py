"""`keycast update key`, `sign` and `show`: the offline key is kept well, and signs only what boards can run."""

import json
import os
import shutil
import stat
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cpns.errors import MalformedMessage
from keycast.board.faults import ImageUnusable
from keycast.commands.update.sign import ahead, numbered
from keycast.hardware.catalogue import all_boards
from keycast.micropython_vm import compile, romfs
from keycast.program import program
from keycast.updates import file, images, offline_key
from keycast.updates.faults import ImageRefused
from private_store import sealed
from private_store.errors import StoreUnusable
from suit import class_id, envelope
from suit import image as update_images
from suit.build import build
from suit.coded import CodedImage
from suit.show import named
from tests.typed_command import keycast
from tests.unit import firmware_images
from tests.unit.mpy_code import mpy

PASSPHRASE = b"correct horse battery"
BOARDS = all_boards()
OTA = "ESP32_GENERIC-OTA"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "SCRYPT_LOG2_N", 10)


@pytest.fixture
def key(tmp_path: Path) -> offline_key.OfflineKey:
    return offline_key.make(tmp_path / "update.key", PASSPHRASE)


@pytest.fixture
def typed(tmp_path: Path) -> list[str]:
    """The option with the passphrase."""
    path = tmp_path / "passphrase"
    path.touch(0o600)
    path.write_bytes(PASSPHRASE + b"\n")
    return ["--passphrase-file", str(path)]


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    """A folder that looks like an agent."""
    folder = tmp_path / "agent"
    for name in (*update_images.NEEDED, "cpns/numbers.mpy"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(mpy(name.encode()))
    (folder / "main.py").write_text("import start\n")
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(ImageRefused) as caught:
        images.agent(folder)
    return str(caught.value)


@pytest.mark.req("SEC-30")
def test_a_key_has_a_private_file_and_a_public_one(tmp_path: Path, key: offline_key.OfflineKey) -> None:
    path, public = tmp_path / "update.key", tmp_path / "update.key.pub"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY")
    opened = offline_key.OfflineKey.load(path, PASSPHRASE)
    assert opened.public.octets == key.public.octets
    with pytest.raises(StoreUnusable, match=r"does not open. The passphrase is not that of this update key."):
        offline_key.OfflineKey.load(path, PASSPHRASE + b"x")
    path.chmod(0o640)
    with pytest.raises(StoreUnusable, match="chmod 600"):
        offline_key.OfflineKey.load(path, PASSPHRASE)
    public.chmod(0o644)
    with pytest.raises(StoreUnusable, match="It is the public file: name the private one"):
        offline_key.OfflineKey.load(public, PASSPHRASE)


@pytest.mark.req("SEC-30")
def test_the_secret_is_in_no_file_repr_or_trace(tmp_path: Path, key: offline_key.OfflineKey) -> None:
    scalar = key._key.private_numbers().private_value
    octets = scalar.to_bytes(32, "big")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert octets not in written and octets.hex().encode() not in written
    assert repr(key) == str(key) == "OfflineKey(<private key>)"
    try:
        key.sign("no octets")  # type: ignore[arg-type]
    except TypeError as error:
        trace = "".join(traceback.format_exception(error))
    assert octets.hex() not in trace and str(scalar) not in trace


@pytest.mark.parametrize("suffix", ["", ".pub"])
@pytest.mark.req("SEC-30")
def test_no_key_is_overwritten(tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"update.key{suffix}"
    there.write_text("mine")
    with pytest.raises(StoreUnusable, match=f"{there} exists already. A key is never overwritten"):
        offline_key.make(tmp_path / "update.key", PASSPHRASE)
    assert there.read_text() == "mine" and list(tmp_path.iterdir()) == [there]


@pytest.mark.req("SEC-17")
def test_no_key_is_made_where_others_can_exchange_it(tmp_path: Path) -> None:
    """There it could not be used either."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(StoreUnusable, match=f"Others can write to the folder {shared}, .* Run: chmod 700 {shared}"):
        offline_key.make(shared / "update.key", PASSPHRASE)
    assert list(shared.iterdir()) == []
    shared.chmod(0o1777)  # as /tmp is
    made = offline_key.make(shared / "update.key", PASSPHRASE)
    assert offline_key.OfflineKey.load(shared / "update.key", PASSPHRASE).public.octets == made.public.octets


def test_a_folder_is_no_new_key(tmp_path: Path) -> None:
    for folder in (Path("."), Path("/"), tmp_path):
        with pytest.raises(StoreUnusable, match="exists already"):
            offline_key.require_new(folder)


def test_a_key_without_its_public_file_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreUnusable("Cannot write: No space left on device.", "")

    monkeypatch.setattr("private_store.plain_file.write_new", full)
    with pytest.raises(StoreUnusable):
        offline_key.make(tmp_path / "update.key", PASSPHRASE)
    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_no_update_key(tmp_path: Path) -> None:
    path = tmp_path / "update.key"
    path.touch(0o600)
    path.write_bytes(sealed.seal({"of": "gateway"}, bytes(32), sealed.lock_by_passphrase(PASSPHRASE)))
    with pytest.raises(StoreUnusable, match=f"{path} is no update key. Name the private file"):
        offline_key.OfflineKey.load(path, PASSPHRASE)


def test_signed_and_shown(tmp_path: Path, agent: Path, typed: list[str]) -> None:
    made = keycast("update", "key", "update.key", *typed, folder=tmp_path)
    assert made.returncode == 0 and '[update]\n  key = "update.key.pub"' in made.stdout
    short = tmp_path / "short"
    short.touch(0o600)
    short.write_text("too short\n")
    refused = keycast("update", "key", "other.key", "--passphrase-file", short, folder=tmp_path)
    assert refused.returncode == 1 and "fewer than 12 characters" in refused.stderr
    sign = ("update", "sign", agent, "-o", "a.suit", "--key", "update.key", "--number", "7", *typed)
    signed = keycast(*sign, folder=tmp_path)
    assert signed.returncode == 0 and "number 7" in signed.stdout
    spaced = keycast(*sign[:4], "a b.suit", *sign[5:], folder=tmp_path)  # what it says can be typed
    assert "keycast update show 'a b.suit'. To bring it to boards: keycast update offer 'a b.suit'" in spaced.stdout
    again = keycast(*sign, folder=tmp_path)
    assert again.returncode == 1 and "a.suit exists already" in again.stderr
    shown = keycast("update", "show", "a.suit", folder=tmp_path)
    assert shown.returncode == 0 and "It was not verified." in shown.stdout
    for line in ("what: agent", "number: 7\n", "for: agent esp32 mpy6 (class ", "cpns/numbers.mpy"):
        assert line in shown.stdout
    told = json.loads(keycast("update", "show", "a.suit", "--key", "update.key.pub", "--json", folder=tmp_path).stdout)
    assert (told["kind"], told["number"], told["signature_valid"]) == ("agent", 7, True)
    assert {each["name"]: each["octets"] for each in told["files"]}["start.mpy"] == len(mpy(b"start.mpy"))
    assert told["image_octets"] == len(romfs.image(agent))
    keycast("update", "key", "other.key", *typed, folder=tmp_path)
    other = keycast("update", "show", "a.suit", "--key", "other.key.pub", folder=tmp_path)
    assert other.returncode == 1 and "a.suit is not signed by other.key.pub" in other.stderr
    cut = tmp_path / "cut.suit"
    cut.write_bytes((tmp_path / "a.suit").read_bytes()[:-1])
    refused = keycast("update", "show", cut, folder=tmp_path)
    sentence = f"boards refuse {cut}: the envelope cannot be read: CBOR: truncated. Take a whole copy of it, or sign"
    assert refused.returncode == 1 and sentence in refused.stderr


def test_what_is_lacking_of_a_signature_is_said(tmp_path: Path, agent: Path) -> None:
    lacking = keycast("update", "sign", agent, folder=tmp_path)
    assert lacking.returncode == 2 and "name the file to write with -o" in lacking.stderr
    for words in (("key", "no/update.key"), ("sign", agent, "-o", "no/a.suit", "--key", "update.key")):
        nowhere = keycast("update", *words, folder=tmp_path)  # before it asks for a passphrase
        assert nowhere.returncode == 1 and "There is no folder no for" in nowhere.stderr
    half = keycast("update", "sign", "-o", "x", "--key", "y", "--firmware", "z", folder=tmp_path)
    assert half.returncode == 2 and "--firmware and --board" in half.stderr


def test_the_number_is_the_time_by_default_and_the_agent_that_of_this_release(tmp_path: Path, typed: list[str]) -> None:
    keycast("update", "key", "update.key", *typed, folder=tmp_path)
    signed = keycast("update", "sign", "-o", "a.suit", "--key", "update.key", *typed, "--json", folder=tmp_path)
    assert signed.returncode == 0, signed.stderr
    update = envelope.parse((tmp_path / "a.suit").read_bytes())
    assert json.loads(signed.stdout)["number"] == update.number > 1_790_000_000
    assert update.image == compile.BOARD_IMAGE.read_bytes()


@pytest.mark.parametrize("clock", [0, 1_699_999_999, 2**32])
def test_a_clock_that_is_not_set_gives_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: int) -> None:
    monkeypatch.setattr(time, "time", lambda: clock)
    typed = ["update", "sign", "-o", str(tmp_path / "a.suit"), "--key", str(tmp_path / "update.key")]
    refused = CliRunner().invoke(program(typed), typed)
    assert refused.exit_code == 1 and "the clock of this computer says" in refused.output
    chosen = CliRunner().invoke(program([*typed, "--number", "7"]), [*typed, "--number", "7"])
    assert "no terminal to ask for the passphrase" in chosen.output  # it goes on


def test_a_number_that_is_a_time_is_shown_as_one() -> None:
    assert numbered(7) == "7" and numbered(1_699_999_999) == "1699999999"
    assert numbered(1_800_000_000).startswith("1800000000 (2027-01-1")


def test_the_folder_of_board_files_is_taken_as_it_is(tmp_path: Path, agent: Path) -> None:
    outer = tmp_path / "files"
    outer.mkdir()
    agent.rename(outer / "mpy")
    (outer / "board.romfs").write_bytes(b"")
    (outer / "sources").mkdir()
    assert images.agent(outer).octets == romfs.image(outer / "mpy")


def test_the_agent_of_a_val_client_is_for_boards_that_have_one(agent: Path) -> None:
    assert images.agent(agent).class_text == "agent esp32 mpy6"
    (agent / "device_agent" / "val_client").mkdir()
    (agent / "device_agent" / "val_client" / "__init__.mpy").write_bytes(mpy())
    assert images.agent(agent).class_text == "agent esp32 mpy6 val-client"
    assert images.agent(None, val_client=True).class_text == "agent esp32 mpy6 val-client"


def test_files_that_no_board_runs_are_refused_by_name(agent: Path) -> None:
    def odd() -> Iterator[tuple[bytes, str]]:
        yield b"M\x05\x00\x1f", "is no .mpy file of version 6"
        yield b"", "is empty"
        yield b"M\x06\x00", "is for one kind of chip"
        yield b"M\x06\x28\x1f", "is for one kind of chip"
        yield b"M\x06\x00\x3f", "is for one kind of chip"
        yield mpy(b"code")[:-1], "is damaged: it does not end where its code does. Make it anew."

    path = agent / "x.mpy"
    for octets, sentence in odd():
        path.write_bytes(octets)
        assert f"{path} {sentence}" in refusal(agent)
    path.rename(agent / "x.txt")
    assert f"{agent / 'x.txt'} is no .mpy file" in refusal(agent)


def test_links_pipes_and_folders_without_an_agent_are_refused(agent: Path, tmp_path: Path) -> None:
    outside = tmp_path / "secret.mpy"
    outside.write_bytes(mpy())
    for target in (outside, tmp_path, agent):
        (agent / "link").symlink_to(target)
        assert refusal(agent) == f"{agent / 'link'} is a symbolic link. Replace it by the file that it leads to."
        (agent / "link").unlink()
    os.mkfifo(agent / "pipe.mpy")
    with pytest.raises(StoreUnusable, match="is a pipe"):
        images.agent(agent)
    (agent / "pipe.mpy").unlink()
    (agent / "start.mpy").unlink()
    assert "holds no agent: it has no file start.mpy" in refusal(agent)
    assert "There is no folder" in refusal(tmp_path / "nowhere")
    assert refusal(outside).startswith(f"{outside} is no folder.")


@pytest.mark.req("SEC-30")
def test_what_lies_in_a_folder_beside_an_agent_is_refused_by_name(agent: Path, key: offline_key.OfflineKey) -> None:
    backup = sealed.seal({"of": "gateway"}, bytes(32), sealed.lock_by_passphrase(PASSPHRASE))
    pem = b"-----BEGIN EC PRIVATE KEY-----\n"
    for name, octets, sentence in (
        ("update.key", mpy(), "is a private key, and everybody can read what is in an update. Move it"),
        ("gateway.pem", b"", "is a private key"),
        ("notes.txt", pem, "is a private key"),
        ("keys.mpy", mpy(pem), "is a private key"),
        ("copy", (agent.parent / "update.key").read_bytes(), "is a private key"),
        ("backup", backup, "is a private key"),
        ("app.py", b"def main(:", "is Python source: an agent has .mpy files only. Compile it with mpy-cross"),
        ("cpns/main.py", b"pass", "is Python source"),
        ("start.mpy~", mpy(), "is no .mpy file: an agent has no others"),
        ("empty.mpy", b"", "is empty. Make it anew."),
        ("n" * 52 + ".mpy", mpy(), "has a name of more than 55 octets. Give it another name."),
        (os.fsdecode(b"a\xff.mpy"), mpy(), "a\\udcff.mpy' has a name that cannot be shown"),
        ("d/e/f/g/h/i/j/k.mpy", mpy(), ""),
        ("d/e/f/g/h/i/j/k/l.mpy", mpy(), "d/e/f/g/h/i/j/k is more than 7 folders deep."),
    ):
        path = agent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(octets)
        if sentence:
            assert sentence in refusal(agent), name
        else:
            assert name in update_images.files(images.agent(agent).octets)
        path.unlink()
        for above in list(path.parents)[: -len(agent.parents) - 1]:
            if not any(above.iterdir()):
                above.rmdir()
    (agent / "cpns" / "nothing").mkdir()
    assert refusal(agent).startswith(f"{agent / 'cpns' / 'nothing'} is an empty folder. Remove it.")


def test_nobody_is_told_to_remove_what_lies_in_a_folder_that_is_no_agent(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mine.txt").write_text("mine")
    (home / "empty").touch()
    (home / "link").symlink_to("mine.txt")
    (home / "nothing").mkdir()
    sentence = f"{home} holds no agent: it has no file {update_images.NEEDED[0]}. Take the folder that"
    assert refusal(home).startswith(sentence)


def test_an_empty_folder_is_no_agent_and_a_link_to_one_is_none_either(tmp_path: Path, agent: Path) -> None:
    outer = tmp_path / "files"
    outer.mkdir()
    assert "holds no agent" in refusal(outer)
    (outer / "mpy").symlink_to(agent)
    assert f"{outer / 'mpy'} is a symbolic link" in refusal(outer)


@pytest.mark.parametrize("lacking", update_images.NEEDED)
def test_an_agent_without_a_file_that_every_agent_has_is_refused(agent: Path, lacking: str) -> None:
    (agent / lacking).unlink()
    (agent / lacking).with_name("other.mpy").write_bytes(mpy())
    assert f"holds no agent: it has no file {lacking}" in refusal(agent)


@pytest.mark.req("SEC-30")
def test_what_is_signed_is_what_was_looked_at(agent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes while it is read is signed as it was looked at, or refused."""
    read = images.plain_file.read

    def and_changed(path: Path, most: int) -> bytes:
        octets = read(path, most)
        if path.parent in (agent, agent / "cpns"):
            path.write_bytes(b"something else")
        return octets

    before = romfs.image(agent)
    monkeypatch.setattr(images.plain_file, "read", and_changed)
    assert images.agent(agent).octets == before != romfs.image(agent)


def test_what_is_probably_not_meant_is_said_before_the_passphrase(
    tmp_path: Path, agent: Path, key: offline_key.OfflineKey, typed: list[str]
) -> None:
    sign = ("update", "sign", agent, "-o", "a.suit", "--key", "update.key", "--number")
    asked = keycast(*sign, 2**32 - 1, folder=tmp_path)
    assert asked.returncode == 1 and "no terminal to ask for the passphrase" in asked.stderr
    lines = asked.stdout.splitlines()
    assert lines[0].startswith(f"Look twice: {agent} lacks ") and "which the agent of this release has" in lines[0]
    assert lines[1].startswith(f"Look twice: main.py of {agent} is another one than that of this release")
    assert lines[2].startswith("Look twice: number 4294967295 is the highest that there is: boards that confirm")
    late = keycast(*sign, 2**32 - 2, folder=tmp_path).stdout.splitlines()[2]
    assert late.startswith("Look twice: number 4294967294 (2106-02-07") and "ahead of the clock" in late
    told = json.loads(keycast(*sign, 7, *typed, "--json", folder=tmp_path).stdout)
    assert [f"Look twice: {each}" for each in told["doubts"]] == lines[:2]


def test_nothing_is_doubtful_of_the_files_of_this_release(tmp_path: Path) -> None:
    for val_client in (False, True):
        folder = tmp_path / str(val_client)
        shutil.copytree(compile.board_tree(val_client), folder / "mpy")
        assert images.agent(folder) == images.agent(None, val_client)
        (folder / "mpy" / "main.py").unlink()
        (folder / "mpy" / "suit" / "numbers.mpy").unlink()
        (doubt,) = images.agent(folder).doubts
        assert doubt.startswith(f"{folder} lacks main.py, suit/numbers.mpy, which the agent of this release has")


@pytest.mark.parametrize(("ahead_s", "is_doubtful"), [(86_000, False), (87_000, True)])
def test_a_number_is_ahead_of_the_clock_after_a_day(ahead_s: int, is_doubtful: bool) -> None:
    assert bool(ahead(int(time.time()) + ahead_s)) is is_doubtful


def test_an_agent_that_no_slot_holds_is_refused(agent: Path) -> None:
    (agent / "large.mpy").write_bytes(mpy(bytes(romfs.IMAGE_MAX)))
    assert f"a slot of a board has room for {romfs.IMAGE_MAX}" in refusal(agent)


def test_a_firmware_is_signed_for_boards_with_two_slots(tmp_path: Path) -> None:
    board = next(each for each in BOARDS.values() if any(row.name == OTA for row in each.firmware))
    number = [each.name for each in board.firmware].index(OTA)
    path = tmp_path / "firmware.bin"
    program = firmware_images.program(board.chip.image_id, version="v1.26.0")
    for octets in (program, firmware_images.image(board, number, version="v1.26.0")):
        path.write_bytes(octets)
        found = images.firmware(path, OTA, BOARDS)
        assert (found.kind, found.class_text) == ("firmware", f"firmware {OTA}")
        assert found.octets[:1] == b"\xe9" and found.octets in octets
    path.write_bytes(firmware_images.image(board, 0, version="v1.26.0"))
    with pytest.raises(ImageRefused, match=f"does not have the partitions of {OTA}"):
        images.firmware(path, OTA, BOARDS)
    with pytest.raises(ImageRefused, match=f"one slot .* Flash one of these by cable first: .*{OTA}"):
        images.firmware(path, "ESP32_GENERIC", BOARDS)
    unknown = "there is no build of MicroPython 'ESP8266'. .*With two slots: ESP32_GENERIC-OTA"
    with pytest.raises(Exception, match=unknown):
        images.firmware(path, "ESP8266", BOARDS)
    other = next(each.chip for each in BOARDS.values() if each.chip.name != board.chip.name)
    path.write_bytes(firmware_images.program(other.image_id, version="v1.26.0"))
    with pytest.raises(ImageRefused, match=f"is for the chip {other.name}; boards with {OTA} have {board.chip.name}"):
        images.firmware(path, OTA, BOARDS)
    path.write_bytes(firmware_images.program(board.chip.image_id, bytes(0xC0000), version="v1.26.0"))
    with pytest.raises(ImageRefused, match="a slot of a board has room for 1572864"):
        images.firmware(path, OTA, BOARDS)
    path.write_bytes(program[:-1])
    with pytest.raises(ImageUnusable):
        images.firmware(path, OTA, BOARDS)


def test_a_file_whose_name_would_move_the_cursor_is_not_shown(
    tmp_path: Path, agent: Path, key: offline_key.OfflineKey
) -> None:
    (agent / "a\x1b[2J.mpy").write_bytes(mpy())
    path = tmp_path / "a.suit"
    path.write_bytes(build("agent", "agent esp32 mpy6", 1, romfs.image(agent), key.sign))
    with pytest.raises(MalformedMessage, match="a name that cannot be shown"):
        file.read(path)
    assert refusal(agent) == f"'{agent}/a\\x1b[2J.mpy' has a name that cannot be shown. Give it another name."


def test_an_update_whose_hashes_are_those_of_other_frames_is_refused(
    tmp_path: Path, agent: Path, key: offline_key.OfflineKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boards would collect none of its frames."""
    monkeypatch.setattr("suit.build.CodedImage", lambda image: CodedImage(image[::-1]))
    path = tmp_path / "a.suit"
    path.write_bytes(build("agent", "agent esp32 mpy6", 1, romfs.image(agent), key.sign))
    with pytest.raises(MalformedMessage, match="the hashes of the frames are not those of the image"):
        file.read(path)


def test_numbers_that_boards_do_not_read_are_named() -> None:
    assert named("boards do not carry out the command 15") == "boards do not carry out the command 15 (try each)"
    assert named("it has the element 9, which") == "it has the element 9 (image invocation), which"
    assert named("the parameter -300 twice") == "the parameter -300 twice"


def test_classes_of_all_boards_differ(key: offline_key.OfflineKey) -> None:
    from keycast.updates.file import class_texts

    ids = {class_id.class_id(text) for text in class_texts()}
    assert len(ids) == len(class_texts()) > 5
    update = envelope.parse(build("agent", "agent esp32 mpy6", 1, b"image", key.sign))
    key.public.verify(update)
