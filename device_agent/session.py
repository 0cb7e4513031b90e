"""The secure session of a PNE with its PN GW, or the CPNS Server (CPNS-GKM-50): made by EDHOC, protected by OSCORE.

A flow (`device_agent`) is a generator; the agent resumes it with `send`. It yields

    None                                             to let other tasks run; it is sent None
    an int                                           to wait that many ms; it is sent None
    (address, code, options, payload, timeout ms)    to ask one peer by CoAP; it is sent the coap Message or None
    (None, code, options, payload, timeout ms)       to ask all peers; it is sent a list of (address, Message)

and returns its value. Two contexts may exist at a time: the established one, which is in the store, and a candidate
from a new handshake, which replaces it only when it has verified a message (SEC-21). A candidate needs no record:
a power cut loses its keys and its sender numbers together.
"""

import sys

from cpns import cborlite
from cpns import numbers as n
from cpns.errors import CpnsError, MalformedMessage, NotAllowed, Stale, Unknown
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
    """There is no session with the peer, or it does not answer."""


def unload(name):
    """Free the heap of a module that is seldom needed, on MicroPython only; a later import loads it anew."""
    if sys.implementation.name == "micropython" and name in sys.modules:
        del sys.modules[name]
        package, _, module = name.rpartition(".")
        if module in sys.modules[package].__dict__:
            delattr(sys.modules[package], module)


class _Held:
    """An OSCORE context with its state in the store: keys, and the ceiling of used sender numbers (SEC-22)."""

    def __init__(self, store, record, keys, ceiling, stored, random):
        self.keys = keys  # secret, salt, sender ID, recipient ID
        self.ceiling = ceiling
        self.challenges = 0  # WindowLost that were answered: each uses a sender number, and these wear the flash
        self._store = store
        self._record = record
        self._stored = stored
        self.oscore = oscore.Context(*keys, ceiling, self.reserve, fresh=not stored, echo=random(8))

    def reserve(self, ceiling):
        if self._stored:
            record = list(self.keys)
            record.append(ceiling)
            self._store.save(self._record, cborlite.encode(record))
        self.ceiling = ceiling

    def establish(self):
        self._stored = True
        self.reserve(self.ceiling)


class Session:
    """The session. `store` is a KeyStore, `identity` a Provisioning; `address` is that of the peer, or None.

    `record` is the name of the session's record, and `peer` that of the attribute of `identity` with the credential of
    the peer. `before_use()` is called before a new session is stored and used.
    """

    def __init__(self, store, identity, random, record=RECORD, peer="gateway_ccs", before_use=None):
        self._store = store
        self._record = record
        self._peer = peer
        self._before_use = before_use
        self._identity = identity
        self._random = random
        self._live = self._candidate = None
        self._born = self._wait = self.retry_at = self._tried_at = 0
        self._doubt = 0  # unanswered or refused requests since the last verified message
        self.address = None
        self.patience = tuning.EXCHANGE_TIMEOUT  # ms, shorter while no answer came from `address`
        self.silent = False  # the last request got no answer: the PN GW may be elsewhere
        self.reached = False  # a request to `address` was answered
        octets = store.load(record)
        if octets is not None:
            *keys, ceiling = cborlite.decode(octets)
            self._live = _Held(store, record, keys, ceiling, True, random)

    @property
    def up(self):
        """True if a request can be protected and the PN GW's address is known."""
        return self.address is not None and (self._candidate or self._live) is not None

    def wants_handshake(self, now):
        """Return True if a new handshake is due, at `retry_at`: there is no session, or a doubtful, old or worn one."""
        live = self._live
        return self._candidate is None and (
            live is None
            or self._doubt > 1
            or live.ceiling > tuning.SESSION_NUMBERS_MAX
            or now - self._born > tuning.SESSION_AGE_MAX
        )

    def back_off(self, now):
        """Begin an attempt to reach the PN GW: set `retry_at`, later each time until a message is verified."""
        self._tried_at = now
        self._wait = min(max(2 * self._wait, tuning.HANDSHAKE_BACKOFF_MIN), tuning.HANDSHAKE_BACKOFF_MAX)
        self.retry_at = now + self._wait + self._wait * self._random(1)[0] // 1024

    def network_lost(self):
        """Note that the network is gone; in the next one the PN GW may have another address."""
        self.silent, self.reached = True, False

    def try_again(self, now):
        """Try again soon, as the network is back; failures without it say nothing about the PN GW."""
        self._wait = 0
        self.retry_at = min(self.retry_at, max(now, self._tried_at + tuning.HANDSHAKE_BACKOFF_MIN))

    def resume(self, address, patience):
        """Use the session at `address`, and wait `patience` ms for the first answer from there."""
        self.address, self.patience = address, patience
        self.silent = self.reached = False

    def handshake(self, now, address, pairing=False, patience=tuning.EDHOC_TIMEOUT):
        """Do one EDHOC handshake as initiator with `address`, which makes a candidate context. This is a flow.

        The answer to message_1 may take `patience` ms. The value is (initiator, context for `ask` and `adopt`).
        If `pairing`, the peer is not known yet and credentials are sent by value; then no candidate is made. Raises
        CpnsError if the responder is not the pinned peer, NoSession without an answer; the live session stays then.
        """
        from device_agent import edhoc
        from device_agent.crypto import p256

        identity = self._identity
        peer = None if pairing else Credential.parse(getattr(identity, self._peer))
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
        held = _Held(self._store, self._record, initiator.oscore(), 0, False, self._random)
        if not pairing:
            self._candidate, self._candidate_born = held, now
            self.resume(address, tuning.EXCHANGE_TIMEOUT)
            self.reached = True
        return initiator, held

    def _edhoc(self, address, octets, patience):
        answer = yield (address, POST, _EDHOC, octets, patience)
        if answer is None:
            raise NoSession("no answer to EDHOC")
        if answer.code != CHANGED:
            raise NotAllowed("EDHOC is refused")
        return answer.payload

    def forget(self):
        """Forget the session, as another peer takes over: those of the old one are refused, also after a restart."""
        self._store.erase(self._record)
        self._live = self._candidate = self.address = None

    def adopt(self, held, now, address):
        """Make `held`, the context of a pairing that succeeded, the only one."""
        self._candidate, self._candidate_born = held, now
        self.resume(address, tuning.EXCHANGE_TIMEOUT)
        self._verified(held)

    def ask(self, options, octets, held=None, address=None):
        """Ask the peer, or that of a pairing, for what `options` name; return (options, body) of its answer.

        Raises NoSession without an answer, MalformedMessage, NotAllowed or Unknown for 4.00, 4.03 or 4.04. This is a
        flow.
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
                # An answer that is not protected is only a hint, as any peer can send it. Two hints cause a handshake.
                # Silence from an address that never answered counts against the address only.
                self.silent = answer is None
                if self.reached or answer:
                    self._doubt += 1
                if held is self._candidate:
                    self._candidate = None
                elif held is self._live and answer and self._doubt == 1:
                    continue
                raise NoSession("no answer" if answer is None else "the session is not known there")
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
            raise NotAllowed("the request is refused")
        if code == BAD_REQUEST:
            raise MalformedMessage("the request is not understood")
        if code == NOT_FOUND:
            raise Unknown("the peer has no such resource")
        raise NoSession("no answer is possible now")

    def refusal(self, message):
        """Return (code, options, payload) to refuse a request under no session of ours; None if it may be under one."""
        try:
            return None if self._held_for(message) else (UNAUTHORIZED, (), b"")
        except CpnsError:
            return BAD_REQUEST, (), b""

    def unprotect(self, message, address):
        """Verify a CoAP request that came in and return (answer, request).

        `request` is its protected (code, options, payload). `answer(code, options, payload)` protects our answer and
        returns the arguments of the CoAP reply. Or `request` is None, and `answer` is the reply itself, or None if
        there is none: replays are dropped, and after too many challenges also what may be one (SEC-27). It raises no
        CpnsError (SEC-21), but OSError if the store fails.
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
            return  # the context of a pairing
        self._doubt = self._wait = 0
        self.silent, self.reached, self.patience = False, True, tuning.EXCHANGE_TIMEOUT
        if held is self._candidate:
            if self._before_use:
                self._before_use()
            held.establish()
            self._live, self._candidate = held, None
            self._born = self._candidate_born
