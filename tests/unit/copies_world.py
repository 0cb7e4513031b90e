"""Backups of a home of this process, and their restores as a command does them."""

import asyncio
import os

from cpns import messages, numbers
from keycast.copies import state_copies
from private_store import archive, sealed
from tests.unit.home_world import BOARDS, SG, ask
from tests.waiting import PATIENCE_S

LOCK = sealed.Lock({"kind": "of this test"}, os.urandom(32))
UNLOCK = sealed.with_key_of(LOCK)


async def back_up(home, path, identity=True):
    """Of a home that is stopped."""
    with state_copies.gateway_state(home.state):
        images = state_copies.stopped_gateway(home.state)
        state_copies.write_gateway_backup(home.config, path, images, LOCK, identity=identity)


async def put_back(home, path, epochs=1, older=True, new_identity=False):
    """In a thread, as a command: it has an event loop of its own for the Server."""

    def command():
        with state_copies.gateway_state(home.state):
            return state_copies.put_back_gateway(
                home.config, path, UNLOCK, epochs=epochs, older=older, new_identity=new_identity
            )

    return await asyncio.to_thread(command)


async def keyed_again(home, made):
    """Start, confirm the members as a person does, and wait until the boards are given the new key; its version."""
    async with home.running() as service:
        app, server = service.app, service.server
        assert {group.sg_id for group in server.list_groups()} == {SG}
        assert {credential.entity_id for credential in app.credentials.registered()} == set(BOARDS)
        assert app.credentials.contexts() == []
        assert app.gateway.administration.stop_reason is None
        assert [status.group.waiting for status in app.gateway.administration.groups()] == [True]
        version = server.confirm_members(SG)
        async with asyncio.timeout(PATIENCE_S):
            while app._store.group_keys.get(SG, version) is None:
                await asyncio.sleep(0.01)
        key = server._store.newest_key(SG).key
        for name in BOARDS:
            assert (await ask(service, name, numbers.GKDK_ASSIGNMENT_REQUEST, {}))[messages.GKDK]
            pulled = await ask(service, name, numbers.KEY_PULL_REQUEST, {messages.SG_ID: SG, messages.VERSION: 0})
            assert pulled[messages.GROUP_KEY][0][0] == key
        assert [row.generation for row in app._store.slots.generations()] == [made.generation]
        assert [status.group.waiting for status in app.gateway.administration.groups()] == [False]
    return version


def octets_of(path):
    return archive.read(path, UNLOCK).members
