"""A folder of backups: numbered, opened again, and thinned out by days and weeks, whatever the clock says (SEC-36)."""

import asyncio
import datetime
import io
import json
import os
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from keycast.commands import backup as backup_command
from keycast.commands import gateway as gateway_command
from keycast.copies import making
from keycast.copies.rotation import JUMP_D, Kept, surplus
from keycast.services.home import open_home
from keycast.terminal import backup_options
from private_store import archive, backup_keys, files, sealed
from private_store.errors import StoreUnusable
from tests.unit.home_world import Home
from tests.unit.private_world import full_disk

START = datetime.date(2026, 3, 2)  # a Monday
LOCK = sealed.Lock({"kind": "of this test"}, os.urandom(32))


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(sealed, "SCRYPT_LOG2_N", 10)


def days(*offsets):
    return [Kept(number, START + datetime.timedelta(offset)) for number, offset in enumerate(offsets)]


def after(found, daily=7, weekly=4):
    """What stays after each backup was made and the surplus removed."""
    stay = []
    for each in found:
        stay = [*stay, each]
        stay = [kept for kept in stay if kept not in surplus(stay, daily, weekly)]
    return stay


def test_seven_days_and_four_weeks_stay():
    stay = after(days(*range(100)))
    assert [(each.day - START).days for each in stay] == [83, 90, *range(93, 100)]
    assert after(days(*range(5))) == days(*range(5))


def test_of_one_day_the_newest_stays():
    assert after(days(0, 0, 0, 1, 1), weekly=0) == [Kept(2, START), Kept(4, START + datetime.timedelta(1))]


@pytest.mark.req("SEC-36")
@pytest.mark.parametrize("jump", [-365, -1, JUMP_D + 1, 365, 20 * 365])
def test_a_clock_that_jumps_removes_nothing(jump):
    before = days(*range(30))
    jumped = Kept(30, before[-1].day + datetime.timedelta(jump))
    assert surplus([*before, jumped], 7, 4) == []
    back = Kept(31, before[-1].day + datetime.timedelta(1))
    assert surplus([*before, jumped, back], 7, 4) == [] if jump > 0 else True


@pytest.mark.req("SEC-36")
def test_a_clock_without_date_removes_nothing():
    lost = [Kept(100 + number, datetime.date(1970, 1, 1)) for number in range(50)]
    for count in range(1, 50):
        assert surplus([*days(*range(30)), *lost[:count]], 7, 4) == []


@given(st.lists(st.integers(0, 2000), max_size=40), st.integers(1, 9), st.integers(0, 5))
def test_the_newest_always_stays_and_no_period_is_lost_before_its_time(offsets, daily, weekly):
    found = days(*offsets)
    gone = surplus(found, daily, weekly)
    stay = [each for each in found if each not in gone]
    assert stay[-1:] == found[-1:] and set(gone) <= set(found)
    assert len(stay) >= min(daily, len({each.day for each in found}))
    assert not set(gone) & set(found[-1:])


def image():
    with closing(sqlite3.connect(":memory:")) as database:
        database.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (randomblob(9000));")
        return database.serialize()


def writer(about, members):
    return lambda path: archive.write(path, about, members, LOCK)


def about(name="gw.home", made="2026-03-02"):
    return {"of": "gateway", "id": name, "made": f"{made}T00:00:00+00:00"}


def test_a_folder_gets_numbered_files_and_loses_its_own_surplus_only(tmp_path):
    where = making.Rotation(tmp_path / "backups", 2, 0)
    removed = []
    for day in range(1, 6):
        made = making.make("gateway", where, LOCK, writer(about(made=f"2026-03-0{day}"), {"a.db": image()}))
        removed += made.removed
        if day == 1:
            other = making.make("gateway", where, LOCK, writer(about("gw.cabin"), {}))
            files.write_new(where.folder / "gateway-000900-2026-01-01.backup.old", b"of a person")
            files.write_new(where.folder / "gateway-000003-2026-01-01.backup", b"nobody knows")
    left = sorted(path.name for path in where.folder.iterdir())
    assert [name.split("-")[1] for name in left if name.endswith(".backup")] == ["000002", "000003", "000006", "000007"]
    assert other.path.exists() and len(left) == 5 and len(removed) == 3


def test_a_backup_that_does_not_open_again_is_no_backup(tmp_path):
    where = making.Rotation(tmp_path, 1, 0)
    kept = making.make("gateway", where, LOCK, writer(about(), {"a.db": image()}))
    broken = image()[:4096] + os.urandom(8192)
    with pytest.raises(StoreUnusable, match=r"a.db in .* is damaged"):
        making.make("gateway", where, LOCK, writer(about(made="2026-03-03"), {"a.db": broken}))
    another = sealed.Lock({"kind": "of this test"}, os.urandom(32))
    with pytest.raises(StoreUnusable, match="damaged"):
        making.make("gateway", where, another, writer(about(made="2026-03-03"), {"a.db": image()}))
    assert list(tmp_path.iterdir()) == [kept.path]


def test_on_a_full_disk_no_older_backup_goes(tmp_path):
    where = making.Rotation(tmp_path, 1, 0)
    kept = making.make("gateway", where, LOCK, writer(about(), {"a.db": image()}))
    with full_disk(), pytest.raises(StoreUnusable, match="Check the space on its disk"):
        making.make("gateway", where, LOCK, writer(about(made="2026-03-03"), {"a.db": image()}))
    assert list(tmp_path.iterdir()) == [kept.path]


def test_what_a_running_process_writes_comes_out_of_its_folder(tmp_path):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / making._UNFINISHED).write_bytes(b"of a command that was killed")
    with making.from_running(state, tmp_path / "b") as within:
        files.write_new(within, b"x")
    assert (tmp_path / "b").read_bytes() == b"x" and list(state.iterdir()) == []


# The commands


@pytest.fixture
def home(tmp_path):
    async def once():
        async with open_home(home.config):
            pass

    home = Home(tmp_path)
    asyncio.run(once())
    return home


def passphrase(tmp_path, text="correct horse battery"):
    path = tmp_path / f"secret{len(text)}"
    files.write_new(path, text.encode() + b"\n")
    return path


def test_backups_go_into_a_folder_for_a_recipient(home, tmp_path, capsys):
    backup_command.new_key(tmp_path / "home.key")
    known = {"into": tmp_path / "backups", "recipient": tmp_path / "home.recipient"}
    gateway_command.backup(None, home.path, **known)
    (made,) = (tmp_path / "backups").iterdir()
    assert made.name.startswith("gateway-000001-20")
    capsys.readouterr()
    backup_command.show(made)
    told = capsys.readouterr().out
    assert "id: gw.home" in told and "identity: no" in told and "It was not opened" in told
    backup_command.show(made, key=tmp_path / "home.key")
    assert "files: server/cpns_server.sqlite3, store/gateway.db" in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        backup_command.show(made, verify=True)
    assert "name its private file with --key" in capsys.readouterr().err
    gateway_command.restore(made, 1, home.path, key=tmp_path / "home.key")
    assert "Generation" in capsys.readouterr().out


def test_a_backup_by_passphrase_is_put_back_with_it(home, tmp_path, capsys):
    secret, path = passphrase(tmp_path), tmp_path / "home.backup"
    gateway_command.backup(path, home.path, with_identity=True, passphrase_file=secret)
    told = capsys.readouterr().out
    assert f"keycast gateway restore {path}" in told and "--with-identity" not in told
    backup_command.show(path, passphrase_file=secret)
    assert "It was opened, and is whole." in capsys.readouterr().out
    with pytest.raises(typer.Exit):
        gateway_command.restore(path, 1, home.path, passphrase_file=passphrase(tmp_path, "another passphrase"))
    assert "The passphrase is not that of this backup" in capsys.readouterr().err
    home.lose()
    gateway_command.restore(path, 1, home.path, passphrase_file=secret)
    assert "Generation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "name either the FILE to write, or a folder with --into"),
        ({"path": Path("b"), "into": Path("c")}, "name either the FILE"),
        ({"path": Path("b")}, "there is no terminal to ask for the passphrase"),
        (
            {"path": Path("b"), "passphrase_file": Path("p"), "recipient": Path("r")},
            "either a passphrase or a recipient",
        ),
    ],
)
def test_what_is_missing_for_a_backup_is_said(home, options, words, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(typer.Exit):
        gateway_command.backup(options.pop("path", None), home.path, **options)
    assert words in capsys.readouterr().err


def test_a_short_passphrase_is_refused(home, tmp_path, capsys):
    with pytest.raises(typer.Exit):
        gateway_command.backup(tmp_path / "b", home.path, passphrase_file=passphrase(tmp_path, "short"))
    assert "fewer than 12 characters" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_a_passphrase_is_asked_at_a_terminal_and_is_the_same_on_each_keyboard(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    typed = iter(["schlüssel im haus", "schlu\u0308ssel im haus"])
    monkeypatch.setattr(typer, "prompt", lambda *_, **how: next(typed) if how["hide_input"] else pytest.fail())
    archive.write(tmp_path / "b", {}, {}, backup_options.lock_of(None, None))
    assert archive.read(tmp_path / "b", backup_options.unlock_of(tmp_path / "b", None, None)).members == {}


def test_a_former_backup_needs_no_passphrase_and_is_told(tmp_path, capsys):
    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w") as made:
        made.writestr("keycast-backup.json", json.dumps({"format": "keycast backup 1"} | about()))
    files.write_new(tmp_path / "old", octets.getvalue())
    assert archive.read(tmp_path / "old", backup_options.unlock_of(tmp_path / "old", None, None)).is_plain
    assert "is not encrypted. The next release reads encrypted backups only" in capsys.readouterr().err


def test_a_key_pair_is_not_made_over_itself_or_a_folder(tmp_path, capsys):
    with pytest.raises(typer.Exit):
        backup_command.new_key(tmp_path / "home.recipient")
    for folder in ("", ".", "/"):
        with pytest.raises(typer.Exit):
            backup_command.new_key(Path(folder))
        assert "is a folder. Name the private file, for example home.key" in capsys.readouterr().err
    backup_command.new_key(tmp_path / "home.key")
    assert backup_keys.recipient(tmp_path / "home.recipient")
