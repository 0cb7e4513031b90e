"""A CPNS Server put together: embedded in a PN GW's process, or on its own behind UDP.

This is the only module that names concrete parts. Embedded:

    server = await CpnsServer.open(state_dir, ServerConfig())
    server.register_gateway("gw.home", "pn.home")
    server.attach("gw.home", gateway.handle_server)       # Server -> PN GW
    answer = await server.handle("gw.home", request)      # PN GW -> Server
    ...
    await server.close()

On its own: the same with `ServerConfig(listen=["0.0.0.0"])`; PN GWs are then registered with their credential.
"""

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.values import Alarm, Gateway, GroupView

Receiver = Callable[[bytes], Awaitable[bytes]]


class CpnsServer:
    """API under construction; bodies follow. Every method raises `cpns.errors.CpnsError` where it refuses."""

    @classmethod
    async def open(cls, state_dir: Path, config: ServerConfig | None = None) -> "CpnsServer":
        """Open or create the store (`state_dir`, 0700), start deliveries. Raises StoreInUse, StoreUnusable."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop deliveries and the endpoint, close the store."""

    async def handle(self, gateway_id: str, message: bytes) -> bytes:
        """Answer one CPNS message (CBOR or XML, answered in kind) of the authenticated PN GW `gateway_id`.

        A refusal is a response with Result 2. Raises MalformedMessage (no CPNS message) and NotAllowed (PN GW not
        registered, blocked, naming a foreign PN ID, or a message no PN GW sends).
        """
        raise NotImplementedError

    def attach(self, gateway_id: str, receiver: Receiver) -> None:
        """Reach PN GW `gateway_id` in this process: `await receiver(request) -> response`."""

    def detach(self, gateway_id: str) -> None:
        """Undo `attach`; requests wait until the PN GW is back."""

    # what an operator does

    def register_gateway(self, gateway_id: str, pn_id: str, credential: bytes = b"", form: str = "cbor") -> None: ...
    def block_gateway(self, gateway_id: str) -> None: ...
    def replace_gateway(self, gateway_id: str, new_gateway_id: str, credential: bytes = b"") -> None: ...
    def gateways(self) -> tuple[Gateway, ...]:
        raise NotImplementedError

    def move_pne(self, pne_id: str, pn_id: str) -> None: ...
    def create_group(
        self,
        sg_id: str,
        open_to: Iterable[str] = (),
        policy: str | None = None,
        protection: str | None = None,
        rekey_on_join: bool | None = None,
        period_s: int | None = None,
    ) -> None: ...
    def delete_group(self, sg_id: str) -> None: ...
    def list_groups(self) -> tuple[GroupView, ...]:
        raise NotImplementedError

    def show_group(self, sg_id: str) -> GroupView:
        raise NotImplementedError

    def open_group(self, sg_id: str, pn_id: str) -> None: ...
    def permit(self, sg_id: str, pne_id: str) -> None: ...
    def add_member(self, sg_id: str, pne_id: str) -> None: ...
    def expel(self, sg_id: str, pne_id: str) -> None: ...
    def update_key(self, sg_id: str) -> int:
        """Start an update by hand and give the new version; the key is drawn here, never entered (SEC-12)."""
        raise NotImplementedError

    def restore(self, epochs: int = 1) -> tuple[str, ...]:
        """Say that this store is an older copy (SEC-03). Gives the IDs of the groups now held."""
        raise NotImplementedError

    def confirm_members(self, sg_id: str, expel: Iterable[str] = ()) -> int:
        """End the hold of a restored group: all members but `expel` stay; gives the version of the new key."""
        raise NotImplementedError

    def alarms(self) -> tuple[Alarm, ...]:
        raise NotImplementedError

    def counters(self) -> dict[str, int]:
        raise NotImplementedError
