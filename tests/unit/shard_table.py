"""The rows of shards in a database, as a model for tests: by the same rules as the statements of `postgres.shards`."""

from dataclasses import dataclass, field

from key_servers.cpns_server.shards.leases import LEASE_MS, HeldShards
from message_plane.links.mqtt_topics import SHARDS


@dataclass
class Table:
    """The rows. `now` is the clock of the database, in milliseconds."""

    now: float = 0.0
    holders: dict = field(default_factory=dict)  # shard -> (holder, token, expires)
    processes: dict = field(default_factory=dict)  # holder -> expires

    def round(self, holder, wanted):
        self.processes[holder] = self.now + LEASE_MS
        for shard, (of, token, _) in self.holders.items():
            if of == holder:
                self.holders[shard] = (of, token, self.now + LEASE_MS)
        living = sum(expires > self.now for expires in self.processes.values())
        free = [shard for shard in range(SHARDS) if self.is_free(shard)]
        for shard in free[: wanted(living)]:
            _, token, _ = self.holders.get(shard, (None, 0, 0))
            self.holders[shard] = (holder, token + 1, self.now + LEASE_MS)
        return HeldShards({shard: token for shard, (of, token, _) in self.holders.items() if of == holder}, living)

    def is_free(self, shard):
        holder, _, expires = self.holders.get(shard, (None, 0, 0))
        return holder is None or expires <= self.now

    def release(self, holder, lease):
        if self.holders.get(lease.shard, (None, 0, 0))[:2] == (holder, lease.token):
            self.holders[lease.shard] = (None, lease.token + 1, 0)

    def end(self, holder):
        for shard, (of, token, _) in list(self.holders.items()):
            if of == holder:
                self.holders[shard] = (None, token + 1, 0)
        self.processes.pop(holder, None)
