"""Which tenants are spread over several partitions: a snapshot, refreshed off the path of events."""

from __future__ import annotations

from uuid import UUID

from core.database import Database
from core.partitioning import spread_key
from core.queries import named

LIST_SPREAD = named("aggregate", "list_spread_tenants")


class Spread:
    """Nobody is spread until the first refresh: one partition more or less changes no count."""

    def __init__(self) -> None:
        self._sub_keys: dict[UUID, int] = {}

    async def refresh(self, database: Database) -> None:
        async with database.as_writer() as session:
            rows = await session.fetch(LIST_SPREAD)
        self._sub_keys = {UUID(int=row["id"].int): row["sub_keys"] for row in rows}

    def key_of(self, tenant_id: UUID, request_id: str) -> bytes:
        """The key of a request's record."""
        return spread_key(tenant_id, request_id, self._sub_keys.get(tenant_id, 1))
