"""Stores the Group Keys that the Server sends and answers the pulls of members (CPNS-GKM-10, -29, -63)."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from cpns import messages, numbers, tuning
from cpns.errors import MalformedMessage, NotAllowed, NotMember, Stale, Unknown
from gateway_agent.core import events
from gateway_agent.core.delivering.deliveries import Deliveries
from gateway_agent.core.end_to_end.carried_keys import CarriedKeys
from gateway_agent.core.end_to_end.group_trust import TrustOfGroups
from gateway_agent.core.events import Tell
from gateway_agent.core.fields import Fields, number, octets, optional_number, own_id, text
from gateway_agent.core.groups.membership import Membership
from gateway_agent.core.old_copy import Versions
from gateway_agent.core.ports import Clock
from gateway_agent.core.server_silence import ServerSilence
from gateway_agent.store.group_keys import GroupKey
from gateway_agent.store.inventory import ServiceGroup
from gateway_agent.store.store import GatewayStore


class GroupKeys:
    """Stores new Group Keys, answers pulls, and deletes the keys of a deleted group."""

    def __init__(
        self,
        *,
        store: GatewayStore,
        deliveries: Deliveries,
        membership: Membership,
        versions: Versions,
        silence: ServerSilence,
        trust: TrustOfGroups,
        carried: CarriedKeys,
        clock: Clock,
        counters: Counter[str],
        tell: Tell,
    ) -> None:
        """`counters` gets `keys_past_trust`, the keys that were refused because their group is end-to-end."""
        self._store = store
        self._deliveries = deliveries
        self._membership = membership
        self._versions = versions
        self._silence = silence
        self._trust = trust
        self._carried = carried
        self._counters = counters
        self._clock = clock
        self._tell = tell

    def accept(self, fields: Fields) -> dict[int, object]:
        """Store the key of a GroupKeyDeliveryRequest and its delivery in one commit; return the response's fields.

        The caller begins the delivery with `begin_delivery`, after the response (CPNS-GKM-30). A repeated request is
        answered again and stores nothing. Raises Stale, NotAllowed (also for an end-to-end group, SEC-26),
        MalformedMessage.
        """
        self._versions.refuse_if_stopped()
        sg_id, key = text(fields, messages.SG_ID), self._key(fields)
        if self._trust.is_end_to_end(sg_id):
            self._counters["keys_past_trust"] += 1
            raise NotAllowed(f"the keys of {sg_id} are end-to-end: they are not for a PN GW")
        group = self._store.inventory.group(sg_id)
        present = None if group is None else self._store.group_keys.get(sg_id, key.version)
        answer: dict[int, object] = {
            messages.RESULT: numbers.RESULT_SUCCESS,
            messages.SG_ID: sg_id,
            messages.VERSION: key.version,
        }
        if present is not None:
            if present.key != key.key:
                raise NotAllowed("this version is stored with another key")
            return answer
        known = self._store.inventory.group_or_deleted(sg_id)
        if known is not None and key.version <= known.version:
            raise Stale("a version as high is stored already")
        revision = optional_number(fields, messages.REVISION) or 0
        self._deliveries.settle(sg_id)
        with self._store.transaction():
            group = self._store.inventory.ensure_group(sg_id)
            self._store.group_keys.add(sg_id, key)
            self._store.inventory.set_version(sg_id, key.version)
            self._store.inventory.want_revision(sg_id, revision)
            self._store.deliveries.add(sg_id, key.version, group.membership, revision, self._clock.unix())
            self._deliveries.supersede(sg_id)
        self._tell(events.KeyArrived(sg_id, key.version, key.reason))
        return answer

    def begin_delivery(self, sg_id: str) -> None:
        """Begin the delivery, as soon as the group's membership is not behind. Called after the response was sent."""
        self._deliveries.membership_caught_up(sg_id)

    def pull(self, peer_id: str, fields: Fields) -> dict[int, object]:
        """Return the fields of the answer to a KeyPullRequest: with the newest key if the PNE may have it and lacks it.

        No PNE gets the key while the list of members is behind it (SEC-04, SEC-06). The Version in the answer is one
        less than the key's then, so that this floor lets the PNE accept the key when the list has come. For an
        end-to-end group there is no key, and the Version is the highest one that was carried (SEC-26). Raises
        NotMember if that is certain, as a PNE then wipes its keys; Unknown for a group that was deleted or never was
        there; Stale while it is uncertain who is a member, also by a long silence of the Server (SEC-28); NotAllowed.
        """
        pne_id, sg_id = own_id(peer_id, fields), text(fields, messages.SG_ID)
        self._versions.refuse_if_stopped()
        self._silence.refuse_if_stale()
        held = number(fields, messages.VERSION)
        member = self._store.inventory.member(sg_id, pne_id)
        group = self._store.inventory.group(sg_id)
        if group is None:
            raise Unknown(f"there is no Service Group {sg_id}")
        if member is None:
            if not group.listed or not self._versions.are_compared:
                raise Stale(f"who is a member of {sg_id} is not known for certain now")
            raise NotMember(f"{pne_id} is no member of {sg_id}")
        if not group.end_to_end:  # the Server itself gives such a PNE its keys, and knows which
            self._versions.heard_version(pne_id, sg_id, held)
        if messages.RECEIPT in fields:
            self._versions.heard_receipt(pne_id, sg_id, octets(fields, messages.RECEIPT))
            self._versions.refuse_if_stopped()
        answer: dict[int, object] = {
            messages.RESULT: numbers.RESULT_SUCCESS,
            messages.SG_ID: sg_id,
            messages.VERSION: group.version,
            **self._membership.membership_fields(sg_id),
        }
        if messages.RECEIPT in fields:  # boards with older software do not know receipts
            answer[messages.RECEIPT] = self._versions.receipt(pne_id, sg_id, group.version)
        key = None if group.waiting else self._store.group_keys.get(sg_id, group.version)
        if key is not None and member.floor < key.version:
            if held < key.version and group.behind:
                answer[messages.VERSION] = key.version - 1
            elif held < key.version:
                answer[messages.GROUP_KEY] = [(key.key, None)]
                answer[messages.ACTIVATION] = self._deliveries.activation(key)
                answer[messages.REASON] = key.reason
                self._deliveries.pulled(sg_id, key.version, pne_id)
            elif held == key.version:
                self._deliveries.holds(sg_id, key.version, pne_id)
        return answer

    def delete_group(self, fields: Fields) -> tuple[ServiceGroup | None, list[str], dict[int, object]]:
        """Handle the Server's DeleteServiceGroupRequest: erase the group's keys and keep its version as a floor.

        Returns (the group with its last version or None if there was none, its members, who must be told, the
        response's fields). Raises Stale if a later version is stored.
        """
        sg_id, version = text(fields, messages.SG_ID), number(fields, messages.VERSION)
        answer: dict[int, object] = {messages.RESULT: numbers.RESULT_SUCCESS, messages.SG_ID: sg_id}
        group = self._store.inventory.group(sg_id)
        if group is None:
            return None, [], answer
        if version < group.version:
            raise Stale("a later version of the group is stored")
        members = [member.pne_id for member in self._store.inventory.members(sg_id)]
        self._deliveries.settle(sg_id)
        with self._store.transaction():
            self._store.inventory.set_version(sg_id, version)
            self._deliveries.group_deleted(sg_id)
            self._carried.group_deleted(sg_id)
            self._store.group_keys.delete_all(sg_id)
            self._store.inventory.mark_deleted(sg_id)
        self._tell(events.GroupDeleted(sg_id))
        return replace(group, version=version), members, answer

    def _key(self, fields: Mapping[int, object]) -> GroupKey:
        elements = fields.get(messages.GROUP_KEY)
        if not isinstance(elements, list) or len(elements) != 1:
            raise MalformedMessage("the Server sends exactly one Group Key")
        key, index = elements[0]
        if index is not None or len(key) != tuning.GROUP_KEY_LEN:
            raise MalformedMessage("a Group Key of the Server is 16 octets without index")  # SEC-12
        version = number(fields, messages.VERSION)
        activation, reason = number(fields, messages.ACTIVATION), number(fields, messages.REASON)
        if not version:
            raise MalformedMessage("version 0 is no version")
        unix = self._clock.unix()
        if unix and activation > unix + tuning.ACTIVATION_AHEAD_MAX_S:
            raise NotAllowed("the activation lies more than a day ahead")  # SEC-05
        return GroupKey(version, key, activation, reason)
