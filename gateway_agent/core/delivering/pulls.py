"""Answers KeyPullRequests and processes what else they say about the PNE.

A pull for an end-to-end group is passed to the CPNS Server, which then wraps the key anew if the PNE lacks it. The
answer has the Server's version and never a key (SEC-26).
"""

import logging
from collections import Counter

from cpns import messages, numbers
from cpns.errors import CpnsError, TooMany, Unknown
from gateway_agent.core.background import Background
from gateway_agent.core.delivering.group_keys import GroupKeys
from gateway_agent.core.end_to_end.group_trust import TrustOfGroups
from gateway_agent.core.fields import Fields, number, optional_number, own_id, text
from gateway_agent.core.gkdk.handout import GkdkHandout
from gateway_agent.core.groups.deleted_groups import DeletedGroups
from gateway_agent.core.ports import Clock, Uplink
from gateway_agent.core.rates import LOST_WINDOWS_PER_HOUR, Rate
from gateway_agent.core.server_requests import ask
from gateway_agent.store.store import GatewayStore
from message_plane.rate import Buckets

_log = logging.getLogger(__name__)


class Pulls:
    """Answers pulls, and learns from them which GKDK the PNE has and whether it can still detect replays."""

    def __init__(
        self,
        *,
        pn_id: str,
        store: GatewayStore,
        keys: GroupKeys,
        trust: TrustOfGroups,
        gkdks: GkdkHandout,
        deleted_groups: DeletedGroups,
        uplink: Uplink,
        uplink_requests: Buckets,
        background: Background,
        clock: Clock,
        counters: Counter[str],
    ) -> None:
        """`uplink_requests` limits how often the Server is asked on behalf of one PNE."""
        self._pn_id = pn_id
        self._store = store
        self._keys = keys
        self._trust = trust
        self._gkdks = gkdks
        self._deleted_groups = deleted_groups
        self._uplink = uplink
        self._uplink_requests = uplink_requests
        self._background = background
        self._clock = clock
        self._counters = counters
        self._lost_windows = Rate(LOST_WINDOWS_PER_HOUR)

    async def answer(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Return the fields of the KeyPullResponse. Raises NotMember, Unknown, Stale, NotAllowed.

        For an end-to-end group it also raises TooMany, NoAnswer, and ServerRefused with the Server's error.
        """
        own_id(peer_id, fields)
        generation = optional_number(fields, messages.GENERATION)
        self._gkdks.heard(peer_id, generation)
        sg_id = text(fields, messages.SG_ID)
        try:
            answer = self._keys.pull(peer_id, fields)
        except Unknown:
            group = self._store.inventory.group_or_deleted(sg_id)
            if group is not None and group.deleted:
                self._deleted_groups.tell_late(peer_id, group)
            raise
        self._gkdks.lost(peer_id, generation)
        if self._trust.is_end_to_end(sg_id):
            return answer | await self._ask_server(peer_id, fields)
        lost = optional_number(fields, messages.WINDOWS_LOST)
        if lost and lost == answer[messages.VERSION]:
            self._windows_lost(peer_id, sg_id, lost)
        return answer

    async def _ask_server(self, pne_id: str, fields: Fields) -> dict[int, object]:
        """Pass a pull to the Server; return what it says of the group, without a key."""
        if not self._uplink_requests.take(pne_id, self._clock.monotonic()):
            raise TooMany("the CPNS Server was asked too often for this board; ask again in a minute")
        passed = (messages.SG_ID, messages.VERSION, messages.WINDOWS_LOST)
        request = {label: fields[label] for label in passed if label in fields}
        answer = await ask(
            self._uplink, numbers.KEY_PULL_REQUEST, {**request, messages.PNE_ID: pne_id, messages.PN_ID: self._pn_id}
        )
        if messages.GROUP_KEY in answer:
            self._counters["keys_past_trust"] += 1
        return {messages.VERSION: number(answer, messages.VERSION)}

    def _windows_lost(self, pne_id: str, sg_id: str, version: int) -> None:
        now = self._clock.monotonic()
        if self._uplink_requests.take(pne_id, now) and self._lost_windows.allow(sg_id, now):
            self._background.spawn(self._report_lost_windows(sg_id, version))

    async def _report_lost_windows(self, sg_id: str, version: int) -> None:
        """Ask the Server for a new key, as a member cannot detect replays under this version any more (SEC-24)."""
        fields = {
            messages.SG_ID: sg_id,
            messages.VERSION: version,
            messages.PN_ID: self._pn_id,
            messages.WINDOWS_LOST: version,
        }
        try:
            await ask(self._uplink, numbers.KEY_PULL_REQUEST, fields)
        except CpnsError as error:
            self._lost_windows.reset(sg_id)
            self._counters["lost_windows_unreported"] += 1
            _log.info("lost windows of %s are not reported: %s", sg_id, error.reason)
