"""What an event must be, and how a refusal names what is wrong."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.contents import EventRejected
from core.events import epoch_ms
from core.validation import Clock, parse_timestamp, verify_event

NOW = epoch_ms(parse_timestamp("2026-06-15T12:00:00Z", "now"))
CLOCK = Clock(NOW)


def verify(event: Any, clock: Clock = CLOCK) -> Any:
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    return verify_event(msgspec.Raw(raw), clock)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("event", "code", "field"),
    [
        ({}, "missing_field", "type"),
        ({"type": 5}, "wrong_type", "type"),
        ({"type": ""}, "invalid_name", "type"),
        ({"type": "x" * 201}, "invalid_name", "type"),
        ({"type": "a\u202eb"}, "invalid_name", "type"),
        ({"type": "a", "id": "no"}, "invalid_id", "id"),
        ({"type": "a", "properties": []}, "wrong_type", "properties"),
        ({"type": "a", "context": {"ip": 5}}, "wrong_type", "context.ip"),
        ({"type": "a", "user_id": "a\0b"}, "nul_character", "user_id"),
        ({"type": "a", "properties": {"k\0": 1}}, "nul_character", "properties"),
        ({"type": "a", "properties": {"x": [2**63]}}, "number_out_of_range", "properties.x.0"),
        ({"type": "a", "properties": nested(33)}, "json_too_deep", None),
        ({"type": "a", "properties": {"x": "y" * 9000}}, "limit_exceeded", "properties.x"),
        ({"type": "a", "properties": {"x": ["y" * 8000] * 5}}, "event_too_large", None),
        ({"type": "a", "timestamp": "2026-06-15T12:06:00Z"}, "timestamp_out_of_range", "timestamp"),
        ({"type": "a", "timestamp": "2026-06-10T11:59:00Z"}, "timestamp_out_of_range", "timestamp"),
        ({"type": "a", "timestamp": "2026-06-15T12:00:00"}, "timestamp_out_of_range", "timestamp"),
        ({"type": "a", "timestamp": "20000-01-01T00:00:00Z"}, "timestamp_out_of_range", "timestamp"),
        ({"type": "a", "timestamp": "1750000000"}, "timestamp_out_of_range", "timestamp"),
        (b'{"type":"a","properties":{"x":1e999}}', "number_out_of_range", None),
        (b'{"type":"a","user_id":"\\ud800"}', "invalid_unicode", None),
        (b'{"type":"a","user_id":"\xff"}', "invalid_unicode", None),
        (b'{"type":"a","properties":' + b'{"a":' * 1500 + b"1" + b"}" * 1500 + b"}", "json_too_deep", None),
    ],
)
def test_a_bad_event_is_refused_by_code_and_field(event: Any, code: str, field: str | None) -> None:
    with pytest.raises(EventRejected) as refusal:
        verify(event)
    assert refusal.value.code == code
    assert len(refusal.value.message) > 20
    if field is not None:
        assert refusal.value.field == field


def test_a_plain_event_passes_and_keeps_its_time() -> None:
    verified = verify({"type": "page_view", "timestamp": "2026-06-15T13:00:00+01:00", "properties": {"n": 2**63 - 1}})
    assert verified.timestamp_ms == NOW
    assert verified.id is None


def test_history_is_taken_when_said_so_on_the_batch_or_the_event() -> None:
    old = {"type": "a", "timestamp": "2015-05-17T10:05:03+00:00"}
    assert verify(old, Clock(NOW, is_historical=True)).timestamp_ms < NOW
    assert verify({**old, "historical": True}).timestamp_ms < NOW
    with pytest.raises(EventRejected):
        verify({**old, "timestamp": "1999-12-31T23:59:59Z"}, Clock(NOW, is_historical=True))


def test_a_wrong_clock_is_corrected_and_a_right_one_left_alone() -> None:
    late = Clock.of(NOW, "2026-06-15T11:00:00Z", is_historical=False)
    assert verify({"type": "a", "timestamp": "2026-06-15T10:59:00Z"}, late).timestamp_ms == NOW - 60_000
    old = Clock.of(NOW, "2026-06-15T11:00:00Z", is_historical=True)
    assert verify({"type": "a", "timestamp": "2026-06-15T10:59:00Z"}, old).timestamp_ms == NOW - 61 * 60_000
    near = Clock.of(NOW, "2026-06-15T11:59:59Z", is_historical=False)
    assert near.skew_ms == 0


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_any_json_is_taken_or_refused_never_a_crash(value: Any) -> None:
    try:
        verify({"type": "a", "properties": {"value": value}, "user_id": value if isinstance(value, str) else None})
    except EventRejected:
        return
