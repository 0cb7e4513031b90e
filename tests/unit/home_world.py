"""A home in this process: the parts of `keycast gateway run`, and boards that need no radio."""

import contextlib
import shutil

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, numbers
from gateway_agent.config.load import load
from keycast.free_ports import free_port
from keycast.services.home import open_home
from message_plane.identity import OwnIdentity
from message_plane.session_store import AddContext, StoredContext

SG = "home/lights"
BOARDS = ("lamp", "door", "desk")
CONTEXT_SECRET = b"context secret!!"


def configured(folder, *, gateway="gw.home"):
    """The path of a configuration with a free port; its state folder is `folder / "state"`."""
    path = folder / "keycast.toml"
    path.write_text(
        f'[gateway]\nid = "{gateway}"\npn = "home"\nstate_dir = "state"\n[message_plane]\nlisten = ["127.0.0.1"]\n'
        f'port = {free_port()}\ndiscovery = false\n[broadcast]\ninterfaces = []\n[uplink]\nkind = "embedded"\n'
    )
    return path


class Home:
    """`config` and `state`; `running` gives the service, with its secrets noted in `secrets`."""

    def __init__(self, folder):
        self.config = load(configured(folder))
        self.path = folder / "keycast.toml"
        self.state = self.config.gateway.state_dir
        self.secrets = set()

    @contextlib.asynccontextmanager
    async def running(self):
        async with open_home(self.config) as service:
            await service.start()
            yield service
            self.note(service)

    def note(self, service):
        """What no backup may hold."""
        store = service.app._store
        self.secrets.update(store.tree_master(row.generation) for row in store.slots.generations())
        key = service.server._store.newest_key(SG)
        self.secrets |= {CONTEXT_SECRET, *([key.key] if key else [])}

    async def live(self, service):
        """Boards are let in, join and have a session each; the group has a key."""
        service.server.create_group(SG, open_to=["home"])
        for number, name in enumerate(BOARDS):
            identity = OwnIdentity(name, "pne", ec.generate_private_key(ec.SECP256R1()))
            service.app.register(identity.credential)
            await ask(service, name, numbers.GKDK_ASSIGNMENT_REQUEST, {})
            await ask(service, name, numbers.JOIN_REQUEST, {messages.SG_ID: SG})
            place = "udp:127.0.0.1:9"
            context = StoredContext(bytes([number]), b"s", name, CONTEXT_SECRET, b"saltsalt", 1000, 64, place)
            (lease,) = service.app.endpoint._leases
            await service.app.endpoint._queue.commit(lease, AddContext(context, identity.credential))
        self.note(service)

    async def lived(self):
        """Run once with all that."""
        async with self.running() as service:
            await self.live(service)

    def lose(self):
        """The SD card breaks."""
        shutil.rmtree(self.state)


async def ask(service, name, code, fields):
    """What the gateway answers to a board."""
    octets = messages.encode(code, {messages.PNE_ID: name, **fields})
    answer = messages.decode(await service.app.gateway.handle_pne(name, octets))[1]
    assert answer[messages.RESULT] == numbers.RESULT_SUCCESS, answer
    return answer
