"""The pairing window (protocol.md section 9, SEC-20): both sides prove that they know the secret that the board shows.

It is open for one board, which a person named. The gateway says this name with its proof: a board without gateway takes
it, and comes again. A board that calls itself by another name is not paired (SEC-31). The module does no I/O: `now` is
monotonic seconds, and the caller passes the exporter value of the session, EDHOC_Exporter(EXPORTER_LABEL, '',
EXPORTER_LEN), with each message.
"""

from cpns import messages, numbers
from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic
from gateway_agent.core.fields import Fields, octets, own_id

OPEN_S = 300.0
SECRET_LEN = 10  # 80 bits, shown as 16 base32 characters; tries need not be limited, as guessing is hopeless
EXPORTER_LABEL, EXPORTER_LEN = 32768, 32
CALLERS_MAX = 8  # names of boards that called, shown to a person


class PairingWindow:
    """A pairing window. It is open for 5 minutes, or until a board of this or another name proves that it knows the
    secret."""

    def __init__(
        self,
        pne_id: str,
        secret: bytes,
        now: float,
        *,
        gateway_id: str,
        pn_id: str,
        signing_key: bytes,
        signing_epoch: int,
        server_credential: bytes = b"",
    ) -> None:
        """`secret`: the 10 octets that the board shows, kept until the window closes. Raises ValueError for others.

        `server_credential`: CCS octets of the CPNS Server, which the board pins for end-to-end groups; b"" for none.
        """
        if len(secret) != SECRET_LEN:
            raise ValueError(f"a pairing secret has {SECRET_LEN} octets")
        self.pne_id = pne_id
        self._secret = bytearray(secret)
        self._closes_at = now + OPEN_S
        self._gateway_id = gateway_id
        self._pn_id = pn_id
        self._signing_key = signing_key
        self._signing_epoch = signing_epoch
        self._server_credential = server_credential
        self.paired: str | None = None
        """PNE ID of the board that has paired; its credential may now be registered."""
        self.misnamed: str | None = None
        """PNE ID of the board that knew the secret, if it is another one than the person named."""
        self.callers: list[str] = []
        """PNE IDs of the first few boards that sent a PairingRequest while the window was open."""

    def __repr__(self) -> str:
        return f"PairingWindow({self.pne_id!r}, open={bool(self._secret)})"

    def is_open(self, now: float) -> bool:
        """Return whether the window is open. Closes it, which erases the secret, when its time is over."""
        if now >= self._closes_at:
            self.close()
        return bool(self._secret)

    def close(self) -> None:
        """Close the window and erase the secret."""
        for i in range(len(self._secret)):
            self._secret[i] = 0
        self._secret.clear()

    def answer(self, peer_id: str, fields: Fields, exporter: bytes, now: float) -> dict[int, object]:
        """Return the fields of the response to a PairingRequest.

        For a request without Authenticator the response proves that the gateway knows the secret, and has the name of
        this window whichever name the board has. A right Authenticator closes the window, and the board is paired if it
        has that name. A wrong one changes nothing here; the caller ends the session of the peer. `exporter` has
        EXPORTER_LEN octets. Raises NotAllowed (window closed, foreign PNE ID, another board), NotAuthentic (wrong
        Authenticator), MalformedMessage (no exporter value).
        """
        if len(exporter) != EXPORTER_LEN:
            raise MalformedMessage("the session exports no pairing value")
        pne_id = own_id(peer_id, fields)
        if not self.is_open(now):
            raise NotAllowed("no pairing window is open")
        if pne_id not in self.callers and len(self.callers) < CALLERS_MAX:
            self.callers.append(pne_id)
        if messages.AUTHENTICATOR not in fields:
            server = self._server_credential
            return {
                messages.RESULT: numbers.RESULT_SUCCESS,
                messages.AUTHENTICATOR: hmac_sha256(bytes(self._secret), b"gateway", exporter),
                messages.GATEWAY_ID: self._gateway_id,
                messages.PN_ID: self._pn_id,
                messages.SIGNING_KEY: self._signing_key,
                messages.SIGNING_EPOCH: self._signing_epoch,
                messages.PNE_ID: self.pne_id,
                **({messages.SERVER_CREDENTIAL: server} if server else {}),
            }
        expected = hmac_sha256(bytes(self._secret), b"pne", exporter)
        if not equal(expected, octets(fields, messages.AUTHENTICATOR)):
            raise NotAuthentic("the pairing authenticator is wrong")
        self.close()
        if pne_id != self.pne_id:
            self.misnamed = pne_id
            raise NotAllowed("the pairing window is for another board")
        self.paired = pne_id
        return {messages.RESULT: numbers.RESULT_SUCCESS}
