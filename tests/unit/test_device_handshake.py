"""A board's session and pairing against EDHOC of lakers: which peer is believed, and the state after a failure."""

import base64
import itertools
import secrets

import device_world
import pytest

from cpns import cborlite
from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, NotAuthentic, Unknown
from device_agent import pairing, unpaired
from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.key_store import KeyStore
from device_agent.provisioning import RECORD, Provisioning, parse
from device_agent.requests import CPNS
from device_agent.session import NoSession
from tests.unit.device_gateway import LakersGateway, PairingGateway, Party

SIGNING = p256.run(p256.public_key(device_world.SIGNING))


class Board(device_world.World):
    """A World whose PNE has a key of its own, with the gateway `gateway`, paired already or not."""

    def __init__(self, gateway, paired=True):
        self.party = Party("pne-1")
        self._gateway = gateway
        self._paired = paired
        super().__init__(session=False)
        self.gateway = gateway
        gateway.boards.add(self.party.credential.ccs)

    def boot(self):
        store = KeyStore(self.medium)
        if parse(store.load(RECORD)).ccs != self.party.credential.ccs:
            own = (self.party.credential.entity_id, self.party.private, self.party.credential.ccs)
            pinned = self._gateway.party.credential
            known = (pinned.entity_id, pinned.ccs, SIGNING, 1, "home") if self._paired else ("", b"", b"", 0, "")
            store.save(RECORD, Provisioning(*own, *known, "gw").pack())
        super().boot()

    @property
    def session(self):
        return self.agent.session

    def shake(self):
        return self.perform(self.session.handshake(self.clock.ms, "gw"))

    def leave(self):
        """One request over the session."""
        message = m.encode(n.LEAVE_REQUEST, {m.PNE_ID: "pne-1", m.SG_ID: "kitchen"})
        return self.perform(self.session.ask(CPNS, message))

    def pair(self, secret):
        discovery = self.agent._discovery
        parts = self.agent.identity, self.agent.store, self.session, discovery, self.clock
        self.perform(pairing.pair(secret, *parts, self.agent._forget_gateway, self.agent._forget_server))


@pytest.fixture
def board():
    return Board(LakersGateway(Party("gw-1")))


@pytest.mark.req("CPNS-GKM-50")
def test_a_session_is_made_used_and_kept_over_a_restart(board):
    board.shake()
    board.leave()
    board.boot()
    board.leave()
    assert board.gateway.handshakes == 1


@pytest.mark.req("SEC-16")
def test_a_responder_with_another_key_under_the_pinned_name_is_refused(board):
    board.gateway.party = Party("gw-1")
    with pytest.raises(Unknown):
        board.shake()
    assert not board.session.up


@pytest.mark.req("SEC-21")
def test_a_bad_message_2_ends_the_handshake_and_the_live_session_goes_on(board):
    board.shake()
    board.leave()
    board.gateway.spoil = lambda message_2: message_2[:-1] + bytes([message_2[-1] ^ 1])
    with pytest.raises(CpnsError):
        board.shake()
    board.leave()
    assert len(board.gateway.sessions) == 1


@pytest.mark.req("SEC-21")
def test_a_new_session_replaces_the_live_one_only_when_it_has_verified_a_message(board):
    board.shake()
    board.leave()
    first = dict(board.gateway.sessions)
    stored = KeyStore(board.medium).load("sess")
    board.shake()
    board.gateway.sessions = dict(first)  # the gateway forgot the second at once
    assert KeyStore(board.medium).load("sess") == stored
    with pytest.raises(NoSession):
        board.leave()
    board.leave()  # over the first again
    board.shake()
    board.leave()
    assert KeyStore(board.medium).load("sess") != stored
    assert len(board.gateway.sessions) == 2


@pytest.mark.req("SEC-16", "SEC-20")
def test_the_pinned_gateway_may_send_its_credential_by_value_as_it_does_while_another_board_pairs(board):
    board.gateway.by_value = True
    board.shake()
    board.leave()
    board.gateway.party = Party("gw-1")  # another key under the same name
    with pytest.raises(CpnsError):
        board.shake()


def test_the_duties_bring_the_session_up_by_themselves(board):
    board.agent.session.address = None
    board.run_until(1)
    assert board.session.up
    assert board.told("session") == [{"gateway": "gw-1"}]


def paired_with(gateway, secret):
    board = Board(gateway, paired=False)
    board.boot()
    board.pair(secret)
    return board


@pytest.mark.req("SEC-20")
def test_a_board_pins_the_gateway_that_knows_its_secret():
    secret = secrets.token_bytes(10)
    gateway = PairingGateway(Party("gw-1"), secret, SIGNING)
    board = paired_with(gateway, secret)
    assert gateway.proved
    board.boot()
    identity = board.agent.identity
    assert (identity.gateway_id, identity.gateway_ccs) == ("gw-1", gateway.party.credential.ccs)
    assert (identity.signing_key, identity.signing_epoch, identity.pn_id) == (SIGNING, 1, "home")
    board.leave()  # over the session of the pairing
    assert not any(secret in octets for octets in board.medium.octets.values())


@pytest.mark.req("SEC-20")
def test_an_impostor_gateway_is_refused_and_learns_nothing():
    impostor = PairingGateway(Party("gw-1"), secrets.token_bytes(10), SIGNING)
    board = Board(impostor, paired=False)
    with pytest.raises(pairing.WrongProof):
        board.pair(secrets.token_bytes(10))
    assert impostor.handshakes > 3 and board.clock.ms >= 300000  # wrong proofs do not close the window
    assert all(fields == {m.PNE_ID: "pne-1"} for _, fields in impostor.asked)  # no proof of the board's
    assert not board.agent.identity.paired
    assert not board.session.up
    assert KeyStore(board.medium).load("sess") is None


@pytest.mark.req("SEC-20")
def test_an_impostor_that_answers_first_and_often_does_not_keep_the_true_gateway_out():
    secret = secrets.token_bytes(10)
    impostor, true = PairingGateway(Party("gw-1"), bytes(10), SIGNING), PairingGateway(Party("gw-2"), secret, SIGNING)
    board = Board(impostor, paired=False)
    answer = impostor.coap

    def coap(*request):
        board.gateway = true if impostor.handshakes > 5 else impostor
        return answer(*request)

    impostor.coap = coap
    board.pair(secret)
    assert board.agent.identity.gateway_id == "gw-2"


class _Cut:
    """A gateway on a line that carries nothing of the nth request, or of its answer, nor of what repeats it."""

    def __init__(self, gateway, cut, answer):
        self.party, self.boards, self.sessions = gateway.party, gateway.boards, gateway.sessions
        self._gateway, self._cut, self._answer, self.asked = gateway, cut, answer, 0

    def coap(self, address, *request):
        if address is not None:
            self.asked += 1
        if self.asked == self._cut and address is not None:
            if self._answer:
                self._gateway.coap(address, *request)
            return None
        return self._gateway.coap(address, *request)


@pytest.mark.req("SEC-33")
@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
def test_each_message_of_a_pairing_may_be_lost(lost, nth):
    """message_1, message_3, the PairingRequest for the gateway's proof and the one with ours. The window of the
    gateway closes behind the last: it answers to no other handshake then."""
    secret = secrets.token_bytes(10)
    gateway = PairingGateway(Party("gw-1"), secret, SIGNING)
    gateway.once = True
    line = _Cut(gateway, nth, lost == "answer")
    board = Board(line, paired=False)
    board.pair(secret)
    assert line.asked > 4 and gateway.proved
    board.boot()
    assert board.agent.identity.gateway_id == "gw-1"
    board.leave()


@pytest.mark.req("SEC-33", "SEC-31")
@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6, 7])
def test_each_message_may_be_lost_while_a_board_gets_its_name(lost, nth):
    """The handshake and the gateway's proof under the first name, and the whole pairing under the given one."""
    secret = secrets.token_bytes(10)
    gateway = PairingGateway(Party("gw-1"), secret, SIGNING)
    gateway.once, gateway.board_name = True, "lamp.porch"
    line = _Cut(gateway, nth, lost == "answer")
    board = Board(line, paired=False)
    board.pair(secret)
    assert line.asked > 7 and gateway.proved
    identity = parse(KeyStore(board.medium).load(RECORD))
    assert (identity.pne_id, identity.gateway_id) == ("lamp.porch", "gw-1")
    assert identity.ccs == Credential.of("lamp.porch", board.party.credential.x).ccs
    board.leave()


@pytest.mark.req("SEC-31")
def test_only_a_gateway_that_knows_the_secret_names_a_board():
    impostor = PairingGateway(Party("gw-1"), secrets.token_bytes(10), SIGNING)
    impostor.board_name = "stolen"
    board = Board(impostor, paired=False)
    before = board.agent.identity.pack()
    with pytest.raises(pairing.WrongProof):
        board.pair(secrets.token_bytes(10))
    assert board.agent.identity.pack() == before
    assert {fields[m.PNE_ID] for _, fields in impostor.asked} == {"pne-1"}


@pytest.mark.req("SEC-31")
def test_a_board_that_has_a_gateway_keeps_its_name():
    secret = secrets.token_bytes(10)
    board = Board(LakersGateway(Party("gw-1")))
    board.gateway = PairingGateway(Party("gw-2"), secret, SIGNING)
    board.gateway.board_name = "lamp.porch"
    board.pair(secret)
    assert (board.agent.identity.pne_id, board.agent.identity.gateway_id) == ("pne-1", "gw-2")


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", ["x" * 49, "x" * 64])
def test_a_name_that_no_credential_can_have_names_no_board(name):
    secret = secrets.token_bytes(10)
    gateway = PairingGateway(Party("gw-1"), secret, SIGNING)
    gateway.board_name = name
    board = Board(gateway, paired=False)
    with pytest.raises(NoSession):
        board.pair(secret)
    assert board.agent.identity.pne_id == "pne-1" and not board.agent.identity.paired


@pytest.mark.req("SEC-20")
def test_a_relay_of_the_true_gateways_proof_is_refused():
    secret = secrets.token_bytes(10)
    true = PairingGateway(Party("gw-1"), secret, SIGNING)
    relay = PairingGateway(Party("gw-1"), secret, SIGNING)
    victim = Board(true, paired=False)
    proofs = []
    true.proof = lambda session: proofs.append(PairingGateway.proof(true, session)) or proofs[-1]
    victim.pair(secret)
    relay.proof = lambda session: proofs[0]
    board = Board(relay, paired=False)
    with pytest.raises(pairing.WrongProof):
        board.pair(secret)
    assert not relay.proved


@pytest.mark.req("SEC-20", "SEC-16")
def test_a_gateway_that_names_itself_otherwise_than_its_credential_is_refused():
    secret = secrets.token_bytes(10)
    board = Board(PairingGateway(Party("gw-1"), secret, SIGNING, name="gw-2"), paired=False)
    with pytest.raises(NotAuthentic):
        board.pair(secret)
    assert not board.agent.identity.paired


@pytest.mark.req("SEC-20")
def test_the_window_closes_after_five_minutes():
    board = Board(PairingGateway(Party("gw-1")), paired=False)  # nobody told it the secret
    with pytest.raises(NoSession):
        board.pair(secrets.token_bytes(10))
    assert 300000 <= board.clock.ms < 340000


@pytest.mark.req("SEC-20")
def test_pairing_with_another_gateway_leaves_the_old_one_until_it_succeeded():
    board = Board(LakersGateway(Party("gw-1")))
    board.shake()
    board.leave()
    old = board.gateway
    board.gateway = PairingGateway(Party("gw-2"), secrets.token_bytes(10), SIGNING)
    with pytest.raises(pairing.WrongProof):
        board.pair(secrets.token_bytes(10))
    assert board.agent.identity.gateway_id == "gw-1"
    board.gateway = old
    board.leave()


@pytest.mark.req("SEC-18", "SEC-20")
def test_wherever_the_power_goes_while_pairing_nothing_of_the_old_gateway_outlives_the_pinning_of_the_new():
    class PowerCut(Exception):
        pass

    secret = secrets.token_bytes(10)
    outcomes = set()
    for dies_at in itertools.count(1):
        board = Board(LakersGateway(Party("gw-1")))
        board.shake()
        board.leave()
        board.agent.membership.gkdks.put(device_world.Gateway().gkdk(), 0)
        board.gateway = PairingGateway(Party("gw-2"), secret, SIGNING)
        write, left = board.medium.set, itertools.count(1 - dies_at)

        def dying(name, octets, write=write, left=left):
            if next(left) == 0:
                raise PowerCut
            write(name, octets)

        board.medium.set = dying
        try:
            board.pair(secret)
        except PowerCut:
            died = True
        else:
            died = False
        board.medium.set = write
        board.boot()
        pinned = board.agent.identity.gateway_id
        outcomes.add(pinned)
        if pinned == "gw-2":
            assert not board.agent.membership.gkdks.newest
            held = KeyStore(board.medium).load("sess")
            assert held is None or cborlite.decode(held)[2] in board.gateway.sessions
        if not died:
            break
    assert outcomes == {"gw-1", "gw-2"}


def test_the_secret_is_shown_as_base32():
    for secret in (bytes(10), b"\xff" * 10, bytes(range(10))):
        assert unpaired.shown(secret) == base64.b32encode(secret).decode()
