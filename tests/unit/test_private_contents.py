"""The list of files that were made: a start that misses one stops, names the way back and makes nothing anew
(SEC-37)."""

import asyncio
import contextlib
import json
import os
import shutil

import pytest
import typer

from gateway_agent.config.load import load
from key_servers.kms import master_secrets
from keycast.commands import gateway as gateway_command
from keycast.free_ports import free_port
from keycast.services.home import open_home
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from private_store import contents, files
from private_store.errors import PrivateStoreError
from tests.unit.kms_world import master_secrets as kms_secrets
from tests.unit.private_world import ERRORS, STORES, closed

KEPT = {name: (lambda folder, opened=opened: closed(opened(folder))) for name, opened in STORES.items()} | {
    "identity.key": lambda folder: OwnIdentity.kept(folder / "identity.key", "gw", "gateway", "The way back."),
    "signing.key": lambda folder: BroadcastSigningKey.kept(folder / "signing.key", "The way back."),
    "master_secrets.json": lambda folder: (
        master_secrets.load(folder / "master_secrets.json")
        if (folder / "master_secrets.json").exists()
        else master_secrets.create(folder / "master_secrets.json", kms_secrets())
    ),
}

pytestmark = pytest.mark.req("SEC-37")


@pytest.mark.parametrize("lost", ["missing", "empty"])
@pytest.mark.parametrize("name", KEPT)
async def test_what_was_made_and_is_gone_is_not_made_anew(name, lost, tmp_path):
    KEPT[name](tmp_path)
    KEPT[name](tmp_path)
    (tmp_path / name).unlink()
    if lost == "empty":
        (tmp_path / name).touch(mode=0o600)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(ERRORS, match=f"{name} is {lost}, and it was.*(backup|way back|copy|again)"):
        KEPT[name](tmp_path)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", KEPT)
async def test_what_a_person_says_is_lost_is_made_anew(name, tmp_path):
    KEPT[name](tmp_path)
    with pytest.raises(PrivateStoreError, match="is there"):
        contents.forget(tmp_path / name)
    (tmp_path / name).unlink()
    contents.forget(tmp_path / name)
    KEPT[name](tmp_path)
    with pytest.raises(PrivateStoreError, match=f"is no file that was made there. Those are: {name}"):
        contents.forget(tmp_path / "nonsense")


@pytest.mark.parametrize("name", KEPT)
async def test_a_first_start_that_was_cut_before_it_was_written_down_goes_on(name, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(contents, "_change", _power_cut)
        with pytest.raises(KeyboardInterrupt):
            KEPT[name](tmp_path)
    KEPT[name](tmp_path)
    assert name in contents.made(tmp_path)


def _power_cut(*_, **__):
    raise KeyboardInterrupt


async def test_a_folder_of_before_there_were_lists_gets_one(tmp_path):
    KEPT["sessions.db"](tmp_path)
    (tmp_path / contents.NAME).unlink()
    KEPT["sessions.db"](tmp_path)
    assert contents.made(tmp_path) == {"sessions.db"}


@pytest.mark.parametrize("octets", [b"", b"{}", b"[]", b"\xff", b'{"format": "x", "made": []}', b"[" * 5000])
async def test_a_list_that_is_damaged_stops_with_the_way_back(octets, tmp_path):
    KEPT["sessions.db"](tmp_path)
    (tmp_path / contents.NAME).write_bytes(octets)
    with pytest.raises(ERRORS, match=r"is damaged: it lists what was made.*Put back a backup"):
        KEPT["sessions.db"](tmp_path)


def test_names_are_added_one_after_the_other(tmp_path):
    """Two processes that make a file each, at once: none of the names is lost."""
    files.write_new(tmp_path / "a", b"a")
    files.write_new(tmp_path / "b", b"b")
    with contents.keeping(tmp_path / "a", ""), contents.keeping(tmp_path / "b", ""):
        pass
    assert contents.made(tmp_path) == {"a", "b"}


# A whole home


@pytest.fixture
def home(tmp_path):
    """A home that has run once: the path of its configuration, and its state folder."""
    path = tmp_path / "keycast.toml"
    path.write_text(
        '[gateway]\nid = "gw.home"\npn = "home"\nstate_dir = "state"\n[message_plane]\nlisten = ["127.0.0.1"]\n'
        f'port = {free_port()}\ndiscovery = false\n[broadcast]\ninterfaces = []\n[uplink]\nkind = "embedded"\n'
    )
    return path


async def run_once(path):
    """`keycast gateway run` until it answers, and then its end."""
    running = asyncio.create_task(gateway_command._run(open_home(load(path))))
    try:
        while not (path.parent / "state" / "control.sock").exists() and not running.done():
            await asyncio.sleep(0.01)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def listed(folder, below=""):
    """Everything that the lists of a state folder name, with its path from there."""
    for name in sorted(contents.made(folder)):
        yield below + name
        if name.endswith("/"):
            yield from listed(folder / name, below + name)


async def test_a_home_starts_only_whole(home, tmp_path):
    await run_once(home)
    state, whole = tmp_path / "state", tmp_path / "whole"
    names = list(listed(state))
    assert names == [
        *("identity.key", "server/", "server/cpns_server.sqlite3", "sessions.db", "signing.key"),
        *("store/", "store/gateway.db"),
    ]
    shutil.copytree(state, whole)
    for name in names:
        for lost in ("missing", "empty"):
            path = state / name
            if name.endswith("/"):
                shutil.rmtree(path)
                if lost == "empty":
                    path.mkdir(mode=0o700)
            else:
                path.unlink()
                if lost == "empty":
                    path.touch(mode=0o600)
            before = everything(state)
            with pytest.raises(ERRORS, match=r"restore FILE") as stopped:
                await run_once(home)
            assert str(path) in str(stopped.value)
            after = everything(state)
            assert {each: after.get(each) for each in before} == before, "nothing is erased"
            assert not path.exists() or lost == "empty", "nothing is made anew"
            shutil.rmtree(state)
            shutil.copytree(whole, state)
    await run_once(home)


def everything(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


async def test_a_first_start_that_is_cut_at_any_step_goes_on(home, tmp_path, monkeypatch):
    """Cut at each renaming and each commit to the list: the next start finds what is whole and makes the rest."""
    real, step = os.rename, 0
    while True:
        count = 0

        def rename(source, target, *, cut_at=step):
            nonlocal count
            if count == cut_at:
                raise KeyboardInterrupt
            count += 1
            real(source, target)

        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "rename", rename)
            try:
                await opened_until_cut(home)
            except KeyboardInterrupt:
                pass
            else:
                break
        await run_once(home)
        assert "store/gateway.db" in list(listed(tmp_path / "state"))
        step += 1
    assert step >= 10


async def opened_until_cut(path):
    """A task that raises KeyboardInterrupt ends the event loop, so it is told apart here."""
    try:
        await asyncio.wait_for(_as_error(path), 60)
    except RuntimeError as error:
        raise KeyboardInterrupt from error


async def _as_error(path):
    running = asyncio.ensure_future(_run_catching(path))
    while not (path.parent / "state" / "control.sock").exists() and not running.done():
        await asyncio.sleep(0.01)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def _run_catching(path):
    try:
        await gateway_command._run(open_home(load(path)))
    except KeyboardInterrupt:
        raise RuntimeError("cut") from None


async def test_a_person_can_say_that_a_file_is_lost(home, tmp_path, capsys):
    await run_once(home)
    state = tmp_path / "state"
    (state / "sessions.db").unlink()
    gateway_command.lost("sessions.db", home)
    assert "makes sessions.db anew" in capsys.readouterr().out
    await run_once(home)
    for name in ("store/gateway.db", "store", "server/cpns_server.sqlite3", "../keycast.toml", "nonsense"):
        with pytest.raises(typer.Exit):
            gateway_command.lost(name, home)
    assert json.loads((state / "contents.json").read_text())["made"]
