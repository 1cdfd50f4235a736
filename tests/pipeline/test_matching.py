"""A condition means the same to a worker, in Python, as to a question, in SQL."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from uuid import UUID

from core.database import Database, as_owner
from core.filters import NUMERIC_OPS, DimensionFilter, EventFilter, FilterOp
from core.metric_cells import counted_number
from core.tenancy import Tenant
from pipeline.matching import Seen, matcher, number_of, text_of
from query.conditions import Values, matches
from query.conditions import number_of as sql_number
from query.conditions import text_of as sql_text
from tests.pipeline.builders import enriched
from tests.pipeline.own_metrics import DAY_MS
from tests.pipeline.test_metric_counting import Counting

ON_BOTH_STORES = True
# JSON of all sorts, as it may be written.
VALUES = [
    "1", "-0", "-0.0", "0.50", "1e3", "1E-7", "1.5e2", "123456789012345678901234567890", "0.1234567890123", "500", "-2",
    "1" + "0" * 5_000, '"500"', '"pro"', '"Pro"', '"50%_off"', '"ü"', '""', "true", "false", "null", "[1]",
    '{"b": "in"}',
    '{"b": 5}', '{"b": {"b": 7.5}}', "999999999999999.9999999999", "-1000000000000000", "0.0000000005", "-0.0000000005",
]  # fmt: skip
FIELDS = [
    "properties.a",
    "properties.a.b",
    "properties.a.b.b",
    "properties.0",
    "status",
    "country",
    "type",
    "page_path",
]
WANTED = [
    "",
    "1",
    "0",
    "0.0",
    "0.50",
    "1000",
    "500",
    "pro",
    "Pro",
    "ro",
    "%",
    "true",
    "5",
    "7.5",
    "in",
    "DE",
    "-2",
    "ü",
]
NUMBERS = ["0", "1", "500", "-2.5", "0.000000001", "999999999999999"]


def filters(seed: int, count: int) -> list[EventFilter]:
    chance = random.Random(seed)
    made = []
    for _ in range(count):
        conditions = []
        for _ in range(chance.randrange(1, 3)):
            op = chance.choice(list(FilterOp))
            several = chance.sample(WANTED, 3) if op in (FilterOp.IN, FilterOp.NOT_IN) else [chance.choice(WANTED)]
            wanted = [chance.choice(NUMBERS)] if op in NUMERIC_OPS else several
            conditions.append(DimensionFilter(chance.choice(FIELDS), op, tuple(wanted)))
        types = chance.choice([None, ("order",), ("order", "x")])
        made.append(EventFilter(types, tuple(conditions)))
    return made


async def test_python_and_sql_agree_on_events_of_all_sorts(
    database: Database, superuser_url: str, tenant: Tenant
) -> None:
    chance = random.Random(11)
    events = [
        enriched(
            type=chance.choice(["order", "x", "pro"]),
            timestamp_ms=DAY_MS,
            status=chance.choice([None, 0, 200, 500]),
            duration_ms=chance.choice([None, 0.1 + 0.2, 1e-9, 123456.789]),
            bytes=chance.choice([None, 0, 2**50]),
            country=chance.choice(["", "DE"]),
            page_path=chance.choice(["", "/pro", "1000"]),
            properties=b"{" + f'"0": 1, "a": {value}'.encode() + b"}",
        )
        for value in VALUES
        for _ in range(3)
    ]
    await Counting(database, tenant).count(events)
    async with as_owner(superuser_url) as connection:
        for filter in filters(12, 250):
            values = Values(2)
            condition = matches(filter, values)
            rows = await connection.fetch(
                f"SELECT id FROM events WHERE tenant_id = $1 AND $2::text[] IS NOT NULL AND {condition}",
                tenant.id, values.texts,
            )  # fmt: skip
            passes = matcher(filter)
            found = {UUID(bytes=event.id) for event in events if passes(Seen(event))}
            assert {UUID(int=row["id"].int) for row in rows} == found, filter
        for name in [*FIELDS, "duration_ms", "bytes"]:
            values = Values(2)
            is_text = name not in ("duration_ms", "bytes")
            text = sql_text(name, values) if is_text else "''"
            number = sql_number(name, values)
            rows = await connection.fetch(
                f"SELECT id, {text} AS text, CASE WHEN abs({number}) < 1e15 THEN round({number}, 9) END AS number "
                "FROM events WHERE tenant_id = $1 AND $2::text[] IS NOT NULL",
                tenant.id, values.texts,
            )  # fmt: skip
            by_id = {UUID(int=row["id"].int): (row["text"], row["number"]) for row in rows}
            for event in events:
                seen = Seen(event)
                found_number = number_of(name)(seen)
                counted = None if found_number is None else counted_number(found_number)
                mine = (text_of(name)(seen) if is_text else "", counted)
                assert by_id[UUID(bytes=event.id)] == mine, (name, event.properties[:80])


def test_a_number_counts_to_its_ninth_digit_and_not_beyond_fifteen() -> None:
    assert counted_number(Decimal("0.0000000005")) == Decimal("0.000000001")
    assert counted_number(Decimal("-0.0000000005")) == Decimal("-0.000000001")
    assert counted_number(Decimal("1e15")) is None
    assert counted_number(Decimal("1e999999")) is None
    assert json.loads("1e15") == 1e15
