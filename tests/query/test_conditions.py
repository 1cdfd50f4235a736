"""A condition means in SQL what it says: the rows that it picks are those of a naive reading of the same events."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import accounts
from core.database import Database
from core.errors import BadInput
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import NUMERIC_OPS, DimensionFilter, EventFilter, FilterOp, property_path
from core.queries import Query
from core.settings import Settings
from core.tenancy import Tenant, Tier
from pipeline.fold import dimension_values
from pipeline.prepared import prepare
from pipeline.store import Store
from query.conditions import Values, check_event_filter, matches, number_of, text_of
from tests.pipeline.builders import batch_of, enriched

# As JSON is written, since 1.50, 1e3 and -0.0 are not told apart once they are read.
WRITTEN = [
    "1", "0", "-1", "1.50", "1.5", "1e3", "1000", "2.5e-3", "-0.0", "12345678901234567890", '"1"', '"1.50"', '"free"',
    '"fr%e_"', '"Free"', '"\\u00fcber"', '""', "true", "false", "null", "[1]", '["free"]', "{}", '{"b": 1}',
    '{"b": "free"}', '{"b": null}', '{"b": {"c": 2}}',
]  # fmt: skip
FIELDS = ["properties.a", "properties.a.b", "properties.a.b.c", "properties.a.0", "properties.none", "type", "status",
          "country", "page_path"]  # fmt: skip
TEXTS = ["", "1", "1.5", "1.50", "1000", "0.0025", "0", "0.0", "free", "fr", "FREE", "%", "e_", "über", "true", "null",
         "200", "404", "page_view", "DE", "/p/1", "[1]", '{"b": 1}', "12345678901234567890"]  # fmt: skip
NUMBERS = ["0", "1", "-1", "1.5", "1.50", "999.999999999", "200", "404", "0.0025", "123456789012345"]


def make_events(seed: int, count: int) -> list[EnrichedEvent]:
    chance = random.Random(seed)
    return [
        enriched(
            id=uuid4().bytes,
            type=chance.choice(["page_view", "http_request", "signup"]),
            status=chance.choice([None, 200, 404, 500]),
            country=chance.choice(["", "DE", "NL"]),
            page_path=chance.choice(["", "/p/1", "/p/2"]),
            properties=(b"{}" if chance.random() < 0.1 else f'{{"a": {chance.choice(WRITTEN)}}}'.encode()),
        )
        for _ in range(count)
    ]


EVENTS = make_events(5, 600)


class Exact(Decimal):
    """A number as JSON has it written."""


def found_at(event: EnrichedEvent, name: str) -> Any:
    at: Any = json.loads(event.properties, parse_float=Exact, parse_int=Exact)
    for key in property_path(name) or ():
        at = at.get(key) if isinstance(at, dict) else None
    return at


def naive_text(event: EnrichedEvent, name: str) -> str:
    if property_path(name) is None:
        return event.type if name == "type" else dict(dimension_values(event))[name]
    found = found_at(event, name)
    if isinstance(found, bool):
        return "true" if found else "false"
    if isinstance(found, Exact):
        return format(abs(found) if found == 0 else found, "f")
    return found if isinstance(found, str) else ""


def naive_number(event: EnrichedEvent, name: str) -> Decimal | None:
    if name == "status":
        return None if event.status is None else Decimal(event.status)
    found = found_at(event, name)
    return found if isinstance(found, Exact) else None


def holds(event: EnrichedEvent, condition: DimensionFilter) -> bool:
    first = condition.values[0]
    if condition.op in NUMERIC_OPS:
        number, limit = naive_number(event, condition.dimension), Decimal(first)
        if number is None:
            return False
        return {"GT": number > limit, "GTE": number >= limit, "LT": number < limit, "LTE": number <= limit}[
            condition.op.value
        ]
    text = naive_text(event, condition.dimension)
    return {
        "EQ": text == first, "NE": text != first, "IN": text in condition.values,
        "NOT_IN": text not in condition.values, "CONTAINS": first in text, "PREFIX": text.startswith(first),
    }[condition.op.value]  # fmt: skip


def passes(event: EnrichedEvent, wanted: EventFilter) -> bool:
    return (wanted.types is None or event.type in wanted.types) and all(holds(event, c) for c in wanted.conditions)


def random_condition(chance: random.Random) -> DimensionFilter:
    op = chance.choice(list(FilterOp))
    if op in NUMERIC_OPS:
        name = chance.choice([name for name in FIELDS if name == "status" or property_path(name)])
        return DimensionFilter(name, op, (chance.choice(NUMBERS),))
    count = chance.randint(1, 12) if op in (FilterOp.IN, FilterOp.NOT_IN) else 1
    return DimensionFilter(chance.choice(FIELDS), op, tuple(chance.choice(TEXTS) for _ in range(count)))


@pytest.fixture(scope="module")
async def tenant(settings: Settings) -> Tenant:
    database = Database(settings, pool_size=2)
    tenant = await accounts.create_tenant(database, slug="conditions", name="Conditions", tier=Tier.SELF_HOSTED)
    batch, after = batch_of(tenant.id, *EVENTS), Offset("1-0")
    store = Store(database, "conditions")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t", 0), await prepare([batch]), Offset("0-0"), lambda counted: (after, b""))
    await database.close()
    return tenant


Ask = Callable[[str, Values], Any]


@pytest.fixture
async def rows(database: Database, tenant: Tenant) -> AsyncIterator[Ask]:
    async def rows(expression: str, values: Values) -> Sequence[Any]:
        text = f"SELECT id, {expression} AS found FROM events WHERE $1::text[] IS NOT NULL"
        async with database.as_tenant(tenant.id) as session:
            return await session.fetch(Query("test", ("values",), "", text), values.texts)

    yield rows


async def test_conditions_pick_what_a_naive_reading_picks(rows: Ask) -> None:
    chance, seen = random.Random(11), 0
    for _ in range(500):
        wanted = EventFilter(
            chance.choice([None, None, ("page_view",), ("http_request", "signup")]),
            tuple(random_condition(chance) for _ in range(chance.choice([0, 1, 1, 1, 2, 3]))),
        )
        check_event_filter(wanted, "filter")
        values = Values(1)
        found = {UUID(int=row["id"].int) for row in await rows(matches(wanted, values), values) if row["found"]}
        expected = {UUID(bytes=event.id) for event in EVENTS if passes(event, wanted)}
        assert found == expected, wanted
        seen += 0 < len(found) < len(EVENTS)
    assert seen > 150


@pytest.mark.parametrize("name", [*FIELDS, "properties.a.b.c"])
async def test_texts_and_numbers_are_those_of_a_naive_reading(rows: Ask, name: str) -> None:
    values = Values(1)
    texts = {UUID(int=row["id"].int): row["found"] for row in await rows(text_of(name, values), values)}
    assert texts == {UUID(bytes=event.id): naive_text(event, name) for event in EVENTS}
    if name == "status" or property_path(name):
        values = Values(1)
        numbers = {UUID(int=row["id"].int): row["found"] for row in await rows(number_of(name, values), values)}
        assert numbers == {UUID(bytes=event.id): naive_number(event, name) for event in EVENTS}


async def test_a_value_never_becomes_text_of_the_statement(rows: Ask) -> None:
    values = Values(1)
    hostile = "'); DROP TABLE events; --"
    wanted = EventFilter((hostile,), (DimensionFilter(f"properties.{hostile}", FilterOp.EQ, (hostile,)),))
    text = matches(wanted, values)
    assert "DROP" not in text
    assert not any(row["found"] for row in await rows(text, values))


@pytest.mark.parametrize(
    ("wanted", "code", "place"),
    [
        (EventFilter(()), "bad_filter", "steps.0.types"),
        (EventFilter(tuple(str(n) for n in range(101))), "bad_filter", "steps.0.types"),
        (EventFilter(("a\0",)), "bad_filter", "steps.0.types"),
        (EventFilter(("\ud800",)), "bad_filter", "steps.0.types"),
        (EventFilter(None, (DimensionFilter("plan", FilterOp.EQ, ("a",)),)), "unknown_dimension", "dimension"),
        (EventFilter(None, (DimensionFilter("properties.", FilterOp.EQ, ("a",)),)), "bad_property", "dimension"),
        (EventFilter(None, (DimensionFilter("properties.a..b", FilterOp.EQ, ("a",)),)), "bad_property", "dimension"),
        (EventFilter(None, (DimensionFilter("properties." + "a." * 9 + "a", FilterOp.EQ, ("a",)),)), "bad_property",
         "dimension"),
        (EventFilter(None, (DimensionFilter("properties." + "a" * 300, FilterOp.EQ, ("a",)),)), "bad_property",
         "dimension"),
        (EventFilter(None, (DimensionFilter("properties.\0", FilterOp.EQ, ("a",)),)), "bad_filter", "dimension"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.GT, ("1",)),)), "bad_filter", "conditions"),
        (EventFilter(None, (DimensionFilter("status", FilterOp.GT, ("many",)),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("properties.a", FilterOp.LT, ("1e999",)),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ()),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ("a", "b")),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.IN, tuple("a" * 101)),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ("a" * 1025,)),)), "bad_filter", "values"),
        (EventFilter(None, (DimensionFilter("country", FilterOp.EQ, ("a",)),) * 21), "too_many_filters", "conditions"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_place(wanted: EventFilter, code: str, place: str) -> None:
    with pytest.raises(BadInput) as refusal:
        check_event_filter(wanted, "steps.0")
    assert refusal.value.code == code
    assert (refusal.value.field or "").startswith("steps.0") and place in (refusal.value.field or "")
