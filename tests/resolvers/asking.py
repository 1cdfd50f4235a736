"""Executes operations as whoever is told, and counts the transactions that they open."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from core.database import Database, Session
from core.settings import Settings
from core.tenancy import TenantId
from schema.build import schema
from web.auth.callers import Caller
from web.graphql_door import GraphQLDoor
from web.ingest.rest import IngestDoor
from web.services import open_services

_numbers = itertools.count(1)


class CountingDatabase(Database):
    """Counts the transactions of tenants."""

    count = 0

    @asynccontextmanager
    async def as_tenant(self, tenant_id: TenantId, *, is_write: bool = False) -> AsyncIterator[Session]:
        self.count += 1
        async with super().as_tenant(tenant_id, is_write=is_write) as session:
            yield session


class Answers:
    """One door, and what it answers to anybody."""

    def __init__(self, door: GraphQLDoor, database: CountingDatabase) -> None:
        self._door = door
        self._database = database

    @property
    def statements(self) -> int:
        """Transactions of the last operation."""
        return self._database.count

    async def ask(self, caller: Caller, query: str, **variables: Any) -> Any:
        self._database.count = 0
        context = self._door.context(caller, None, f"request-{next(_numbers)}")
        return await schema.execute(query, variables, context_value=context)

    async def data(self, caller: Caller, query: str, **variables: Any) -> Any:
        result = await self.ask(caller, query, **variables)
        assert result.errors is None, result.errors
        return result.data

    async def refusal(self, caller: Caller, query: str, **variables: Any) -> tuple[str, str]:
        """Code and message of the one error that comes."""
        (error,) = (await self.ask(caller, query, **variables)).errors
        return error.original_error.code, str(error.message)


@asynccontextmanager
async def answers_of(settings: Settings, database: Database) -> AsyncIterator[Answers]:
    """A door over real servers."""
    counting = CountingDatabase(settings)
    async with open_services(settings) as services:
        services = dataclasses.replace(services, database=counting)
        yield Answers(GraphQLDoor(services, IngestDoor(services).ingest), counting)
    await counting.close()
