"""Pairing with a whole gateway: only the board that a person named is let in, whatever is lost on the way."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import CpnsError, NotAllowed
from device_agent.session import NoSession
from gateway_agent.control_client import ask
from keycast.services.steering import commands
from message_plane.credentials import of, parse
from message_plane.errors import NameTaken, RegistrationRefused, StoreError
from message_plane.links.udp import host_and_port
from tests.integration.false_board import FalseBoard
from tests.unit.test_gateway_app import opened
from tests.waiting import until

SG = "home/lights"
LEAVE = {messages.PNE_ID: "lamp", messages.SG_ID: SG}
hosts = (f"127.0.{20 + number // 200}.{1 + number % 200}" for number in range(10_000))


def a_secret():
    return secrets.token_bytes(10)


def credential_of(name, role="pne"):
    key = ec.generate_private_key(ec.SECP256R1())
    return of(name, role, key.public_key().public_numbers().x.to_bytes(32, "big"))


def board_of(app, name="lamp"):
    """A new board, at an address of its own."""
    return FalseBoard(host_and_port(app.endpoint.places[0]), name, next(hosts))


def key_of(app, name="lamp"):
    credential = app.credentials.credential(name)
    return credential and credential.ccs


@contextlib.asynccontextmanager
async def window(app, secret, name="lamp", **how):
    """A person has asked for this pairing; the task is what the person is told."""
    told = asyncio.create_task(app.pair(name, secret, **how))
    await asyncio.sleep(0)
    try:
        yield told
    finally:
        told.cancel()
        await asyncio.gather(told, return_exceptions=True)


async def pair(app, board, **how):
    """A pairing in which nothing goes wrong."""
    secret = a_secret()
    async with window(app, secret, board.identity.pne_id, **how) as told:
        assert await board.pair(secret)
        assert await told == board.identity.pne_id


async def is_served(board):
    """True if the gateway takes what the board says over its session: here a leave, which the Server cannot answer."""
    try:
        code, _ = messages.decode(await board.say(numbers.LEAVE_REQUEST, LEAVE))
    except (CpnsError, NoSession):
        return False
    return code == numbers.LEAVE_RESPONSE


@pytest.fixture
async def app(tmp_path):
    app = await opened(tmp_path)
    yield app
    await app.close()


@pytest.fixture
async def lamp(app):
    """A board that is in, with a session."""
    board = board_of(app)
    await pair(app, board)
    assert await is_served(board)
    return board


# A name is bound to a key by a person (SEC-31)


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("taken_by", ["a board", "a server", "the gateway", "its server"])
async def test_a_name_that_is_taken_is_refused_before_the_window_opens(app, taken_by):
    name = {"the gateway": "gw.home", "its server": "server.local"}.get(taken_by, "lamp")
    if taken_by in ("a board", "a server"):
        app.credentials.register(credential_of("lamp", "pne" if taken_by == "a board" else "server"))
    before = app.credentials.registered()
    with pytest.raises(NameTaken):
        await asyncio.wait_for(app.pair(name, a_secret()), 5)
    with pytest.raises(NameTaken):
        app.register(credential_of(name))
    assert app.endpoint._incoming.pairing_resources is None and app.credentials.registered() == before
    if taken_by != "a board":  # replacing is for the identity of the same thing
        with pytest.raises(NameTaken):
            await asyncio.wait_for(app.pair(name, a_secret(), replace=True), 5)
        with pytest.raises(NameTaken):
            app.register(credential_of(name), replace=True)
        assert app.credentials.registered() == before


@pytest.mark.req("SEC-31", "SEC-33")
async def test_a_board_that_calls_itself_by_a_registered_name_gets_nothing_and_the_person_hears_the_name(app, lamp):
    secret = a_secret()
    impostor = board_of(app, "lamp")
    async with window(app, secret, "lamp.new") as told:
        await impostor.shake_hands()
        answer = await impostor.prove(secret)
        assert answer[messages.ERROR] == numbers.ERROR_NOT_ALLOWED
        with pytest.raises(NotAllowed, match=r"calls itself 'lamp', not 'lamp\.new'"):
            await asyncio.wait_for(told, 5)
    assert key_of(app) == lamp.identity.ccs and key_of(app, "lamp.new") is None
    assert app.gateway.administration.has_pne("lamp") and await is_served(lamp)


@pytest.mark.req("SEC-31")
async def test_the_gateway_says_its_name_to_a_board_that_has_none_yet_and_lets_it_in_under_that(app):
    secret = a_secret()
    board = board_of(app, "board-0a1b2c")
    async with window(app, secret, "lamp") as told:
        await board.shake_hands()
        assert (await board.ask())[messages.PNE_ID] == "lamp" and not told.done()
        board.identity.pne_id = "lamp"
        board.identity.ccs = of("lamp", "pne", parse(board.identity.ccs, "pne").x).ccs
        assert await board.pair(secret)
        assert await told == "lamp"
    assert key_of(app) == board.identity.ccs and key_of(app, "board-0a1b2c") is None
    assert await is_served(board)


@pytest.mark.req("SEC-31")
async def test_while_a_window_is_open_its_name_is_taken_by_somebody_else(app):
    secret = a_secret()
    async with window(app, secret) as told:
        provisioned = credential_of("lamp")
        app.register(provisioned)
        with contextlib.suppress(CpnsError):
            assert not await board_of(app).pair(secret)
        with pytest.raises(NameTaken):
            await asyncio.wait_for(told, 5)
    assert key_of(app) == provisioned.ccs


@pytest.mark.req("SEC-16", "SEC-31")
async def test_a_key_of_another_name_is_not_let_in_under_this_one(app, lamp):
    secret = a_secret()
    board = board_of(app, "door")
    board.identity.private_key, x = lamp.identity.private_key, parse(lamp.identity.ccs, "pne").x
    board.identity.ccs = of("door", "pne", x).ccs
    async with window(app, secret, "door") as told:
        with contextlib.suppress(CpnsError):
            assert not await board.pair(secret)
        with pytest.raises(RegistrationRefused, match="lamp"):
            await asyncio.wait_for(told, 5)
    assert key_of(app, "door") is None and key_of(app) == lamp.identity.ccs and await is_served(lamp)


@pytest.mark.req("SEC-31", "SEC-32", "SEC-33")
async def test_a_board_that_replaces_another_hears_so_and_the_other_is_out(app, lamp):
    with app._store.transaction():
        app._store.inventory.ensure_group(SG)
        app._store.inventory.add_member(SG, "lamp", 0, 1)
    new = board_of(app)
    await pair(app, new, replace=True)
    assert key_of(app) == new.identity.ccs
    assert await is_served(new) and not await is_served(lamp)
    assert app._store.inventory.groups_of("lamp") == []  # it comes back without rights
    assert app._store.pn.pending_leaves() == [(SG, "lamp")]


# Steps that are lost or cut (SEC-33)


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("restart", [False, True])
async def test_a_board_that_missed_the_last_answer_is_paired_once_more(tmp_path, restart):
    """It shows another secret by then; nobody has to know that the gateway took it for paired."""
    app = await opened(tmp_path)
    try:
        board = board_of(app)
        await pair(app, board)
        if restart:
            await app.close()
            app = await opened(tmp_path)
        again = FalseBoard(host_and_port(app.endpoint.places[0]), "lamp", next(hosts))
        again.identity = again.session._identity = board.identity
        await pair(app, again)
        assert await is_served(again)
        with pytest.raises(NameTaken):  # from here on it is known to be in
            await asyncio.wait_for(app.pair("lamp", a_secret()), 5)
    finally:
        await app.close()


@pytest.mark.req("SEC-33")
async def test_a_board_that_lost_power_before_it_heard_of_its_name_is_given_it_again(app):
    secret, first, again = a_secret(), board_of(app, "lamp"), board_of(app, "board-0a1b2c")
    await pair(app, first)
    again.identity.private_key = first.identity.private_key
    again.identity.ccs = of("board-0a1b2c", "pne", parse(first.identity.ccs, "pne").x).ccs
    async with window(app, secret, "lamp") as told:
        await again.shake_hands()
        assert (await again.ask())[messages.PNE_ID] == "lamp"
        again.identity.pne_id, again.identity.ccs = "lamp", first.identity.ccs
        assert await again.pair(secret)
        assert await told == "lamp"
    assert key_of(app) == first.identity.ccs and await is_served(again)


@pytest.mark.req("SEC-33")
async def test_the_last_request_is_answered_again_after_the_window_has_closed(app):
    secret, board = a_secret(), board_of(app)
    async with window(app, secret) as told:
        assert await board.pair(secret)
        await told
    for _ in range(3):
        assert (await board.ask(bytes(32)))[messages.RESULT] == numbers.RESULT_SUCCESS
    assert (await board.ask())[messages.ERROR] == numbers.ERROR_NOT_ALLOWED  # no proof for anybody


@pytest.mark.req("SEC-31", "SEC-33")
async def test_a_pairing_that_may_not_have_ended_keeps_its_name_for_its_key(app):
    first, other, secret = board_of(app), board_of(app), a_secret()
    await pair(app, first)
    async with window(app, secret) as told:
        with contextlib.suppress(CpnsError):
            assert not await other.pair(secret)
        with pytest.raises(NameTaken, match="--replace"):
            await asyncio.wait_for(told, 5)
    assert key_of(app) == first.identity.ccs


class PowerCutError(Exception):
    """Nothing after this happens."""


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("lets", [0, 1, 2, 3, 4])
async def test_a_gateway_cut_at_any_step_has_the_old_board_nobody_or_the_new_one_and_a_second_try_succeeds(
    tmp_path, monkeypatch, lets
):
    app = await opened(tmp_path)
    try:
        old, new, secret = board_of(app), board_of(app), a_secret()
        await pair(app, old)
        assert await is_served(old)
        left = iter(range(lets))

        def step(of, name):
            true = getattr(of, name)

            def cut(*arguments, **named):
                if next(left, None) is None:
                    raise PowerCutError(name)
                return true(*arguments, **named)

            monkeypatch.setattr(of, name, cut)

        step(app.gateway.administration, "retire_pne")
        step(app.credentials, "unregister")
        step(app.gateway.administration, "register_pne")
        step(app.credentials, "bind")
        step(app.endpoint, "admit")
        async with window(app, secret, replace=True) as told:
            with contextlib.suppress(NoSession):
                assert not await new.pair(secret)
            with pytest.raises(PowerCutError):
                await told
        monkeypatch.undo()
        await app.close()
        app = await opened(tmp_path)
        for board in (old, new):
            board._gateway = host_and_port(app.endpoint.places[0])
        found = (old.identity.ccs, old.identity.ccs, None, None, new.identity.ccs)
        assert key_of(app) == found[lets]
        assert await is_served(old) == (lets == 0)
        await pair(app, new, replace=True)
        assert await is_served(new) and not await is_served(old) and key_of(app) == new.identity.ccs
    finally:
        await app.close()


async def test_a_store_that_fails_is_told_to_the_person(app, monkeypatch):
    def full(*arguments, **named):
        raise StoreError("the disk is full")

    monkeypatch.setattr(app.credentials, "bind", full)
    secret = a_secret()
    async with window(app, secret) as told:
        with contextlib.suppress(CpnsError):
            await board_of(app).pair(secret)
        with pytest.raises(StoreError, match="full"):
            await asyncio.wait_for(told, 5)
    assert key_of(app) is None


# Outsiders at the window (SEC-20, SEC-35)


@pytest.mark.req("SEC-20", "SEC-35")
async def test_strangers_neither_fill_nor_close_the_window(app):
    """They use the very name that the window is for, come from many addresses, and show wrong proofs."""
    secret = a_secret()
    true = board_of(app)
    async with window(app, secret) as told:
        await true.shake_hands()
        for _ in range(6):
            stranger = board_of(app)
            await stranger.shake_hands()
            answer = await stranger.ask(secrets.token_bytes(32))
            assert answer[messages.ERROR] == numbers.ERROR_NOT_AUTHENTIC
            with pytest.raises(NoSession):
                await stranger.ask()  # that session is over
        assert not told.done()
        assert (await true.prove(secret))[messages.RESULT] == numbers.RESULT_SUCCESS
        assert await told == "lamp"
    assert key_of(app) == true.identity.ccs and await is_served(true)


@pytest.mark.req("SEC-20")
async def test_what_one_stranger_proved_lets_in_no_other_of_the_same_name(app):
    """The newest session under a name is not the one that proved itself."""
    secret = a_secret()
    true, stranger = board_of(app), board_of(app)
    async with window(app, secret) as told:
        await true.shake_hands()
        await stranger.shake_hands()
        assert (await true.prove(secret))[messages.RESULT] == numbers.RESULT_SUCCESS
        await told
    assert key_of(app) == true.identity.ccs
    assert not await is_served(stranger) and await is_served(true)


@pytest.mark.req("SEC-20")
async def test_a_second_try_is_for_the_secret_of_that_try_alone(app):
    """Who mistyped the secret types it again; the one before lets nobody in any more."""
    mistyped, secret = a_secret(), a_secret()
    board, other = board_of(app), board_of(app)
    async with window(app, mistyped) as first, window(app, secret) as second:
        with pytest.raises(NotAllowed, match="no board has proved"):
            await first
        await other.shake_hands()
        answer = await other.ask(hmac_sha256(mistyped, b"pne", other.binding))
        assert answer[messages.ERROR] == numbers.ERROR_NOT_AUTHENTIC and not second.done()
        assert await board.pair(secret)
        assert await second == "lamp"
    assert key_of(app) == board.identity.ccs


@pytest.mark.req("SEC-20")
async def test_a_board_that_is_in_is_served_also_on_a_handshake_made_as_for_pairing(app, lamp):
    """It begins to pair again while the window is for another one; it is no stranger in it."""
    async with window(app, a_secret(), "door"):
        await lamp.shake_hands()
        assert await is_served(lamp)


@pytest.mark.req("SEC-20")
async def test_the_person_is_told_who_came_instead(app, monkeypatch):
    monkeypatch.setattr("gateway_agent.pairing.OPEN_S", 1.0)
    async with window(app, a_secret(), "lamp.new") as told:
        board = board_of(app, "door")
        await board.shake_hands()
        await board.ask()
        with pytest.raises(NotAllowed, match="call themselves 'door', and none accepted it: compare all 16 characters"):
            await told
    async with window(app, a_secret(), "door") as told:
        board = board_of(app, "door")
        await board.shake_hands()
        await board.ask()
        with pytest.raises(NotAllowed, match="compare all 16 characters"):
            await told


# The window ends with the command


@pytest.mark.real_time
@pytest.mark.req("SEC-20")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_the_window_ends_with_the_command_that_asked(app, tmp_path, signal_number):
    await app.start(commands(app, None, app.observer().snapshot))
    secret = "ABCD-EFGH-IJKL-MNOP"
    code = "import sys, pathlib, signal; from gateway_agent.control_client import ask; "
    # Who tests in the background of a shell ignores both.
    code += "signal.signal(signal.SIGINT, signal.default_int_handler); signal.signal(signal.SIGHUP, signal.SIG_DFL); "
    code += "ask(pathlib.Path(sys.argv[1]), 'board.pair', "
    code += f"pne_id='lamp', secret={secret!r})"
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path / "state"), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: app.endpoint._incoming.pairing_resources is not None)
        board = board_of(app)
        await board.shake_hands()
        os.kill(command.pid, signal_number)
        await until(lambda: app.endpoint._incoming.pairing_resources is None)
    finally:
        with contextlib.suppress(ProcessLookupError):
            command.kill()
        await command.wait()
    with pytest.raises(NoSession):
        await board.ask()
    assert key_of(app) is None
    devices = await asyncio.to_thread(ask, tmp_path / "state", "board.list")
    assert devices == []
