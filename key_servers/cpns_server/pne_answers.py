"""Judges the SGroupKeyDeliveryResponses that PN GWs pass on from PNEs (CPNS-GKM-91, -92).

A PN GW could write any of them itself. So a Return of 1 counts with the proof that the PNE has opened the key, and only
then; every other answer changes nothing but when a request is sent again.
"""

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic, NotMember, Stale, Unknown
from cpns.in_words import version_text
from cpns.uplink_form import Fields
from key_servers.cpns_server import alarms as kinds
from key_servers.cpns_server import wrapped_keys
from key_servers.cpns_server.alarms import ServerAlarms
from key_servers.cpns_server.group_keys import active
from key_servers.cpns_server.pne_courier import PneCourier
from key_servers.cpns_server.registry import Registry
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupTrust, MemberState, Moment, StoredGateway

_NAMES = (m.PNE_ID, m.SGID, m.VERSION, m.EUK_ID)


class PneAnswers:
    """Takes answers of PNEs."""

    def __init__(self, store: ServerStore, registry: Registry, courier: PneCourier, alarms: ServerAlarms) -> None:
        self._store = store
        self._registry = registry
        self._courier = courier
        self._alarms = alarms

    def take(self, gateway: StoredGateway, fields: Fields, now: Moment) -> None:
        """Take one answer that `gateway` brought, for its PN; what is refused changes nothing.

        Raises MalformedMessage (a name is missing), NotAllowed (PNE of another PN, held group, ordinary group), Unknown
        (group, or a version that was never issued), NotMember, Stale (about a key that is not the newest, or a request
        that is not on its way), NotAuthentic (a forged proof, which is an alarm too), StoreFailed.
        """
        if missing := [label for label in _NAMES if label not in fields]:
            raise MalformedMessage(f"message {n.S_GROUP_KEY_DELIVERY_RESPONSE}, field {missing[0]}: missing")
        pne_id, sg_id, version, euk_id = (fields[label] for label in _NAMES)
        with self._store.snapshot():
            group = active(self._store.group(sg_id), sg_id)
            if group.trust is not GroupTrust.END_TO_END:
                raise NotAllowed(
                    f"PN GWs have the keys of Service Group {sg_id}, so its PNEs do not answer to the Server"
                )
            self._registry.must_be_bound([pne_id], gateway.pn_id)
            member = self._store.member(sg_id, pne_id)
            if member is None or member.state is not MemberState.MEMBER:
                raise NotMember(f"board {pne_id} is no member of Service Group {sg_id}")
            if version > group.version:
                raise Unknown(f"version {version_text(version)} of Service Group {sg_id} was never issued")
            newest = self._store.newest_key(sg_id)
            if newest is None or version < newest.version:
                raise Stale(f"version {version_text(version)} of Service Group {sg_id} is not the newest")
        key = (gateway.pn_id, sg_id, pne_id)
        if fields[m.RETURN] == n.RETURN_UNKNOWN_EUK:
            self._courier.unknown_to(key, version, euk_id)
        elif fields[m.RETURN] == n.RETURN_FAIL:
            self._courier.refused(key, version, euk_id)
        elif wrapped_keys.is_proof(fields[m.MAC], pne_id, newest):
            self._courier.opened(key, version, euk_id)
        else:
            text = (
                f"PN GW {gateway.gateway_id} brought an answer of board {pne_id} about Service Group {sg_id} that the "
                "board has not made: it has not proved to have the key. Look for who has access to the PN GW."
            )
            self._alarms.set(kinds.FORGED, gateway.gateway_id, sg_id, text, now, pne_id)
            raise NotAuthentic(f"board {pne_id} has not proved to have the key of Service Group {sg_id}")
