"""The CPNS Server as a peer of the PNE: a session through the PN GW, which carries it unread (CPNS-GKM-50, SEC-25).

The session is made when something is to be asked. Its exporter makes the Entity User Key, which the Server takes at the
first request of the session. So that request follows the handshake at once.
"""

from cpns.errors import CpnsError
from device_agent import tuning
from device_agent.cose import Credential
from device_agent.end_to_end.entity_user_keys import EUK_LEN, EXPORTER_LABEL, OwnEntityUserKeys
from device_agent.end_to_end.tunnel import TunnelDriver
from device_agent.requests import CPNS
from device_agent.session import NoSession, Session

RECORD = "ssess"
_ADDRESS = ("server",)
_OTHER_HANDSHAKE = 100  # ms between looks whether it has ended


class Server:
    """The Server: `session`, and `keys`, the Entity User Keys. The agent passes its parts.

    `spare()` must free heap that can be made anew, before a handshake. `tell("session", {"server": ID})` is called for
    each new session.
    """

    def __init__(self, store, membership, clock, random, spare, tell):
        self._membership = membership
        self._identity = membership.identity
        self._clock = clock
        self._spare = spare
        self._tell = tell
        self._connecting = self._renew = False
        self._renewed_at = None
        self._made_at = self._gap = 0
        self.keys = OwnEntityUserKeys(store)
        self._tunnel = TunnelDriver(membership.ask, random)
        self.session = Session(store, self._identity, random, RECORD, "server_ccs", self.keys.keep)
        self.session.address = _ADDRESS

    @property
    def usable(self):
        """False if the PNE has neither the Server's credential nor an Entity User Key: it can open no key then."""
        return bool(self._identity.server_ccs) or self.keys.held

    def ask(self, options, octets):
        """Ask the Server, as `Session.ask` does, under a new session if there is none or it is in doubt (flow)."""
        if not self._wants():
            try:
                return (yield from self._tunnel.run(self.session.ask(options, octets)))
            except NoSession:
                if not self._wants():
                    raise
        yield from self._connect()
        return (yield from self._tunnel.run(self.session.ask(options, octets)))

    def next_try(self, otherwise):
        """Return when to ask again after NoSession: when a handshake may begin, if one is due, or `otherwise`."""
        return self.session.retry_at if self._wants() else otherwise

    def unknown_key(self, group):
        """Have a new session made, as a Group Key of `group` came under an EUK that is not held.

        That is done at most once an hour, as the PN GW can cause it.
        """
        now = self._clock.now()
        last = self._renewed_at
        if self._identity.server_ccs and (last is None or now - last >= tuning.EUK_RENEWAL_INTERVAL):
            self._renewed_at = now
            self._renew = True
            self.session.try_again(now)
            self._membership.hint(group, now, 0)

    def forget(self):
        """Erase session and keys, as another Server takes over."""
        self.session.forget()
        self.session.address, self.session.retry_at = _ADDRESS, 0
        self.keys.forget()

    def _wants(self):
        return self._renew or self.session.wants_handshake(self._clock.now())

    def _turn(self):
        # Wait for the end of another handshake, or of the shortest back-off (SEC-21)
        while True:
            pause = _OTHER_HANDSHAKE if self._connecting else self.session.retry_at - self._clock.now()
            if pause <= 0 or not (self._connecting or self._wants()):
                return
            if pause > tuning.HANDSHAKE_BACKOFF_MIN * 5 // 4:
                raise NoSession("no session with the Server yet")
            yield pause

    def _connect(self):
        yield from self._turn()
        if not self._wants():
            return
        session, now = self.session, self._clock.now()
        session.back_off(now)
        self._connecting = True
        try:
            self._spare()
            initiator, _ = yield from self._tunnel.run(session.handshake(now, _ADDRESS))
            self.keys.candidate = initiator.export(EXPORTER_LABEL, b"", EUK_LEN)
            initiator = None
            self._renew = False
            yield from self._tunnel.run(session.ask(CPNS, b""))
            if now - self._made_at > 10 * tuning.SERVER_HANDSHAKES:
                self._gap = 0
            self._gap = min(max(2 * self._gap, tuning.HANDSHAKE_BACKOFF_MIN), tuning.SERVER_HANDSHAKES)
            self._made_at = now
            session.retry_at = now + self._gap  # the PN GW can break sessions, and each is written to flash
        except CpnsError as error:  # nothing that the peer of a handshake says may count as an answer of the Server's
            raise NoSession("no session with the Server: " + error.reason) from None
        finally:
            self._connecting = False
        self._tell("session", {"server": Credential.parse(self._identity.server_ccs).entity_id})
