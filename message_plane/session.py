"""One OSCORE security context with one peer (RFC 8613): aiocoap's cryptography with stored sender numbers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiocoap import CHANGED, POST, Message, oscore  # type: ignore[import-untyped]

from cpns.errors import MalformedMessage
from message_plane import tuning
from message_plane.clock import monotonic
from message_plane.credentials import Credential
from message_plane.datagram import check_options
from message_plane.errors import NoSession
from message_plane.lease import Lease
from message_plane.links.link import Address
from message_plane.rate import Bucket
from message_plane.session_store import RaiseCeiling, StoredContext

PIV_MAX = 5  # octets
_PIV_BITS = 0b0000_0111
_KID_BIT = 0b0000_1000


@dataclass(frozen=True, slots=True)
class Peer:
    """The sender of a verified request. Name and role are those of the credential that authenticated, not of a message.

    `provisional`: an unregistered peer of an open pairing window, which reaches the pairing handler only; `session`:
    the recipient ID of the session of the request. Provisional peers must be told apart by it, as several of them may
    use one name.
    """

    entity_id: str
    role: str
    provisional: bool = False
    session: bytes = field(default=b"", compare=False, repr=False)


def parse_option(value: bytes) -> tuple[int, bytes]:
    """Return (sequence number, kid) in the OSCORE option of a request (RFC 8613, 6.1). Raises MalformedMessage.

    A kid context or a group flag is refused, because no entity of keycast sends them.
    """
    if not value or value[0] & ~(_PIV_BITS | _KID_BIT) or not value[0] & _KID_BIT:
        raise MalformedMessage("OSCORE option without kid, or with unknown flags")
    length = value[0] & _PIV_BITS
    if not 1 <= length <= PIV_MAX or len(value) < 1 + length:
        raise MalformedMessage("OSCORE option without a partial IV of 1..5 octets")
    return int.from_bytes(value[1 : 1 + length], "big"), value[1 + length :]


class Session(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """An OSCORE context for both directions.

    `sender_sequence_number` is the next sender number. Numbers below `ceiling` are stored as used (SEC-22);
    `Sessions.numbers_for` reserves more before a message is sent. A context from the store goes on at a random number
    above the ceiling: who puts an old copy of the store back without `restore` has two processes begin at one ceiling,
    and neither can know of the other (SEC-02). Its replay window is not known, so its first request is answered with an
    Echo challenge (RFC 8613, B.1.2).

    Nothing is protected without the lease. A process that has taken over the lease does not know the window either and
    challenges, too, so the two never answer the same request and never use a nonce twice (SEC-23). Nothing is protected
    or accepted any more when the key of the handshake is no longer the registered one of the peer (SEC-32).
    """

    alg_aead = oscore.algorithms["AES-CCM-16-64-128"]
    hashfun = oscore.hashfunctions["sha256"]
    id_context = None

    def __init__(
        self,
        stored: StoredContext,
        peer: Peer,
        lease: Lease,
        *,
        credential: Credential,
        stands: Callable[[Credential], bool],
        echo: bytes | None,
        exporter_key: bytes | None = None,
    ) -> None:
        """`credential`: the one that authenticated; `stands` returns whether it is still registered.

        `echo`: 8 random octets for a context from the store, None for a new one, whose window begins empty.
        `exporter_key` is known only for sessions that were made in this process.
        """
        self.stored = stored
        self.peer = peer
        self.exporter_key = exporter_key
        self.sender_id = stored.sender_id
        self.recipient_id = stored.recipient_id
        skipped = 0 if echo is None else secrets.randbelow(tuning.NUMBERS_SKIPPED)
        self.ceiling = stored.sender_ceiling + skipped
        self.sender_sequence_number = 0 if echo is None else self.ceiling
        self.echo_recovery = echo
        self.recipient_replay_window = oscore.ReplayWindow(tuning.REPLAY_WINDOW, lambda: None)
        if echo is None:
            self.recipient_replay_window.initialize_empty()
        self.challenges = Bucket(*tuning.ECHO_CHALLENGES)
        self.credential = credential
        self._stands = stands
        self.ended = False  # whether this process has ended it; `over` also covers other causes
        self.ends_when_answered = False
        self.heard_at: float | None = None  # monotonic seconds when a message of the peer verified last
        self.address: Address | None = None  # the address of `place`, once it was looked up
        self.place = ""
        self.heard: Address | None = None  # source of the peer's newest verified request or of its handshake
        self.newest = -1  # the sequence number of that request
        self.lease = lease
        self._begun = monotonic() - stored.lived_s
        self.derive_keys(stored.master_salt, stored.master_secret)
        self._common_iv_number = int.from_bytes(self.common_iv, "big")

    def __repr__(self) -> str:
        return f"<Session with {self.peer.entity_id!r}, recipient ID {self.recipient_id.hex()}>"

    @property
    def entity_id(self) -> str:
        return self.peer.entity_id

    @property
    def over(self) -> bool:
        """True if the session was ended, or any process has replaced or removed its key (SEC-32). Raises StoreError."""
        return self.ended or not (self.peer.provisional or self._stands(self.credential))

    def worn_out(self, now: float) -> bool:
        """Return True if the session is 30 days old (SEC-36) or has used its 2^20 numbers. `now`: monotonic seconds."""
        return self.sender_sequence_number >= tuning.SESSION_NUMBERS_MAX or now - self._begun > tuning.SESSION_LIFE_S

    @property
    def needs_numbers(self) -> bool:
        """True if no reserved sender number is left."""
        return self.sender_sequence_number >= self.ceiling

    def next_block(self) -> RaiseCeiling:
        """Return the change that must be committed before more numbers may be used, and passed to `block_reserved`."""
        return RaiseCeiling(self.recipient_id, self.ceiling + tuning.NUMBERS_STEP)

    def block_reserved(self, block: RaiseCeiling) -> None:
        """Note that the commit of `block` is on disk."""
        self.ceiling = max(self.ceiling, block.ceiling)

    # Methods that aiocoap's base classes call

    def new_sequence_number(self) -> int:
        if self.needs_numbers:
            raise oscore.ContextUnavailable("no sender number is reserved")
        number = self.sender_sequence_number
        self.sender_sequence_number += 1
        return number

    def post_seqnoincrease(self) -> None:
        """Do nothing, because numbers are reserved in blocks beforehand."""

    def protect(self, message: Any, request_id: Any = None, *, kid_context: Any = True) -> Any:
        """Protect a message as aiocoap does.

        Raises LeaseLost, StoreError, NoSession if the session is over, and ContextUnavailable if a number is needed and
        none is reserved.
        """
        self.lease.require()
        self._require()
        return super().protect(message, request_id, kid_context=kid_context)

    def unprotect(self, protected_message: Any, request_id: Any = None) -> Any:
        """Unprotect a message as aiocoap does. When the window is known a replay is refused before it is decrypted.

        Raises NoSession if the session is over, StoreError, and aiocoap's errors.
        """
        self._require()
        result = super().unprotect(protected_message, request_id)
        if self.echo_recovery is not None and self.recipient_replay_window.is_initialized():
            self.echo_recovery = None
        return result

    def _require(self) -> None:
        if self.over:
            raise NoSession(f"the session with {self.entity_id!r} is over")

    def _construct_nonce(self, partial_iv_short: bytes, piv_generator_id: bytes, alg: Any) -> bytes:
        """Return the nonce of RFC 8613, 5.2. It is computed with integers, not octet by octet, as it is done often."""
        padded_id = piv_generator_id.rjust(alg.iv_bytes - 6, b"\0")
        parts = bytes([len(piv_generator_id)]) + padded_id + partial_iv_short.rjust(PIV_MAX, b"\0")
        return (int.from_bytes(parts, "big") ^ self._common_iv_number).to_bytes(alg.iv_bytes, "big")

    def _split_message(self, message: Any, request_id: Any) -> tuple[Any, bytes]:
        """Return (outer message, plaintext). All options are encrypted, as those of keycast are of class E."""
        plaintext = bytes([message.code]) + message.opt.encode()
        if message.payload:
            plaintext += b"\xff" + message.payload
        return Message(code=POST if request_id is None else CHANGED), plaintext

    def _post_decrypt_checks(self, aad: bytes, plaintext: bytes, protected_message: Any, request_id: Any) -> None:
        """Check the inner options before they are decoded, as an authenticated peer may be hostile, too."""
        try:
            check_options(plaintext, 1)
        except MalformedMessage as error:
            raise oscore.ProtectionInvalid(error.reason) from None
