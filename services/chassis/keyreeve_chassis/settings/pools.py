"""How many connections to PostgreSQL a process keeps in its pool, so that those of all replicas fit. Pure rules."""

from dataclasses import dataclass

LARGEST_POOL = 4
"""Threads that a process uses a database with."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a PostgreSQL server allows."""

    connections: int
    """`max_connections` without those that are reserved for administrators."""
    of_role: int = -1
    """Connection limit of the service's role; -1: none."""


@dataclass(frozen=True, slots=True)
class ConnectionPlan:
    """What the replicas of one service connect with."""

    replicas: int
    pools: int
    """Processes of a replica that have a pool."""
    share: float
    """Part of the server's connections that is meant for this service, where its role has no limit of its own."""
    pool: int | None = None
    """Size of each pool, where the settings say."""

    @property
    def at_once(self) -> int:
        """Replicas that run at once: a rolling update starts one more."""
        return self.replicas + 1 if self.replicas > 1 else 1

    @property
    def beside_pools(self) -> int:
        """Connections of a replica outside pools: each process follows changes with one, and one holds session locks."""
        return self.pools + 1

    def budget(self, limits: ServerLimits) -> int:
        """Connections that all replicas together may have. A tenth is left for migrations and people."""
        if limits.of_role >= 0:
            return min(limits.of_role, limits.connections)
        return int(limits.connections * 0.9 * self.share)

    def pool_size(self, limits: ServerLimits) -> int:
        """Return how large a pool may be; at least one connection."""
        if self.pool is not None:
            return self.pool
        left = self.budget(limits) // self.at_once - self.beside_pools
        return max(1, min(LARGEST_POOL, left // self.pools))

    def most(self, limits: ServerLimits) -> int:
        """Return how many connections all replicas have at most."""
        return self.at_once * (self.beside_pools + self.pools * self.pool_size(limits))
