"""What formulas refer to: cycles, units, percentiles, how many; and changes under formulas that stand on them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import pytest

from core.errors import BadInput, Conflict
from core.formula import Reference, references_of
from core.formula_checks import (
    check_change,
    check_dependents,
    check_refers,
    common_dimensions,
    expand,
    read_unit,
    unit_of_formula,
    written,
)
from core.metric_catalog import resolved_in
from core.metric_definitions import DefinedMetric, EventAggregate
from core.metrics import BUILT_IN, MetricDefinition, MetricKind, Part

ID = UUID(int=0)


def metric(key: str, kind: MetricKind = MetricKind.COUNT, unit: str = "", *dimensions: str) -> MetricDefinition:
    defined = DefinedMetric(id=ID, metric_id=ID, aggregate=EventAggregate(dimensions=dimensions))
    return MetricDefinition(key, kind, Part.DEFINED, unit, "", defined=defined)


def formula(key: str, text: str, unit: str = "") -> MetricDefinition:
    defined = DefinedMetric(id=ID, metric_id=ID, formula=text)
    return MetricDefinition(key, MetricKind.FORMULA, Part.DEFINED, unit, "", defined=defined)


def known(*metrics: MetricDefinition) -> Mapping[str, MetricDefinition]:
    return {**BUILT_IN, **{metric.key: metric for metric in metrics}}


ORDERS = metric("orders", MetricKind.COUNT, "orders", "country", "device")
REVENUE = metric("revenue", MetricKind.SUM, "EUR", "device", "country", "properties.plan")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("orders / requests * 100", ""), ("orders + pageviews", "events"), ("revenue / orders", "EUR/events"),
        ("revenue / visitors", "EUR/visitors"), ("p95(request_duration) - p50(request_duration)", "ms"),
        ("p95(request_duration) + 5", "ms"), ("5 - p95(request_duration)", "ms"), ("error_rate * 100 + 1", ""),
        ("bytes_sent / requests", "bytes/events"), ("bytes_sent * orders / orders", "bytes"),
        ("1 / visitors", "1/visitors"), ("orders - -orders", "events"), ("(orders + 1) / (requests + 1)", ""),
    ],
)  # fmt: skip
def test_a_formula_has_the_unit_that_its_arithmetic_gives(text: str, unit: str) -> None:
    by_key = known(ORDERS, REVENUE)
    expand(text, by_key)
    assert unit_of_formula(text, by_key) == unit


@pytest.mark.parametrize(
    "text",
    ["p95(request_duration) + requests", "revenue - orders", "error_rate + orders",
     "bytes_sent + p50(request_duration)", "visitors + sessions", "revenue / orders + revenue"],
)  # fmt: skip
def test_what_has_different_units_is_not_added(text: str) -> None:
    by_key = known(ORDERS, REVENUE)
    expand(text, by_key)
    with pytest.raises(BadInput, match="cannot be (added|subtracted)") as refused:
        unit_of_formula(text, by_key)
    assert refused.value.code == "unit_mismatch"


def test_a_formula_with_a_unit_of_its_own_converts() -> None:
    seconds = formula("seconds", "p95(request_duration) / 1000", "s")
    by_key = known(seconds, metric("waited", MetricKind.SUM, "s"))
    assert unit_of_formula("seconds + waited", by_key) == "s"


def test_units_are_read_as_they_are_written() -> None:
    for text in ("bytes/s", "a*b/c", "EUR", "", "1/s"):
        assert written(read_unit(text)) == text
    assert read_unit("%") == read_unit("ratio") == {} and read_unit("s/s") == {}


@pytest.mark.parametrize(
    ("text", "wanted", "code"),
    [
        ("gone / orders", "no metric 'gone'", "unknown_metric"),
        ("request_duration", r"p95\(request_duration\)", "bad_formula"),
        ("p95(orders)", "no percentile metric", "bad_formula"), ("1 + 2", "at least one metric", "bad_formula"),
        ("+".join(f"p{n}(request_duration)" for n in range(1, 12)), "at most 10", "formula_too_large"),
    ],
)  # fmt: skip
def test_what_a_formula_cannot_refer_to_is_refused(text: str, wanted: str, code: str) -> None:
    with pytest.raises(BadInput, match=wanted) as refused:
        expand(text, known(ORDERS))
    assert refused.value.code == code


def test_formulas_of_formulas_are_written_out_and_none_refers_to_itself() -> None:
    share = formula("share", "orders / requests")
    assert references_of(expand("share * 100", known(ORDERS, share))) == [Reference("orders"), Reference("requests")]
    with pytest.raises(BadInput, match="itself: own -> own"):
        expand("own + 1", known(ORDERS), "own")
    first, second = (
        formula("first", "second + orders"),
        formula("second", "third"),
    )
    by_key = known(ORDERS, first, second, formula("third", "1 + first"))
    with pytest.raises(BadInput, match="itself: first -> second -> third -> first") as refused:
        expand("second + orders", by_key, "first")
    assert refused.value.code == "formula_cycle"


def test_formulas_that_grow_with_each_level_are_refused_however_they_came_to_be() -> None:
    levels = [formula(f"f{n}", " + ".join([f"f{n - 1}"] * 60)) for n in range(1, 40)]
    by_key = known(formula("f0", "orders"), ORDERS, *levels)
    for key in ("f2", "f9", "f39"):
        with pytest.raises(BadInput) as refused:
            expand(key, by_key)
        assert refused.value.code == "formula_too_large"


def test_a_formula_has_the_dimensions_that_all_of_its_metrics_have() -> None:
    by_key = known(ORDERS, REVENUE)
    assert common_dimensions(expand("revenue / orders", by_key), by_key) == ("device", "country")
    assert common_dimensions(expand("revenue / requests", by_key), by_key) == ("device", "country")
    assert common_dimensions(expand("requests / ingest_accepted", by_key), by_key) == ()
    resolved = resolved_in(formula("share", "orders / revenue"), by_key)
    assert resolved.dimensions == ("country", "device")


def test_a_formula_of_what_is_gone_stays_and_has_no_expression() -> None:
    resolved = resolved_in(formula("share", "orders / gone"), known(ORDERS))
    assert resolved.defined is not None and resolved.defined.expression is None and resolved.dimensions == ()


def test_a_metric_under_a_formula_changes_only_as_far_as_the_formula_stands() -> None:
    by_key = known(ORDERS, REVENUE, formula("total", "revenue + 1"), formula("above", "total * 2"))
    check_change(metric("revenue", MetricKind.AVG, "USD"), by_key)
    with pytest.raises(Conflict, match="formula total refers to revenue.*p95") as refused:
        check_change(metric("revenue", MetricKind.PERCENTILE, "EUR"), by_key)
    assert refused.value.code == "metric_in_use"
    with pytest.raises(BadInput, match="itself: revenue -> above -> total -> revenue"):
        check_change(formula("revenue", "above"), by_key)
    with pytest.raises(Conflict, match="formula (total|above) refers to revenue"):
        check_dependents("revenue", by_key, {k: m for k, m in by_key.items() if k != "revenue"})
    check_dependents("orders", by_key, {k: m for k, m in by_key.items() if k != "orders"})


def test_a_formula_that_is_broken_already_holds_nobody_up() -> None:
    by_key = known(ORDERS, formula("broken", "gone + orders"))
    check_dependents("orders", by_key, {k: m for k, m in by_key.items() if k != "orders"})


def test_a_metric_that_is_no_formula_refers_to_nothing() -> None:
    check_refers(ORDERS, {})
