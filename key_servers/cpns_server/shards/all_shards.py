"""The shards of a CPNS Server that runs in one process: it works for all of them, always."""

from message_plane.links.mqtt_topics import SHARDS


class AllShards:
    """All shards, in the place of a `ShardHolder`."""

    held = frozenset(range(SHARDS))

    def holds(self, shard: int) -> bool:
        """Return True."""
        return shard in self.held
