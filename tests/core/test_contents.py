"""What an event may hold is read off its bytes, and comes out as if each value were looked at."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contents import MAX_CONTAINERS, MAX_STRING_LENGTH, EventRejected, check_contents
from core.events import MAX_DEPTH

# Text with what the patterns look for, within strings, where it means nothing.
TRICKY = st.text(alphabet='\\"[]{},:0u\u00e9\0', max_size=12) | st.sampled_from(["\\u0000", "9" * 25, "[" * 60, '\\"'])
NUMBERS = st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**18, 10**40, 1.5, 1e300, -0.0])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=12,
)


def verdict(raw: bytes) -> str:
    try:
        check_contents(raw)
    except EventRejected as refusal:
        return refusal.code
    return "taken"


def look_at_each(value: Any, depth: int = 0) -> set[str]:
    """The same rules, value by value."""
    match value:
        case str():
            return {"nul_character"} if "\0" in value else set()
        case bool() | None | float():
            return set()
        case int():
            return set() if -(2**63) <= value < 2**63 else {"number_out_of_range"}
    deep = {"json_too_deep"} if depth > MAX_DEPTH else set()
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return deep.union(*(look_at_each(item, depth + 1) for item in items))


@given(VALUES, st.integers(0, 40), st.booleans())
def test_the_verdict_is_that_of_looking_at_each_value(value: Any, levels: int, is_ascii: bool) -> None:
    for _ in range(levels):
        value = [value]
    event = {"type": "a", "properties": {"x": value}}
    found = look_at_each(event)
    told = verdict(json.dumps(event, ensure_ascii=is_ascii).encode())
    assert told in found if found else told == "taken"


@pytest.mark.parametrize("text", ["é" * MAX_STRING_LENGTH, '"' * MAX_STRING_LENGTH, "\n" * MAX_STRING_LENGTH])
def test_a_text_is_measured_in_characters(text: str) -> None:
    assert verdict(json.dumps({"x": text}).encode()) == "taken"
    assert verdict(json.dumps({"x": text + "a"}).encode()) == "limit_exceeded"


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ({"user_id": "a\0"}, "user_id"),
        ({"properties": {"a": [1, {"b": "x\0"}]}}, "properties.a.1.b"),
        ({"properties": {"a{b": "c", "d": "\0"}}, "properties.d"),
        ({"context": {"page_url": "\0"}}, "context.page_url"),
    ],
)
def test_a_refusal_says_where(event: dict[str, Any], path: str) -> None:
    with pytest.raises(EventRejected) as refusal:
        check_contents(json.dumps(event).encode())
    assert refusal.value.field == path


@pytest.mark.parametrize(
    ("properties", "code"),
    [
        (b"[" + b"[]," * 10_800 + b'{"a\\u0000":1}]', "nul_character"),
        (b"[" + b"[]," * 10_800 + b"[]]", "limit_exceeded"),
        (b"[" + b"0," * 15_000 + b"99999999999999999999]", "number_out_of_range"),
        (b"[" + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"]", "limit_exceeded"),
        (b"[" + b"[" * MAX_CONTAINERS + b"]" * MAX_CONTAINERS + b"]", "limit_exceeded"),
        (b"[" * 900 + b"]" * 900, "json_too_deep"),
        (b'"' + b"\\\\" * 15_000 + b'u0000"', "limit_exceeded"),
    ],
)
def test_large_bodies_of_small_things_are_refused(properties: bytes, code: str) -> None:
    assert verdict(b'{"type":"a","properties":{"x":' + properties + b"}}") == code
