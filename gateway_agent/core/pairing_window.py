"""The pairing window (protocol.md section 9, SEC-20): both sides prove that they know the secret the board shows.

It is open for one board, which a person named: what the board calls itself counts for nothing against that (SEC-31).
Pure: `now` is monotonic seconds, X = EDHOC_Exporter(EXPORTER_LABEL, '', EXPORTER_LEN) comes with each message.
"""

from cpns import messages, numbers
from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic
from gateway_agent.core.fields import Fields, octets, own_id

OPEN_S = 300.0
SECRET_LEN = 10  # 80 bits, shown as 16 base32 characters: no number of tries finds them, so tries are not counted
EXPORTER_LABEL, EXPORTER_LEN = 32768, 32
CALLERS_MAX = 8  # names of those who called that a person is told


class PairingWindow:
    """Open for 5 minutes, or until the board of this name, or another one by mistake, has proved to know the secret."""

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
    ) -> None:
        """`secret`: the 10 octets the board shows; it is kept here until the window closes. Raises ValueError."""
        if len(secret) != SECRET_LEN:
            raise ValueError(f"a pairing secret has {SECRET_LEN} octets")
        self.pne_id = pne_id
        self._secret = bytearray(secret)
        self._closes_at = now + OPEN_S
        self._gateway_id = gateway_id
        self._pn_id = pn_id
        self._signing_key = signing_key
        self._signing_epoch = signing_epoch
        self.paired: str | None = None
        """PNE ID of the board that has paired; its credential may now be registered."""
        self.misnamed: str | None = None
        """What the board that knew the secret called itself, when that is another name than the person said."""
        self.callers: list[str] = []
        """The first few names under which somebody called and proved nothing, or nothing right."""

    def __repr__(self) -> str:
        return f"PairingWindow({self.pne_id!r}, open={bool(self._secret)})"

    def is_open(self, now: float) -> bool:
        """False once closed; erases the secret when the time is over."""
        if now >= self._closes_at:
            self.close()
        return bool(self._secret)

    def close(self) -> None:
        """Erase the secret."""
        for i in range(len(self._secret)):
            self._secret[i] = 0
        self._secret.clear()

    def answer(self, peer_id: str, fields: Fields, exporter: bytes, now: float) -> dict[int, object]:
        """PairingRequest: the fields of the response.

        Without Authenticator the gateway proves itself; with the right one, from the board of this window's name, the
        board is paired and the window closes. A wrong one changes nothing: whoever sent it has lost its session.
        Raises NotAllowed (closed, foreign PNE ID, another board), NotAuthentic (wrong), MalformedMessage (exporter).
        """
        if len(exporter) != EXPORTER_LEN:
            raise MalformedMessage("the session exports no pairing value")
        pne_id = own_id(peer_id, fields)
        if not self.is_open(now):
            raise NotAllowed("no pairing window is open")
        if pne_id not in self.callers and len(self.callers) < CALLERS_MAX:
            self.callers.append(pne_id)
        if messages.AUTHENTICATOR not in fields:
            return {
                messages.RESULT: numbers.RESULT_SUCCESS,
                messages.AUTHENTICATOR: hmac_sha256(bytes(self._secret), b"gateway", exporter),
                messages.GATEWAY_ID: self._gateway_id,
                messages.PN_ID: self._pn_id,
                messages.SIGNING_KEY: self._signing_key,
                messages.SIGNING_EPOCH: self._signing_epoch,
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
