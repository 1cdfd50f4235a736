"""Metrics of tenants in the database: versions, the seam's revision, conflicts, limits, and other tenants."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from core.accounts import create_tenant
from core.database import Database
from core.errors import BadInput, CloudMetricsError, Conflict, NotFound, PermissionDenied, TooMany
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_catalog import MetricCatalog
from core.metric_checks import Definition
from core.metric_definitions import EventAggregate
from core.metric_store import MetricChanges, MetricDraft, MetricEditConflict, MetricRecord, MetricStore
from core.metrics import BUILT_IN, MetricKind
from core.permissions import Role
from core.queries import parse_blocks
from core.tenancy import Principal, Tenant, Tier
from tests.core.members import add_member, remove_member, set_role

TEXT = """-- entries(subject)
-- What the trail has.
SELECT action, actor, diff::text AS diff, request_id FROM audit_log WHERE subject = $1 ORDER BY id;

-- versions(metric_id)
-- What is stored of its versions.
SELECT version, counts_from, counts_until, ready_at IS NOT NULL AS is_ready, definition::text AS definition
FROM metric_versions WHERE metric_id = $1 ORDER BY version;

-- fill_versions(metric_id, many)
-- As if so many had been made today.
INSERT INTO metric_versions (tenant_id, id, metric_id, version, kind, definition, counts_from, created_by)
SELECT current_setting('app.current_tenant')::uuid, gen_random_uuid(), $1, 1000 + n, 'COUNT', '{}', 0, 'test'
FROM generate_series(1, $2::integer) n;

-- hold_shared(tenant_id)
-- As a worker that counts.
SELECT tier, metrics_revision FROM maintenance.hold_tiers(ARRAY[$1::uuid]);
"""
TESTS = parse_blocks(TEXT, "metrics of tests")
PAID = EventFilter(("order",), (DimensionFilter("properties.state", FilterOp.EQ, ("paid",)),))
REVENUE = Definition(MetricKind.SUM, EventAggregate(filter=PAID, property="properties.amount", dimensions=("country",)))
ORDERS = Definition(MetricKind.COUNT, EventAggregate(filter=EventFilter(("order",))))


def formula(text: str) -> Definition:
    return Definition(MetricKind.FORMULA, None, text)


def store(database: Database, principal: Principal) -> MetricStore:
    return MetricStore(database, principal, "request-1")


async def made(database: Database, maker: Principal, key: str = "revenue", **draft: Any) -> MetricRecord:
    return await store(database, maker).create(MetricDraft(**{"key": key, "definition": REVENUE, **draft}))


async def rows(database: Database, maker: Principal, query: str, *arguments: Any) -> list[Any]:
    async with database.as_tenant(maker.tenant.id) as session:
        return list(await session.fetch(TESTS[query], *arguments))


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> Principal:
    return await add_member(database, tenant)


async def test_a_new_metric_is_asked_by_its_key_and_counts_from_a_raised_revision(
    database: Database, maker: Principal
) -> None:
    catalog = MetricCatalog(database)
    before = await catalog.of(maker.tenant.id)
    assert before.by_key == BUILT_IN and before.own == []
    first = await made(database, maker, unit="EUR", description="What orders are worth.")
    found = await MetricCatalog(database).of(maker.tenant.id)
    assert found.revision == before.revision + 1
    (metric,) = found.own
    assert metric == first.definition and metric.unit == "EUR" and metric.dimensions == ("country",)
    assert metric.defined is not None and metric.defined.aggregate == REVENUE.aggregate
    assert metric.defined.counts_from == found.revision and metric.defined.ready_at is None
    assert (first.revision, metric.version, first.owner) == (1, 1, maker.actor)


async def test_an_edit_of_what_it_counts_makes_a_version_and_ends_the_former_at_the_same_revision(
    database: Database, maker: Principal
) -> None:
    first = await made(database, maker)
    second = await store(database, maker).update(first.id, 1, MetricChanges(definition=ORDERS))
    assert (second.revision, second.definition.version, second.definition.kind) == (2, 2, MetricKind.COUNT)
    old, new = await rows(database, maker, "versions", first.id)
    assert old["counts_until"] == new["counts_from"] == old["counts_from"] + 1 and new["counts_until"] is None
    assert '"SUM"' not in old["definition"] and "properties.amount" in old["definition"]
    # A unit that nobody had chosen goes with what is counted.
    assert (first.definition.unit, second.definition.unit) == ("", "events")


async def test_an_edit_of_words_makes_no_version_and_counting_goes_on(database: Database, maker: Principal) -> None:
    first = await made(database, maker)
    second = await store(database, maker).update(first.id, 1, MetricChanges(unit="USD", description="Paid."))
    assert (second.revision, second.definition.version, second.definition.unit) == (2, 1, "USD")
    assert second.defined.id == first.defined.id and len(await rows(database, maker, "versions", first.id)) == 1


async def test_the_trail_tells_each_change(database: Database, maker: Principal) -> None:
    first = await made(database, maker)
    changes = MetricChanges(definition=formula("orders_all * 2"), description="Twice.")
    await made(database, maker, "orders_all", definition=ORDERS)
    await store(database, maker).update(first.id, 1, changes)
    await store(database, maker).archive(first.id)
    await store(database, maker).unarchive(first.id)
    entries = await rows(database, maker, "entries", f"metric:{first.id}")
    assert [entry["action"] for entry in entries] == [
        "metric.create", "metric.update", "metric.archive", "metric.unarchive",
    ]  # fmt: skip
    assert {entry["actor"] for entry in entries} == {maker.actor} and entries[0]["request_id"] == "request-1"
    assert '"formula": "orders_all * 2"' in entries[1]["diff"] and '["", "Twice."]' in entries[1]["diff"]


async def test_the_same_edit_sent_twice_is_made_once_and_another_is_a_conflict_with_what_is_stored(
    database: Database, maker: Principal
) -> None:
    first = await made(database, maker)
    for _ in range(2):
        again = await store(database, maker).update(first.id, 1, MetricChanges(definition=ORDERS, unit="orders"))
        assert (again.revision, again.definition.version) == (2, 2)
    with pytest.raises(MetricEditConflict) as refused:
        await store(database, maker).update(first.id, 1, MetricChanges(definition=REVENUE, description="Mine."))
    assert refused.value.theirs.revision == 2 and set(refused.value.changed) == {"definition", "description"}


async def test_of_edits_at_once_one_is_made(database: Database, maker: Principal) -> None:
    first = await made(database, maker)
    edits = [MetricChanges(description=f"edit {n}") for n in range(4)]
    found = await asyncio.gather(
        *(store(database, maker).update(first.id, 1, edit) for edit in edits), return_exceptions=True
    )
    assert len([answer for answer in found if isinstance(answer, MetricRecord)]) == 1
    assert len([answer for answer in found if isinstance(answer, MetricEditConflict)]) == 3


async def test_two_formulas_made_at_once_that_would_refer_to_each_other_are_not_both_made(
    database: Database, maker: Principal
) -> None:
    await made(database, maker, "a", definition=formula("events"))
    await made(database, maker, "b", definition=formula("events"))
    records = {key: (await store(database, maker).create(MetricDraft(key=key, definition=formula(text)))).id
               for key, text in (("x", "a + 1"), ("y", "b + 1"))}  # fmt: skip
    found = await asyncio.gather(
        store(database, maker).update(records["x"], 1, MetricChanges(definition=formula("y + 1"))),
        store(database, maker).update(records["y"], 1, MetricChanges(definition=formula("x + 1"))),
        return_exceptions=True,
    )
    (refused,) = [answer for answer in found if isinstance(answer, CloudMetricsError)]
    assert refused.code == "formula_cycle" and len(found) == 2


async def test_a_formula_is_ready_at_once_and_has_its_metrics_unit_and_dimensions(
    database: Database, maker: Principal
) -> None:
    await made(database, maker, unit="EUR")
    share = await made(database, maker, "share", definition=formula("revenue / visitors"))
    assert share.definition.unit == "EUR/visitors" and share.defined.is_ready
    metric = (await MetricCatalog(database).of(maker.tenant.id)).by_key["share"]
    assert metric.dimensions == ("country",)
    assert metric.defined is not None and metric.defined.expression is not None


async def test_a_metric_under_a_formula_is_not_archived_nor_made_unfit(database: Database, maker: Principal) -> None:
    first = await made(database, maker, unit="EUR")
    await made(database, maker, "twice", definition=formula("revenue * 2"))
    unfit = Definition(MetricKind.PERCENTILE, EventAggregate(property="duration_ms"))
    for asking in (store(database, maker).archive(first.id),
                   store(database, maker).update(first.id, 1, MetricChanges(definition=unfit))):  # fmt: skip
        with pytest.raises(Conflict, match="formula twice refers to revenue") as refused:
            await asking
        assert refused.value.code == "metric_in_use"
    assert (await MetricCatalog(database).of(maker.tenant.id)).by_key["revenue"].version == 1


async def test_an_archived_metric_is_gone_from_the_catalog_keeps_its_key_and_comes_back_as_a_version(
    database: Database, maker: Principal
) -> None:
    first = await made(database, maker)
    for _ in range(2):
        archived = await store(database, maker).archive(first.id)
        assert archived.archived_at is not None and archived.revision == 2
    assert (await MetricCatalog(database).of(maker.tenant.id)).own == []
    with pytest.raises(Conflict, match="perhaps archived") as taken:
        await made(database, maker)
    assert taken.value.code == "key_taken"
    with pytest.raises(Conflict, match="unarchive it first"):
        await store(database, maker).update(first.id, 2, MetricChanges(unit="USD"))
    for _ in range(2):
        back = await store(database, maker).unarchive(first.id)
        assert (back.archived_at, back.definition.version, back.revision) == (None, 2, 3)
    old, new = await rows(database, maker, "versions", first.id)
    # What was counted between is of neither: the backfill of the new one takes it in.
    assert old["counts_until"] < new["counts_from"] and old["definition"] == new["definition"]


async def test_a_version_waits_for_those_who_count_and_they_see_it_then(database: Database, maker: Principal) -> None:
    tenant_id = maker.tenant.id
    async with database.as_writer() as counting:
        row = await counting.fetchrow(TESTS["hold_shared"], tenant_id)
        assert row is not None
        making = asyncio.create_task(made(database, maker))
        # While a worker's transaction is open no version comes to be; words may be read meanwhile.
        assert not (await asyncio.wait({making}, timeout=0.3))[0]
    first = await making
    assert first.defined.counts_from == row["metrics_revision"] + 1
    async with database.as_writer() as counting:
        again = await counting.fetchrow(TESTS["hold_shared"], tenant_id)
    assert again is not None and again["metrics_revision"] == first.defined.counts_from


async def test_limits_are_told_with_what_to_do(database: Database, maker: Principal, monkeypatch: Any) -> None:
    monkeypatch.setattr("core.metric_store.MAX_LIVE", 2)
    first = await made(database, maker)
    await made(database, maker, "second")
    with pytest.raises(BadInput, match="at most 2 metrics.*archive") as many:
        await made(database, maker, "third")
    assert many.value.code == "too_many"
    async with database.as_tenant(maker.tenant.id, is_write=True) as session:
        await session.execute(TESTS["fill_versions"], first.id, 48)
    with pytest.raises(TooMany, match="50 versions") as often:
        await store(database, maker).update(first.id, 1, MetricChanges(definition=ORDERS))
    assert often.value.code == "too_many_versions" and 86_000 < often.value.retry_after <= 86_400
    # Words are no version.
    assert (await store(database, maker).update(first.id, 1, MetricChanges(description="x"))).revision == 2


async def test_who_may_no_more_changes_nothing(database: Database, tenant: Tenant, maker: Principal) -> None:
    first = await made(database, maker)
    await set_role(database, maker, Role.VIEWER)
    for asking in (made(database, maker, "other"), store(database, maker).archive(first.id),
                   store(database, maker).update(first.id, 1, MetricChanges(unit="x"))):  # fmt: skip
        with pytest.raises(PermissionDenied):
            await asking
    other = await add_member(database, tenant)
    assert (await store(database, other).update(first.id, 1, MetricChanges(unit="x"))).updated_by == other.actor


async def test_an_owner_is_a_member_of_the_tenant(database: Database, tenant: Tenant, maker: Principal) -> None:
    other = await add_member(database, tenant)
    first = await made(database, maker, owner=other.actor)
    assert first.owner == other.actor and first.created_by == maker.actor
    gone = await add_member(database, tenant)
    await remove_member(database, gone)
    with pytest.raises(BadInput, match="no member"):
        await store(database, maker).update(first.id, 1, MetricChanges(owner=gone.actor))


async def test_another_tenants_metric_is_as_one_that_is_missing_and_keys_are_each_tenants_own(
    database: Database, maker: Principal
) -> None:
    stranger = await add_member(database, await create_tenant(database, slug=uuid4().hex, name="S", tier=Tier.FREE))
    first = await made(database, maker)
    said = set()
    for id in (first.id, uuid4()):
        for asking in (store(database, stranger).archive(id), store(database, stranger).unarchive(id),
                       store(database, stranger).update(id, 1, MetricChanges(unit="x"))):  # fmt: skip
            with pytest.raises(NotFound) as refused:
                await asking
            said.add(refused.value.message)
    assert said == {"There is no Metric with that id."}
    assert (await made(database, stranger)).id != first.id
