"""A tenant's metrics, built in and its own, as a process knows them."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from core.database import Database
from core.metric_definitions import DefinedMetric, read_definition
from core.metrics import BUILT_IN, MetricDefinition, MetricKind, Part
from core.queries import named
from core.tenancy import TenantId

LIST_DEFINITIONS = named("metric_definitions", "list_definitions")
# An edit shows everywhere after so long at the latest.
KNOWN_SECONDS = 1.0
MAX_TENANTS = 10_000


@dataclass(frozen=True, slots=True)
class TenantMetrics:
    """What a tenant may ask; `revision` is its metrics revision, by which counted events are stamped."""

    revision: int
    by_key: Mapping[str, MetricDefinition]

    @property
    def own(self) -> list[MetricDefinition]:
        return [metric for metric in self.by_key.values() if metric.defined is not None]


class MetricCatalog:
    """Looks definitions up, and keeps them for a second."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[TenantId, tuple[float, TenantMetrics]] = OrderedDict()

    async def of(self, tenant_id: TenantId) -> TenantMetrics:
        """The tenant's metrics.

        Raises:
            DatabaseUnavailable: they are not known, and the database is away.
        """
        known = self._known.get(tenant_id)
        if known is not None and time.monotonic() - known[0] < KNOWN_SECONDS:
            return known[1]
        async with self._database.as_tenant(tenant_id) as session:
            rows = await session.fetch(LIST_DEFINITIONS, tenant_id)
        metrics = metrics_of(rows)
        self._known[tenant_id] = time.monotonic(), metrics
        self._known.move_to_end(tenant_id)
        while len(self._known) > MAX_TENANTS:
            self._known.popitem(last=False)
        return metrics


def metrics_of(rows: list[Any]) -> TenantMetrics:
    """The metrics of a tenant's rows of `list_definitions`; its own cannot have a built-in one's key."""
    own = {row["key"]: definition_of(row) for row in rows if row["key"] is not None}
    return TenantMetrics(rows[0]["metrics_revision"] if rows else 0, MappingProxyType({**own, **BUILT_IN}))


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
    )
    return MetricDefinition(
        row["key"], MetricKind(row["kind"]), Part.DEFINED, row["unit"], row["description"],
        version=row["version"], defined=defined,
    )  # fmt: skip
