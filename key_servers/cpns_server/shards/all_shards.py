"""The shards of a CPNS Server that runs in one process: it works for all of them, always."""

from collections.abc import Sequence

from key_servers.cpns_server.shards.holding import ShardUser
from message_plane.links.mqtt_topics import SHARDS


class AllShards:
    """All shards, in the place of a `ShardHolder`."""

    in_use = frozenset(range(SHARDS))
    usable = SHARDS
    living = 1

    def holds(self, shard: int) -> bool:
        """Return True."""
        return shard in self.in_use

    async def open(self, ways: Sequence[ShardUser], work: ShardUser) -> None:
        """Do nothing: the parts work for all shards from the start."""

    async def close(self) -> None:
        """Do nothing."""
