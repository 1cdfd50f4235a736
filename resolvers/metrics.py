"""Where metrics' definitions come from, built in and the tenant's own, and how these are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from core.database import Database
from core.metric_catalog import resolved_in
from core.metric_store import (
    FIND_KEYS,
    FIND_MANY,
    LIST,
    LIST_VERSIONS,
    MAX_SHOWN_VERSIONS,
    MetricChanges,
    MetricDraft,
    MetricRecord,
    MetricStore,
    MetricVersion,
    record_of,
    version_of,
)
from core.metrics import BUILT_IN, MetricDefinition, MetricKind
from core.questions import check_text
from core.tenancy import TenantId
from resolvers.context import Context
from resolvers.global_ids import missing, parse_global_id, uuid_of
from resolvers.pages import MAX_PAGE, Page, asked

KIND = "Metric"
MAX_SEARCH_LENGTH = 200


@dataclass(frozen=True, slots=True)
class MetricRow:
    """A metric as it is shown; `record` is None where it is built in."""

    definition: MetricDefinition
    record: MetricRecord | None = None

    @property
    def key(self) -> str:
        return self.definition.key

    @property
    def local_id(self) -> str:
        """Of a built-in one its key; keys of a tenant's own are no UUIDs."""
        return self.key if self.record is None else str(self.record.id)


async def load_metrics(database: Database, tenant_id: TenantId, ids: Sequence[UUID]) -> list[MetricRecord | None]:
    """Own metrics by their ids, archived ones too."""
    async with database.as_tenant(tenant_id) as session:
        found = {record.id: record for record in map(record_of, await session.fetch(FIND_MANY, list(ids)))}
    return [found.get(id) for id in ids]


async def load_metrics_by_key(
    database: Database, tenant_id: TenantId, keys: Sequence[str]
) -> list[MetricRecord | None]:
    """Own metrics by their keys, archived ones too."""
    async with database.as_tenant(tenant_id) as session:
        found = {record.definition.key: record for record in map(record_of, await session.fetch(FIND_KEYS, list(keys)))}
    return [found.get(key) for key in keys]


async def load_versions(
    database: Database, tenant_id: TenantId, metric_ids: Sequence[UUID]
) -> list[list[MetricVersion] | None]:
    """The newest versions of metrics."""
    found: dict[UUID, list[MetricVersion]] = {id: [] for id in metric_ids}
    async with database.as_tenant(tenant_id) as session:
        for row in await session.fetch(LIST_VERSIONS, list(metric_ids), MAX_SHOWN_VERSIONS):
            found[UUID(int=row["metric_id"].int)].append(version_of(row))
    return [found[id] for id in metric_ids]


async def find_metric_by_local_id(context: Context, local: str) -> MetricRow | None:
    """A metric by the local part of its global id."""
    if local in BUILT_IN:
        return MetricRow(BUILT_IN[local])
    try:
        id = UUID(local)
    except ValueError:
        return None
    return await _shown(context, await context.loaders.of(load_metrics).load(id))


async def find_metric_by_key(context: Context, key: str) -> MetricRow | None:
    """A metric by its key.

    Raises:
        BadInput: it cannot be one.
    """
    if key in BUILT_IN:
        return MetricRow(BUILT_IN[key])
    check_text(key, MAX_SEARCH_LENGTH, "key")
    return await _shown(context, await context.loaders.of(load_metrics_by_key).load(key))


async def list_metrics(
    context: Context, first: int | None, after: str | None, search: str | None, *, is_archived: bool
) -> Page[MetricRow]:
    """A tenant's metrics by key, 100 of them unless `first` says less.

    Raises:
        BadInput: `first`, `after` or `search` cannot be used.
    """
    check_text(search or "", MAX_SEARCH_LENGTH, "search")
    page = asked(context, KIND, MAX_PAGE if first is None else first, after)
    async with context.backends.database.as_tenant(context.principal.tenant.id) as session:
        records = [record_of(row) for row in await session.fetch(LIST, is_archived)]
    by_key = {**{record.definition.key: record.definition for record in records}, **BUILT_IN}
    rows = [_resolved(record, by_key) for record in records]
    if not is_archived:
        rows += [MetricRow(metric) for metric in BUILT_IN.values()]
    wanted = (search or "").lower()
    found = sorted((row for row in rows if _has(row, wanted)), key=lambda row: row.key)
    rest = [row for row in found if page.place is None or row.key > page.place]

    async def count() -> int:
        return len(found)

    return page.page(rest[: page.rows], lambda row: row.key, count)


async def create_metric(context: Context, draft: MetricDraft) -> MetricRow:
    """A new one. `draft.owner` is a member's global id. Raises BadInput, Conflict, TooMany, PermissionDenied."""
    return await _changed(context, await _store(context).create(replace(draft, owner=_person(draft.owner))))


async def update_metric(context: Context, id: str, revision: int, changes: MetricChanges) -> MetricRow:
    """An edit. Raises BadInput, NotFound, Conflict, MetricEditConflict, TooMany, PermissionDenied."""
    changes = replace(changes, owner=_person(changes.owner))
    return await _changed(context, await _store(context).update(own_id(id), revision, changes))


async def archive_metric(context: Context, id: str) -> MetricRow:
    """Counts one no more. Raises NotFound, Conflict, PermissionDenied."""
    return await _changed(context, await _store(context).archive(own_id(id)))


async def unarchive_metric(context: Context, id: str) -> MetricRow:
    """Takes that back. Raises BadInput, NotFound, TooMany, PermissionDenied."""
    return await _changed(context, await _store(context).unarchive(own_id(id)))


async def versions_of(context: Context, row: MetricRow) -> list[MetricVersion]:
    """Its versions, newest first; none of one that is built in."""
    if row.record is None:
        return []
    return await context.loaders.of(load_versions).load(row.record.id) or []


def own_id(text: str) -> UUID:
    """The id of one of the tenant's own.

    Raises:
        NotFound: it names none.
    """
    return uuid_of(text, KIND)


async def shown_record(context: Context, record: MetricRecord) -> MetricRow:
    """A record as it is shown."""
    if record.definition.kind is not MetricKind.FORMULA:
        return MetricRow(record.definition, record)
    return _resolved(record, (await context.backends.metrics.of(context.principal.tenant.id)).by_key)


def _resolved(record: MetricRecord, by_key: Mapping[str, MetricDefinition]) -> MetricRow:
    definition = resolved_in(record.definition, by_key)
    return MetricRow(definition, record)


async def _shown(context: Context, record: MetricRecord | None) -> MetricRow | None:
    return None if record is None else await shown_record(context, record)


async def _changed(context: Context, record: MetricRecord) -> MetricRow:
    context.backends.metrics.forget(context.principal.tenant.id)
    return await shown_record(context, record)


def _store(context: Context) -> MetricStore:
    return MetricStore(context.backends.database, context.principal, context.request_id)


def _person(member: str | None) -> str | None:
    """A member as the audit trail names it."""
    if member is None:
        return None
    kind, local = parse_global_id(member)
    try:
        if kind == "Member":
            return f"person:{UUID(local)}"
    except ValueError:
        pass
    raise missing("Member", field="owner")


def _has(row: MetricRow, wanted: str) -> bool:
    return wanted in row.key or wanted in row.definition.description.lower()
