"""The secure session PNE - PN GW (CPNS-GKM-50): EDHOC makes it, OSCORE is it. Pure: the agent moves the datagrams.

Long work is a *flow*: a generator that yields

    None                                             let others run, send(None) to go on
    an int                                           the same after so many ms
    (address, code, options, payload, timeout ms)    one CoAP request; send() it the coap Message or None
    (None, code, options, payload, timeout ms)       the same to everybody; send() it a list of (address, Message)

and returns its value. Two contexts may live at a time: the established one, which is in the store, and a candidate
from a new handshake, which replaces it only when it has verified a message (SEC-21). A candidate needs no record:
a power cut loses its keys and its sender numbers together.
"""

import sys

from cpns import cborlite
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, Stale
from device_agent import oscore, tuning
from device_agent.coap import message as coap
from device_agent.cose import Credential

RECORD = "sess"
POST, CHANGED, BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 0x02, 0x44, 0x80, 0x81, 0x83, 0x84
_OSCORE, _ECHO = 9, 252
_EDHOC = (
    (coap.URI_PATH, b".well-known"),
    (coap.URI_PATH, b"edhoc"),
    (coap.CONTENT_FORMAT, bytes((n.CONTENT_CID_EDHOC,))),
)


class NoSession(OSError):
    """There is no session with the PN GW, or it does not answer."""


def unload(name):
    """Give the heap of a module back that is needed seldom; only where heap is scarce, later imports load it anew."""
    if sys.implementation.name == "micropython" and name in sys.modules:
        del sys.modules[name]
        package, _, module = name.rpartition(".")
        if module in sys.modules[package].__dict__:
            delattr(sys.modules[package], module)


class _Held:
    """An OSCORE context with what the store must know of it: keys and the ceiling of used sender numbers (SEC-22)."""

    def __init__(self, store, keys, ceiling, stored, random):
        self.keys = keys  # secret, salt, sender ID, recipient ID
        self.ceiling = ceiling
        self.challenges = 0  # that were answered: each takes a sender number, and these take the flash
        self._store = store
        self._stored = stored
        self.oscore = oscore.Context(*keys, ceiling, self.reserve, fresh=not stored, echo=random(8))

    def reserve(self, ceiling):
        if self._stored:
            record = list(self.keys)
            record.append(ceiling)
            self._store.save(RECORD, cborlite.encode(record))
        self.ceiling = ceiling

    def establish(self):
        self._stored = True
        self.reserve(self.ceiling)


class Session:
    """`store` KeyStore, `identity` Provisioning, `random(n)`. `address` of the PN GW is set by discovery or traffic."""

    def __init__(self, store, identity, random):
        self._store = store
        self._identity = identity
        self._random = random
        self._live = self._candidate = None
        self._born = self._wait = self.retry_at = self._tried_at = 0
        self._doubt = 0  # unanswered or refused requests since the last verified message
        self.address = None
        self.patience = tuning.EXCHANGE_TIMEOUT  # ms, shorter while nobody has answered at `address`
        self.silent = False  # the last request got no answer: the PN GW may be elsewhere
        self.reached = False  # a request to `address` was answered
        record = store.load(RECORD)
        if record is not None:
            *keys, ceiling = cborlite.decode(record)
            self._live = _Held(store, keys, ceiling, True, random)

    @property
    def up(self):
        """True when a request can be protected and the PN GW's address is known."""
        return self.address is not None and (self._candidate or self._live) is not None

    def wants_handshake(self, now):
        """True when a new handshake is due, at `retry_at`: there is no session, or a doubtful, old or worn one."""
        live = self._live
        return self._candidate is None and (
            live is None
            or self._doubt > 1
            or live.ceiling > tuning.SESSION_NUMBERS_MAX
            or now - self._born > tuning.SESSION_AGE_MAX
        )

    def back_off(self, now):
        """An attempt to reach the PN GW begins; the next one waits, longer each time until a message is verified."""
        self._tried_at = now
        self._wait = min(max(2 * self._wait, tuning.HANDSHAKE_BACKOFF_MIN), tuning.HANDSHAKE_BACKOFF_MAX)
        self.retry_at = now + self._wait + self._wait * self._random(1)[0] // 1024

    def network_lost(self):
        """There is no network any more; in the next one the PN GW may have another address."""
        self.silent, self.reached = True, False

    def try_again(self, now):
        """The network is back: what failed without it says nothing about the PN GW."""
        self._wait = 0
        self.retry_at = min(self.retry_at, max(now, self._tried_at + tuning.HANDSHAKE_BACKOFF_MIN))

    def resume(self, address, patience):
        """Go on with the session of before at `address`, with `patience` ms for the first answer from there."""
        self.address, self.patience = address, patience
        self.silent = self.reached = False

    def handshake(self, now, address, pairing=False, patience=tuning.EDHOC_TIMEOUT):
        """Flow: one EDHOC handshake as initiator with `address`; a candidate context is left behind.

        `patience`: ms for the answer to message_1.
        `pairing`: with a peer that is not known yet, credentials by value. Then nothing is left behind, and the value
        is (initiator, context for `ask` and `adopt`). Raises CpnsError when the responder is not the pinned PN GW,
        NoSession without an answer; the live session stays as it was.
        """
        from device_agent import edhoc
        from device_agent.crypto import p256

        identity = self._identity
        peer = None if pairing else Credential.parse(identity.gateway_ccs)
        c_i = self._random(2)
        while self._live is not None and c_i == self._live.keys[3]:
            c_i = self._random(2)
        try:
            ephemeral = p256.private_key(self._random)
            own = Credential.parse(identity.ccs)
            initiator = edhoc.Initiator(own, identity.private_key, ephemeral, c_i, peer, pairing)
            octets = yield from p256.unhurried(initiator.message_1())
            octets = yield from self._edhoc(address, b"\xf5" + octets, patience)
            octets = yield from p256.unhurried(initiator.message_3(octets))
            octets = initiator.prefix_3 + octets
            initiator.finish((yield from self._edhoc(address, octets, tuning.EDHOC_TIMEOUT)))
        finally:
            unload("device_agent.edhoc")
        held = _Held(self._store, initiator.oscore(), 0, False, self._random)
        if pairing:
            return initiator, held
        self._candidate, self._candidate_born = held, now
        self.resume(address, tuning.EXCHANGE_TIMEOUT)
        self.reached = True

    def _edhoc(self, address, octets, patience):
        answer = yield (address, POST, _EDHOC, octets, patience)
        if answer is None:
            raise NoSession("the gateway does not answer EDHOC")
        if answer.code != CHANGED:
            raise NotAllowed("the gateway refused EDHOC")
        return answer.payload

    def forget(self):
        """Another PN GW takes over: no request of the old one is answered from here on, nor after a restart."""
        self._store.erase(RECORD)
        self._live = self._candidate = self.address = None

    def adopt(self, held, now, address):
        """Make the context of a pairing that succeeded the only one."""
        self._candidate, self._candidate_born = held, now
        self.resume(address, tuning.EXCHANGE_TIMEOUT)
        self._verified(held)

    def ask(self, options, octets, held=None, address=None):
        """Flow: ask the PN GW, or the peer of a pairing, for what `options` name -> (options, body) of its answer.

        Raises NoSession without an answer; NotAllowed or MalformedMessage when the PN GW answers 4.03 or 4.00.
        """
        held = held or self._candidate or self._live
        address = address or self.address
        if held is None or address is None:
            raise NoSession("no session")
        asked = options
        for _ in (0, 1):
            code, outer, payload, request = held.oscore.protect_request(POST, asked, octets)
            answer = yield (address, code, outer, payload, self.patience)
            if answer is None or coap.option(answer.options, _OSCORE) is None:
                # Not protected, so only a hint: whoever can send may have sent it. Two hints cause a handshake.
                # Silence where nobody ever answered speaks against the address only.
                self.silent = answer is None
                if self.reached or answer:
                    self._doubt += 1
                if held is self._candidate:
                    self._candidate = None
                elif held is self._live and answer and self._doubt == 1:
                    continue
                raise NoSession("no answer" if answer is None else "the gateway does not know the session")
            try:
                code, inner, payload = held.oscore.unprotect_response(request, answer.options, answer.payload)
            except CpnsError as error:
                raise NoSession(error.reason) from None
            self._verified(held)
            echo = coap.option(inner, _ECHO)
            if code != UNAUTHORIZED or echo is None:
                break
            asked = list(options)
            asked.append((_ECHO, echo))
        if code >> 5 == 2:
            return inner, payload
        if code == FORBIDDEN:
            raise NotAllowed("the gateway refuses")
        if code == BAD_REQUEST:
            raise MalformedMessage("the gateway does not understand")
        raise NoSession("the gateway cannot answer now")

    def refusal(self, message):
        """-> (code, options, payload) of the CoAP reply to a request under no session of ours; None if it may be."""
        try:
            return None if self._held_for(message) else (UNAUTHORIZED, (), b"")
        except CpnsError:
            return BAD_REQUEST, (), b""

    def unprotect(self, message, address):
        """A CoAP request came in -> (answer, request).

        `request` is what was protected, as (code, options, payload), and `answer` a function that makes the arguments
        of the CoAP reply from such three of ours; or `request` is None and `answer` is the reply already, or None: a
        replay, and what might be one once too often, is dropped (SEC-27). No CpnsError (SEC-21); OSError when the
        store fails.
        """
        try:
            held = self._held_for(message)
            if held is None:
                return (UNAUTHORIZED, (), b""), None
            *request, context = held.oscore.unprotect_request(message.options, message.payload)
        except oscore.WindowLost as lost:
            held.challenges += 1
            if held.challenges > tuning.CHALLENGES_MAX:
                self._doubt = 2
                return None, None
            return held.oscore.challenge(lost.request), None
        except (Stale, MemoryError):  # without room nothing was changed, and the PN GW repeats its request
            return None, None
        except CpnsError:
            return (BAD_REQUEST, (), b""), None
        self._verified(held)
        self.address = address
        return lambda *response: held.oscore.protect_response(context, *response), request

    def _held_for(self, message):
        kid = oscore.kid_of(message.options)
        for held in (self._candidate, self._live):
            if held is not None and kid == held.keys[3]:
                return held
        return None

    def _verified(self, held):
        if held not in (self._candidate, self._live):
            return  # a pairing's
        self._doubt = self._wait = 0
        self.silent, self.reached, self.patience = False, True, tuning.EXCHANGE_TIMEOUT
        if held is self._candidate:
            held.establish()
            self._live, self._candidate = held, None
            self._born = self._candidate_born
