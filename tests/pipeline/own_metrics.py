"""Metrics of a tenant's own for tests: defined, counted by hand, and read from the tables."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID, uuid4

from core.database import as_owner
from core.events import EnrichedEvent
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_cells import MetricSummary
from core.metric_definitions import EventAggregate, write_definition
from core.metrics import MetricKind
from core.queries import named, parse_blocks
from core.rollups import Resolution
from core.tenancy import Tenant
from tests.pipeline.builders import enriched

HOLD = named("metric_definitions", "hold_counting")
RAISE = named("metric_definitions", "raise_metrics_revision")
STATEMENTS = parse_blocks(
    """-- insert_metric(tenant_id, id, key, kind)
-- A metric.
INSERT INTO metrics (tenant_id, id, key, kind, unit, description, owner, created_by, updated_by)
VALUES ($1, $2, $3, $4, '', '', 'person:1', 'person:1', 'person:1');

-- insert_version(tenant_id, id, metric_id, version, kind, definition, counts_from)
-- A version of it.
INSERT INTO metric_versions (tenant_id, id, metric_id, version, kind, definition, counts_from, created_by)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, 'person:1');

-- end_version(tenant_id, id, counts_until)
-- Its end.
UPDATE metric_versions SET counts_until = $3 WHERE tenant_id = $1 AND id = $2;
""",
    "test",
)
DAY_MS = 1_773_000_000_000 // 86_400_000 * 86_400_000
PAGES = [f"/p{n}" for n in range(6)]
# Of each kind one, with a filter of each sort, dimensions of events and of properties, and a combination.
DEFINITIONS: dict[str, tuple[MetricKind, EventAggregate]] = {
    "orders": (MetricKind.COUNT, EventAggregate(filter=EventFilter(("order",)), dimensions=("country",))),
    "revenue": (
        MetricKind.SUM,
        EventAggregate(
            filter=EventFilter(("order",), (DimensionFilter("properties.plan", FilterOp.NE, ("free",)),)),
            property="properties.cart.total",
            dimensions=("properties.plan", "country"),
            combinations=(("properties.plan", "country"),),
        ),
    ),
    "buyers": (MetricKind.UNIQUE, EventAggregate(property="visitor", dimensions=("page_path",))),
    "plans": (MetricKind.UNIQUE, EventAggregate(property="properties.plan")),
    "totals": (MetricKind.PERCENTILE, EventAggregate(property="properties.cart.total")),
    "slow": (
        MetricKind.RATIO,
        EventAggregate(
            filter=EventFilter(None, (DimensionFilter("status", FilterOp.GTE, ("200",)),)),
            matching=EventFilter(None, (DimensionFilter("properties.cart.total", FilterOp.GT, ("50",)),)),
        ),
    ),
    "speed": (MetricKind.RATE, EventAggregate(property="duration_ms", dimensions=("status",))),
}


async def define(
    superuser_url: str,
    tenant: Tenant,
    key: str,
    kind: MetricKind,
    aggregate: EventAggregate,
    former: UUID | None = None,
) -> UUID:
    """A new metric, or a new version of it after `former`; its version's id."""
    metric_id, version_id = uuid4(), uuid4()
    async with as_owner(superuser_url) as connection, connection.transaction():
        await connection.execute(HOLD.text, tenant.id)
        revision = await connection.fetchval(RAISE.text, tenant.id)
        if former is not None:
            await connection.execute(STATEMENTS["end_version"].text, tenant.id, former, revision)
        await connection.execute(STATEMENTS["insert_metric"].text, tenant.id, metric_id, key, kind.value)
        text = write_definition(aggregate, None)
        row = (tenant.id, version_id, metric_id, 1, kind.value, text, revision)
        await connection.execute(STATEMENTS["insert_version"].text, *row)
    return version_id


def make_events(seed: int, count: int, start_ms: int = DAY_MS, hours: float = 3) -> list[EnrichedEvent]:
    """Events whose properties have what definitions look for, and much that they do not."""
    chance = random.Random(seed)
    totals = ["1", "19.90", "1e2", "99.999999999", "0.0000000004", "1234567890123456", "-3.5", '"12"', "null", "[]"]
    plans = ['"free"', '"pro"', '"team"', '""', "7", "true", "null"]
    return [
        enriched(
            type=chance.choice(["order", "order", "page_view"]),
            timestamp_ms=start_ms + int(chance.random() * hours * 3_600_000),
            visitor=chance.randrange(40),
            country=chance.choice(["", "DE", "NL"]),
            page_path=chance.choice(PAGES),
            status=chance.choice([None, 200, 404]),
            duration_ms=chance.choice([None, 12.5, 0.1 + 0.2, 1e-7 * chance.random()]),
            is_bot=chance.random() < 0.2,
            properties=(
                f'{{"plan": {chance.choice(plans)}, "cart": {{"total": {chance.choice(totals)}}}}}'
                if chance.random() < 0.9
                else "{}"
            ).encode(),
        )
        for _ in range(count)
    ]


@dataclass
class Naive:
    """What one cell should hold, by hand."""

    count: int = 0
    matched: int = 0
    sum: Decimal = Decimal(0)
    numbers: list[Decimal] = field(default_factory=list)
    texts: set[object] = field(default_factory=set)


def plain(event: EnrichedEvent, name: str) -> Any:
    """A field's value, as Python reads JSON."""
    if not name.startswith("properties."):
        return getattr(event, name)
    found: Any = json.loads(event.properties, parse_float=Decimal, parse_int=Decimal)
    for key in name.split(".")[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def text(event: EnrichedEvent, name: str) -> str:
    value = plain(event, name)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else "" if value is None or isinstance(value, list) else f"{value:f}"


def number(event: EnrichedEvent, name: str) -> Decimal | None:
    value = plain(event, name)
    if isinstance(value, float):
        value = Decimal(f"{value:.15g}")
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    found = Decimal(value)
    return found.quantize(Decimal("0.000000001"), ROUND_HALF_UP) if abs(found) < 10**15 else None


def passes(key: str, event: EnrichedEvent) -> bool:
    """The filter of a definition, by hand."""
    if key == "slow":
        return (event.status or 0) >= 200
    is_order = event.type == "order"
    return is_order if key == "orders" else key != "revenue" or is_order and text(event, "properties.plan") != "free"


def naive_cells(key: str, events: Iterable[EnrichedEvent], seconds: int) -> dict[tuple[str, str, int, bool], Naive]:
    """By dimension, value, bucket and bot."""
    kind, aggregate = DEFINITIONS[key]
    cells: defaultdict[tuple[str, str, int, bool], Naive] = defaultdict(Naive)
    for event in events:
        if not passes(key, event):
            continue
        bucket = event.timestamp_ms // 1000 // seconds * seconds
        places = [("", "")] + [
            (name, "" if plain(event, name) is None else str(event.status) if name == "status" else text(event, name))
            for name in aggregate.dimensions
        ]
        for names in aggregate.combinations:
            value = json.dumps([text(event, name) for name in names], separators=(",", ":"))
            places.append((",".join(names), value))
        found = number(event, aggregate.property) if aggregate.property and kind is not MetricKind.UNIQUE else None
        for dimension, value in places:
            cell = cells[dimension, value, bucket, event.is_bot]
            cell.count += 1
            if kind is MetricKind.RATIO:
                total = plain(event, "properties.cart.total")
                cell.matched += int(isinstance(total, Decimal) and total > 50)
            elif found is not None:
                cell.matched += 1
                cell.sum += found
                cell.numbers.append(found)
            elif kind is MetricKind.UNIQUE:
                of = event.visitor if aggregate.property == "visitor" else text(event, str(aggregate.property))
                if of != "":
                    cell.texts.add(of)
    return dict(cells)


async def stored_cells(
    superuser_url: str, version_id: UUID, resolution: Resolution
) -> dict[tuple[str, str, int, bool], MetricSummary]:
    """The same as it is stored, merged over writers."""
    async with as_owner(superuser_url) as connection:
        rows = await connection.fetch(f"SELECT * FROM metric_{resolution.value} WHERE version_id = $1", version_id)
    cells: defaultdict[tuple[str, str, int, bool], MetricSummary] = defaultdict(MetricSummary)
    for row in rows:
        place = (row["dimension"], row["value"], int(row["bucket"].timestamp()), row["is_bot"])
        cells[place].merge(MetricSummary.from_row(row))
    return dict(cells)


async def assert_equal(superuser_url: str, key: str, version_id: UUID, events: list[EnrichedEvent]) -> None:
    """The cells of all three resolutions are what a naive count gives."""
    kind, _ = DEFINITIONS[key]
    for resolution in Resolution:
        wanted = naive_cells(key, events, resolution.seconds)
        found = await stored_cells(superuser_url, version_id, resolution)
        assert found.keys() == wanted.keys(), (key, resolution)
        for place, cell in found.items():
            naive = wanted[place]
            where = (key, resolution, place)
            assert (cell.count, cell.matched, cell.sum) == (naive.count, naive.matched, naive.sum), where
            least, most = (float(min(naive.numbers)), float(max(naive.numbers))) if naive.numbers else (None, None)
            assert (cell.min, cell.max) == (least, most), where
            assert round(cell.uniques.estimate()) == len(naive.texts), where
            if kind is MetricKind.PERCENTILE and naive.numbers:
                assert (cell.quantiles.quantile(0.0), cell.quantiles.quantile(1.0)) == (least, most), where
