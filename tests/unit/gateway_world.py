"""A PN GW with doubles around it: a CPNS Server in a few lines, boards that hold real GKDKs, an air that records.

The boards use the receiving side of `cpns`, so they read what a real board would read.
"""

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from cpns import beacon, broadcast_object, entity_user_key, messages, numbers, proof
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.errors import CpnsError, NotMember
from gateway_agent.core import events
from gateway_agent.core.delivering.delivery import Pacing
from gateway_agent.core.delivering.policy import DeliveryPolicy
from gateway_agent.core.pn_gateway import PnGateway
from gateway_agent.core.ports import NoAnswer
from gateway_agent.radios.air import AllMedia
from gateway_agent.radios.medium import Medium
from gateway_agent.store.store import GatewayStore
from tests.unit.scripted_medium import ScriptedMedium

PN = "pn.home"
FAST = Pacing(confirmation_cost_s=0.0001, answer_s=0.03, unicast_retry_s=0.02, rounds_max=4, straggler_limit=1)
BROADCAST_ALWAYS = DeliveryPolicy(method="broadcast", leisure_ms_per_pne=0.1)


class Clock:
    """Real running time; `ahead` moves it, `unix_time` 0 = not synchronised."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.unix_time = 1_800_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead

    def unix(self) -> int:
        return self.unix_time


class Signer:
    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        numbers_ = self.key.public_key().public_numbers()
        self.public_key = numbers_.x.to_bytes(32, "big") + numbers_.y.to_bytes(32, "big")
        self.signed = 0

    def sign(self, data: bytes) -> bytes:
        self.signed += 1
        r, s = utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, signature: bytes, data: bytes) -> bool:
        der = utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        try:
            self.key.public_key().verify(der, data, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class Board:
    """One PNE, and an attacker's notebook: it forgets no record and no key."""

    def __init__(self, world: "World", pne_id: str) -> None:
        self.world = world
        self.pne_id = pne_id
        self.records: list[GkdkRecord] = []
        self.pn_alias = 0
        self.floors: dict[str, int] = {}
        self.aliases: dict[str, int] = {}
        self.keys: dict[str, dict[int, bytes]] = {}
        self.receipts: dict[str, bytes] = {}
        self.reachable = True
        self.deaf = False
        self.heard_unicast: list[tuple[int, dict]] = []
        self.euk = os.urandom(16)

    async def ask(self, code: int, fields: dict) -> dict:
        answer = await self.world.gateway.handle_pne(self.pne_id, messages.encode(code, fields))
        return messages.decode(answer)[1] if answer is not None else {}

    async def get_gkdk(self) -> dict:
        answer = await self.ask(numbers.GKDK_ASSIGNMENT_REQUEST, {messages.PNE_ID: self.pne_id})
        if answer[messages.RESULT] == numbers.RESULT_SUCCESS:
            self.records.append(GkdkRecord.parse(answer[messages.GKDK]))
            self.pn_alias = answer[messages.PN_ALIAS]
        return answer

    async def join(self, sg_id: str, code: int = numbers.JOIN_REQUEST) -> dict:
        answer = await self.ask(code, {messages.PNE_ID: self.pne_id, messages.SG_ID: sg_id})
        if answer[messages.RESULT] == numbers.RESULT_SUCCESS:
            self.floors[sg_id] = max(self.floors.get(sg_id, 0), answer[messages.VERSION])
            self.aliases[sg_id] = answer[messages.SG_ALIAS]
        return answer

    async def leave(self, sg_id: str) -> dict:
        return await self.ask(numbers.LEAVE_REQUEST, {messages.PNE_ID: self.pne_id, messages.SG_ID: sg_id})

    async def pull(self, sg_id: str, version: int | None = None, generation: int | None = None) -> dict:
        fields = {messages.PNE_ID: self.pne_id, messages.SG_ID: sg_id, messages.VERSION: self.version(sg_id)}
        if version is not None:
            fields[messages.VERSION] = version
        if generation is None and self.records:
            generation = self.records[-1].generation
        if generation:
            fields[messages.GENERATION] = generation
        fields[messages.RECEIPT] = self.receipts.get(sg_id, b"")
        answer = await self.ask(numbers.KEY_PULL_REQUEST, fields)
        self.receipts[sg_id] = answer.get(messages.RECEIPT, fields[messages.RECEIPT])
        if messages.GROUP_KEY in answer:
            self.store(sg_id, answer[messages.VERSION], answer[messages.GROUP_KEY][0][0])
        return answer

    def version(self, sg_id: str) -> int:
        return max(self.keys.get(sg_id, {0: b""}))

    def store(self, sg_id: str, version: int, key: bytes) -> None:
        self.keys.setdefault(sg_id, {})[version] = key

    def opens(self, datagram: bytes, sg_id: str, records: "list[GkdkRecord] | None" = None) -> bytes | None:
        """The Group Key in a broadcast, if any GKDK ever held opens it; no floor, no signature: an attacker's view."""
        received = broadcast_object.parse(datagram)
        for record in self.records if records is None else records:
            try:
                received.check(received.pn_alias, received.sg_alias, record, 0, None)
                return received.open(PN, sg_id)[0]
            except CpnsError:
                continue
        return None

    def hear(self, datagram: bytes) -> None:
        """A broadcast, in the order of protocol section 5."""
        received = broadcast_object.parse(datagram)
        if not isinstance(received, broadcast_object.Received):
            return
        sg_id = next((sg for sg, alias in self.aliases.items() if alias == received.sg_alias), None)
        if sg_id is None or self.deaf:
            return
        record = next((r for r in self.records if r.generation == received.generation), None)
        if record is None:
            return
        floor = max(self.floors[sg_id], self.version(sg_id))
        try:
            if not received.check(self.pn_alias, self.aliases[sg_id], record, floor, None):
                return
            key, signed = received.open(PN, sg_id)
        except CpnsError:
            return
        if not self.world.trusted_signer.verify(received.signature, signed):
            return
        self.store(sg_id, received.version, key)
        self.world.spawn(self.confirm(sg_id, received.version, record))

    def response(self, sg_id: str, version: int, record: "GkdkRecord | None", key: bytes) -> dict:
        fields = {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: sg_id, messages.VERSION: version}
        if record is not None:
            fields[messages.GENERATION] = record.generation
            fields[messages.SLOT] = record.slot
            fields[messages.PROOF] = proof.confirmation(
                record.report_key(), record.generation, record.slot, version, numbers.RESULT_SUCCESS, PN, sg_id, key
            )
        return fields

    async def confirm(self, sg_id: str, version: int, record: "GkdkRecord") -> None:
        fields = self.response(sg_id, version, record, self.keys[sg_id][version])
        await self.ask(numbers.GROUP_KEY_DELIVERY_RESPONSE, fields)

    async def take(self, message: bytes) -> bytes | None:
        """A unicast request of the PN GW."""
        code, fields = messages.decode(message)
        self.heard_unicast.append((code, fields))
        if code == numbers.GROUP_KEY_DELIVERY_REQUEST:
            sg_id, version = fields[messages.SG_ID], fields[messages.VERSION]
            key = fields[messages.GROUP_KEY][0][0]
            self.store(sg_id, version, key)
            record = self.records[-1] if self.records else None
            return messages.encode(numbers.GROUP_KEY_DELIVERY_RESPONSE, self.response(sg_id, version, record, key))
        if code == numbers.S_GROUP_KEY_DELIVERY_REQUEST:
            return messages.encode(numbers.S_GROUP_KEY_DELIVERY_RESPONSE, self.opened(fields))
        if code == numbers.GENERATION_REQUEST:
            self.records.append(GkdkRecord.parse(fields[messages.GKDK]))
        return messages.encode(code + 1, {messages.RESULT: numbers.RESULT_SUCCESS, **_sg(code, fields)})

    def opened(self, request: dict) -> dict:
        """The response to an SGroupKeyDeliveryRequest that this board can open."""
        pne_id, wrapped = request[messages.GROUP_KEY_INFO]
        sg_id, version = request[messages.SGID], request[messages.VERSION]
        key = entity_user_key.decrypt(self.euk, pne_id, sg_id, version, wrapped)
        self.store(sg_id, version, key)
        return {
            messages.RETURN: "1",
            messages.PNID: self.world.pn_id,
            messages.MAC: entity_user_key.response_mac(key, pne_id, sg_id, version),
            messages.PNE_ID: pne_id,
            messages.SGID: sg_id,
            messages.VERSION: version,
            messages.EUK_ID: request[messages.EUK_ID],
        }


def _sg(code: int, fields: dict) -> dict:
    return {messages.SG_ID: fields[messages.SG_ID]} if code == numbers.DELETE_SERVICE_GROUP_REQUEST else {}


@dataclass
class ServerGroup:
    version: int = 0
    key: bytes = b""
    members: dict[str, set[str]] = field(default_factory=dict)  # PN -> PNEs
    revision: Counter = field(default_factory=Counter)
    accepted: Counter = field(default_factory=Counter)
    left: set[str] = field(default_factory=set)  # by a LeaveRequest, which may come again
    end_to_end: bool = False

    def trust(self) -> dict:
        return {messages.TRUST: numbers.TRUST_END_TO_END} if self.end_to_end else {}


class Server:
    """As much of a CPNS Server as the PN GW can tell from a real one. May serve several worlds (homes)."""

    def __init__(self) -> None:
        self.groups: dict[str, ServerGroup] = {}
        self.homes: dict[str, World] = {}
        self.reports: list[dict] = []
        self.heard: list[tuple[int, dict]] = []
        self.responses: list[dict] = []  # to SGroupKeyDeliveryRequests
        self.up = True

    def group(self, sg_id: str) -> ServerGroup:
        return self.groups.setdefault(sg_id, ServerGroup())

    async def answer(self, pn_id: str, message: bytes) -> bytes:
        if not self.up:
            raise NoAnswer("the uplink is down")
        await asyncio.sleep(0)
        code, fields = messages.decode(message, 1 << 20)
        self.heard.append((code, fields))
        if code == numbers.S_GROUP_KEY_DELIVERY_RESPONSE:
            self.responses.append(fields)
            return b""
        ok = {messages.RESULT: numbers.RESULT_SUCCESS}
        sg_id = fields.get(messages.SG_ID)
        if code in (numbers.JOIN_REQUEST, numbers.CREATE_SERVICE_GROUP_REQUEST):
            group = self.group(sg_id)
            members = group.members.setdefault(pn_id, set())
            if fields[messages.PNE_ID] not in members:
                members.add(fields[messages.PNE_ID])
                group.left.discard(fields[messages.PNE_ID])
                group.revision[pn_id] += 1
            more = {messages.SG_ID: sg_id, messages.VERSION: group.version, messages.PROTECTION: 2}
            more |= group.trust()
            return messages.encode(code + 1, {**ok, **more, messages.REVISION: group.revision[pn_id]})
        if code == numbers.TUNNEL_REQUEST:
            return messages.encode(code + 1, ok | await self.tunnelled(fields))
        if code == numbers.KEY_PULL_REQUEST:
            version = self.group(sg_id).version
            return messages.encode(code + 1, {**ok, messages.SG_ID: sg_id, messages.VERSION: version})
        if code == numbers.LEAVE_REQUEST:
            group = self.group(sg_id)
            if fields[messages.PNE_ID] in group.members.setdefault(pn_id, set()):
                group.members[pn_id].discard(fields[messages.PNE_ID])
                group.left.add(fields[messages.PNE_ID])
                group.revision[pn_id] += 1
            elif fields[messages.PNE_ID] not in group.left:
                return messages.failure(code, NotMember("it was put out"))
            return messages.encode(code + 1, {**ok, messages.SG_ID: sg_id, messages.REVISION: group.revision[pn_id]})
        if code == numbers.RETIREMENT_REQUEST:
            for group in self.groups.values():
                if fields[messages.PNE_ID] in group.members.get(pn_id, ()):
                    group.members[pn_id].discard(fields[messages.PNE_ID])
                    group.revision[pn_id] += 1
            return messages.encode(code + 1, ok)
        if code == numbers.VERSION_LIST_REQUEST:
            entries = [(group.accepted[pn_id], name) for name, group in self.groups.items() if pn_id in group.members]
            return messages.encode(code + 1, {**ok, messages.VERSION_ENTRY: entries} if entries else ok)
        if code == numbers.DELIVERY_REPORT_REQUEST:
            self.reports.append(fields)
        return messages.encode(code + 1, {**ok, messages.SG_ID: sg_id})

    async def inventory(self, sg_id: str, pn_id: str = PN) -> dict:
        group = self.group(sg_id)
        fields = {messages.SG_ID: sg_id, messages.PN_ID: pn_id, messages.REVISION: group.revision[pn_id]}
        fields |= group.trust()
        if group.members.get(pn_id):
            fields[messages.MEMBER] = sorted(group.members[pn_id])
        return await self.tell(pn_id, numbers.INVENTORY_UPDATE_REQUEST, fields)

    async def expel(self, sg_id: str, pne_id: str, pn_id: str = PN) -> None:
        group = self.group(sg_id)
        group.members[pn_id].discard(pne_id)
        group.revision[pn_id] += 1
        await self.inventory(sg_id, pn_id)

    async def rekey(self, sg_id: str, reason: int = numbers.REASON_LEAVE, pn_ids: "list[str] | None" = None) -> int:
        group = self.group(sg_id)
        group.version = (group.version or 1 << 16) + 1
        group.key = os.urandom(16)
        for pn_id in self.homes if pn_ids is None else pn_ids:
            await self.send_key(sg_id, reason, pn_id)
        return group.version

    async def send_key(self, sg_id: str, reason: int = numbers.REASON_LEAVE, pn_id: str = PN, **other: object) -> dict:
        group = self.group(sg_id)
        fields = {
            messages.SG_ID: sg_id,
            messages.GROUP_KEY: [(group.key, None)],
            messages.VERSION: group.version,
            messages.ACTIVATION: 0,
            messages.REASON: reason,
            messages.REVISION: group.revision[pn_id],
        }
        answer = await self.tell(pn_id, numbers.GROUP_KEY_DELIVERY_REQUEST, fields)
        if answer[messages.RESULT] == numbers.RESULT_SUCCESS:
            group.accepted[pn_id] = group.version
        return answer

    async def wrap(self, sg_id: str, pne_id: str, pn_id: str = PN) -> dict:
        """Send the newest key of an end-to-end group to one board; return what was sent."""
        group, board = self.group(sg_id), self.homes[pn_id].boards.get(pne_id)
        euk = board.euk if board else bytes(16)
        wrapped = entity_user_key.encrypt(euk, pne_id, sg_id, group.version, group.key)
        fields = {
            messages.SGID: sg_id,
            messages.GROUP_KEY_INFO: (pne_id, wrapped),
            messages.VERSION: group.version,
            messages.EUK_ID: entity_user_key.key_id(euk),
        }
        message = messages.encode(numbers.S_GROUP_KEY_DELIVERY_REQUEST, fields)
        assert await self.homes[pn_id].gateway.handle_server(message) == b""
        return fields

    async def tunnelled(self, fields: dict) -> dict:
        """What the Server answers to a datagram of a board."""
        return {messages.DATAGRAM: b"answer to " + fields[messages.DATAGRAM]}

    async def tell(self, pn_id: str, code: int, fields: dict) -> dict:
        answer = await self.homes[pn_id].gateway.handle_server(messages.encode(code, fields))
        return messages.decode(answer, 1 << 20)[1]


class World:
    """One home."""

    def __init__(
        self,
        folder: Path,
        *,
        server: Server | None = None,
        pn_id: str = PN,
        policy: DeliveryPolicy = BROADCAST_ALWAYS,
        pacing: Pacing = FAST,
        broadcast: bool = True,
        medium: ScriptedMedium | None = None,
        height: int = 6,
        server_is_elsewhere: bool = False,
    ) -> None:
        self.folder = folder
        self.pn_id = pn_id
        self.server = server or Server()
        self.server.homes[pn_id] = self
        self.policy, self.pacing, self.height = policy, pacing, height
        self.server_is_elsewhere = server_is_elsewhere
        self.told: list[events.Event] = []
        self.medium = medium or ScriptedMedium(gap=0.02, loss=0.1)
        self.medium.on_air = self._hear
        self.with_broadcast = broadcast
        self.boards: dict[str, Board] = {}
        self.air: list[bytes] = []
        self.beacons: list[beacon.Beacon] = []
        self.dropped: list[str] = []
        self.started = False
        self.signer = self.trusted_signer = Signer()
        self.clock = Clock()
        self.tasks: set[asyncio.Task] = set()
        self.faults: list[BaseException] = []
        self.open()

    def open(self) -> None:
        self.store = GatewayStore(self.folder)
        self.air_of_media = AllMedia(self.media())
        self.gateway = PnGateway(
            pn_id=self.pn_id,
            gateway_id="gw",
            store=self.store,
            uplink=_Uplink(self),
            unicast=self,
            air=self.air_of_media,
            signer=self.signer,
            clock=self.clock,
            random=os.urandom,
            policy=self.policy,
            pacing=self.pacing,
            height=self.height,
            tell=self.told.append,
            server_is_elsewhere=self.server_is_elsewhere,
        )

    def media(self) -> list[Medium]:
        """The media of the PN GW that is about to be opened."""
        return [self.medium] if self.with_broadcast else []

    async def start(self) -> "World":
        self.started = True
        self.air_of_media.open(self.gateway.handle_report, self.gateway)
        await self.gateway.start()
        await asyncio.sleep(0.01)
        return self

    async def close(self) -> None:
        await self.gateway.close()
        await self.air_of_media.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.store.close()
        assert not self.faults, self.faults

    async def restart(self) -> None:
        await self.close()
        self.open()
        await self.start()

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Each transaction of the PN GW runs to its end, and is then refused."""
        file = self.store.database._file
        run = file.run

        def refuses(sql, values=()):
            if sql == "COMMIT":
                raise file.failed(sqlite3.OperationalError("database or disk is full"))
            return run(sql, values)

        file.run = refuses
        try:
            yield
        finally:
            file.run = run

    def spawn(self, work) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() and not isinstance(task.exception(), CpnsError):
            self.faults.append(task.exception())

    async def board(self, pne_id: str, *sg_ids: str, gkdk: bool = True) -> Board:
        board = self.boards.setdefault(pne_id, Board(self, pne_id))
        if self.store.pn.pne(pne_id) is None:
            self.gateway.administration.register_pne(pne_id)
        if gkdk:
            await board.get_gkdk()
        for sg_id in sg_ids:
            answer = await board.join(sg_id)
            assert answer[messages.RESULT] == numbers.RESULT_SUCCESS, answer
        return board

    async def until(self, condition, timeout: float = 20.0) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.005)

    async def delivered(self, sg_id: str, timeout: float = 20.0) -> None:
        """The newest delivery has ended and was reported."""
        version = self.server.group(sg_id).version
        if not self.started:
            delivery = self.store.deliveries.get
            await self.until(lambda: (d := delivery(sg_id, version)) and d.phase == "finished", timeout)
            await self.gateway.tick()
        await self.until(
            lambda: any(r[messages.SG_ID] == sg_id and r[messages.VERSION] == version for r in self.server.reports),
            timeout,
        )

    # the ports
    async def request(self, pne_id: str, message: bytes) -> bytes | None:
        board = self.boards.get(pne_id)
        await asyncio.sleep(0)
        if board is None or not board.reachable:
            raise NoAnswer("no session")
        return await board.take(message)

    def has_session(self, pne_id: str) -> bool:
        return pne_id in self.boards and self.boards[pne_id].reachable

    def drop(self, pne_id: str) -> None:
        self.dropped.append(pne_id)

    def _hear(self, datagram: bytes) -> None:
        """A datagram has left the medium."""
        if datagram[0] == numbers.FRAME_BEACON:
            self.beacons.append(beacon.parse(datagram))
            return
        self.air.append(datagram)
        for board in list(self.boards.values()):
            board.hear(datagram)


class _Uplink:
    def __init__(self, world: World) -> None:
        self._world = world

    async def request(self, message: bytes) -> bytes:
        return await self._world.server.answer(self._world.pn_id, message)
