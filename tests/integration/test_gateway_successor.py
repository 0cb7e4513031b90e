"""A board that is provisioned under a name that is taken gets it when it is first heard, and not before (SEC-33)."""

import pytest

from cpns.errors import CpnsError
from device_agent.session import NoSession
from keycast.services.steering import commands
from message_plane.credentials import of, parse
from message_plane.errors import NameTaken, RegistrationRefused
from message_plane.links.udp import host_and_port
from tests.integration.false_board import FalseBoard
from tests.integration.test_gateway_pairing import (
    SG,
    PowerCutError,
    credential_of,
    hosts,
    is_served,
    key_of,
    pair,
)
from tests.unit.test_gateway_app import opened


class ProvisionedBoard(FalseBoard):
    """A board that knows its gateway, and shows its key by its kid only."""

    def __init__(self, app, name="lamp"):
        super().__init__(host_and_port(app.endpoint.places[0]), name, next(hosts))
        own = app.identity.credential
        self.identity.gateway_id, self.identity.gateway_ccs = own.entity_id, own.ccs
        self._held = None

    @property
    def credential(self):
        return parse(self.identity.ccs, "pne")

    async def is_let_in(self):
        self.session.address = self._gateway
        try:
            await self._drive(self.session.handshake(0, self._gateway))
        except (CpnsError, NoSession):
            return False
        return await is_served(self)


@pytest.fixture
async def app(tmp_path):
    app = await opened(tmp_path)
    yield app
    await app.close()


@pytest.fixture
async def lamp(app):
    """A board that is in, has a session, and is a member of a Service Group."""
    board = ProvisionedBoard(app)
    app.register(board.credential)
    assert await board.is_let_in()
    with app._store.transaction():
        app._store.inventory.ensure_group(SG)
        app._store.inventory.add_member(SG, "lamp", 0, 1)
    return board


@pytest.mark.req("SEC-31", "SEC-32", "SEC-33")
async def test_the_earlier_board_is_in_until_the_new_one_is_heard_and_has_nothing_afterwards(app, lamp):
    new = ProvisionedBoard(app)
    app.registrar.register_when_heard(new.credential, replace=True)
    assert app.registrar.standing(new.credential) == "successor"
    app.registrar.register_when_heard(new.credential)  # the same command again, which names no other key
    assert await is_served(lamp) and await lamp.is_let_in() and key_of(app) == lamp.identity.ccs
    assert app._store.inventory.groups_of("lamp") == [SG]
    assert await new.is_let_in()
    assert key_of(app) == new.identity.ccs and app.registrar.standing(new.credential) == "registered"
    assert not await is_served(lamp) and not await lamp.is_let_in()
    assert app._store.inventory.groups_of("lamp") == []  # the name comes back without rights
    assert app._store.pn.pending_leaves() == [(SG, "lamp")]
    assert app.credentials.successor(entity_id="lamp") is None


@pytest.mark.req("SEC-31")
async def test_a_name_that_is_taken_has_no_successor_unless_a_person_said_so(app, lamp):
    new = ProvisionedBoard(app)
    with pytest.raises(NameTaken, match="--replace"):
        app.registrar.register_when_heard(new.credential)
    assert not await new.is_let_in() and await is_served(lamp)
    for name in ("gw.home", "server.local"):
        with pytest.raises(NameTaken):
            app.registrar.register_when_heard(credential_of(name), replace=True)


@pytest.mark.req("SEC-31", "SEC-33")
async def test_what_is_taken_back_leaves_the_earlier_board_as_it_was(app, lamp):
    new, other = ProvisionedBoard(app), ProvisionedBoard(app, "door")
    ask = commands(app, None, app.observer().snapshot)
    for board in (new, other):
        ask["board.register"](board.identity.ccs.hex(), replace=True, when_heard=True)
        ask["board.withdraw"](board.identity.ccs.hex())
        assert ask["board.standing"](board.identity.ccs.hex()) == ""
        assert not await board.is_let_in()
    ask["board.withdraw"](new.identity.ccs.hex())  # once more, when there is nothing of it
    assert key_of(app) == lamp.identity.ccs and key_of(app, "door") is None
    assert await is_served(lamp) and app._store.inventory.groups_of("lamp") == [SG]


@pytest.mark.req("SEC-31", "SEC-32")
@pytest.mark.parametrize("how", ["retired", "provisioned", "paired", "another successor"])
async def test_a_successor_is_forgotten_when_its_name_is_given_otherwise(app, lamp, how):
    new, other = ProvisionedBoard(app), ProvisionedBoard(app)
    app.registrar.register_when_heard(new.credential, replace=True)
    match how:
        case "retired":
            app.registrar.retire("lamp")
        case "provisioned":
            app.register(other.credential, replace=True)
        case "paired":
            await pair(app, FalseBoard(host_and_port(app.endpoint.places[0]), "lamp", next(hosts)), replace=True)
        case "another successor":
            app.registrar.register_when_heard(other.credential, replace=True)
    before = key_of(app)
    assert not await new.is_let_in() and key_of(app) == before


@pytest.mark.req("SEC-16")
async def test_a_key_that_waits_for_one_name_is_registered_under_no_other(app, lamp):
    new = ProvisionedBoard(app)
    app.registrar.register_when_heard(new.credential, replace=True)
    with pytest.raises(RegistrationRefused, match="lamp"):
        app.register(of("door", "pne", new.credential.x))
    app.register(credential_of("door"))
    for taken in (lamp, new):
        with pytest.raises(RegistrationRefused, match="lamp"):
            app.registrar.register_when_heard(of("door", "pne", taken.credential.x), replace=True)


@pytest.mark.req("SEC-02")
async def test_a_backup_holds_no_successor(app, lamp, tmp_path):
    new = ProvisionedBoard(app)
    app.registrar.register_when_heard(new.credential, replace=True)
    assert new.credential.x not in app.credentials.image() and lamp.credential.x in app.credentials.image()


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("lets", [0, 1, 2, 3])
async def test_a_gateway_cut_at_any_step_of_a_succession_lets_the_new_board_in(tmp_path, monkeypatch, lets):
    app = await opened(tmp_path)
    try:
        old, new = ProvisionedBoard(app), ProvisionedBoard(app)
        app.register(old.credential)
        assert await old.is_let_in()
        app.registrar.register_when_heard(new.credential, replace=True)
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
        with pytest.raises(PowerCutError):
            app.registrar.succeed(new.credential)
        monkeypatch.undo()
        await app.close()
        app = await opened(tmp_path)
        for board in (old, new):
            board._gateway = host_and_port(app.endpoint.places[0])
        assert await old.is_let_in() == (lets < 2)
        assert await new.is_let_in() and not await old.is_let_in() and key_of(app) == new.identity.ccs
    finally:
        await app.close()


@pytest.mark.req("SEC-31", "SEC-34")
async def test_a_board_that_has_a_session_is_not_taken_back_by_another_that_claims_its_key(app, lamp):
    ask = commands(app, None, app.observer().snapshot)
    ask["board.withdraw"](lamp.identity.ccs.hex())
    assert ask["board.standing"](lamp.identity.ccs.hex()) == "registered"
    assert await is_served(lamp) and app._store.inventory.groups_of("lamp") == [SG]


@pytest.mark.req("SEC-17")
async def test_no_board_is_registered_with_the_key_of_the_gateway(app, lamp):
    own = of("lamp", "pne", app.identity.credential.x)
    for register in (app.register, app.registrar.register_when_heard):
        with pytest.raises(RegistrationRefused, match="of this gateway"):
            register(own, replace=True)
    assert key_of(app) == lamp.identity.ccs and app.registrar.standing(own) == ""
