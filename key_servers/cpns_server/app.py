"""A CPNS Server put together: embedded in a PN GW's process, or on its own behind UDP, MQTT or both.

This is the only module that names concrete parts. Embedded:

    gateways = InProcessGateways({"gw.home": handle_server})  # Server -> PN GW
    server = await CpnsServer.open(state_dir, ServerConfig(), gateways=gateways)
    server.register_gateway("gw.home", "pn.home", is_open=True)
    server.start()
    answer = await server.handle("gw.home", request)      # PN GW -> Server

On its own: with `ServerConfig(listen=["0.0.0.0"])`, or with brokers (`mqtt`), and no `gateways`; PN GWs are then
registered with their credential.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from cpns import numbers
from cpns.errors import NotAllowed, Unknown
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import events, listening, server_identity, tuning
from key_servers.cpns_server.alarm_board import AlarmBoard
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.broker_watch import BrokerWatch
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.courier import DeliveryCourier
from key_servers.cpns_server.databases import open_foundation
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.gateway_reports import GatewayReports
from key_servers.cpns_server.gateway_requests import GatewayRequests, Gateways
from key_servers.cpns_server.gateway_sessions import GatewaySessions, Handlers
from key_servers.cpns_server.gateways_in_process import InProcessGateways
from key_servers.cpns_server.group_keys import GroupKeyMaker, RandomOctets
from key_servers.cpns_server.membership import MembershipChanges
from key_servers.cpns_server.pne_answers import PneAnswers
from key_servers.cpns_server.pne_courier import PneCourier
from key_servers.cpns_server.pne_requests import PneRequests
from key_servers.cpns_server.recovery import Recovery
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.request_handler import RequestHandler
from key_servers.cpns_server.service_groups import ServiceGroups, template_group
from key_servers.cpns_server.shards.all_shards import AllShards
from key_servers.cpns_server.shards.deliveries import ShardDeliveries
from key_servers.cpns_server.shards.holding import ShardHolder
from key_servers.cpns_server.shards.served_pns import ServedPns
from key_servers.cpns_server.sqlite_database import FILE_NAME
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.store_watch import StoreWatch
from key_servers.cpns_server.update_schedule import UpdateSchedule
from key_servers.cpns_server.values import (
    GroupTrust,
    GroupView,
    JoinPolicy,
    Moment,
    ServerAlarm,
    ServerStatus,
    StoredGateway,
)
from key_servers.cpns_server.views import Views
from key_servers.errors import ServerError, StoreFailed
from message_plane.credentials import ROLE_PNE
from message_plane.links.mqtt_topics import shard_of

_log = logging.getLogger(__name__)

T = TypeVar("T")

Clock = Callable[[], Moment]

_PROTECTION = {"authenticated": numbers.PROTECTION_AUTHENTICATED, "sealed": numbers.PROTECTION_SEALED}


def system_clock() -> Moment:
    """Read the clocks: of the event loop, which must be running, and of the wall."""
    return Moment(asyncio.get_running_loop().time(), int(time.time()))


class CpnsServer:
    """One CPNS Server; one process a store. All methods belong to the event loop that `open` ran in.

    Every method raises `cpns.errors.CpnsError` where it refuses, and StoreFailed when the medium does.
    """

    def __init__(
        self,
        store: ServerStore,
        config: ServerConfig,
        clock: Clock,
        random_octets: RandomOctets,
        counters: Counter[str],
        gateways: Gateways,
        sessions: GatewaySessions | None,
        shards: AllShards | ShardHolder,
        board: AlarmBoard,
    ) -> None:
        """Keep the parts; only `open` calls this."""
        self._store = store
        self.audit = store.audit
        self.tokens = store.tokens
        self.now = clock
        self._config = config
        self._clock = clock
        self.counts = self._counters = counters
        self.tell: events.Tell = events.write
        self._alarms = ServerAlarms()
        self._board = board
        self._sessions = sessions
        self._shards = shards
        self._broker_watch = BrokerWatch(self._alarms, clock)
        self._changed = asyncio.Event()
        self._background: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

        self._keys = GroupKeyMaker(store, random_octets, UpdateSchedule(config.batching_s), self.tell)
        self._registry = Registry(store)
        self._entity_user_keys = EntityUserKeys(store, self._got_entity_user_key)
        self._membership = MembershipChanges(store, self._registry, self._keys, self._retired)
        self._service_groups = ServiceGroups(
            store, self._registry, self._membership, self._keys, template_group(config), embedded=sessions is None
        )
        self._recovery = Recovery(store, self._registry, self._membership, self._keys)
        self._store_watch = StoreWatch(store, self._recovery, self._entity_user_keys, self._alarms, clock, self.tell)
        self._reports = GatewayReports(store, self._registry, self._membership, self._keys, self._alarms, shards.holds)
        served = ServedPns(store, shards.holds)
        self._requests = GatewayRequests(served, gateways, self._counters, clock, self._changed)
        self._courier = DeliveryCourier(store, self._requests, self._alarms, served, clock)
        self._pne_courier = PneCourier(
            store, self._entity_user_keys, self._requests, self._alarms, served, self._counters, clock, self.tell
        )
        self._pne_requests = PneRequests(
            store, self._keys, self._entity_user_keys, self._pne_courier.wanted_by, self._counters
        )
        self._handler = RequestHandler(
            store,
            self._registry,
            self._membership,
            self._service_groups,
            self._keys,
            self._reports,
            PneAnswers(store, self._registry, self._pne_courier, self._alarms),
            self._pne_requests,
            None if sessions is None else sessions.carry,
            self._counters,
            config.creation_by_pnes,
        )
        self._views = Views(store, self._courier, self._pne_courier)
        self.sg_ids, self.members = self._views.sg_ids, self._views.members

    @classmethod
    async def open(
        cls,
        state_dir: Path,
        config: ServerConfig | None = None,
        *,
        clock: Clock = system_clock,
        random_octets: RandomOctets = secrets.token_bytes,
        gateways: Gateways | None = None,
        database_url: str | None = None,
    ) -> "CpnsServer":
        """Open or create the store in `state_dir` (mode 0700), and listen if `config` says so.

        Requests are answered from then on; nothing is delivered before `start`. `clock` returns both clocks, `unix`
        being 0 while it is not set. `gateways` are the way to PN GWs in place of sessions. With `database_url`
        the store is in PostgreSQL. Raises StoreInUse, StoreUnusable, ServerError and, where it listens, PlaneError.
        """
        config = config or ServerConfig()
        base = open_foundation(state_dir, config, database_url)
        store = ServerStore(base.database)
        async with contextlib.AsyncExitStack() as opened:
            opened.callback(store.close)
            counters: Counter[str] = Counter()
            sessions: GatewaySessions | None = None
            if config.is_remote:
                identity = server_identity.kept(store, state_dir, config.id)
                sessions = GatewaySessions(identity, counters, base.open_sessions)
            way = gateways or sessions or InProcessGateways({})
            server = cls(store, config, clock, random_octets, counters, way, sessions, base.shards, base.board)
            is_older = server._store_watch.go_on()
            server._keys.resume(clock())
            if sessions is not None:
                deliveries = ShardDeliveries(
                    store, server._courier, server._pne_courier, server._alarms, base.shards.holds, server._changed.set
                )
                handlers = Handlers(server.handle, server._heard, server._handle_pne, server._entity_user_keys.has)
                number = store.database_id(secrets.token_bytes)
                server._broker_watch.link = await listening.listen(
                    config, sessions, number, base, deliveries, handlers, opened, is_older=is_older
                )
            opened.pop_all()
        return server

    def start(self) -> None:
        """Begin to deliver, and to do by itself what is due. A caller that never calls this calls `work`."""
        loop = asyncio.get_running_loop()
        self._background = loop.create_task(self._run(), name="cpns-server")
        self._listening = loop.create_task(self._store.listen(self._changed.set), name="cpns-server listens")

    async def close(self) -> None:
        """Stop deliveries and the endpoint, close the store. Deliveries go on at the next start."""
        tasks = [task for task in (self._background, self._listening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._background = self._listening = None
        await self._requests.close()
        await self._shards.close()
        if self._sessions is not None:
            await self._sessions.close()
            self._sessions = None
        await self._store.lots.close()
        self._store.close()

    # messages

    async def handle(self, gateway_id: str, message: bytes) -> bytes:
        """Answer one CPNS message (CBOR or XML, answered in kind) of the authenticated PN GW `gateway_id`.

        A refusal is a response with Result 2. Raises MalformedMessage (no CPNS message) and NotAllowed (PN GW not
        registered, blocked, naming a foreign PN ID, or a message no PN GW sends).
        """
        try:
            return await self._handler.handle(gateway_id, message, self._clock())
        finally:
            self._heard(gateway_id)

    def images(self) -> dict[str, bytes]:
        """Return the files of this Server that a backup holds: their names in the state folder -> octets."""
        return {FILE_NAME: self._store.image()} | ({} if self._sessions is None else self._sessions.images())

    def credential(self) -> bytes:
        """Return the Server's own credential (CCS octets) for PN GWs to register.

        Raises NotAllowed if it does not listen.
        """
        return self._require_sessions().credential()

    @property
    def places(self) -> list[str]:
        """The places where the Server listens, such as `udp:192.168.1.10:5685`; empty if it is embedded."""
        return [] if self._sessions is None else self._sessions.places

    def status(self) -> ServerStatus:
        """Return what this Server is reached by, and how much it serves."""
        brokers = self._broker_watch.states()
        return self._views.status(self._config.id, self.places, brokers, self._shards, self.alarms(), self._counters)

    @property
    def failed(self) -> "asyncio.Future[Exception] | None":
        """A future that is done, with the reason as its result, when another process took the sessions over and this
        Server must be ended; None if it is embedded.
        """
        return None if self._sessions is None else self._sessions.failed

    # commands of an operator: PN GWs and PNEs

    def register_gateway(
        self,
        gateway_id: str,
        pn_id: str,
        credential: bytes = b"",
        form: str | None = None,
        is_open: bool | None = None,
        replace: bool = False,
    ) -> None:
        """Let a PN GW serve a PN. `form` is cbor or xml, the form of the messages that it is sent.

        `credential` (CCS octets) is needed for a PN GW that comes over a network. With `is_open` each PNE that comes
        through the PN GW belongs to that PN, so the PN GW is trusted with their names; otherwise each is admitted by
        `admit_pne` first. None keeps the present choice of either; a new PN is closed, its PN GW gets CBOR. With
        `replace` another credential takes the place of the present one, and all keys that were handed to the PN GW are
        renewed.
        """
        replaces = bool(credential) and self._require_sessions().would_replace(gateway_id, credential, replace=replace)

        def change() -> None:
            with self._store.transaction():
                self._registry.register_gateway(gateway_id, pn_id, form, is_open)
                if replaces:
                    self._recovery.renew_keys(pn_id, self._clock())

        self._store.attempt(change)
        if credential:  # last: cut off before, the same once more does all of it
            self._require_sessions().register(gateway_id, credential, replace=replace)
        self._done(events.GatewayRegistered(gateway_id, pn_id))

    async def block_gateway(self, gateway_id: str) -> None:
        """Accept nothing more from a PN GW and send it nothing more. Its sessions end (SEC-18)."""
        self._store.attempt(lambda: self._registry.block_gateway(gateway_id))
        self._alarms.forget(gateway_id)
        self.tell(events.GatewayBlocked(gateway_id))
        if self._sessions is not None:
            await self._sessions.forget(gateway_id)

    async def replace_gateway(self, gateway_id: str, new_gateway_id: str, credential: bytes = b"") -> None:
        """Block a stolen or broken PN GW, let another serve its PN, and renew all keys that it held (SEC-18)."""
        if credential:
            self._require_sessions().would_replace(
                new_gateway_id, credential, replace=False
            )  # refused before anything ends
        new = self._carry_out(self._recovery.replace_gateway, gateway_id, new_gateway_id)
        if credential:
            self._require_sessions().register(new_gateway_id, credential)
        self._alarms.forget(gateway_id)
        self._done(events.GatewayRegistered(new_gateway_id, new.pn_id, replaces=gateway_id))
        if self._sessions is not None:
            await self._sessions.forget(gateway_id)

    def gateways(self) -> tuple[StoredGateway, ...]:
        """Return all PN GWs ever registered."""
        return self._store.gateways()

    def pnes(self) -> dict[str, str]:
        """Return the PN ID of each PNE that spoke through a PN GW or was admitted, by PNE ID."""
        return self._store.pnes()

    def admit_pne(
        self, pne_id: str, pn_id: str, credential: bytes = b"", entity_user_key: bytes = b"", replace: bool = False
    ) -> None:
        """Admit a PNE to the PN GW of a PN, which need not be open (SEC-16). A repeated call changes nothing.

        For end-to-end groups it has a `credential` (CCS octets), by which it makes a session with this Server, or an
        `entity_user_key` (16 octets) that it was provisioned with, or both. With `replace` they take the place of what
        another board of that name had, whose memberships, sessions and keys end (SEC-31).
        """
        replaces = self._replaces_pne(pne_id, credential, entity_user_key, replace)

        def change() -> None:
            with self._store.transaction():
                self._registry.admit(pne_id, pn_id)
                if replaces:
                    self._membership.retire(pne_id, self._clock())
                    self._require_sessions().forget_pne(pne_id)  # before the commit: see below
                if entity_user_key:
                    self._entity_user_keys.provisioned(pne_id, entity_user_key)

        self._store.attempt(change)
        if credential:  # last: cut off before, the same once more does all of it
            self._require_sessions().register(pne_id, credential, role=ROLE_PNE, replace=replace)
        self._done(events.Bound(pne_id, pn_id))

    def retire_pne(self, pne_id: str) -> None:
        """Retire a PNE: its memberships, its sessions with this Server and its Entity User Key end.

        The same happens when its PN GW tells that a person has removed it there.
        """
        self._carry_out(self._membership.retire, pne_id)
        self._done(events.RightsEnded(pne_id))

    def move_pne(self, pne_id: str, pn_id: str) -> None:
        """Move a PNE to the PN GW of another PN. It leaves all its Service Groups.

        Its session with this Server and its Entity User Key stay, as no PN GW knows them.
        """
        self._carry_out(self._membership.move_pne, pne_id, pn_id)
        self._done(events.Bound(pne_id, pn_id))

    # commands of an operator: Service Groups

    def create_group(
        self,
        sg_id: str,
        open_to: Iterable[str] = (),
        policy: str | None = None,
        protection: str | None = None,
        rekey_on_join: bool | None = None,
        period_s: int | None = None,
        trust: str | None = None,
    ) -> GroupView:
        """Create a Service Group and its first key. `open_to` are PN IDs; None stands for the configured value.

        `trust` is gateway or end-to-end (SEC-26), None what the name had before, or else gateway.
        """
        if policy not in (None, *JoinPolicy):
            raise NotAllowed(f"policy is one of {', '.join(JoinPolicy)}, not {policy!r}")
        if protection not in (None, *_PROTECTION):
            raise NotAllowed(f"protection is one of {', '.join(_PROTECTION)}, not {protection!r}")
        if trust not in (None, *GroupTrust):
            raise NotAllowed(f"trust is one of {', '.join(GroupTrust)}, not {trust!r}")
        self._carry_out(
            self._service_groups.create_by_operator,
            sg_id,
            tuple(open_to),
            None if policy is None else JoinPolicy(policy),
            None if protection is None else _PROTECTION[protection],
            None if trust is None else GroupTrust(trust),
            rekey_on_join,
            period_s,
        )
        view = self.show_group(sg_id)
        self._done(events.GroupCreated(sg_id, view.trust))
        return view

    def delete_group(self, sg_id: str) -> None:
        """Delete a Service Group and its keys, here and at every PN GW; its version is kept (CPNS-GKM-59, Q-23)."""
        self._carry_out(self._service_groups.delete_by_operator, sg_id)
        self._done(events.GroupDeleted(sg_id))

    def list_groups(self) -> tuple[GroupView, ...]:
        """Return all living Service Groups."""
        return self._views.groups()

    def held_groups(self) -> frozenset[str]:
        """Return the IDs of the Service Groups whose members a person must confirm."""
        return frozenset(self._store.held_groups())

    def show_group(self, sg_id: str) -> GroupView:
        """Return one Service Group with members, versions, revisions and deliveries; never a key."""
        return self._views.group(sg_id)

    def open_group(self, sg_id: str, pn_id: str) -> None:
        """Let the PNEs of one more PN join a Service Group of policy open."""
        self._store.attempt(lambda: self._service_groups.open_to_pn(sg_id, pn_id))

    def set_policy(
        self,
        sg_id: str,
        period_s: int | None = None,
        rekey_on_join: bool | None = None,
        batching_s: float | None = None,
    ) -> GroupView:
        """Change the policies of a Service Group from now on; None keeps the present one."""
        self._service_groups.set_policy(sg_id, period_s, rekey_on_join, batching_s, self._clock())
        self._done(events.PolicySet(sg_id))
        return self.show_group(sg_id)

    def permit(self, sg_id: str, pne_id: str) -> None:
        """Permit a PNE to join, even one that was expelled or held for joining too often.

        It is a member once it joins.
        """
        self._carry_out(self._membership.permit, sg_id, pne_id)
        self.tell(events.Permitted(pne_id, sg_id))

    def expel(self, sg_id: str, pne_id: str) -> None:
        """End a membership against the PNE's wish; the key is updated (Q-10)."""
        self._carry_out(self._membership.expel, sg_id, pne_id)
        self._done(events.Expelled(pne_id, sg_id))

    def update_key(self, sg_id: str) -> int:
        """Make a new key by hand and return its version. The key is drawn here, never entered (SEC-12)."""
        version = self._carry_out(self._keys.update, sg_id, numbers.REASON_BY_HAND)
        self._changed.set()
        return version

    # commands of an operator: after a loss

    async def restore(self, epochs: int = 1, since_s: int = 0) -> tuple[str, ...]:
        """Declare this store an older copy (SEC-03). Return the IDs of the Service Groups that are held now.

        All sessions end, and no Entity User Key that came from one is used again. Nothing is delivered or issued for a
        held group until `confirm_members`. More than 1 epoch is needed for a copy that was put back before, unless
        `since_s` is the number of seconds since it was made.
        """
        held = self._store.attempt(lambda: self._store_watch.declare_older(epochs, since_s))
        if self._sessions is not None:
            await self._sessions.end_sessions()
        self._changed.set()
        return held

    def confirm_members(self, sg_id: str, expel: Iterable[str] = ()) -> int:
        """End the hold of a restored group: all members but `expel` stay. Returns the version of the new key."""
        version = self._carry_out(self._recovery.confirm_members, sg_id, tuple(expel))
        self._changed.set()
        return version

    def alarms(self) -> tuple[ServerAlarm, ...]:
        """Return the alarms that a person should look at, oldest first."""
        return self._alarms.standing(self._board.elsewhere())

    def dismiss_alarm(self, kind: str, gateway_id: str = "", sg_id: str = "") -> None:
        """End the alarms of a kind, or those of one PN GW or Service Group. They return if their cause does.

        Raises Unknown if none stands.
        """
        found = self._alarms.dismiss(kind, gateway_id, sg_id)
        if not self._board.dismiss(kind, gateway_id, sg_id) and not found:
            raise Unknown(
                "no such alarm stands: name its kind, and its PN GW or Service Group, as status --json shows it"
            )

    @property
    def commits(self) -> int:
        """The number of synced transactions since the start, in the stores of the Server and of the sessions."""
        return self._store.commits + (0 if self._sessions is None else self._sessions.commits)

    def counters(self) -> dict[str, int]:
        """Return how often each kind of event happened since the start."""
        return dict(self._counters)

    # the background

    def work(self) -> float:
        """Do what is due, and return the seconds until something is due again. Without `start` the caller calls it."""
        now = self._clock()
        for sg_id, error in self._keys.update_due(now):
            if isinstance(error, StoreFailed):
                continue  # one alarm stands for all of them, and they are tried again
            self._alarms.set(
                kinds.UPDATE_FAILED, "", sg_id, f"The Group Key of Service Group {sg_id} was not updated: {error}", now
            )
        self._reports.check_silence(now)
        self._courier.look()  # first, as a PN GW must know the members before it carries keys for them
        self._pne_courier.look()
        parts = (self._keys, self._courier, self._pne_courier, self._requests)
        wakes = [at for part in parts if (at := part.wake_at()) is not None]
        soonest = min(wakes, default=float("inf")) - now.monotonic
        return min(max(soonest, 0.0), tuning.LOOK_AT_LEAST_EVERY_S)

    async def idle(self) -> None:
        """Wait until no request is on its way to a PN GW."""
        await self._requests.idle()

    async def _run(self) -> None:
        while True:
            wait_s = tuning.LOOK_AT_LEAST_EVERY_S
            try:
                wait_s = self.work()
            except ServerError as error:
                if not isinstance(error, StoreFailed):  # a StoreFailed is an alarm
                    _log.error("KC2021 %s", error)
                wait_s = tuning.UPDATE_RETRY_S
            if self._store_watch.look() and self._sessions is not None:
                self._sessions.end_sessions_soon()
            self._broker_watch.look()
            self._board.look(self._alarms, self._clock())
            if self._store.trouble:
                wait_s = min(wait_s, tuning.STORE_LOOK_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                # A burst of requests is answered first and then makes one round of deliveries.
                await asyncio.sleep(tuning.SETTLE_S)
            except TimeoutError:
                pass
            self._changed.clear()

    def _heard(self, gateway_id: str) -> None:
        if not self._shards.holds(shard_of(gateway_id)):  # a broker tells every process that it is back
            return
        try:
            gateway = self._store.gateway(gateway_id)
            if gateway is not None and not gateway.blocked:
                self._requests.heard(gateway.pn_id)
                self._courier.heard(gateway.pn_id)
                self._pne_courier.heard(gateway.pn_id)
        except ServerError as error:  # its message was answered; its deliveries are tried again soon
            _log.error("KC2022 %s", error)
        self._changed.set()

    def _handle_pne(self, pne_id: str, euk: bytes | None, message: bytes, shard: int | None) -> bytes:
        return self._pne_requests.handle(pne_id, euk, message, self._clock(), shard)

    def _got_entity_user_key(self, pne_id: str) -> None:
        self._pne_courier.keys_changed(pne_id)
        self._changed.set()

    def _retired(self, pne_id: str) -> None:
        was_admitted = self._entity_user_keys.of(pne_id) is not None
        self._entity_user_keys.forget(pne_id)
        if self._sessions is not None:
            sessions = self._sessions
            was_admitted = was_admitted or sessions.knows_pne(pne_id)
            self._store.after_commit(lambda: sessions.forget_pne(pne_id))
        if was_admitted:  # told, as a PN GW may have caused it
            self._store.after_commit(lambda: self.tell(events.AdmissionEnded(pne_id)))

    def _done(self, event: events.Event) -> None:
        """Tell what an operator has changed, and let the background act on it."""
        self.tell(event)
        self._changed.set()

    def _carry_out(self, rule: Callable[..., T], *what: object) -> T:
        """Return what a rule returns for the wish of an operator; it runs again if another process was in the way."""
        return self._store.attempt(lambda: rule(*what, self._clock()))

    def _replaces_pne(self, pne_id: str, credential: bytes, entity_user_key: bytes, replace: bool) -> bool:
        """Return True if another board of this name has what must end, credential or key. Raises as `admit_pne`."""
        if not credential and not entity_user_key:
            return False
        sessions = self._require_sessions()
        replaces = bool(credential) and sessions.would_replace(pne_id, credential, role=ROLE_PNE, replace=replace)
        if entity_user_key:
            return self._entity_user_keys.would_replace(pne_id, entity_user_key, replace=replace) or replaces
        is_first = not sessions.knows_pne(pne_id)  # so a key that is there was provisioned
        return replaces or (replace and is_first and self._entity_user_keys.of(pne_id) is not None)

    def _require_sessions(self) -> GatewaySessions:
        if self._sessions is None:
            raise NotAllowed(
                "this CPNS Server is embedded: it does not listen, so credentials and Entity User Keys have no use"
            )
        return self._sessions
