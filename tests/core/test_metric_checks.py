"""What may be defined as a metric: every kind's parts, and a refusal with its remedy for all else."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import BadInput
from core.filters import DimensionFilter, EventFilter, FilterOp
from core.metric_checks import Definition, checked_definition, checked_key, checked_texts, default_unit
from core.metric_definitions import EventAggregate, read_definition, write_definition
from core.metrics import MetricKind

RATIO_PARTS = {"matching": EventFilter(("order",))}
GOOD: list[tuple[MetricKind, dict[str, Any], str]] = [
    (MetricKind.COUNT, {}, "events"),
    (MetricKind.COUNT, {"filter": EventFilter(("order", "Sign up/2"))}, "events"),
    (MetricKind.SUM, {"property": "properties.cart.total_2-x"}, ""),
    (MetricKind.SUM, {"property": "bytes"}, "bytes"),
    (MetricKind.AVG, {"property": "duration_ms"}, "ms"),
    (MetricKind.MIN, {"property": "properties.a.b.c.d.e"}, ""),
    (MetricKind.MAX, {"property": "properties.amount"}, ""),
    (MetricKind.UNIQUE, {"property": "visitor"}, "visitors"),
    (MetricKind.UNIQUE, {"property": "session"}, "sessions"),
    (MetricKind.UNIQUE, {"property": "page_path"}, "values"),
    (MetricKind.PERCENTILE, {"property": "duration_ms"}, "ms"),
    (MetricKind.RATE, {}, "events/60 s"),
    (MetricKind.RATE, {"property": "bytes", "rate_seconds": 1}, "bytes/1 s"),
    (MetricKind.RATIO, RATIO_PARTS, "ratio"),
    (MetricKind.COUNT, {"dimensions": ("type", "country", "properties.plan"),
                        "combinations": (("properties.plan", "country"),)}, "events"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parts", "unit"), GOOD)
def test_each_kind_takes_its_parts_and_is_stored_as_it_was_given(
    kind: MetricKind, parts: dict[str, Any], unit: str
) -> None:
    found = checked_definition(Definition(kind, EventAggregate(**parts)))
    assert default_unit(found) == unit
    assert read_definition(write_definition(found.aggregate, found.formula)) == (found.aggregate, None)


def test_a_combination_is_kept_in_the_order_of_the_dimensions() -> None:
    parts = EventAggregate(dimensions=("os", "country", "device"), combinations=(("device", "os"), ("country", "os")))
    found = checked_definition(Definition(MetricKind.COUNT, parts))
    assert found.aggregate is not None and found.aggregate.combinations == (("os", "device"), ("os", "country"))


def condition(dimension: str = "country", op: FilterOp = FilterOp.EQ, *values: str) -> dict[str, Any]:
    return {"filter": EventFilter(None, (DimensionFilter(dimension, op, values or ("x",)),))}


SEVEN = ("type", "country", "device", "browser", "os", "status", "method")
BAD: list[tuple[MetricKind, dict[str, Any], str, str]] = [
    (MetricKind.SUM, {}, "property", "needs a property"),
    (MetricKind.UNIQUE, {}, "property", "visitor"),
    (MetricKind.COUNT, {"property": "bytes"}, "property", "takes no property"),
    (MetricKind.RATIO, {**RATIO_PARTS, "property": "bytes"}, "property", "takes no property"),
    (MetricKind.SUM, {"property": "country"}, "property", "takes a number"),
    (MetricKind.SUM, {"property": "properties"}, "property", "takes a number"),
    (MetricKind.SUM, {"property": "properties.a.b.c.d.e.f"}, "property", "up to 5"),
    (MetricKind.SUM, {"property": "properties.a b"}, "property", "letters"),
    (MetricKind.SUM, {"property": "properties." + "x" * 65}, "property", "letters"),
    (MetricKind.SUM, {"property": "properties.a'; DROP TABLE events; --"}, "property", "letters"),
    (MetricKind.SUM, {"property": "properties.a\n"}, "property", "letters"),
    (MetricKind.UNIQUE, {"property": "duration_ms"}, "property", "no 'duration_ms' of events"),
    (MetricKind.RATIO, {}, "matching", "above the line"),
    (MetricKind.COUNT, RATIO_PARTS, "matching", "Only a RATIO"),
    (MetricKind.COUNT, {"rate_seconds": 1}, "rateSeconds", "Only a RATE"),
    (MetricKind.RATE, {"rate_seconds": 0}, "rateSeconds", "1 to 86400"),
    (MetricKind.RATE, {"rate_seconds": 86_401}, "rateSeconds", "1 to 86400"),
    (MetricKind.COUNT, {"dimensions": SEVEN}, "dimensions", "at most 6"),
    (MetricKind.COUNT, {"dimensions": ("os", "os")}, "dimensions", "each once"),
    (MetricKind.COUNT, {"dimensions": ("user_id",)}, "dimensions", "no 'user_id' of events"),
    (MetricKind.COUNT, {"dimensions": ("os", "type"), "combinations": (("os",),)}, "combinations", "two or more"),
    (MetricKind.COUNT, {"dimensions": ("os", "type"), "combinations": (("os", "country"),)}, "combinations",
     "`dimensions`"),
    (MetricKind.COUNT, {"dimensions": ("os", "type"), "combinations": (("os", "type"), ("type", "os"))}, "combinations",
     "each once"),
    (MetricKind.COUNT, {"filter": EventFilter(())}, "filter.types", "1 to 20"),
    (MetricKind.COUNT, {"filter": EventFilter(("a",) * 2)}, "filter.types", "each once"),
    (MetricKind.COUNT, {"filter": EventFilter(("bad;type",))}, "filter.types", "letters"),
    (MetricKind.RATIO, {"matching": EventFilter(("",))}, "matching.types", "letters"),
    (MetricKind.COUNT, {"filter": EventFilter(None, (DimensionFilter("os", FilterOp.EQ, ("x",)),) * 21)},
     "filter.conditions", "at most 20"),
    (MetricKind.COUNT, condition("visitor"), "filter.conditions.dimension", "no 'visitor' of events"),
    (MetricKind.COUNT, condition("os", FilterOp.EQ, "a", "b"), "filter.conditions.values", "exactly one"),
    (MetricKind.COUNT, condition("os", FilterOp.IN, *map(str, range(101))), "filter.conditions.values", "1 to 100"),
    (MetricKind.COUNT, condition("os", FilterOp.EQ, "\0"), "filter.conditions.values", "without NUL"),
    (MetricKind.COUNT, condition("os", FilterOp.GT, "5"), "filter.conditions", "compares numbers"),
    (MetricKind.COUNT, condition("properties.a", FilterOp.GT, "1e5"), "filter.conditions", "compares numbers"),
    (MetricKind.COUNT, condition("properties.a", FilterOp.LTE, "NaN"), "filter.conditions", "compares numbers"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "parts", "field", "wanted"), BAD)
def test_what_does_not_fit_is_refused_with_its_field_and_remedy(
    kind: MetricKind, parts: dict[str, Any], field: str, wanted: str
) -> None:
    with pytest.raises(BadInput, match=wanted) as refused:
        checked_definition(Definition(kind, EventAggregate(**parts)))
    assert refused.value.field == field


def test_numbers_are_compared_of_status_and_of_properties() -> None:
    for dimension, text in (("status", "500"), ("properties.cart.total", "-9.99")):
        checked_definition(Definition(MetricKind.COUNT, EventAggregate(**condition(dimension, FilterOp.GTE, text))))


def test_a_formula_has_a_formula_and_nothing_else() -> None:
    found = checked_definition(Definition(MetricKind.FORMULA, EventAggregate(), "a / b"))
    assert found == Definition(MetricKind.FORMULA, None, "a / b")
    for wrong in (
        Definition(MetricKind.FORMULA, None, " "),
        Definition(MetricKind.FORMULA, None, None),
        Definition(MetricKind.FORMULA, EventAggregate(dimensions=("os",)), "a"),
        Definition(MetricKind.COUNT, EventAggregate(), "a"),
    ):
        with pytest.raises(BadInput, match="formula"):
            checked_definition(wrong)


@pytest.mark.parametrize("key", ["", "Revenue", "1st", "a-b", "a" * 64, "é", "a b", "_a", "a\n"])
def test_a_key_has_small_letters_digits_and_underscores(key: str) -> None:
    with pytest.raises(BadInput, match="1 to 63 of a-z"):
        checked_key(key)


@pytest.mark.parametrize("key", ["events", "error_rate", "p95", "p5", "ingest_anything"])
def test_a_key_that_is_built_in_or_kept_is_taken(key: str) -> None:
    with pytest.raises(BadInput, match="take another") as refused:
        checked_key(key)
    assert refused.value.code == "key_taken"


def test_keys_and_texts_that_can_be_used_are() -> None:
    assert [checked_key(key) for key in ("a", "revenue_2", "p95_of_all", "a" * 63)][1] == "revenue_2"
    checked_texts("EUR/m²", "Ten\nlines.")


@pytest.mark.parametrize(
    ("unit", "text", "field"),
    [("x" * 33, "", "unit"), ("a\nb", "", "unit"), ("", "x" * 2001, "description"), ("", "\ud800", "description")],
)
def test_a_unit_or_description_that_cannot_be_shown_is_refused(unit: str, text: str, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        checked_texts(unit, text)
    assert refused.value.field == field
