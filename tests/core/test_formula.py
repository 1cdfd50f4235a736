"""Formulas as text: what they mean, and that bad ones are refused at once and say where."""

from __future__ import annotations

import math
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import BadInput
from core.formula import (
    MAX_LENGTH,
    Reference,
    Value,
    ZeroDivisor,
    evaluate,
    parse_formula,
    references_of,
)

VALUES: dict[str, int | float] = {"a": 7, "b": 2, "c": 0.5, "zero": 0}


def value(text: str) -> Value:
    return evaluate(parse_formula(text), lambda reference: VALUES.get(reference.key))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", 7), ("a + b * 3", 13), ("(a + b) * 3", 27), ("a - b - 1", 4), ("a / b / 2", 1.75), ("-a + 1", -6),
        ("--a", 7), ("a * -b", -14), ("2 * (a - (b - 1))", 12), ("a/b*100", 350), ("1e3 * c", 500), (" a\n-\tb ", 5),
        ("1.5 + c", 2.0),
    ],
)  # fmt: skip
def test_a_formula_means_what_arithmetic_says(text: str, wanted: float) -> None:
    assert value(text) == wanted


def test_sums_of_whole_numbers_stay_whole() -> None:
    assert isinstance(value("a + b * 3"), int)


def test_no_value_makes_no_value_and_nothing_stands_for_infinity() -> None:
    assert value("missing + a") is None
    assert value("a * 1e99 * 1e99 * 1e99 * 1e99") is None


@pytest.mark.parametrize("text", ["a / zero", "a / (b - 2)", "1 / (zero * c)", "zero / zero"])
def test_a_divisor_of_zero_is_told(text: str) -> None:
    with pytest.raises(ZeroDivisor):
        value(text)


def test_a_percentile_is_a_reference_of_its_own_and_each_is_named_once() -> None:
    found = references_of(parse_formula("p95(d) - p50(d) + p99.9(d) + p95(d) + e"))
    assert found == [Reference("d", 95), Reference("d", 50), Reference("d", 99.9), Reference("e")]
    assert [str(reference) for reference in found] == ["p95(d)", "p50(d)", "p99.9(d)", "e"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "character 1, not its end"), ("a +", "character 4, not its end"),
        ("(a", r"\) was expected at character 3"),
        ("a b", "operator"), ("a)", "operator"), ("a + * b", "character 5"), ("a $ b", "character 3"),
        ("1.2.3", "1.2.3"),
        ("12abc", "12abc"), ("p100(a)", "above 0 and below 100"), ("p0(a)", "above 0"),
        ("sqrt(a)", "no function 'sqrt'"),
        ("p95(a + b)", "operator"), ("p95()", "key"), ("p95(1)", "key"), ("a.5", "no metric 'a.5'"),
        ("a;drop", "character 2"), ("(" * 40 + "a" + ")" * 40, "at most 32 deep"), ("-" * 60 + "a", "at most 32 deep"),
        ("a+" * 251 + "a", "at most 500"), ("9" * 400, "99"), ("a\0", "character 2"), ("é", "character 1"),
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_and_says_where(text: str, wanted: str) -> None:
    with pytest.raises(BadInput, match=wanted) as refused:
        parse_formula(text)
    assert refused.value.field == "formula" and refused.value.code == "bad_formula"


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1.+-*/() pe9\n$_", max_size=MAX_LENGTH + 20))
def test_whatever_is_sent_is_an_expression_or_a_refusal(text: str) -> None:
    try:
        expression = parse_formula(text)
    except BadInput:
        return
    try:
        found = evaluate(expression, lambda _: 3)
    except ZeroDivisor:
        return
    assert found is None or math.isfinite(found)


def test_the_longest_formulas_are_read_without_falling_over() -> None:
    seeded = random.Random(6)
    assert value("+".join("a" * 250)) == 7 * 250
    assert value("(" * 32 + "a" + ")" * 32) == 7
    for _ in range(200):
        with suppress(BadInput, ZeroDivisor):
            value("".join(seeded.choice("a+(-)*9/. p") for _ in range(MAX_LENGTH)))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 0) -> str:
    """Text that Python reads as the same arithmetic."""
    if depth > 4 or draw(st.booleans()):
        return draw(st.sampled_from(["a", "b", "c", "2", "10", "0.25"]))
    left, right = draw(expressions(depth=depth + 1)), draw(expressions(depth=depth + 1))
    text = f"{left} {draw(st.sampled_from('+-*/'))} {right}"
    return f"({text})" if draw(st.booleans()) else text


@settings(max_examples=300, deadline=None)
@given(expressions())
def test_its_value_is_the_one_that_python_reckons(text: str) -> None:
    if len(text) > MAX_LENGTH:
        return
    try:
        wanted = eval(text, {"__builtins__": {}}, dict(VALUES))
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisor):
            value(text)
        return
    assert value(text) == wanted
