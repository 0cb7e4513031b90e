"""The composition of a PN GW: the only module that names its concrete parts.

    app = await GatewayApp.open(config, uplink)      # without an uplink: the one of the configuration
    await app.start()
    ...
    await app.close()

The files of its state folder are named in `state_files.py`.
"""

import asyncio
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from cpns.errors import NotAllowed
from gateway_agent.clock import SystemClock
from gateway_agent.config.schema import GatewayConfig
from gateway_agent.control import Command, ControlSocket
from gateway_agent.control_client import SOCKET_FILE
from gateway_agent.core import events
from gateway_agent.core.pn_gateway import PnGateway
from gateway_agent.core.ports import KeyMessages, Uplink
from gateway_agent.event_log import write
from gateway_agent.machine_watch import MachineWatch
from gateway_agent.net import interfaces
from gateway_agent.net.mdns import Announcement
from gateway_agent.observe.event_stream import EventStream
from gateway_agent.observe.health import HealthWatch
from gateway_agent.observe.observer import Observer, ServerFacts
from gateway_agent.observe.snapshot import BrokerView, NetworkView
from gateway_agent.pairing import Pairing
from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.by_kind import open_media
from gateway_agent.radios.medium import Health, Radio
from gateway_agent.registrar import Registrar
from gateway_agent.sessions import PneSessions
from gateway_agent.sightings import Sightings
from gateway_agent.state_files import (
    IDENTITY_FILE,
    NEXT_SIGNING_FILE,
    SESSIONS_FILE,
    SIGNING_FILE,
    STORE_FOLDER,
    UPDATES_FOLDER,
    own_keys,
    way_back,
)
from gateway_agent.store.errors import RESTORE_BACKUP, StoreDamaged, StoreFailed
from gateway_agent.store.store import DATABASE_FILE, GatewayStore
from gateway_agent.updates.resource import PATH as UPDATE_PATH
from gateway_agent.updates.resource import update_resource
from gateway_agent.updates.service import BoardUpdates
from gateway_agent.updates.update_key import UpdateKey
from gateway_agent.uplinks.by_kind import link_of, open_uplink
from gateway_agent.uplinks.uplink import OpenUplink
from message_plane.cpns_resource import GATEWAY_KIND, PATH, board_resource, uplink_resource
from message_plane.credentials import ROLE_PNE, ROLE_SERVER, Credential, kid_of
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import IdentityError
from message_plane.identity import BroadcastSigningKey, HasPublicX, OwnIdentity, require_distinct
from message_plane.links.by_scheme import LINKS, links_of
from message_plane.links.gatt import GattLink
from message_plane.links.link import Link
from message_plane.links.udp import UdpLink, host_and_port
from message_plane.resource import Answer
from message_plane.session_file import SessionFile
from private_store import contents, files, last_backup

if TYPE_CHECKING:
    from message_plane.links.mqtt_brokers import BrokerState


class GatewayApp:
    """A running PN GW. `gateway` is its core, `endpoint` its message plane; `stream` has its events."""

    def __init__(
        self, config: GatewayConfig, identity: OwnIdentity, signing_key: BroadcastSigningKey, counters: Counter[str]
    ) -> None:
        self.config = config
        self.identity = identity
        self.signing_key = signing_key
        self.update_key = _update_key(config, identity, signing_key)
        self.stream = EventStream(write)
        self.tell: events.Tell = self.stream
        self.counters = counters
        self.credentials: SessionFile
        self.endpoint: Endpoint
        self.uplink: Uplink
        self.gateway: PnGateway
        self.sightings: Sightings
        self.updates: BoardUpdates
        self._store: GatewayStore | None = None
        self._air: AllMedia | None = None
        self._announcement: Announcement | None = None
        self._uplink: OpenUplink | None = None
        self._control: ControlSocket | None = None
        self._watch: MachineWatch | None = None
        self.health = HealthWatch(self._store_trouble, self.no_network)
        self.registrar: Registrar
        self._pairing: Pairing

    @classmethod
    async def open(
        cls,
        config: GatewayConfig,
        uplink: Uplink | None = None,
        key_messages: KeyMessages | None = None,
        above: Uplink | None = None,
        counters: Counter[str] | None = None,
    ) -> "GatewayApp":
        """Open the store, the ports and the media.

        `uplink` replaces the one that the configuration describes. `key_messages` is for PNEs that are VAL clients
        (`val_client.board_users.BoardUsers`). `above` gets the requests of the PN GW instead of the uplink, to which it
        passes some of them (`val_client.uplink.ValClientUplink`). `counters` counts events by name.

        Raises GatewayError (with StoreInUse, StoreDamaged) and PlaneError, whose texts say what to do next.
        """
        identity, signing_key = own_keys(config)
        app = cls(config, identity, signing_key, Counter() if counters is None else counters)
        try:
            await app._open(uplink, key_messages, above)
        except BaseException:
            await app.close()
            raise
        return app

    async def _open(self, uplink: Uplink | None, key_messages: KeyMessages | None, above: Uplink | None) -> None:
        config, folder = self.config, self.config.gateway.state_dir
        self._air = AllMedia(open_media(config, self.counters), self.counters)
        with contents.keeping(folder / STORE_FOLDER, RESTORE_BACKUP, StoreDamaged):
            self._store = GatewayStore(folder / STORE_FOLDER)
        self._finish_roll_over(self._store)
        self.credentials = SessionFile(folder / SESSIONS_FILE, way_back(SESSIONS_FILE))
        if self.update_key is not None:
            require_distinct(self.update_key, self.signing_key, *self.credentials.candidates(kid_of(self.update_key.x)))
        upward = link_of(config.uplink, config.gateway.id, self.counters) if uplink is None else None
        self.endpoint = await Endpoint.open(
            identity=self.identity,
            store=self.credentials,
            resources={
                ROLE_PNE: {
                    PATH: board_resource(self._handle_pne, GATEWAY_KIND),
                    UPDATE_PATH: update_resource(self._handle_update),
                },
                ROLE_SERVER: {PATH: uplink_resource(self._handle_server)},
            },
            links=[*self._links(), *self._air.links, *filter(None, [upward])],
            counters=self.counters,
        )
        if uplink is None:
            uplink = self._uplink = open_uplink(config.uplink, self.endpoint, upward)
        self.uplink = uplink
        self.gateway = PnGateway(
            pn_id=config.gateway.pn,
            gateway_id=config.gateway.id,
            store=self._store,
            uplink=above or uplink,
            unicast=PneSessions(self.endpoint),
            air=self._air,
            signer=self.signing_key,
            clock=SystemClock(),
            random=secrets.token_bytes,
            policy=config.delivery,
            height=config.tree.height,
            counters=self.counters,
            key_messages=key_messages,
            tell=self.tell,
            network_of=self._network_of,
            is_on_bluetooth=self._is_on_bluetooth,
            server_is_elsewhere=config.uplink.kind != "embedded",
        )
        reserved = (config.gateway.id, config.uplink.server_id)
        administration = self.gateway.administration
        self.registrar = Registrar(self.credentials, administration, self.identity.credential, reserved, self.tell)
        self.endpoint.let_succeed(self.registrar.succeed)
        self._pairing = Pairing(
            administration, self.endpoint, self.registrar, self.server_credential, self.tell, self.counters
        )
        self.sightings = Sightings(self.endpoint, self._store)
        self.updates = BoardUpdates(
            store=self._store,
            folder=folder / UPDATES_FOLDER,
            key=self.update_key,
            air=self._air,
            frame_keys=self.gateway.frame_keys,
            unicast=PneSessions(self.endpoint, UPDATE_PATH),
            boards=self.boards,
            is_on_bluetooth=self._is_on_bluetooth,
            clock=SystemClock(),
            tell=self.tell,
            counters=self.counters,
            set_alarm=administration.set_alarm,
        )
        self.updates.open()
        self.stream.follow(self.updates.follow)

    async def start(self, commands: Mapping[str, Command] | None = None) -> None:
        """Continue where the last run stopped, announce the gateway, and serve `commands` on the control socket."""
        if self._uplink is not None:
            self._uplink.start()
        await self.gateway.start()
        assert self._store is not None and self._air is not None  # `open` has made them
        self._air.open(self.gateway.handle_report, self.gateway)
        self._watch = MachineWatch(
            [self._store.database, self.credentials],
            SystemClock(),
            self.gateway.administration.set_alarm,
            self.no_network,
            self.broken_radio,
            self.no_broker,
            self._store.last_dated(),
        )
        self._watch.start()
        self.sightings.start()
        self.updates.start()
        config = self.config
        if config.message_plane.discovery:
            self._announcement = Announcement(
                config.gateway.id, config.gateway.pn, self.addresses, config.message_plane.port
            )
            await self._announcement.open()
        if commands is not None:
            self._control = ControlSocket(config.gateway.state_dir / SOCKET_FILE, commands)
            await self._control.open()
        self.health.start()

    def observer(self, server: Callable[[], ServerFacts] = ServerFacts) -> Observer:
        """Return an observer of this gateway. `server` returns what a CPNS Server in this process knows."""
        assert self._store is not None  # `open` has made it
        return Observer(
            store=self._store,
            administration=self.gateway.administration,
            sightings=self.sightings,
            networks=lambda: [NetworkView(**asdict(each)) for each in self.broadcasts()],
            addresses=self.addresses,
            brokers=self._broker_views,
            commits=lambda: self.commits,
            backed_up_at=partial(last_backup.made_at, self.config.gateway.state_dir),
            update_of=self.updates.of_board,
            uplink=(self.config.uplink.kind, self.config.uplink.server_id),
            stream=self.stream,
            counters=self.counters,
            server=server,
        )

    def boards(self) -> list[str]:
        """Return the PNE IDs of all boards that are let in."""
        return [each.entity_id for each in self.credentials.registered() if each.role == ROLE_PNE]

    def register(self, credential: Credential, preferred_sg: str | None = None, *, replace: bool = False) -> None:
        """Register a PNE that has this credential and knows the present signing key, as `Registrar.register` does.

        `replace`: also if its name is taken. Raises NameTaken, RegistrationRefused, StoreError.
        """
        self.registrar.register(credential, preferred_sg, replace=replace)

    async def pair(self, pne_id: str, secret: bytes, *, replace: bool = False) -> str:
        """Admit the board that is called `pne_id` and shows `secret` (10 octets); return its name (SEC-31).

        `replace`: also if the name is taken. Raises the same as `Pairing.pair`.
        """
        return await self._pairing.pair(pne_id, secret, replace=replace)

    def roll_over(self) -> int:
        """Change the broadcast signing key and return its epoch. Boards get it over their sessions (SEC-18)."""
        folder = self.config.gateway.state_dir
        new = BroadcastSigningKey.create(
            folder / NEXT_SIGNING_FILE,
            self.identity,
            self.signing_key,
            *filter(None, [self.update_key]),
            epoch=self.signing_key.epoch + 1,
        )
        try:
            epoch = self.gateway.administration.roll_over(new)
        except BaseException:
            files.erase(
                folder / NEXT_SIGNING_FILE, StoreDamaged
            )  # the key is not in use, and the next try needs the name
            raise
        files.move(folder / NEXT_SIGNING_FILE, folder / SIGNING_FILE, StoreDamaged)
        self.signing_key = new
        return epoch

    def _finish_roll_over(self, store: GatewayStore) -> None:
        """Finish a change of the signing key that a power cut has interrupted.

        If the new key was announced it replaces the old one, as boards may know it; otherwise it is erased.
        """
        folder = self.config.gateway.state_dir
        path = folder / NEXT_SIGNING_FILE
        if os.path.lexists(path):
            new, pn = BroadcastSigningKey.load(path, self.identity), store.pn.get()
            if pn is not None and pn.signing_epoch == new.epoch:
                files.move(path, folder / SIGNING_FILE, StoreDamaged)
                self.signing_key = new
            else:
                files.erase(path, StoreDamaged)

    def trust(self) -> dict[str, str | int]:
        """Return the values of this gateway that a board stores and trusts. All of them are public.

        `company_id` is there if this gateway uses BLE, `server_credential` if its CPNS Server is elsewhere and known,
        `update_key` if its configuration names one.
        """
        ble = getattr(self.config, "ble", None)  # an optional section: `radios.ble.BleSection`
        server = self.server_credential()
        return {
            "gateway_id": self.config.gateway.id,
            "credential": self.identity.credential.ccs.hex(),
            "signing_key": self.signing_key.public_key.hex(),
            "signing_epoch": self.signing_key.epoch,
            "pn": self.config.gateway.pn,
            "address": next((f"{each}:{self.config.message_plane.port}" for each in self.addresses()), ""),
            **({} if ble is None or ble.sender == "off" else {"company_id": ble.company_id}),
            **({"server_credential": server.hex()} if server else {}),
            **({"update_key": self.update_key.octets.hex()} if self.update_key else {}),
        }

    def server_credential(self) -> bytes:
        """Return the CCS octets of the CPNS Server elsewhere, b"" if it is in this process or not known."""
        uplink = self.config.uplink
        server = None if uplink.kind == "embedded" else self.credentials.credential(uplink.server_id)
        return b"" if server is None else server.ccs

    def addresses(self) -> list[str]:
        """Return the IPv4 addresses at which boards reach this gateway now (`net.interfaces.reachable`)."""
        config = self.config
        return interfaces.reachable(
            config.broadcast.interfaces, config.message_plane.listen, interfaces.ipv4_interfaces()
        )

    def images(self) -> dict[str, bytes]:
        """Return the octets of this gateway's files in a backup, by their paths in the state folder."""
        folder = self.config.gateway.state_dir
        images = {name: files.read(folder / name, StoreDamaged) for name in (IDENTITY_FILE, SIGNING_FILE)}
        images[SESSIONS_FILE] = self.credentials.image()
        if self._store is not None:
            images[f"{STORE_FOLDER}/{DATABASE_FILE}"] = self._store.image()
        return images

    @property
    def commits(self) -> int:
        """The number of synced write transactions since the start, which wear SD cards, in both stores together."""
        return (self._store.database.commits if self._store else 0) + self.endpoint.commits

    @property
    def pn_alias(self) -> int:
        """The PN alias in this PN's frames on the broadcast plane (docs/protocol.md section 5), 0 before `open`."""
        pn = self._store.pn.get() if self._store else None
        return 0 if pn is None else pn.pn_alias

    def networks(self) -> list[str]:
        """Return descriptions of the networks that Group Keys are broadcast on now, as interface and address."""
        return self._air.networks() if self._air else []

    def broadcasts(self) -> list[Health]:
        """Return figures and problems of each of these networks, and of those that are gone."""
        return self._air.health() if self._air else []

    def brokers(self) -> "Sequence[BrokerState]":
        """Return the brokers on the way to a CPNS Server elsewhere; none if the uplink needs none."""
        return [] if self._uplink is None else self._uplink.brokers

    def radios(self) -> list[Radio]:
        """Return, for people, the radio of each medium that has one."""
        return self._air.radios() if self._air else []

    def unreadable(self) -> str:
        """Return why the store cannot be read now, "" if it can."""
        assert self._store is not None  # `open` has made it
        try:
            self._store.database.rows("SELECT count(*) FROM pn")
        except StoreFailed as error:
            return str(error)
        return ""

    def no_network(self) -> str:
        """Return why no Group Key can be broadcast now, "" if it can on some interface or there is no medium at all."""
        if self._air is None or not self._air.names or self._air.networks():
            return ""
        problems = ", ".join(f"{each.interface}: {each.problem}" for each in self._air.health() if each.problem)
        return (
            f"No Group Key can be broadcast ({problems or 'there is no interface'}): boards get keys by their sessions "
            "only, if they are reached at all. Check: keycast gateway check"
        )

    def no_broker(self) -> str:
        """Return why no broker on the way to the CPNS Server is connected, "" if one is or none is needed."""
        brokers = self.brokers()
        if not brokers or any(each.connected for each in brokers):
            return ""
        told = " ".join(each.problem for each in brokers if each.problem)
        return f"No key of the CPNS Server arrives: {told or 'no broker is connected'} Check: keycast gateway check"

    def broken_radio(self) -> str:
        """Return which media have not recovered or hear nothing, in sentences with the next step, "" for none."""
        if self._air is None:
            return ""
        told = " ".join(filter(None, self._air.told().values()))
        found = [f"{told} Boards behind it get keys another way."] if told else []
        for each in self.broadcasts():
            if each.deaf and not each.problem:
                found.append(f"No board is heard on {each.interface}: {each.deaf.rstrip('.')}. Keys go out on it.")
        return " ".join([*found, "Check: keycast gateway check"]) if found else ""

    async def close(self) -> None:
        """Stop all parts, in the opposite order; deliveries continue at the next start."""
        for part in (self.health, self._control, self._announcement, self._watch):
            if part is not None:
                await part.close()
        for name in ("updates", "sightings", "gateway", "_air", "_uplink", "endpoint"):
            opened: Any = getattr(self, name, None)
            if opened is not None:
                await opened.close()
        for name in ("credentials", "_store"):
            opened = getattr(self, name, None)
            if opened is not None:
                opened.close()

    async def _handle_pne(self, peer: Peer, message: bytes) -> bytes | None:
        if self._pairing.concerns(peer, message):
            return await self._pairing.answer(peer, message)
        self.registrar.heard(peer.entity_id)
        return await self.gateway.handle_pne(peer.entity_id, message)

    async def _handle_update(self, peer: Peer, message: bytes) -> bytes:
        self.registrar.heard(peer.entity_id)
        return self.updates.handle(peer.entity_id, message)

    async def _handle_server(self, peer: Peer, message: bytes) -> Answer:
        if peer.entity_id != self.config.uplink.server_id:
            raise NotAllowed("not the CPNS Server of this PN")
        left = asyncio.Event()
        return Answer(await self.gateway.handle_server(message, left), left)

    def _store_trouble(self) -> str:
        if self._store is None:
            return "the store is not open"
        return self._store.database.trouble or self.credentials.trouble

    def _broker_views(self) -> list[BrokerView]:
        ago = time.time() - asyncio.get_running_loop().time()
        return [BrokerView(each.url, each.connected, int(ago + each.since_s), each.problem) for each in self.brokers()]

    def _links(self) -> list[Link[Any]]:
        """Return the UDP link of the section `[message_plane]` and each further link that the configuration has."""
        further = {scheme: getattr(self.config, scheme, None) for scheme in LINKS}
        asked_for = {scheme: section for scheme, section in further.items() if section is not None}
        return links_of({UdpLink.scheme: self.config.message_plane} | asked_for)

    def _network_of(self, pne_id: str) -> str:
        """Return the interface behind which a PNE was heard last, or "Bluetooth"; "" if it was not heard since the
        start."""
        if self._is_on_bluetooth(pne_id):
            return "Bluetooth"
        heard = self.endpoint.last_heard(pne_id)
        if heard is None or not heard.place.startswith(UdpLink.scheme):
            return ""
        return interfaces.device_towards(host_and_port(heard.place)[0])

    def _is_on_bluetooth(self, pne_id: str) -> bool:
        heard = self.endpoint.last_heard(pne_id)
        return heard is not None and heard.place.startswith(f"{GattLink.scheme}:")


def _update_key(config: GatewayConfig, *others: HasPublicX) -> UpdateKey | None:
    """Return the key of updates that the configuration names, if any. Raises IdentityError, also if it is another's."""
    if config.update.key is None:
        return None
    try:
        return UpdateKey.load(config.update.key, *others)
    except IdentityError as error:
        raise IdentityError(f"key in [update]: {error}") from None
