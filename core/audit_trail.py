"""A tenant's audit trail, read: pages, single entries, and the whole chain in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from core.audit_chain import Chain, ChainedEntry, Finding, Head, Wrong
from core.database import Database
from core.queries import named
from core.tenancy import TenantId

LIST = named("audit", "list_entries")
COUNT = named("audit", "count_entries")
FIND = named("audit", "find_entries")
NEXT = named("audit", "next_entries")
WITHOUT_PLACE = named("audit", "entries_without_place")
READ_HEAD = named("audit", "read_head")

BITE = 2_000
BEFORE_ALL = (-(2**63), UUID(int=0))


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries; `action` is a beginning, such as `key.`."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    from_: datetime | None = None
    to: datetime | None = None

    def matches(self, entry: ChainedEntry) -> bool:
        """The same conditions as the queries have."""
        return (
            self.actor in (None, entry.actor)
            and entry.action.startswith(self.action or "")
            and self.subject in (None, entry.subject)
            and (self.from_ is None or entry.at >= self.from_)
            and (self.to is None or entry.at < self.to)
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with a tenant's chain, how many entries were read, and where it ends."""

    findings: list[Finding]
    entries: int
    head: Head | None


async def list_entries(
    database: Database, tenant_id: TenantId, wanted: AuditFilter, most: int, before: int | None
) -> list[ChainedEntry]:
    """Entries, newest first, before a place or from the newest on."""
    async with database.as_tenant(tenant_id) as session:
        rows = await session.fetch(
            LIST, most, before, wanted.actor, wanted.action, wanted.subject, wanted.from_, wanted.to
        )
    return [entry_of(row) for row in rows]


async def count_entries(database: Database, tenant_id: TenantId, wanted: AuditFilter) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT, wanted.actor, wanted.action, wanted.subject, wanted.from_, wanted.to)
    return int(row["entries"]) if row else 0


async def find_entries(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[ChainedEntry | None]:
    """Entries by their ids, in the order of these; None where the tenant has none."""
    async with database.as_tenant(tenant_id) as session:
        found = {entry.id: entry for entry in map(entry_of, await session.fetch(FIND, list(ids)))}
    return [found.get(id) for id in ids]


async def in_order(
    database: Database, tenant_id: TenantId, after: tuple[int, UUID] = BEFORE_ALL
) -> AsyncIterator[list[ChainedEntry]]:
    """The whole chain from a place on, in bites of a short transaction each."""
    while True:
        async with database.as_tenant(tenant_id) as session:
            bite = [entry_of(row) for row in await session.fetch(NEXT, BITE, *after)]
        if bite:
            yield bite
            after = (bite[-1].sequence, bite[-1].id)
        if len(bite) < BITE:
            return


async def read_head(database: Database, tenant_id: TenantId) -> Head | None:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(READ_HEAD)
    return Head(row["sequence"], row["hash"]) if row else None


async def verify(database: Database, tenant_id: TenantId, anchor: Head | None = None) -> Verdict:
    """Reads a tenant's whole chain. Entries that are written meanwhile belong to the next time."""
    head = await read_head(database, tenant_id)
    chain = Chain(anchor)
    findings: list[Finding] = []
    async for bite in in_order(database, tenant_id):
        for entry in bite:
            if head is not None and entry.sequence > head.sequence:
                head = await read_head(database, tenant_id)
            findings.extend(chain.add(entry))
    async with database.as_tenant(tenant_id) as session:
        for row in await session.fetch(WITHOUT_PLACE):
            findings.append(Finding(Wrong.PUT_IN, 0, 0, "an entry has no place in the chain", _uuid(row["id"])))
    findings.extend(chain.end(head))
    return Verdict(findings, chain.entries, head)


def entry_of(row: Any) -> ChainedEntry:
    return ChainedEntry(
        _uuid(row["tenant_id"]), _uuid(row["id"]), row["sequence"], row["at"], row["actor"], row["action"],
        row["subject"], row["diff"], row["request_id"], row["previous_hash"], row["hash"],
    )  # fmt: skip


def _uuid(value: Any) -> UUID:
    return UUID(int=value.int)
