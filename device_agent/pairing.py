"""The board's side of pairing (docs/protocol.md section 9, SEC-20): a board accepts a gateway that knows its secret.

The gateway proves it first. Both proofs are bound to this one EDHOC exchange: a relay or an impostor with other keys
gets another exporter output. Before the proof nothing of the peer is used, and its session is not made the PNE's.
With its proof the gateway says which name a person has given this board (SEC-31).
"""

from cpns import messages
from cpns import numbers as n
from cpns.crypto.compare import equal
from cpns.crypto.hmac import hmac_sha256
from cpns.errors import CpnsError, NotAuthentic
from device_agent import tuning, unpaired
from device_agent.cose import Credential
from device_agent.requests import CPNS
from device_agent.session import NoSession

EXPORTER_LABEL = 32768


class WrongProof(NotAuthentic):
    """The peer does not know the secret, or does not have the name in its credential."""


def pair(secret, identity, store, session, discovery, clock, forget, forget_server):
    """Find a gateway that proves to know `secret` (10 octets), prove the same to it, and pin it in `identity` (flow).

    Before another gateway than the present one is pinned, `forget()` must wipe all state from the present one, and
    `forget_server()` that from the CPNS Server if the gateway names another one. After a power cut in between, the PNE
    asks its old gateway for that state again; it never mixes both. The gateway may have
    admitted the board and its last answer been lost: so that request is repeated with each new try. A wrong proof does
    not end the search, as the right gateway may still answer. After five minutes it raises WrongProof if there was one,
    otherwise NoSession.

    A PNE without gateway takes the name that the gateway has for it, and stores it with the gateway in one write; then
    the secret that it kept is erased. A PNE that has a gateway keeps its name.
    """
    deadline = clock.now() + tuning.PAIRING_WINDOW
    wrong = proved = None
    while clock.now() < deadline:
        found = proved and (yield from _confirmed(session, proved))
        if not found:
            fresh = None
            try:
                address = yield from discovery.next()
                fresh = address and (yield from _try(secret, identity, session, address, clock, discovery.patience))
            except WrongProof as error:
                wrong = error.reason
            except (CpnsError, NoSession):
                pass  # not ready, not reachable, or not for us: the window stays open
            if fresh:
                proved = fresh
                found = yield from _confirmed(session, proved)
        if found:
            held, address, peer, answer, _ = proved
            if identity.gateway_ccs != peer.ccs:
                forget()
            server_ccs = answer.get(messages.SERVER_CREDENTIAL, identity.server_ccs)
            if identity.server_ccs not in (b"", server_ccs):
                forget_server()
            identity.change(
                store,
                gateway_id=peer.entity_id,
                gateway_ccs=peer.ccs,
                signing_key=answer[messages.SIGNING_KEY],
                signing_epoch=answer[messages.SIGNING_EPOCH],
                pn_id=answer.get(messages.PN_ID, ""),
                server_ccs=server_ccs,
            )
            store.erase(unpaired.RECORD)
            store.erase(unpaired.LABEL)
            session.adopt(held, clock.now(), address)
            return
        yield tuning.PAIRING_PAUSE
    if wrong:
        raise WrongProof(wrong)
    raise NoSession("no gateway that knows the secret was found")


def _try(secret, identity, session, address, clock, patience):
    # Return the state after the proof of the gateway, with the fields of the request that proves us
    for _ in (0, 1):  # the second time under the name that the gateway has for this board
        initiator, held = yield from session.handshake(clock.now(), address, True, patience)
        binding = initiator.export(EXPORTER_LABEL, b"", 32)
        fields = {messages.PNE_ID: identity.pne_id}
        answer = yield from _ask(session, held, address, fields)
        if not equal(answer.get(messages.AUTHENTICATOR, b""), hmac_sha256(secret, b"gateway", binding)):
            raise WrongProof("the gateway does not know the secret")
        if answer.get(messages.GATEWAY_ID) != initiator.peer.entity_id:
            raise WrongProof("the gateway's credential has another name")
        name = answer.get(messages.PNE_ID, identity.pne_id)
        if identity.paired or name == identity.pne_id:
            break
        identity.ccs = Credential.of(name, Credential.parse(identity.ccs).x).ccs
        identity.pne_id = name
    fields[messages.AUTHENTICATOR] = hmac_sha256(secret, b"pne", binding)
    return held, address, initiator.peer, answer, fields


def _confirmed(session, proved):
    held, address, _, _, fields = proved
    try:
        yield from _ask(session, held, address, fields)
        return True
    except (CpnsError, NoSession):
        return False


def _ask(session, held, address, fields):
    _, octets = yield from session.ask(CPNS, messages.encode(n.PAIRING_REQUEST, fields), held, address)
    code, answer = messages.decode(octets)
    if code != n.PAIRING_RESPONSE or answer[messages.RESULT] != n.RESULT_SUCCESS:
        raise NoSession("the gateway is not ready to pair")
    return answer
