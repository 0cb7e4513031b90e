"""The session of a board with the CPNS Server, made through the PN GW, against EDHOC of lakers (SEC-25)."""

import secrets

import device_world
import pytest
from end_to_end_world import SG, Gateway, secret_of, wrapped
from end_to_end_world import Server as ScriptedServer

from cpns import cborlite
from cpns import messages as m
from cpns import numbers as n
from cpns.cborlite import encode
from cpns.crypto import hkdf
from cpns.errors import MalformedMessage
from device_agent import oscore, pairing, provisioning
from device_agent.coap import message as coap
from device_agent.cose import Credential
from device_agent.end_to_end import entity_user_keys
from device_agent.host.storage import FileStorage
from device_agent.key_store import KeyStore
from device_agent.session import NoSession
from tests.unit.device_gateway import LakersGateway, PairingGateway, Party

OWN = Party("pne-1")


class LakersServer(LakersGateway):
    """The CPNS Server with EDHOC of lakers. It takes the EUK of a session at its first verified request."""

    def __init__(self):
        super().__init__(Party("server"), [OWN.credential])
        self.scripted = ScriptedServer()
        self.euk = self.former = b""
        self.cut = ()  # numbers of the datagrams whose answers the PN GW drops
        self.carried = 0

    @property
    def versions(self):
        return self.scripted.versions

    def carry(self, datagram):
        message = coap.decode(datagram)
        self.carried += 1
        answer = self._answered(message)
        answer.token, answer.type = message.token, coap.NON
        return None if self.carried in self.cut else answer.encode()

    def _answered(self, message):
        if coap.path(message.options) == ".well-known/edhoc":
            return self.coap("", message.code, message.options, message.payload, 0)
        kid = oscore.kid_of(message.options)
        if kid not in self.sessions:
            return coap.Message(coap.NON, 0x81, 1)
        context, prk_out = self.sessions[kid]
        _, _, octets, request = context.unprotect_request(message.options, message.payload)
        exporter = hkdf.expand(prk_out, encode(10) + encode(b"") + encode(32), 32)
        euk = hkdf.expand(exporter, encode(32769) + encode(b"") + encode(16), 16)
        if euk != self.euk:
            self.former, self.euk = self.euk, euk
        code, options, payload = context.protect_response(
            request, 0x44, [], self.scripted.answer(octets) if octets else b""
        )
        return coap.Message(coap.NON, code, 1, b"", options, payload)


class Board(device_world.World):
    """A World whose PNE has a session with its PN GW and none with the Server; its key is OWN."""

    def __init__(self):
        self._begun = False
        super().__init__()

    def boot(self):
        if not self._begun:
            self._begun = True
            self.gateway = Gateway()
            self.server = self.gateway.server = LakersServer()
            store = KeyStore(self.medium)
            record = cborlite.decode(store.load(provisioning.RECORD))
            record[2:4] = OWN.private, OWN.credential.ccs
            store.save(provisioning.RECORD, cborlite.encode([*record, self.server.party.credential.ccs]))
        super().boot()

    def enter(self, version=6):
        self.server.versions[SG] = version
        self.gateway.trusts[SG] = n.TRUST_END_TO_END
        self.gateway.groups[SG] = [1, version, False]
        return self.perform(self.agent.membership.enter(SG, None, n.TRUST_END_TO_END))

    def bring(self, fields):
        return self.ask(n.S_GROUP_KEY_DELIVERY_REQUEST, fields)[1]

    def pull(self):
        return self.perform(self.agent.membership.pull(self.agent.membership.groups[SG]))

    def euks(self):
        octets = KeyStore(self.medium).load("euk")
        return entity_user_keys.parse(octets) if octets else None


@pytest.fixture
def board():
    return Board()


@pytest.mark.req("CPNS-GKM-50", "CPNS-GKM-76", "SEC-25")
def test_after_the_join_a_session_is_made_and_its_exporter_is_the_key_of_both_ends(board):
    board.enter()
    board.run_for(1000)
    assert board.server.handshakes == 1
    assert board.told("session") == [{"server": "server"}]
    assert board.euks() == (board.server.euk, b"") and len(board.server.euk) == 16
    answer = board.bring(wrapped(6, euk=board.server.euk))
    assert answer[m.RETURN] == n.RETURN_SUCCESS
    assert board.agent.membership.groups[SG].ring.receiving_keys(0) == {6: secret_of(6)}
    board.boot()
    board.pull()
    assert board.server.handshakes == 1  # it outlives the restart


@pytest.mark.req("SEC-25")
def test_the_first_request_follows_the_handshake_before_anything_is_asked(board):
    heard = []
    answer = board.server.scripted.answer
    board.server.scripted.answer = lambda octets: heard.append(octets) or answer(octets)
    board.enter()
    board.perform(board.agent.membership.server._connect())
    assert heard == [] and board.server.euk == board.euks()[0]  # its body is empty, and the Server has the key by it


@pytest.mark.req("SEC-16", "SEC-25")
def test_a_gateway_that_offers_its_own_server_is_refused_and_ends_no_membership(board):
    board.enter()
    pinned, board.server.party = board.server.party, Party("server")
    with pytest.raises(NoSession):
        board.pull()
    group = board.agent.membership.groups[SG]
    assert group.joined and board.euks() is None and KeyStore(board.medium).load("ssess") is None
    board.server.party = pinned
    board.run_for(60000)
    assert board.euks() is not None


@pytest.mark.req("SEC-21")
def test_a_handshake_that_fails_is_tried_again_later_and_later(board):
    board.enter()
    board.server.party = Party("server")
    board.run_for(3600000)
    assert 8 < board.server.handshakes < 20
    begun = board.clock.ms
    with pytest.raises(NoSession):
        board.pull()
    assert board.clock.ms == begun  # an application does not wait for it


def test_the_heap_has_no_table_of_the_signing_key_while_a_handshake_needs_it(board):
    board.enter()
    board.perform(board.agent.receiver.prepare())
    board.perform(board.agent.membership.server._connect())
    assert not board.agent.receiver.prepared


@pytest.mark.req("SEC-21")
def test_a_second_handshake_is_not_begun_while_one_is_on_its_way(board):
    board.enter()
    server = board.agent.membership.server
    first, second = server._connect(), server._connect()
    assert first.send(None) is None
    server.session.retry_at = 0
    for _ in range(9):
        assert second.send(None) == 100  # ms to wait
    first.close()
    board.perform(second)
    assert board.server.handshakes == 1


@pytest.mark.req("SEC-21")
def test_who_waits_for_the_handshake_of_another_flow_makes_none(board):
    board.enter()
    server = board.agent.membership.server
    second = server._connect()
    server._connecting = True
    assert second.send(None) == 100
    server._connecting = False
    board.perform(server._connect())
    board.clock.ms += 10000
    board.perform(second)
    assert board.server.handshakes == 1


@pytest.mark.req("SEC-21", "SEC-25")
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_whichever_answer_the_gateway_drops_the_newest_key_arrives(board, cut):
    """Those to message_1, message_3, the sign of life and the pull."""
    board.server.cut = (cut,)
    board.enter()
    board.run_for(120000)
    answer = board.bring(wrapped(6, euk=board.server.euk))
    assert answer[m.RETURN] == n.RETURN_SUCCESS
    assert board.server.handshakes <= 2


@pytest.mark.req("SEC-21", "SEC-25")
def test_the_live_session_and_its_key_stay_until_the_new_session_has_verified_a_message(board):
    board.enter()
    board.run_for(1000)
    stored, euks = KeyStore(board.medium).load("ssess"), board.euks()
    board.server.cut = (board.server.carried + 3,)
    server = board.agent.membership.server
    server._renew, server.session.retry_at = True, 0
    with pytest.raises(NoSession):
        board.perform(server._connect())
    assert (KeyStore(board.medium).load("ssess"), board.euks()) == (stored, euks)
    assert board.server.former == euks[0]  # the Server has the new key, and wraps under it
    answer = board.bring(wrapped(7, euk=board.server.euk))
    assert answer[m.RETURN] == n.RETURN_SUCCESS and board.euks() == (board.server.euk, b"")


@pytest.mark.req("SEC-25")
def test_a_server_that_has_lost_the_session_is_asked_for_a_new_one_at_once(board):
    board.enter()
    board.run_for(1000)
    former = board.euks()[0]
    board.clock.ms += 60000
    board.server.sessions.clear()
    board.pull()
    assert board.server.handshakes == 2 and board.euks() == (board.server.euk, former)


@pytest.mark.req("SEC-25")
def test_an_unknown_key_makes_a_new_session_at_once_and_the_next_key_opens(board):
    board.enter()
    board.run_for(1000)
    assert board.bring(wrapped(6, euk=b"x" * 16))[m.RETURN] == n.RETURN_UNKNOWN_EUK
    board.run_for(30000)
    assert board.server.handshakes == 2
    assert board.bring(wrapped(6, euk=board.server.euk))[m.RETURN] == n.RETURN_SUCCESS
    for _ in range(5):
        board.bring(wrapped(7, euk=b"x" * 16))
        board.run_for(600000)
        board.pull()
    assert board.server.handshakes == 2


@pytest.mark.req("SEC-25")
def test_a_sender_number_or_a_key_is_not_used_twice_when_the_power_goes_at_any_write_of_a_handshake():
    class PowerCut(Exception):
        pass

    outcomes = set()
    for torn in (False, True):
        for dies_at in range(1, 100):
            board = Board()
            board.enter()
            write, left = board.medium.set, [dies_at]

            def dying(name, octets, write=write, left=left, torn=torn):
                left[0] -= 1
                if not left[0]:
                    if torn:
                        write(name, octets[: len(octets) // 2])
                    raise PowerCut
                write(name, octets)

            board.medium.set = dying
            cut = False
            try:
                board.pull()
            except PowerCut:
                cut = True
            board.medium.set = write
            board.boot()
            outcomes.add((KeyStore(board.medium).load("ssess") is None, board.euks() is None))
            euk = board.server.euk
            board.run_for(120000)
            answer = board.bring(wrapped(6, euk=board.server.euk))
            assert answer[m.RETURN] == n.RETURN_SUCCESS
            assert not cut or board.server.handshakes <= 2
            if euk:  # what was wrapped under the key before the cut opens too, or leads to Return 3
                assert board.bring(wrapped(7, euk=euk))[m.RETURN] in (n.RETURN_SUCCESS, n.RETURN_UNKNOWN_EUK)
            if not cut:
                break
        assert 5 < dies_at < 99
    assert (False, True) not in outcomes  # no session without its key
    assert {(True, True), (True, False), (False, False)} <= outcomes


# Pairing


def pair(board, gateway):
    board.gateway = gateway
    agent = board.agent
    parts = agent.identity, agent.store, agent.session, agent._discovery, board.clock
    board.perform(pairing.pair(gateway.secret, *parts, agent._forget_gateway, agent._forget_server))


def pairing_gateway(server_ccs, name="gw-2"):
    signing = device_world.identity().signing_key
    gateway = PairingGateway(Party(name), secrets.token_bytes(10), signing)
    gateway.boards.add(OWN.credential.ccs)
    gateway.server_ccs = server_ccs
    return gateway


@pytest.mark.req("SEC-20", "SEC-25")
def test_a_board_pins_the_server_that_the_gateway_names_while_pairing():
    board, server = Board(), Credential.of("other", secrets.token_bytes(32))
    board.enter()
    board.run_for(1000)
    pair(board, pairing_gateway(server.ccs))
    board.boot()
    assert board.agent.identity.server_ccs == server.ccs
    assert KeyStore(board.medium).load("ssess") is None and board.euks() is None
    assert board.agent.membership.groups[SG].ring.end_to_end


@pytest.mark.req("SEC-25")
def test_a_session_with_the_next_server_is_made_without_a_restart(board):
    board.enter()
    board.run_for(1000)
    former = board.euks()
    board.agent._forget_server()
    board.clock.ms += 10000
    board.pull()
    assert board.server.handshakes == 2 and board.euks() == (board.server.euk, b"") != former


@pytest.mark.req("SEC-25")
@pytest.mark.parametrize("named", [True, False])
def test_a_gateway_that_names_the_same_server_or_none_leaves_it(named):
    board = Board()
    board.enter()
    board.run_for(1000)
    euks, pinned = board.euks(), board.agent.identity.server_ccs
    pair(board, pairing_gateway(pinned if named else b""))
    board.boot()
    assert board.agent.identity.server_ccs == pinned and board.euks() == euks
    assert board.agent.identity.gateway_id == "gw-2"


@pytest.mark.req("SEC-25")
def test_a_gateway_that_names_itself_as_the_server_is_not_pinned():
    gateway = pairing_gateway(b"")
    gateway.server_ccs = Credential.of("server", gateway.party.credential.x).ccs
    board = Board()
    before = KeyStore(board.medium).load(provisioning.RECORD)
    with pytest.raises(MalformedMessage, match="one key for two ends"):
        pair(board, gateway)
    assert KeyStore(board.medium).load(provisioning.RECORD) == before


@pytest.mark.req("SEC-23")
def test_only_one_process_uses_the_session_with_the_server(board, tmp_path):
    board.enter()
    board.run_for(1000)
    storage = FileStorage(tmp_path / "board")
    for name in ("ssess", "euk"):
        KeyStore(storage).save(name, KeyStore(board.medium).load(name))
    with pytest.raises(BlockingIOError):
        FileStorage(tmp_path / "board")
    storage.close()
    assert KeyStore(FileStorage(tmp_path / "board")).load("ssess") == KeyStore(board.medium).load("ssess")
