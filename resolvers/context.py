"""What a resolver may use: one value an operation, built at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from strawberry.dataloader import DataLoader

from core.database import Database
from core.eventlog import EventLog
from core.ingest import Ingest
from core.keys import ApiKey
from core.live import LiveBroadcast
from core.ratelimit import Allowance
from core.tenancy import Principal
from query.engine import QueryEngine


@dataclass(frozen=True, slots=True)
class Backends:
    """What all operations of a process share."""

    database: Database
    log: EventLog
    engine: QueryEngine
    ingest: Ingest
    live: LiveBroadcast
    heartbeat_seconds: float
    cursor_key: bytes


@dataclass(frozen=True, slots=True)
class Context:
    """One operation: who asks, and its own loaders, so that nothing is shared between tenants."""

    backends: Backends
    principal: Principal
    key: ApiKey
    month_usage: int
    allowance: Allowance | None
    request_id: str
    events: DataLoader[Any, Any]
    dead_letters: DataLoader[Any, Any]
