"""A tenant's metrics, built in and its own, as a process knows them."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import UUID

from core.database import Database
from core.errors import BadInput, DatabaseUnavailable
from core.formula_checks import common_dimensions, expand
from core.metric_definitions import DefinedMetric, read_definition
from core.metrics import BUILT_IN, MetricDefinition, MetricKind, Part
from core.queries import named
from core.tenancy import TenantId

LIST_DEFINITIONS = named("metric_definitions", "list_definitions")
# An edit shows everywhere after so long at the latest.
KNOWN_SECONDS = 1.0
# A key that is not known is looked up anew: another process may have just made it. Not more often than so.
MISSING_SECONDS = 0.05
MAX_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class TenantMetrics:
    """What a tenant may ask; `revision` is its metrics revision, by which counted events are stamped."""

    revision: int
    by_key: Mapping[str, MetricDefinition]

    @property
    def own(self) -> list[MetricDefinition]:
        return [metric for metric in self.by_key.values() if metric.defined is not None]


@dataclass(slots=True)
class _Known:
    """What was read, when, and what it was made of: rows that stayed as they were are not read again."""

    at: float
    rows: list[tuple[Any, ...]]
    metrics: TenantMetrics


class MetricCatalog:
    """Looks definitions up, and keeps them for a second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[TenantId, _Known] = OrderedDict()
        self._asking: dict[TenantId, asyncio.Task[TenantMetrics]] = {}

    async def of(self, tenant_id: TenantId) -> TenantMetrics:
        """The tenant's metrics, at most a second old; older while the database is away.

        Raises:
            DatabaseUnavailable: they are not known, and the database is away.
        """
        return await self._of(tenant_id, KNOWN_SECONDS)

    async def find(self, tenant_id: TenantId, key: str) -> MetricDefinition | None:
        """One of the tenant's metrics by its key, also when it was made a moment ago elsewhere. Raises as `of`."""
        found = (await self.of(tenant_id)).by_key.get(key)
        return found or (await self._of(tenant_id, MISSING_SECONDS)).by_key.get(key)

    def forget(self, tenant_id: TenantId) -> None:
        """Has them read anew: this process has just changed them."""
        self._known.pop(tenant_id, None)
        self._asking.pop(tenant_id, None)

    async def _of(self, tenant_id: TenantId, seconds: float) -> TenantMetrics:
        known = self._known.get(tenant_id)
        if known is not None and time.monotonic() - known.at < seconds:
            return known.metrics
        asking = self._asking.get(tenant_id)
        if asking is None:
            asking = self._asking[tenant_id] = asyncio.create_task(self._read(tenant_id))
        try:
            # One reads for all who wait; that it leaves does not take it from the others.
            return await asyncio.shield(asking)
        except DatabaseUnavailable:
            if known is None:
                raise
            return known.metrics

    async def _read(self, tenant_id: TenantId) -> TenantMetrics:
        own_task = asyncio.current_task()
        try:
            # Before the rows are read, so that they are not taken for younger than they are.
            at = time.monotonic()
            async with self._database.as_tenant(tenant_id) as session:
                rows = await session.fetch(LIST_DEFINITIONS, tenant_id)
            known = self._known.get(tenant_id)
            plain = [tuple(row.values()) for row in rows]
            metrics = known.metrics if known is not None and known.rows == plain else metrics_of(rows)
            if self._asking.get(tenant_id) is own_task:
                self._known[tenant_id] = _Known(at, plain, metrics)
                self._known.move_to_end(tenant_id)
                while len(self._known) > MAX_TENANTS:
                    self._known.popitem(last=False)
            return metrics
        finally:
            if self._asking.get(tenant_id) is own_task:
                del self._asking[tenant_id]


def metrics_of(rows: list[Any]) -> TenantMetrics:
    """The metrics of a tenant's rows of `list_definitions`; its own cannot have a built-in one's key."""
    own = {row["key"]: definition_of(row) for row in rows if row["key"] is not None}
    by_key = {**own, **BUILT_IN}
    resolved = {key: resolved_in(metric, by_key) for key, metric in own.items()}
    return TenantMetrics(rows[0]["metrics_revision"] if rows else 0, MappingProxyType({**resolved, **BUILT_IN}))


def resolved_in(metric: MetricDefinition, by_key: Mapping[str, MetricDefinition]) -> MetricDefinition:
    """A formula with what it refers to among these metrics; any other as it is."""
    defined = metric.defined
    if defined is None or defined.formula is None:
        return metric
    try:
        expression = expand(defined.formula, by_key, metric.key)
    except BadInput:
        # Whoever asks it is told why; it stays in the list.
        return metric
    found = replace(defined, expression=expression, common_dimensions=common_dimensions(expression, by_key))
    return replace(metric, defined=found)


def definition_of(row: Any) -> MetricDefinition:
    """One of a tenant's own metrics."""
    aggregate, formula = read_definition(row["definition"])
    defined = DefinedMetric(
        id=UUID(int=row["version_id"].int),
        metric_id=UUID(int=row["metric_id"].int),
        aggregate=aggregate,
        formula=formula,
        counts_from=row["counts_from"],
        ready_at=row["ready_at"],
        backfilled=row["backfilled"],
    )
    return MetricDefinition(
        row["key"], MetricKind(row["kind"]), Part.DEFINED, row["unit"], row["description"],
        version=row["version"], defined=defined,
    )  # fmt: skip
