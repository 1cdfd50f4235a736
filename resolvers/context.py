"""What a resolver may use: one value an operation, built at the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from strawberry.dataloader import DataLoader

from core.audit import Author
from core.budget import Budgets
from core.database import Database
from core.eventlog import EventLog
from core.ingest import Ingest
from core.keys import ApiKey
from core.live import LiveBroadcast
from core.metric_catalog import MetricCatalog
from core.ratelimit import Allowance
from core.refused_writes import RefusedWrites
from core.settings import Settings
from core.shares import ShareGrant
from core.sign_in import SignIn
from core.tails import Tails
from core.tenancy import Principal, TenantId
from query.composed import ComposedAnswers
from query.raw import RawEvents
from resolvers.live_hub import LiveHub

K = TypeVar("K")
V = TypeVar("V")
Load = Callable[[Database, TenantId, Sequence[K]], Awaitable[Sequence[V | None]]]


@dataclass(frozen=True, slots=True)
class Backends:
    """What all operations of a process share."""

    settings: Settings
    database: Database
    log: EventLog
    metrics: MetricCatalog
    engine: ComposedAnswers
    raw: RawEvents
    ingest: Ingest
    live: LiveBroadcast
    hub: LiveHub
    tails: Tails
    refused: RefusedWrites
    sign_in: SignIn
    heartbeat_seconds: float
    cursor_key: bytes
    budgets: Budgets


class Loaders:
    """An operation's loaders, one for each function that loads many by their keys: anything reached through a list
    goes by one of them, and nothing of them outlives the operation."""

    def __init__(self, database: Database, tenant_id: TenantId) -> None:
        self._database = database
        self._tenant_id = tenant_id
        self._made: dict[object, DataLoader[Any, Any]] = {}

    def of(self, load: Load[K, V]) -> DataLoader[K, V | None]:
        """The loader of `load(database, tenant_id, keys)`, which answers in the order of the keys, None for what is
        missing."""
        if load not in self._made:

            async def load_all(keys: list[K]) -> list[V | None]:
                return list(await load(self._database, self._tenant_id, keys))

            self._made[load] = DataLoader(load_fn=load_all)
        return self._made[load]


@dataclass(frozen=True, slots=True)
class Context:
    """One operation: who asks, and its own loaders, so that nothing is shared between tenants.

    `key` is None where a person or a share link asks; only keys may send events. `share` is what a share link shows."""

    backends: Backends
    principal: Principal
    key: ApiKey | None
    month_usage: int
    allowance: Allowance | None
    request_id: str
    loaders: Loaders
    share: ShareGrant | None = None

    @property
    def author(self) -> Author:
        """Who the audit trail names for what this operation changes."""
        return Author.of(self.principal, self.request_id)
