"""EDHOC as responder, with its limits against floods (docs/protocol.md section 3)."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from aiocoap import (  # type: ignore[import-untyped]
    BAD_REQUEST,
    CHANGED,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    Message,
)

from cpns import cborlite, numbers
from cpns.errors import MalformedMessage
from message_plane import credentials, edhoc, tuning
from message_plane.credentials import INITIATORS_OF, ROLE_PNE, Credential
from message_plane.flood import FloodGuard, Verdict
from message_plane.half_open import HalfOpen
from message_plane.identity import OwnIdentity
from message_plane.incidents import Incidents
from message_plane.links.link import Address
from message_plane.session_store import SessionStore
from message_plane.sessions import Sessions
from message_plane.vouched import Vouched

# Returns whether an unregistered credential, sent by value, is accepted while the pairing window is open.
Accept = Callable[[Credential], bool]
# Called with a successor that has proved its key; returns whether it was registered in the place of its predecessor.
Succeed = Callable[[Credential], bool]

_MESSAGE_1 = b"\xf5"  # CBOR true before message_1 (RFC 9528, A.2.1)
_ERROR_UNSPECIFIED, _ERROR_WRONG_SUITE = 1, 2  # RFC 9528, 6


class _AddressOfAnother(edhoc.UnknownPeer):
    """A peer has proved its key at an address from which another entity alone can send (`Address.may_be`)."""


class Reception:
    """Answers the requests to the EDHOC resource. It computes, but does not wait. `now` is monotonic seconds."""

    def __init__(
        self, own: OwnIdentity, store: SessionStore, sessions: Sessions, incidents: Incidents, vouched: Vouched
    ) -> None:
        self._own = own
        self._store = store
        self._sessions = sessions
        self._incidents = incidents
        self._vouched = vouched
        self._guard = FloodGuard(secrets.token_bytes(32))
        self._half_open = HalfOpen()
        self._accept: Accept | None = None
        self.succeed: Succeed | None = None
        self._window_ends = 0.0
        self._did_not_fit: OrderedDict[bytes, str] = OrderedDict()

    def open_window(self, accept: Accept, ends: float) -> None:
        """Open the pairing window until `ends` (SEC-20).

        Credentials may then be sent by value in both directions, and `accept` decides about unregistered PNEs.
        """
        self._accept = accept
        self._window_ends = ends

    def close_window(self) -> None:
        self._accept = None

    def window_open(self, now: float) -> bool:
        """Return True while the pairing window is open."""
        return self._accept is not None and now < self._window_ends

    def expire(self, now: float) -> None:
        """Remove the handshakes whose message_3 has not come in time."""
        for _ in range(self._half_open.expire(now)):
            self._incidents.strange("handshakes_timed_out")

    def answer(self, payload: bytes, address: Address, echo: bytes | None, now: float) -> tuple[Any, bool]:
        """Return (response, whether it was computed) for a request to the EDHOC resource.

        A retransmission of the request must get the same response if it was computed. `echo`: the Echo value of the
        request, None if it has none. Raises LeaseLost if another process has the sessions of the peer's shard.
        """
        try:
            if payload[:1] == _MESSAGE_1:
                return self._message_1(payload[1:], address, echo, now)
            return self._message_3(payload, address, now), True
        except edhoc.WrongSuite:
            self._incidents.strange("handshakes_failed")
            return _error(_ERROR_WRONG_SUITE, edhoc.SUITE), False
        except edhoc.WrongRole:
            self._incidents.strange("handshakes_wrong_role")
        except _AddressOfAnother:
            self._incidents.strange("address_of_another")
        except edhoc.UnknownPeer:
            self._incidents.strange("handshakes_unknown_peer")
        except edhoc.HandshakeBroken as broken:
            self._incidents.strange("handshakes_failed")
            if broken.library_panic:  # a sender that knows C_R, with which message_3 begins, has its true address
                proven = payload[:1] != _MESSAGE_1 or self._guard.is_proven(address, echo, now)
                self._guard.punish(address, now, proven=proven)
        except MalformedMessage:
            self._incidents.strange("handshakes_failed")
        # One answer for all cases: it does not reveal which entities are registered or what was wrong.
        return _error(_ERROR_UNSPECIFIED, "refused"), False

    def _message_1(self, message_1: bytes, address: Address, echo: bytes | None, now: float) -> tuple[Any, bool]:
        if not INITIATORS_OF[self._own.role]:
            raise edhoc.WrongRole("nobody initiates towards this role")
        self.expire(now)
        # The limits are checked before anything is computed (SEC-21).
        known = self._vouched.name(address.link, address.place) is not None
        verdict = self._guard.judge(address, echo, self._half_open.crowded, now, known=known)
        if verdict is Verdict.CHALLENGE:
            self._incidents.strange("handshakes_challenged")
            return Message(code=UNAUTHORIZED, echo=self._guard.echo(address, now), max_age=0), False
        if verdict is Verdict.REFUSE:
            self._incidents.strange("handshakes_limited")
            return Message(code=TOO_MANY_REQUESTS, max_age=5), False
        proven = self._guard.is_proven(address, echo, now)
        c_r = self._sessions.unused_id(edhoc.C_R_LEN, self._half_open.__contains__)
        responder = edhoc.Responder(self._own, message_1, c_r, by_value=self.window_open(now))
        self._half_open.add(responder, address, now, proven=proven, known=known)
        self._incidents.count("handshakes_started")
        return _edhoc_message(responder.message_2), True

    def _message_3(self, payload: bytes, address: Address, now: float) -> Any:
        c_r, message_3 = edhoc.split_message_3(payload)
        responder = self._half_open.take(c_r, address)
        if responder is None:
            raise MalformedMessage("no handshake waits for this")
        offer = responder.offered(message_3)
        if offer.ccs is not None:
            peer, provisional = self._by_value(offer.ccs, now)
            others = 0
        else:
            candidates = self._by_kid(offer.kid or b"")
            peer, provisional, others = candidates[0], False, len(candidates) - 1
        try:
            message_4, established = responder.finish(peer, provisional)
        except edhoc.HandshakeBroken:
            if others:
                self._remember_misfit(peer)
            raise
        if not address.may_be(peer.entity_id):
            raise _AddressOfAnother("the link vouches that another entity sends from this address")
        if not provisional and not self._store.stands(peer) and not (self.succeed and self.succeed(peer)):
            raise edhoc.UnknownPeer("it could not be registered in the place of its predecessor")
        self._sessions.add_as_responder(established, address)
        self._incidents.count("handshakes_done")
        return _edhoc_message(message_4)

    def _by_kid(self, kid: bytes) -> list[Credential]:
        """Return the candidates for `kid`, which is only a hint (SEC-16), in the order in which they should be tried.

        The library can verify against one credential in each handshake. To make two keys with one kid takes 2**32
        tries; in this case the one that did not fit last time comes last, so the peer's next handshake succeeds. Raises
        WrongRole, UnknownPeer if there is no candidate.
        """
        found = self._store.candidates(kid)
        if not found and (successor := self._store.successor(kid=kid)):
            found = [successor[0]]
        candidates = [candidate for candidate in found if candidate.role in INITIATORS_OF[self._own.role]]
        if not candidates:
            if found:
                raise edhoc.WrongRole("the credential is good for another role only")
            raise edhoc.UnknownPeer("no such credential is registered")
        misfit = self._did_not_fit.get(kid)
        return sorted(candidates, key=lambda candidate: candidate.entity_id == misfit)

    def _remember_misfit(self, credential: Credential) -> None:
        self._did_not_fit[credential.kid] = credential.entity_id
        self._did_not_fit.move_to_end(credential.kid)
        if len(self._did_not_fit) > tuning.ADDRESSES_REMEMBERED:
            self._did_not_fit.popitem(last=False)

    def _by_value(self, ccs: bytes, now: float) -> tuple[Credential, bool]:
        offered = credentials.parse(ccs, ROLE_PNE)
        if ROLE_PNE not in INITIATORS_OF[self._own.role]:
            raise edhoc.WrongRole("no board is let in here")
        accept = self._accept
        if accept is None or not self.window_open(now):
            raise edhoc.UnknownPeer("credentials by value are taken while pairing only")
        if self._store.credential(offered.entity_id) == offered:
            return offered, False
        if not accept(offered):
            raise edhoc.UnknownPeer("the credential was not accepted")
        return offered, True


def _edhoc_message(octets: bytes) -> Any:
    return Message(code=CHANGED, content_format=numbers.CONTENT_EDHOC, payload=octets)


def _error(code: int, info: int | str) -> Any:
    payload = cborlite.encode(code) + cborlite.encode(info)
    return Message(code=BAD_REQUEST, content_format=numbers.CONTENT_EDHOC, payload=payload)
