"""The composition of the PNE. Only here the parts are connected to the store, the links, the media and the clock.

Loops share one thread. Each link has two: for its datagrams, and for whether it is up. Each medium has one for its
datagrams. Further ones keep CoAP's timers, answer the PN GW, and do the duties (reach the PN GW, ask for keys, confirm
keys). While no link is up the agent asks nothing and nothing times out, but it still accepts what a medium receives.
Apart from the store the parts do no I/O: they return flows (`device_agent`), which `perform` and the loops drive.
"""

import asyncio
import sys

from cpns import numbers as n
from cpns.errors import CpnsError, NotAllowed, Unknown
from device_agent import provisioning, tuning
from device_agent.broadcast_receiver import BroadcastReceiver
from device_agent.coap.endpoint import Endpoint
from device_agent.discovery import Discovery
from device_agent.entropy import Entropy
from device_agent.gkdk_store import GkdkStore
from device_agent.key_store import KeyStore
from device_agent.membership import Membership
from device_agent.requests import Requests
from device_agent.session import NoSession, Session

_SERVER_ERROR = 0xA0
_PAUSE_MAX = 3600000  # ms; a clock of wrapping ticks must be read now and then
_NETWORK_DOWN = 1000  # ms between tries to read from a link that fails

if sys.implementation.name != "micropython":  # whose wait_for makes a task each time and may lose a cancellation

    async def _wait(event, seconds):
        async with asyncio.timeout(seconds):
            await event.wait()

else:

    def _wait(event, seconds):
        return asyncio.wait_for(event.wait(), seconds)


class Agent:
    """The PNE. `storage`, `clock` and `random` are ports, `links` and `media` lists of `ports.Link` and `ports.Medium`.

    The agent calls `tell(name, values)` for each event. An address of a peer is (link, address of that link). A board
    that can be updated has `updates`, a ports.Updates.

    Raises Unknown if the storage holds no identity: such a board must be provisioned, and never starts as a new one.
    """

    def __init__(self, storage, links, media, clock, random, tell, updates=None):
        self.store = store = KeyStore(storage)
        record = store.load(provisioning.RECORD)
        if record is None:
            raise Unknown("no identity in the store: provision this board")
        self.identity = provisioning.parse(record)
        self._links = links
        self._media = media
        self.clock = clock
        self.random = Entropy(store, random)
        self._listener = tell
        self._endpoint = Endpoint(self.random)
        self._waiting = {}  # CoAP token -> [Event, answers, address or None for all, number of answers, one is enough]
        self._requests = []  # from the PN GW: (exchange, message, address)
        self._timers, self._duties, self._serving = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.pairing = self._looking = False
        self._up = [link for link in links if link.up()]
        self._discovery = Discovery(store, links, self.identity.address)
        self.session = Session(store, self.identity, self.random)
        gkdks = GkdkStore(store, clock.now())
        tells = self._tell, self._load_server
        self.membership = Membership(store, self.identity, self.session, gkdks, clock, self.random, *tells)
        self.requests = Requests(self.membership, self._tell)
        self.receiver = BroadcastReceiver(self.membership, store, clock, self.random, self._tell)
        if [group for group in self.membership.groups.values() if group.ring.end_to_end]:
            self.membership.server = self._load_server()
        self.updating = None
        if updates:
            from device_agent.update.service import UpdateService

            parts = self.membership, self.session, self.requests, self.receiver
            self.updating = UpdateService(updates, store, *parts, clock, self.random, self._tell)
        self._reports = None  # only with a medium that carries reports
        reporting = [medium for medium in media if medium.reports]
        if reporting:
            from device_agent.reports import KeyReports

            self._reports = KeyReports(self.membership, reporting, clock, self._stands)

    async def run(self):
        """Serve until cancelled, or until a part fails: then raise its error. At the end links and media are closed."""
        loops = [self._keep_time(), self._do_duties(), self._serve()]
        for link in self._links:
            loops += [self._message_plane(link), self._watch(link)]
        loops += [self._broadcast_plane(medium) for medium in self._media]
        if self._reports:
            loops.append(self._reports.run())
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            for each in set(self._links + self._media):
                each.close()

    async def perform(self, make_flow, patient=False):
        """Run the flow that `make_flow()` returns, once there is a session, and return its value.

        It waits for the session up to a minute, not counting time without network. If the PN GW has lost the session,
        or moved, the flow runs once more: all requests of a PNE may be repeated (docs/protocol.md section 4). If
        `patient`, it waits and repeats without limit. Raises CpnsError, OSError, and NoSession unless `patient`.
        """
        again = False
        pause = tuning.CANNOT_NOW_MIN
        begun = self.clock.now()
        while True:
            while not self._reachable() or (again and self._in_doubt()):
                now = self.clock.now()
                if not self._up:
                    begun = now
                elif not patient and now - begun > tuning.CONNECT_TIMEOUT:
                    raise NoSession("the gateway was not reached")
                await asyncio.sleep(0.1)
            try:
                return await self._flow(make_flow())
            except NoSession:
                lost = not self._up or self._in_doubt()
                if not patient and (again or not lost):
                    raise
                again = True
                if not lost:  # the PN GW is there, and cannot answer now
                    await asyncio.sleep(pause / 1000)
                    pause = min(4 * pause, tuning.CANNOT_NOW_MAX)
            finally:
                self._duties.set()

    @property
    def reached(self):
        """True while the PN GW answers under a session."""
        return self._reachable() and self.session.reached and not self.session.silent

    async def network(self):
        """Return as soon as a link is up."""
        while not self._up:
            await asyncio.sleep(0.1)

    async def pair(self, secret):
        """Pair with a gateway that knows `secret`, 10 octets (SEC-20).

        Raises pairing.WrongProof, NoSession, and NotAllowed while another call has not ended.
        """
        if self.pairing:
            raise NotAllowed("this board is pairing already")
        from device_agent import pairing
        from device_agent.session import unload

        self.pairing = True
        try:
            await self.network()
            self.receiver.spare()
            parts = self.identity, self.store, self.session, self._discovery, self.clock
            await self._flow(pairing.pair(secret, *parts, self._forget_gateway, self._forget_server))
            self._discovery.keep(self.session.address)
        finally:
            self.pairing = False
            unload("device_agent.pairing")
            unload("device_agent.unpaired")
            self._duties.set()

    def send(self, group, data):
        """Broadcast `data`, at most 1,024 octets, to a membership.ServiceGroup. Raises Unknown without a key."""
        datagram = self.receiver.traffic(group).send(data, self.clock.now())
        for medium in self._media:
            medium.air(datagram)

    # Loops

    async def _message_plane(self, link):
        while True:
            try:
                address, data = await link.recv()
            except OSError as error:
                await self._broken(error)
                continue
            self._act(self._endpoint.datagram((link, address), data, self.clock.now()))
            data = None  # frees a kilobyte
            await asyncio.sleep(0)  # a link under a flood never waits, and the other loops must go on

    async def _broadcast_plane(self, medium):
        while True:
            try:
                await self._flow(self.receiver.receive(await medium.hear(self.membership)))
            except OSError as error:
                await self._broken(error)
            self._duties.set()
            await asyncio.sleep(0)  # a medium under a flood never waits either

    async def _keep_time(self):
        while True:
            self._act(self._endpoint.tick(self.clock.now()))
            self._timers.clear()  # our own actions set it, and next_wake knows these
            await self._pause(self._timers, self._endpoint.next_wake())

    async def _do_duties(self):
        while True:
            if not self._up:
                await self._pause(self._duties, None)
                continue
            now = self.clock.now()
            due, make_flow = self._duty(now)
            if due is None or due > now:
                collecting = self.updating and self.updating.collecting  # needs the room of the table
                done = self.receiver.prepared or collecting
                if done or self.pairing or self._in_doubt() or not self.membership.groups:
                    await self._pause(self._duties, due)
                    continue
                make_flow = self.receiver.prepare
            try:
                await self._flow(make_flow())
                self._reached()
            except (CpnsError, OSError) as error:
                refused = isinstance(error, NotAllowed)
                self._tell("failed", {"what": "gateway", "reason": str(error), "refused": refused})
                await asyncio.sleep(0)  # a duty that fails before it waits must not keep all else waiting

    async def _watch(self, link):
        while True:
            await link.changed()
            if link.up() == (link in self._up):
                continue
            session = self.session
            if link in self._up:
                self._up.remove(link)
                if not session.address or session.address[0] is link:
                    session.network_lost()
                for event, _, address, *_ in self._waiting.values():
                    gone = address[0] is link if address else not self._up
                    if gone:
                        event.set()  # the request gets no answer
            else:
                self._up.append(link)
                session.try_again(self.clock.now())
                if self.membership.server:
                    self.membership.server.session.try_again(self.clock.now())
                self.membership.hint_all(tuning.PULL_ONLINE)
            self._duties.set()

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
        if self.identity.paired and not self.pairing:
            if self._reachable():
                confirms = self._reports is None or self._stands()
                due, make_flow = self.membership.duty(now, confirms) or (None, None)
                if self.updating and (due is None or self.updating.due < due):
                    due, make_flow = self.updating.due, self.updating.act
            connect = session.address is None or self._in_doubt()
            if connect and (due is None or session.retry_at <= due):
                due, make_flow = session.retry_at, self._connect
        return due, make_flow

    def _reachable(self):
        return self.session.up and self.session.address[0] in self._up

    def _stands(self):
        # True if a request leaves at once
        return self._reachable() and self.session.address[0].standing()

    def _in_doubt(self):
        return self.session.silent or self.session.wants_handshake(self.clock.now())

    def _connect(self):
        session, discovery = self.session, self._discovery
        now = self.clock.now()
        session.back_off(now)
        self._looking = True
        address = yield from discovery.next()
        if address is None:
            raise NoSession("no gateway answers")
        if not session.wants_handshake(now):
            session.resume(address, discovery.patience)  # its first request shows whether the session lives
            self.membership.hint_all(tuning.PULL_ONLINE)
            if self.updating:
                self.updating.look()
        else:
            self.receiver.spare()
            yield from session.handshake(now, address, patience=discovery.patience)
            self._tell("session", {"gateway": self.identity.gateway_id})
            self.membership.hint_all(0)  # the end that lost the session may have lost more
            if self.updating:
                self.updating.hint()

    def _reached(self):
        # Once for each search: a peer that relays from ever new addresses must not wear out the flash
        if self._looking and self.session.reached:
            self._looking = False
            self._discovery.keep(self.session.address)

    def _forget_gateway(self):
        self.session.forget()
        self._discovery.forget()
        self.membership.new_gateway()
        if self.updating:
            self.updating.new_gateway()

    def _load_server(self):
        # What end-to-end groups need: only a board with such a group has it in its heap
        from device_agent.end_to_end.delivery import WrappedKeys
        from device_agent.end_to_end.server import Server

        membership = self.membership
        server = Server(self.store, membership, self.clock, self.random, self.receiver.spare, self._tell)
        self.requests.parts[n.S_GROUP_KEY_DELIVERY_REQUEST] = WrappedKeys(membership, server, self._tell).take
        return server

    def _forget_server(self):
        if self.membership.server:
            self.membership.server.forget()
        else:
            for name in ("ssess", "euk"):
                self.store.erase(name)

    async def _answer(self, message, address):
        # Return the arguments of the CoAP reply, or None if the request gets no reply
        answer = None
        try:
            answer, request = self.session.unprotect(message, address)
            if request is None:
                return answer
            return answer(*(await self._flow(self.requests.answer(*request))))
        except OSError as error:
            self._tell("failed", {"what": "store", "reason": str(error)})
            return answer and answer(_SERVER_ERROR, (), b"")

    def _act(self, actions):
        for action in actions:
            kind, about = action[0], action[1]
            if kind == "send":
                if about:
                    about[0].send(about[1], action[2])
                else:
                    for link in self._up:
                        link.ask_all(action[2])
            elif kind == "request":
                refusal = self.session.refusal(action[2])
                if refusal:  # from a stranger: it takes no place in the queue, and is not remembered
                    self._act(self._endpoint.reply(about, *refusal, self.clock.now()))
                    self._endpoint.drop(about)
                elif len(self._requests) < tuning.REQUESTS_MAX:
                    self._requests.append(action[1:])
                    self._serving.set()
                else:
                    self._endpoint.drop(about)
            elif about in self._waiting:
                waiting = self._waiting[about]
                if kind == "response":
                    self._take(waiting, (action[3], action[2]))
                if waiting[4] or kind != "response":
                    waiting[0].set()
        self._timers.set()

    def _take(self, waiting, answer):
        # Each address counts once. Of more answers than there is room for, each has the same chance to be kept: a peer
        # that answers first, from many addresses, cannot keep the others out for good.
        answers = waiting[1]
        if answer[0] in [address for address, _ in answers]:
            return
        waiting[3] += 1
        place = len(answers)
        if place < tuning.ANSWERS_MAX:
            answers.append(answer)
            return
        place = int.from_bytes(self.random(2), "big") % waiting[3]
        if place < tuning.ANSWERS_MAX:
            answers[place] = answer

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
        links = self._up if many else address[:1]
        connects = links and True not in [link.standing() for link in links]
        if connects:
            timeout += tuning.CONNECTING
        now = self.clock.now()
        token, actions = self._endpoint.request(address, code, options, payload, now, not many, timeout, many)
        # Only one peer can answer over a connection that has to be made first
        event, answers, *_ = self._waiting[token] = [asyncio.Event(), [], address, 0, connects or not many]
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
        except asyncio.TimeoutError:  # noqa: UP041 - the name that both Pythons have
            return
        event.clear()

    async def _broken(self, error):
        self._tell("failed", {"what": "link", "reason": str(error)})
        await asyncio.sleep(_NETWORK_DOWN / 1000)

    def _tell(self, name, values):
        group = values.get("group")
        if name == "joined" and group.alias is not None and self.membership.pn_alias is not None:
            self.receiver.traffic(group)  # from here on no message is missed, so none is flagged replayable
        elif name in ("left", "deleted", "expelled"):
            self.receiver.forget(group)
            if self.updating:  # it may be alone from now on
                self.updating.report_at = min(self.updating.report_at, self.updating.later(tuning.UPDATE_REPORT_ALONE))
        self._listener(name, values)
