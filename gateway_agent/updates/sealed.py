"""The Group Key under which the frames of an airing are sealed, so that only members of a Service Group read them."""

from typing import NamedTuple

from gateway_agent.store.store import GatewayStore


class SealingKey(NamedTuple):
    """The newest Group Key of a Service Group, with the alias of the group and the version of the key."""

    alias: int
    version: int
    key: bytes


def newest(store: GatewayStore, sg_id: str) -> SealingKey | str:
    """Return the key of a group that is given out now, or why there is none, in words.

    A key that a board knows which has left, or may know as the members are not known now, seals nothing (SEC-06).
    """
    group = store.inventory.group(sg_id)
    if group is None:
        return f"there is no {sg_id} any more"
    if group.end_to_end:
        return f"{sg_id} is end-to-end: its key is not known here"
    key = store.group_keys.get(sg_id, group.version)
    if group.waiting or group.exposed or group.behind or key is None:
        if group.listed and not store.inventory.count_members(sg_id):
            return f"no board is in {sg_id}, so it gets no new key"
        return f"{sg_id} waits for a new key"
    return SealingKey(group.alias, group.version, key.key)
