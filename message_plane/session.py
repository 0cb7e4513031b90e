"""One OSCORE security context with one peer (RFC 8613): aiocoap's cryptography over numbers that survive a restart."""

from __future__ import annotations

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
from message_plane.links.link import Address
from message_plane.rate import Bucket
from message_plane.session_store import Lease, RaiseCeiling, StoredContext

PIV_MAX = 5  # octets
_PIV_BITS = 0b0000_0111
_KID_BIT = 0b0000_1000


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a verified request: taken from the credential that authenticated, never from a message.

    `provisional`: an unregistered peer of an open pairing window; it reaches the pairing handler only. `session` names
    the session it spoke on: strangers may call themselves alike, so nothing that is done for one goes by the name.
    """

    entity_id: str
    role: str
    provisional: bool = False
    session: bytes = field(default=b"", compare=False, repr=False)


def parse_option(value: bytes) -> tuple[int, bytes]:
    """Return (sequence number, kid) in the OSCORE option of a request (RFC 8613, 6.1). Raises MalformedMessage.

    No kid context and no group flag: nothing of ours sends them.
    """
    if not value or value[0] & ~(_PIV_BITS | _KID_BIT) or not value[0] & _KID_BIT:
        raise MalformedMessage("OSCORE option without kid, or with unknown flags")
    length = value[0] & _PIV_BITS
    if not 1 <= length <= PIV_MAX or len(value) < 1 + length:
        raise MalformedMessage("OSCORE option without a partial IV of 1..5 octets")
    return int.from_bytes(value[1 : 1 + length], "big"), value[1 + length :]


class Session(oscore.CanProtect, oscore.CanUnprotect, oscore.SecurityContextUtils):  # type: ignore[misc]
    """A context for both directions.

    Sender numbers: `sender_sequence_number` is the next one, numbers below `ceiling` are on disk as used up
    (SEC-22); who wants to send calls `reserve` first. The replay window of a context from the store is unknown, so
    its first request is answered with an Echo challenge (RFC 8613, B.1.2). Nothing is protected without the lease:
    another process that took the lease knows no window either and challenges too, so the two never answer
    the same request, and never use one nonce twice (SEC-23). Nothing is protected or taken either once the key that
    the handshake was made with is not the registered one of the peer any more (SEC-32).
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
        """`credential`: the one that authenticated; `stands` says whether it is registered still.

        `echo`: 8 random octets for a context from the store; None for a new one, whose window starts empty.
        `exporter_key` is known for sessions made in this process only.

        A context that is not on disk (a provisional peer's) has a `sender_ceiling` that is never reached.
        """
        self.stored = stored
        self.peer = peer
        self.exporter_key = exporter_key
        self.sender_id = stored.sender_id
        self.recipient_id = stored.recipient_id
        self.sender_sequence_number = stored.sender_ceiling if echo is not None else 0
        self.ceiling = stored.sender_ceiling
        self.echo_recovery = echo
        self.recipient_replay_window = oscore.ReplayWindow(tuning.REPLAY_WINDOW, lambda: None)
        if echo is None:
            self.recipient_replay_window.initialize_empty()
        self.challenges = Bucket(*tuning.ECHO_CHALLENGES)
        self.credential = credential
        self._stands = stands
        self.ended = False  # by this process; ask `over`
        self.ends_when_answered = False
        self.heard_at: float | None = None  # monotonic seconds, when something of the peer verified last
        self.address: Address | None = None  # of `place`, once something was sent there
        self.place = ""
        self.heard: Address | None = None  # where its newest verified request, or a handshake of its own, came from
        self.newest = -1  # the sequence number of that request
        self._lease = lease
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
        """True once it was ended, or its key was replaced or removed, by whomever (SEC-32). Raises StoreError."""
        return self.ended or not (self.peer.provisional or self._stands(self.credential))

    def worn_out(self, now: float) -> bool:
        """Return True when the session has lived its 30 days (SEC-36; `now` is monotonic) or sent its 2^20 messages."""
        return self.sender_sequence_number >= tuning.SESSION_NUMBERS_MAX or now - self._begun > tuning.SESSION_LIFE_S

    @property
    def needs_numbers(self) -> bool:
        """True when no sender number is left that may be used."""
        return self.sender_sequence_number >= self.ceiling

    def next_block(self) -> RaiseCeiling:
        """Return what must be committed before more numbers may be used; `block_reserved` gets it afterwards."""
        return RaiseCeiling(self.recipient_id, self.ceiling + tuning.NUMBERS_STEP)

    def block_reserved(self, block: RaiseCeiling) -> None:
        """The commit of `block` is on disk."""
        self.ceiling = max(self.ceiling, block.ceiling)

    # What aiocoap's base classes ask for

    def new_sequence_number(self) -> int:
        if self.needs_numbers:
            raise oscore.ContextUnavailable("no sender number is reserved")
        number = self.sender_sequence_number
        self.sender_sequence_number += 1
        return number

    def post_seqnoincrease(self) -> None:
        """Nothing to store: numbers are reserved in blocks beforehand."""

    def protect(self, message: Any, request_id: Any = None, *, kid_context: Any = True) -> Any:
        """As aiocoap's. Raises LeaseLost, StoreError, NoSession when the session is over, and ContextUnavailable
        when a number is needed and none is reserved."""
        self._lease.require()
        self._require()
        return super().protect(message, request_id, kid_context=kid_context)

    def unprotect(self, protected_message: Any, request_id: Any = None) -> Any:
        """As aiocoap's; once the window is known, a replay is refused before anything is decrypted.

        Raises NoSession when the session is over, StoreError.
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
        """RFC 8613, 5.2, on whole numbers instead of octet by octet: it is done twice for every message."""
        padded_id = piv_generator_id.rjust(alg.iv_bytes - 6, b"\0")
        parts = bytes([len(piv_generator_id)]) + padded_id + partial_iv_short.rjust(PIV_MAX, b"\0")
        return (int.from_bytes(parts, "big") ^ self._common_iv_number).to_bytes(alg.iv_bytes, "big")

    def _split_message(self, message: Any, request_id: Any) -> tuple[Any, bytes]:
        """Return the options as they are: all of ours are encrypted (class E), so none is sorted out."""
        plaintext = bytes([message.code]) + message.opt.encode()
        if message.payload:
            plaintext += b"\xff" + message.payload
        return Message(code=POST if request_id is None else CHANGED), plaintext

    def _post_decrypt_checks(self, aad: bytes, plaintext: bytes, protected_message: Any, request_id: Any) -> None:
        """A member may be hostile too: look at the inner options before they are taken apart."""
        try:
            check_options(plaintext, 1)
        except MalformedMessage as error:
            raise oscore.ProtectionInvalid(error.reason) from None
