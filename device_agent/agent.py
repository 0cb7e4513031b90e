"""The PNE, composed: here, and only here, the parts meet the store, the link and the clock.

Four loops share one thread: datagrams of the message plane, datagrams of the broadcast plane, CoAP's timers, and the
duties: reach the PN GW, ask for keys, confirm keys. The parts are pure; what they want done they yield as flows
(`session.py`), which `perform` and the loops drive. `run` ends only with an error or when it is cancelled.
"""

import asyncio

from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, Unknown
from device_agent import provisioning, tuning
from device_agent.broadcast_receiver import BroadcastReceiver
from device_agent.coap.endpoint import Endpoint
from device_agent.discovery import Discovery
from device_agent.entropy import Entropy
from device_agent.gkdk_store import GkdkStore
from device_agent.key_store import KeyStore
from device_agent.membership import Membership
from device_agent.session import BAD_REQUEST, CHANGED, FORBIDDEN, NoSession, Session

_SERVER_ERROR = 0xA0
_PAUSE_MAX = 3600000  # ms; a clock of wrapping ticks is to be asked now and then
_NETWORK_DOWN = 1000  # ms between tries to read from a link that fails

if hasattr(asyncio, "timeout"):  # CPython, where wait_for makes a task each time and may lose a cancellation

    async def _wait(event, seconds):
        async with asyncio.timeout(seconds):
            await event.wait()

else:

    def _wait(event, seconds):
        return asyncio.wait_for(event.wait(), seconds)


class Agent:
    """`storage`, `link`, `clock`, `random`: the ports of `ports.py`; `tell(name, values)` is told what happens.

    Raises Unknown when the storage holds no identity: the board is to be provisioned, never to start as a new one.
    """

    def __init__(self, storage, link, clock, random, tell):
        self.store = store = KeyStore(storage)
        record = store.load(provisioning.RECORD)
        if record is None:
            raise Unknown("no identity in the store: provision this board")
        self.identity = provisioning.parse(record)
        self.link = link
        self.clock = clock
        self.random = Entropy(store, random)
        self._listener = tell
        self._endpoint = Endpoint(self.random)
        self._waiting = {}  # CoAP token -> (Event, answers)
        self._requests = []  # of the PN GW: (exchange, message, address)
        self._timers, self._duties, self._serving = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._pairing = False
        try:
            hint = link.address(self.identity.address)
        except ValueError:  # none, or one of another kind of network: the PN GW is asked for
            hint = None
        self._discovery = Discovery(hint)
        self.session = Session(store, self.identity, self.random)
        gkdks = GkdkStore(store, clock.now())
        self.membership = Membership(store, self.identity, self.session, gkdks, clock, self.random, self._tell)
        self.receiver = BroadcastReceiver(self.membership, store, clock, self.random, self._tell)

    async def run(self):
        """Serve until cancelled; the link is closed then. An error of a part ends it: nothing is half alive."""
        loops = (self._message_plane, self._broadcast_plane, self._keep_time, self._do_duties, self._serve)
        tasks = [asyncio.create_task(loop()) for loop in loops]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            self.link.close()

    async def perform(self, make_flow):
        """Run a flow that needs the session, waiting for it up to a minute.

        When the PN GW has lost the session, the flow is run once more over a new one: whatever a PNE asks may be
        repeated (docs/protocol.md section 4). Raises NoSession, CpnsError, OSError.
        """
        deadline = self.clock.now() + tuning.CONNECT_TIMEOUT
        session, again = self.session, False
        while True:
            while not session.up or (again and session.wants_handshake(self.clock.now())):
                if self.clock.now() > deadline:
                    raise NoSession("the gateway was not reached")
                await asyncio.sleep(0.1)
            try:
                return await self._flow(make_flow())
            except NoSession:
                if again or not session.wants_handshake(self.clock.now()):
                    raise
                again = True
            finally:
                self._duties.set()

    async def pair(self, secret):
        """Run a pairing with the 10 octets of `secret` (SEC-20). Raises pairing.WrongProof or NoSession."""
        from device_agent import pairing
        from device_agent.session import unload

        self._pairing = True
        try:
            parts = self.identity, self.store, self.session, self._discovery, self.clock, self._forget_gateway
            await self._flow(pairing.pair(secret, *parts))
        finally:
            self._pairing = False
            unload("device_agent.pairing")
            self._duties.set()

    def send(self, group, data):
        """Broadcast `data` to a membership.ServiceGroup."""
        self.link.broadcast(n.PORT_BROADCAST, self.receiver.traffic(group).send(data, self.clock.now()))

    # Loops

    async def _message_plane(self):
        while True:
            try:
                address, data = await self.link.recv()
            except OSError as error:
                await self._broken(error)
                continue
            self._act(self._endpoint.datagram(address, data, self.clock.now()))
            await asyncio.sleep(0)  # a link under a flood never waits, and the other loops are to go on

    async def _broadcast_plane(self):
        while True:
            try:
                _, data = await self.link.recv_broadcast()
                await self._flow(self.receiver.receive(data))
            except OSError as error:
                await self._broken(error)
            self._duties.set()
            await asyncio.sleep(0)  # as above

    async def _keep_time(self):
        while True:
            self._act(self._endpoint.tick(self.clock.now()))
            self._timers.clear()  # set by our own actions, which next_wake knows
            await self._pause(self._timers, self._endpoint.next_wake())

    async def _do_duties(self):
        while True:
            now = self.clock.now()
            due, make_flow = self._duty(now)
            if due is None or due > now:
                if self.receiver.prepared or not self.membership.groups:
                    await self._pause(self._duties, due)
                    continue
                make_flow = self.receiver.prepare
            try:
                await self._flow(make_flow())
            except (CpnsError, OSError) as error:
                self._tell("failed", {"what": "gateway", "reason": str(error)})

    async def _serve(self):
        while True:
            while self._requests:
                exchange, message, address = self._requests.pop(0)
                reply = await self._answer(message, address)
                if reply:
                    self._act(self._endpoint.reply(exchange, *reply, self.clock.now()))
                else:
                    self._endpoint.drop(exchange)
                self._duties.set()
            await self._pause(self._serving, None)

    # Parts of the loops

    def _duty(self, now):
        session = self.session
        due, make_flow = None, None
        if self.identity.paired and not self._pairing:
            if session.up:
                due, make_flow = self.membership.duty(now) or (None, None)
            connect = session.address is None or session.wants_handshake(now)
            if connect and (due is None or session.retry_at <= due):
                due, make_flow = session.retry_at, self._connect
        return due, make_flow

    def _connect(self):
        session = self.session
        now = self.clock.now()
        session.back_off(now)
        address = yield from self._discovery.next()
        if address is None:
            raise NoSession("no gateway answers")
        if session.address is None and not session.wants_handshake(now):
            session.address = address  # the session of before the restart; its first request shows whether it lives
        else:
            yield from session.handshake(now, address)
            self._tell("session", {"gateway": self.identity.gateway_id})
            for group in self.membership.groups.values():
                self.membership.hint(group, self.clock.now(), 0)  # who lost the session may have lost more

    def _forget_gateway(self):
        self.session.forget()
        self.membership.new_gateway()

    async def _answer(self, message, address):
        # -> arguments of the CoAP reply, or None where nobody is to be answered
        try:
            answer, octets = self.session.unprotect(message, address)
        except OSError as error:
            self._tell("failed", {"what": "store", "reason": str(error)})
            return None
        if octets is None:
            return answer
        try:
            return answer(CHANGED, await self._flow(self.membership.handle(octets)))
        except MalformedMessage:
            return answer(BAD_REQUEST, b"")
        except CpnsError:
            return answer(FORBIDDEN, b"")
        except OSError as error:
            self._tell("failed", {"what": "store", "reason": str(error)})
            return answer(_SERVER_ERROR, b"")

    def _act(self, actions):
        for action in actions:
            kind, about = action[0], action[1]
            if kind == "send":
                if about is None:
                    self.link.broadcast(n.PORT_COAP, action[2])
                else:
                    self.link.send(about, action[2])
            elif kind == "request":
                refusal = self.session.refusal(action[2])
                if refusal:  # a stranger's: it takes no place in the queue, and is not remembered
                    self._act(self._endpoint.reply(about, *refusal, self.clock.now()))
                    self._endpoint.drop(about)
                elif len(self._requests) < tuning.REQUESTS_MAX:
                    self._requests.append(action[1:])
                    self._serving.set()
                else:
                    self._endpoint.drop(about)
            elif about in self._waiting:
                event, answers, many = self._waiting[about]
                if kind == "response" and len(answers) < tuning.ANSWERS_MAX:
                    answers.append((action[3], action[2]))
                if not many or kind != "response":
                    event.set()
        self._timers.set()

    async def _flow(self, steps):
        value = None
        try:
            while True:
                wanted = steps.send(value)
                value = None
                if wanted is None:
                    await asyncio.sleep(0)
                elif isinstance(wanted, int):
                    await asyncio.sleep(wanted / 1000)
                else:
                    value = await self._exchange(*wanted)
        except StopIteration as end:
            return end.value
        finally:
            steps.close()

    async def _exchange(self, address, code, options, payload, timeout):
        many = address is None
        now = self.clock.now()
        token, actions = self._endpoint.request(address, code, options, payload, now, not many, timeout, many)
        event, answers, _ = self._waiting[token] = (asyncio.Event(), [], many)
        try:
            self._act(actions)
            await event.wait()
        finally:
            del self._waiting[token]
            self._endpoint.cancel(token)
        if many:
            return answers
        return answers[0][1] if answers else None

    async def _pause(self, event, until):
        wait = _PAUSE_MAX if until is None else min(max(until - self.clock.now(), 0), _PAUSE_MAX)
        try:
            await _wait(event, wait / 1000)
        except asyncio.TimeoutError:  # noqa: UP041 - the name both Pythons have
            return
        event.clear()

    async def _broken(self, error):
        self._tell("failed", {"what": "link", "reason": str(error)})
        await asyncio.sleep(_NETWORK_DOWN / 1000)

    def _tell(self, name, values):
        group = values.get("group")
        if name == "joined" and group.alias is not None and self.membership.pn_alias is not None:
            self.receiver.traffic(group)  # from here on no message is missed, so none is called replayable
        elif name in ("left", "deleted"):
            self.receiver.forget(group)
        self._listener(name, values)
