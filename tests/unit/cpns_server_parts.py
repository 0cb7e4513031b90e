"""Parts for tests of the CPNS Server: a clock to turn by hand, and a PN GW that records the messages it gets."""

import asyncio
from pathlib import Path
from typing import Any, Self

from cpns import messages as m
from cpns import numbers as n
from cpns import uplink_form
from cpns.errors import CpnsError, NotMember
from key_servers.cpns_server.app import CpnsServer, system_clock
from key_servers.cpns_server.config import ServerConfig
from key_servers.cpns_server.gateway_requests import GatewaySilent
from key_servers.cpns_server.gateways_in_process import InProcessGateways, Receiver
from key_servers.cpns_server.values import Moment

UPLINK = 131072
START = 1_700_000_000  # Unix seconds


class HandClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.moment = Moment(1000.0, START)

    def __call__(self) -> Moment:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment = Moment(self.moment.monotonic + seconds, self.moment.unix + int(seconds))


class PnGw:
    """A PN GW as far as the Server sees it. `seen` lists what was accepted: (SG ID, kind, revision or version)."""

    def __init__(self, gateway_id: str, pn_id: str) -> None:
        self.gateway_id = gateway_id
        self.pn_id = pn_id
        self.members: dict[str, list[str]] = {}
        self.trusts: dict[str, int | None] = {}
        self.keys: dict[str, dict[int, bytes]] = {}
        self.reasons: dict[str, dict[int, int]] = {}
        self.key_fields: list[dict[int, Any]] = []
        self.seen: list[tuple[str, str, int]] = []
        self.carried: list[dict[int, Any]] = []
        self.down = False
        self.refuses = False
        self.raw: list[bytes] = []

    async def receive(self, message: bytes) -> bytes:
        if self.down:
            raise GatewaySilent("down")
        self.raw.append(message)
        code, fields = uplink_form.decode(message)
        if code == n.S_GROUP_KEY_DELIVERY_REQUEST:
            if self.refuses:
                raise NotMember("the PNE is no member")
            self.carried.append(fields)
            return b""
        sg_id = fields[m.SG_ID]
        if self.refuses:
            return m.failure(code, CpnsError("not now"))
        answer: dict[int, Any] = {m.RESULT: n.RESULT_SUCCESS, m.SG_ID: sg_id}
        if code == n.INVENTORY_UPDATE_REQUEST:
            self.members[sg_id] = fields.get(m.MEMBER, [])
            self.trusts[sg_id] = fields.get(m.TRUST)
            self.seen.append((sg_id, "inventory", fields[m.REVISION]))
        elif code == n.GROUP_KEY_DELIVERY_REQUEST:
            ((key, index),) = fields[m.GROUP_KEY]
            assert index is None
            version = fields[m.VERSION]
            self.keys.setdefault(sg_id, {})[version] = key
            self.reasons.setdefault(sg_id, {})[version] = fields[m.REASON]
            self.key_fields.append(fields)
            self.seen.append((sg_id, "key", version))
            answer[m.VERSION] = version
        else:
            assert code == n.DELETE_SERVICE_GROUP_REQUEST
            self.keys.pop(sg_id, None)
            self.members.pop(sg_id, None)
            self.seen.append((sg_id, "delete", fields[m.VERSION]))
        return m.encode(code + 1, answer)

    def versions(self, sg_id: str) -> list[int]:
        return list(self.keys.get(sg_id, {}))

    def newest(self, sg_id: str) -> int:
        return max(self.keys.get(sg_id, {0: b""}))


class House:
    """A Server with its clock and PN GWs, worked by hand. `receivers`: the PN GWs that it reaches, by entity ID."""

    def __init__(self, server: CpnsServer, clock: HandClock, receivers: dict[str, Receiver]) -> None:
        self.server = server
        self.clock = clock
        self.receivers = receivers
        self.gateways: dict[str, PnGw] = {}

    @classmethod
    async def open(
        cls,
        state_dir: Path,
        config: ServerConfig | None = None,
        clock: HandClock | None = None,
        *,
        by_itself: bool = False,
        **how: Any,
    ) -> Self:
        """`by_itself`: the Server runs on the machine's clock, without a hand that works it."""
        clock = clock or HandClock()
        receivers: dict[str, Receiver] = {}
        ticks = system_clock if by_itself else clock
        server = await CpnsServer.open(state_dir, config, clock=ticks, gateways=InProcessGateways(receivers), **how)
        if by_itself:
            server.start()
        return cls(server, clock, receivers)

    def gateway(self, name: str, is_open: bool = True) -> PnGw:
        """The PN GW `gw.<name>` of PN `pn.<name>`, registered and attached at the first call."""
        if name not in self.gateways:
            gateway = PnGw(f"gw.{name}", f"pn.{name}")
            self.server.register_gateway(gateway.gateway_id, gateway.pn_id, is_open=is_open)
            self.gateways[name] = gateway
            self.attach(gateway)
        return self.gateways[name]

    def attach(self, gateway: PnGw) -> None:
        """The PN GW is reached from now on; it is asked at the next work, or when it speaks."""
        self.receivers[gateway.gateway_id] = gateway.receive

    async def ask(self, gateway: PnGw, code: int, fields: dict[int, Any]) -> dict[int, Any]:
        """Send a request of a PN GW, give the answer's fields; the answer is the response to this request."""
        answer = await self.server.handle(gateway.gateway_id, m.encode(code, fields))
        answer_code, answer_fields = m.decode(answer, UPLINK)
        assert answer_code == code + 1
        return dict(answer_fields)

    async def create(self, gateway: PnGw, pne_id: str, sg_id: str) -> dict[int, Any]:
        return await self.ask(gateway, n.CREATE_SERVICE_GROUP_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: sg_id})

    async def join(self, gateway: PnGw, pne_id: str, sg_id: str) -> dict[int, Any]:
        return await self.ask(gateway, n.JOIN_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: sg_id, m.PN_ID: gateway.pn_id})

    async def leave(self, gateway: PnGw, pne_id: str, sg_id: str) -> dict[int, Any]:
        return await self.ask(gateway, n.LEAVE_REQUEST, {m.PNE_ID: pne_id, m.SG_ID: sg_id, m.PN_ID: gateway.pn_id})

    async def pull(self, gateway: PnGw, sg_id: str, version: int = 0) -> dict[int, Any]:
        return await self.ask(gateway, n.KEY_PULL_REQUEST, {m.SG_ID: sg_id, m.VERSION: version})

    async def list_versions(self, gateway: PnGw, *entries: tuple[int, str]) -> dict[int, Any]:
        fields: dict[int, Any] = {m.PN_ID: gateway.pn_id}
        if entries:
            fields[m.VERSION_ENTRY] = list(entries)
        return await self.ask(gateway, n.VERSION_LIST_REQUEST, fields)

    async def work(self) -> None:
        """Let the Server do what is due now, until it has nothing more to do now."""
        for _ in range(20):
            self.server.work()
            await asyncio.sleep(0)  # what fills the places goes on in the loop
            await self.server.idle()
            if self.server.work() > 0:
                await self.server.idle()
                return
        raise AssertionError("the Server is never done")

    async def pass_time(self, seconds: float) -> None:
        """Time goes on; deliveries are tried whenever one is due."""
        end = self.clock.moment.monotonic + seconds
        await self.work()
        while (left := end - self.clock.moment.monotonic) > 0:
            self.clock.advance(min(max(self.server.work(), 0.01), left))
            await self.work()


def succeeded(fields: dict[int, Any]) -> bool:
    return bool(fields[m.RESULT] == n.RESULT_SUCCESS)


def error_of(fields: dict[int, Any]) -> int:
    assert fields[m.RESULT] == n.RESULT_FAIL
    return int(fields[m.ERROR])
