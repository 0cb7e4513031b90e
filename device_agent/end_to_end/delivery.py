"""Group Keys of end-to-end groups: the CPNS Server wraps each for this PNE, the PN GW brings it (CPNS-GKM-76..80)."""

from cpns import messages
from cpns import numbers as n
from cpns.entity_user_key import decrypt, response_mac
from cpns.errors import CpnsError, NotAddressed, NotAllowed, NotMember, Unknown
from cpns.key_ring import END_TO_END
from device_agent.session import NoSession


class WrappedKeys:
    """The receiver of SGroupKeyDeliveryRequests. The agent passes its Membership and its Server.

    `tell("refused", values)` is called for each key that is refused.
    """

    def __init__(self, membership, server, tell):
        self._membership = membership
        self._server = server
        self._tell = tell

    def take(self, fields):
        """Store the Group Key in an SGroupKeyDeliveryRequest; return the fields of the response (flow).

        Its Return is `1` with the MAC that proves the key, `3` for an Entity User Key that is not held, or `2` with an
        error. Raises OSError if the store fails; then nothing has changed.
        """
        identity = self._membership.identity
        answer = {messages.PNID: identity.pn_id, messages.PNE_ID: identity.pne_id}
        for label in (messages.SGID, messages.VERSION, messages.EUK_ID):
            answer[label] = fields[label]
        try:
            answer[messages.MAC] = yield from self._stored(fields)
            answer[messages.RETURN] = n.RETURN_SUCCESS
        except CpnsError as error:
            answer[messages.RETURN] = n.RETURN_FAIL
            if isinstance(error, Unknown):
                answer[messages.RETURN] = n.RETURN_UNKNOWN_EUK
            else:
                answer[messages.ERROR] = error.code
                answer[messages.ERROR_TEXT] = error.reason
            about = {"message": n.S_GROUP_KEY_DELIVERY_REQUEST, "error": error.code, "reason": error.reason}
            self._tell("refused", about)
        return answer

    def _stored(self, fields):
        # Store the key and return the MAC
        membership = self._membership
        pne_id, sg_id = membership.identity.pne_id, fields[messages.SGID]
        version = fields[messages.VERSION]
        wanted, encrypted = fields[messages.GROUP_KEY_INFO]
        group = membership.groups.get(sg_id)
        if group is None:
            raise NotMember("not a member of this Service Group")
        if not group.ring.end_to_end:
            raise NotAllowed("the group is not end-to-end")
        if wanted != pne_id:
            raise NotAddressed("for another PNE")
        if group.ring.floor is None and membership.identity.server_ccs:
            yield from self._ask_for_floor(group)
        group.ring.admit(version, END_TO_END)
        try:
            euk = self._server.keys.of(fields[messages.EUK_ID])
        except Unknown:
            self._server.unknown_key(group)
            raise
        key = decrypt(euk, pne_id, sg_id, version, encrypted)
        self._server.keys.opened(euk)
        membership.install(group, version, key, 0, n.REASON_BY_HAND, END_TO_END)
        self._server.keys.used(euk)
        return response_mac(key, pne_id, sg_id, version)

    def _ask_for_floor(self, group):
        # Before the Server has named the newest version, the PN GW could bring an older one (SEC-04)
        reason = "it has named none"
        try:
            yield from self._membership.pull(group)
        except (CpnsError, NoSession) as error:
            reason = str(error)
        if group.ring.floor is None:
            raise NotAllowed("no version floor from the Server: " + reason)
