"""The core's books on pools and replicas: which there are, which serve, and which are gone.

Owns their comings and goings. Never starts a request or gives one up: the core does.
"""

from __future__ import annotations

from collections.abc import Collection

from sundog.sched.books.pool import Pool
from sundog.sched.books.prefix_index import PrefixIndex
from sundog.sched.events import ReplicaAdded, ReplicaLimited, ReplicaReported, Why
from sundog.sched.views import ReplicaView, RequestView


class PoolBook:
    """This class has the books of all pools and their replicas. `gone`: pools that serve nobody any more, and why."""

    def __init__(self) -> None:
        self.pools: dict[str, Pool] = {}
        self.replicas: dict[str, ReplicaView] = {}
        self.gone: dict[str, Why] = {}

    def open(self, name: str) -> Pool:
        """Let requests for the pool wait, whatever became of it before."""
        self.gone.pop(name, None)
        return self.pools.setdefault(name, Pool())

    def close(self, name: str, why: Why) -> Pool:
        """Let no further request in."""
        self.gone[name] = why
        return self.pools[name]

    def forget_if_closed(self, name: str) -> None:
        """A closed pool stays until its last replica has gone."""
        if self.gone.get(name) == "closed" and not self.pools[name].replicas:
            del self.gone[name], self.pools[name]

    def refusal(self, name: str) -> Why | None:
        """Return why a request for this pool cannot wait; None where it can."""
        if name not in self.pools:
            return "unknown_pool"
        return "closed" if self.gone.get(name) == "closed" else None

    def add_replica(self, event: ReplicaAdded) -> ReplicaView:
        """Add a replica, which must not be there, and open its pool."""
        assert event.replica_id not in self.replicas, f"replica {event.replica_id} is there already"
        replica = self.replicas[event.replica_id] = ReplicaView(
            event.replica_id,
            event.pool,
            event.max_concurrency,
            event.max_tokens_in_flight,
            prefixes=PrefixIndex(event.num_prefix_blocks),
            shares_cold_prefixes=event.shares_cold_prefixes,
            worker_id=event.worker_id,
        )
        self.open(event.pool).add(replica)
        return replica

    def remove_replica(self, replica_id: str) -> ReplicaView:
        """Take a replica out; what waited there goes elsewhere."""
        replica = self.replicas.pop(replica_id)
        assert replica.num_running == 0, f"{replica_id} still runs requests"
        pool = self.pools[replica.pool]
        pool.stop_serving(replica)
        pool.remove(replica)
        return replica

    def limit(self, event: ReplicaLimited) -> ReplicaView:
        """Let a replica take so many requests at once, and return it."""
        replica = self.replicas[event.replica_id]
        replica.max_tokens_in_flight = event.max_tokens_in_flight
        self.pools[replica.pool].limit(replica, event.max_concurrency)
        return replica

    def drain(self, replica_id: str) -> ReplicaView:
        replica = self.replicas[replica_id]
        self.pools[replica.pool].stop_serving(replica)
        replica.is_draining = True
        return replica

    def take_down(self, replica_id: str) -> ReplicaView:
        """Note that a replica is down, and return it; its prefix cache is taken for empty."""
        replica = self.replicas[replica_id]
        self.pools[replica.pool].stop_serving(replica)
        replica.is_down = True
        replica.prefixes = PrefixIndex(replica.prefixes.max_blocks)
        return replica

    def lose(self, replica_id: str) -> ReplicaView:
        """Take it down for ever."""
        replica = self.take_down(replica_id)
        replica.is_lost = True
        if all(one.is_lost for one in self.pools[replica.pool].replicas):
            self.gone.setdefault(replica.pool, "lost")
        return replica

    def bring_up(self, replica_id: str) -> ReplicaView:
        replica = self.replicas[replica_id]
        assert not replica.is_lost, f"{replica_id} was not to come back"
        self.pools[replica.pool].start_serving(replica)
        return replica

    def report(self, event: ReplicaReported) -> None:
        """Take note of what its server says."""
        replica = self.replicas[event.replica_id]
        replica.num_foreign = max(0, event.num_server_running + event.num_server_waiting - replica.num_running)
        replica.kv_usage = event.kv_usage
        replica.num_preemptions = event.num_preemptions

    def check(self, requests: Collection[RequestView]) -> None:
        """Assert that replicas and pools agree about slots and queues, and with the requests."""
        for replica in self.replicas.values():
            running = [one for one in requests if one.replica_id == replica.replica_id]
            assert replica.num_running == len(running), replica
            assert all(one.request_id in replica.running for one in running), replica
            queued = [one for one in requests if one.parked_at == replica.replica_id]
            queued += [entry[2] for entry in self.pools[replica.pool].at_replica[replica.replica_id]]
            assert replica.num_queued_tokens == sum(one.num_queued_tokens for one in queued), replica
        for pool in self.pools.values():
            serving = [replica for replica in pool.replicas if replica.is_serving]
            assert pool.num_free == sum(replica.num_free for replica in serving)
        for replica in self.replicas.values():
            num_waiting = len(self.pools[replica.pool].at_replica[replica.replica_id])
            assert replica.num_waiting == num_waiting, replica
        num_parked = sum(pool.num_parked for pool in self.pools.values())
        assert num_parked == sum(replica.num_parked for replica in self.replicas.values())
