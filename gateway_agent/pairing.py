"""Pairing on the message plane, in a window that a person has opened for one board (SEC-20, SEC-31).

There is one window at a time. It is open while `pair` runs, so it closes when the command of the person ends.
`core.pairing_window` checks the proofs.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable

from cpns import messages, name_rule, numbers
from cpns.errors import CpnsError, NotAllowed, NotAuthentic
from gateway_agent.core import events
from gateway_agent.core.administration import Administration
from gateway_agent.core.pairing_window import EXPORTER_LABEL, EXPORTER_LEN, OPEN_S, PairingWindow
from gateway_agent.registrar import Registrar
from message_plane.cpns_resource import PATH, board_resource
from message_plane.credentials import Credential
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import PlaneError


class Pairing:
    """Opens pairing windows and answers the PairingRequests of boards."""

    def __init__(
        self,
        administration: Administration,
        endpoint: Endpoint,
        registrar: Registrar,
        server_credential: Callable[[], bytes],
        tell: events.Tell,
        counters: Counter[str],
    ) -> None:
        """`server_credential` returns the CCS octets of the CPNS Server that boards are told of, b"" for none."""
        self._administration = administration
        self._endpoint = endpoint
        self._registrar = registrar
        self._server_credential = server_credential
        self._tell = tell
        self._counters = counters
        self._window: PairingWindow | None = None
        self._done = asyncio.Event()  # set when the newest pairing has ended
        self._replace = False
        self._refused: Exception | None = None

    async def pair(self, pne_id: str, secret: bytes, *, replace: bool = False) -> str:
        """Admit the board that is called `pne_id` and shows `secret` (10 octets) to the PN; return its name.

        `replace`: also if the name is taken; the PNE that has it is retired then. If the call is cancelled no board is
        admitted any more. Raises NameTaken at once; NotAllowed if no board has paired within five minutes, the board
        calls itself otherwise, or another pairing begins; RegistrationRefused if the board's key belongs to another
        name; StoreError if the credential cannot be stored.
        """
        self._registrar.require_free(pne_id, replace=replace)
        self._done.set()  # ends the pairing before, whose secret admits no board any more
        done = self._done = asyncio.Event()
        window = self._window = self._administration.open_pairing(pne_id, secret, self._server_credential())
        self._replace, self._refused = replace, None
        self._tell(events.PairingOpened(pne_id, int(time.time() + OPEN_S)))
        outcome = "cancelled"
        self._endpoint.open_pairing(_has_a_name, {PATH: board_resource(self.answer)}, duration_s=OPEN_S)
        try:
            async with asyncio.timeout(OPEN_S):
                await done.wait()
            outcome = "in" if window.paired is not None and self._refused is None else "refused"
        except TimeoutError:
            outcome = "run out"
        finally:
            window.close()
            if self._window is window:
                self._window = None
                self._endpoint.close_pairing()
                refused = self._refused
            else:
                refused, outcome = None, "cancelled"
            self._tell(events.PairingEnded(pne_id, outcome))
        if refused is not None:
            raise refused
        if window.paired is None:
            raise NotAllowed(_what_was_seen(window))
        return window.paired

    def concerns(self, peer: Peer, message: bytes) -> bool:
        """Return True if a message of a PNE is a PairingRequest to be answered here.

        A PNE that was admitted sends one if it is paired again, or if it has not received the last response.
        """
        if self._window is None and not self._registrar.is_pairing(peer.entity_id):
            return False
        return bool(messages.decode(message)[0] == numbers.PAIRING_REQUEST)

    async def answer(self, peer: Peer, message: bytes) -> bytes:
        """Return the answer to a PairingRequest of an unregistered board or of a PNE that was admitted.

        A refusal is a response with Result 2. Raises NotAllowed for other messages, MalformedMessage.
        """
        code, fields = messages.decode(message)
        if code != numbers.PAIRING_REQUEST:
            raise NotAllowed("a board that is being paired sends a PairingRequest")
        window = self._window
        try:
            if window is None:
                return self._answer_again(peer, messages.AUTHENTICATOR in fields)
            exporter = self._endpoint.export(peer, EXPORTER_LABEL, EXPORTER_LEN)
            answer = window.answer(peer.entity_id, fields, exporter, asyncio.get_running_loop().time())
        except CpnsError as error:
            self._counters["pairing_refused"] += 1
            if isinstance(error, NotAuthentic):
                self._endpoint.end_when_answered(peer)
            if window is not None and window.misnamed is not None:
                self._done.set()
            return bytes(messages.failure(numbers.PAIRING_REQUEST, error))
        except PlaneError:
            raise NotAllowed("this session has no pairing value") from None
        if window.paired is not None:
            await self._let_in(peer)
        return bytes(messages.encode(numbers.PAIRING_RESPONSE, answer))

    async def _let_in(self, peer: Peer) -> None:
        """Register the board, which has proved that it knows the secret, and end the pairing.

        Any exception is also raised by `pair`.
        """
        done = self._done
        try:
            self._registrar.register(self._endpoint.credential(peer), replace=self._replace, pairing=True)
            if peer.provisional:
                await self._endpoint.admit(peer)
            self._tell(events.Paired(peer.entity_id))
        except Exception as problem:  # the person must get any exception instead of a success
            self._refused = problem
            if isinstance(problem, PlaneError):
                raise NotAllowed("this board could not be let in") from None
            raise
        finally:
            done.set()

    def _answer_again(self, peer: Peer, has_proof: bool) -> bytes:
        """Answer a board that was admitted and asks once more, because the last answer was lost."""
        if peer.provisional or not has_proof:
            raise NotAllowed("no pairing window is open")
        return bytes(messages.encode(numbers.PAIRING_RESPONSE, {messages.RESULT: numbers.RESULT_SUCCESS}))


def _has_a_name(credential: Credential) -> bool:
    return name_rule.fault(credential.entity_id) is None


def _what_was_seen(window: PairingWindow) -> str:
    wanted = window.pne_id
    begin = f"no board has proved that it is {wanted!r} and shows this secret; the pairing window is closed"
    if window.misnamed is not None:
        return (
            f"the board that shows this secret calls itself {window.misnamed!r}, not {wanted!r}: it is not let in. "
            "If that is the board you mean, pair it by that name"
        )
    if wanted in window.callers:
        return f"{begin}. A board of that name came and did not accept the secret: compare all 16 characters"
    if window.callers:
        names = ", ".join(map(repr, window.callers))
        return f"{begin}. Boards came that call themselves {names}, and none accepted it: compare all 16 characters"
    return f"{begin}. No board came: is it on this network, and does it show the secret still?"
