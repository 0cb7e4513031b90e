"""Answers what PNEs ask on their own sessions with the CPNS Server, through the tunnel of a PN GW (SEC-25).

The session has authenticated the PNE. Its request tells nobody a key: it has the newest Group Key wrapped for it anew,
which its PN GW then carries like any other delivery.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from cpns import messages as m
from cpns import numbers as n
from cpns.errors import CpnsError, NotAllowed, NotMember, TooMany
from cpns.uplink_form import Fields
from key_servers.cpns_server import tuning
from key_servers.cpns_server.entity_user_keys import EntityUserKeys
from key_servers.cpns_server.group_keys import GroupKeyMaker, active
from key_servers.cpns_server.store import ServerStore
from key_servers.cpns_server.values import GroupTrust, MemberState, Moment
from key_servers.errors import ServerError
from key_servers.rate_limit import HourlyLimit

_log = logging.getLogger(__name__)

T = TypeVar("T")


class PneRequests:
    """Answers by one entry for a PNE's own session, `handle`, and one for pulls that PN GWs pass on, `pull`."""

    def __init__(
        self,
        store: ServerStore,
        keys: GroupKeyMaker,
        entity_user_keys: EntityUserKeys,
        wanted_by: Callable[[str, str], None],
        counters: Counter[str],
    ) -> None:
        """`wanted_by` is called with PNE ID and SG ID of a PNE without the newest key, which is then delivered soon."""
        self._store = store
        self._keys = keys
        self._entity_user_keys = entity_user_keys
        self._wanted_by = wanted_by
        self._counters = counters
        self._pulls = HourlyLimit(tuning.PNE_PULLS_PER_HOUR_MAX)

    def handle(self, pne_id: str, euk: bytes | None, message: bytes, now: Moment, shard: int | None = None) -> bytes:
        """Answer a verified message of the PNE `pne_id`, in CBOR; an empty one, a sign of life, has an empty answer.

        `euk`: the Entity User Key of its session, None if the handshake was before this process began; `shard`: that of
        the session, None without shards. A refusal is a response with Result 2. Raises MalformedMessage, or NotAllowed
        for a message that no PNE sends to a Server and for one that names another PNE or PN; StoreFailed.
        """
        if euk is not None:
            self._attempt(shard, lambda: self._entity_user_keys.learnt(pne_id, euk))
        if not message:
            return b""
        code, fields = m.decode(message)
        if code != n.KEY_PULL_REQUEST:
            raise NotAllowed(f"message {code} is not for the CPNS Server")
        if fields.get(m.PNE_ID, pne_id) != pne_id:
            raise NotAllowed("the message names another board")
        if m.PN_ID in fields and fields[m.PN_ID] != self._store.pn_of(pne_id):
            raise NotAllowed("the message names another PN")
        self._counters["pne_messages_taken"] += 1
        try:
            answer = {m.RESULT: n.RESULT_SUCCESS, **self._attempt(shard, lambda: self.pull(pne_id, fields, now))}
        except CpnsError as error:
            self._counters["pne_messages_refused"] += 1
            return bytes(m.failure(code, error))
        except ServerError as error:
            _log.error("KC2029 %s", error)
            self._counters["messages_failed"] += 1
            return bytes(m.failure(code, CpnsError("the CPNS Server cannot work now; try again later")))
        return bytes(m.encode(code + 1, answer))

    def pull(self, pne_id: str, fields: Fields, now: Moment) -> Fields:
        """Answer the KeyPullRequest `fields` of `pne_id`, by whatever way it came: never with a key.

        If the PNE has not the newest key, that is wrapped for it and sent soon. Raises NotMember, NotAllowed (held
        group; group whose keys its PN GW delivers), TooMany, and the errors of `GroupKeyMaker.newest`.
        """
        sg_id = fields[m.SG_ID]
        member = self._store.member(sg_id, pne_id)
        if member is None or member.state is not MemberState.MEMBER:
            raise NotMember(f"board {pne_id} is no member of Service Group {sg_id}")
        group = active(self._store.group(sg_id), sg_id)
        if group.trust is not GroupTrust.END_TO_END:
            raise NotAllowed(f"the PN GW delivers the keys of Service Group {sg_id}")
        if not self._pulls.has_room((pne_id,), now.monotonic):
            raise TooMany(f"board {pne_id} has pulled {tuning.PNE_PULLS_PER_HOUR_MAX} times within an hour")
        key = self._keys.newest(sg_id, now, self._store.pn_of(pne_id) or "")
        self._keys.windows_lost(key, fields.get(m.WINDOWS_LOST), now)
        self._store.after_commit(lambda: self._pulls.take((pne_id,), now.monotonic))
        if fields[m.VERSION] < key.version:
            self._store.after_commit(lambda: self._wanted_by(pne_id, sg_id))
        return {m.SG_ID: sg_id, m.VERSION: key.version, m.TIME: now.unix, m.PROTECTION: group.protection}

    def _attempt(self, shard: int | None, work: Callable[[], T]) -> T:
        """Do `work` as one, unless another process has the shard of the session by now. Raises ShardLost then."""

        def fenced() -> T:
            if shard is not None:
                self._store.require_shard(shard)
            return work()

        return self._store.attempt(fenced)
