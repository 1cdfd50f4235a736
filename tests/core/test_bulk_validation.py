"""A body checked at once gets the verdicts that its events get one by one, whatever stands in them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import bulk_validation
from core.bulk_validation import verify_batch
from core.contents import MAX_STRING_LENGTH, EventRejected
from core.event_ids import are_canonical, new_ids, not_made_within, packed
from core.events import (
    MAX_DEPTH,
    AcceptedEvent,
    RawBatch,
    decode_body,
    decode_raw,
    encode_raw,
    encode_raw_columns,
    epoch_ms,
    new_event_id,
)
from core.validation import Clock, parse_timestamp, verify_event

NOW = epoch_ms(parse_timestamp("2026-06-15T12:00:00Z", "now"))
CLOCKS = [
    Clock(NOW),
    Clock(NOW, skew_ms=3_600_000),
    Clock(NOW, skew_ms=-40_000, is_historical=True),
    Clock(NOW, kept_since_ms=NOW - 86_400_000),
]
ID = "0190b6f0-7e5a-7000-8000-2f1d8f6f4a11"

IDS = st.sampled_from(
    [ID, ID.upper(), ID.replace("-", ""), "", "no", ID[:-1], ID + "1", "{" + ID + "}", ID[:-1] + "g", ID[:-1] + "é",
     ID.replace("-", " "), "0190b6f07e5a-7000-8000-2f1d8f6f4a11-", "urn:uuid:" + ID[:27], ID.replace("0", "_"), None, 5]
) | st.uuids().map(str)  # fmt: skip
MOMENTS = st.sampled_from(
    ["2026-06-15T12:00:00Z", "2026-06-15T12:00:00.1239999Z", "2026-06-15T13:00:00.5+01:00", "2026-06-15 12:00:00-00:00",
     "20260615T120000.000Z", "2026-W25-1T12:00:00Z", "2026-06-15T12:00:00", "2026-06-15T12:04:59.9Z", "2026-06-15",
     "2026-06-15T12:05:00.001Z", "2026-06-10T12:00:00Z", "2026-06-10T11:59:59.999Z", "2026-06-14T11:59:59Z",
     "2015-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00",
     "2026-06-15T12:00:60Z", "2026-06-15t12:00:00z", "2026-06-15T12:00:00+24:00", "x" * 30, None, 17, ""]
)  # fmt: skip
# Each can stand where JSON has a value; some are no JSON, or none that is taken.
VALUES = st.sampled_from(
    [b"1", b'"a"', b"null", b"[]", b"{}", b"1e999", b"-1.5E+400", b"1e-999", b"9223372036854775808",
     b'"' + b"9" * 25 + b'"', b"9" * 400, b'"\\u0000"', b'"\\\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"',
     b'"\xc3\xa9"', b'"{[{["',
     b"[" * 20 + b"]" * 20, b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, b'{"a":' * 30 + b"1" + b"}" * 30,
     b"[" + b"[]," * 2000 + b"1]",
     b'"' + b"y" * MAX_STRING_LENGTH + b'"', b'"' + b"y" * (MAX_STRING_LENGTH + 1) + b'"', b'"' + b"y" * 33_000 + b'"',
     b'"\\"}"', b'"properties"', b"01", b"true"]
)  # fmt: skip
PROPERTIES = st.lists(VALUES, max_size=3).map(
    lambda values: b",".join(b'"k%d":%b' % pair for pair in enumerate(values))
)
OBJECTS = PROPERTIES.map(lambda inner: b"{" + inner + b"}") | st.sampled_from([b"null", b"[]", b"5", b'"x"', b"{} "])
CONTEXTS = st.sampled_from(
    [b"{}", b'{"ip":"1.2.3.4"}', b'{"ip":5}', b"null", b'{"other":[[1]]}', b'{"ip":null}', b'{"locale":"\\u0000"}']
)
NASTY = [
    b"9223372036854775808", b'"\\u0000"', b'"\\\\u0000"', b'"\xff"', b"1e999", b"[" * 33 + b"]" * 33,
    b"[" * 31 + b"]" * 31, b"[" + b"{}," * 2100 + b"1]", b'"' + b"y" * 8193 + b'"', b'"' + b"y" * 33_000 + b'"',
    b'"[[[[[[{{{{{{' + b"[" * 30 + b'"',
]  # fmt: skip
FIELDS: dict[bytes, st.SearchStrategy[bytes]] = {
    b"type": st.sampled_from([b'"a"', b'"page view"', b'""', b"5", b'"-"', b'"' + b"x" * 201 + b'"', b'"\\u0061"']),
    b"id": IDS.map(lambda value: json.dumps(value).encode()),
    b"timestamp": MOMENTS.map(lambda value: json.dumps(value).encode()),
    b"user_id": st.sampled_from([b'"u"', b"null", b"5", b'"\\u0000"', b'"\xff"']),
    b"properties": OBJECTS,
    b"propert\\u0069es": OBJECTS,
    b"context": CONTEXTS,
    b"historical": st.sampled_from([b"true", b"false", b"1"]),
    b"unknown": VALUES,
}
PAIRS = st.sampled_from([*FIELDS]).flatmap(lambda name: FIELDS[name].map(lambda value: b'"%b":%b' % (name, value)))
GOOD = st.builds(
    lambda event_id, inner: (
        b'{"type":"a","id":"%b","timestamp":"2026-06-15T11:00:00.123Z","properties":{%b}}'
        % (str(event_id).encode(), inner)
    ),
    st.uuids(),
    PROPERTIES,
)
# Names may come twice: the last one counts, and the first is checked all the same.
ANY = st.lists(PAIRS, max_size=5).map(lambda pairs: b'{"type":"a"%b}' % b"".join(b"," + pair for pair in pairs))


def one_by_one(events: list[msgspec.Raw], clock: Clock) -> tuple[Any, ...]:
    rows: list[Any] = []
    refusals: dict[int, Any] = {}
    for index, raw in enumerate(events):
        try:
            verified = verify_event(raw, clock)
        except EventRejected as refusal:
            refusals[index] = (refusal.code, refusal.field, refusal.message)
        else:
            rows.append((index, verified.id and str(verified.id), verified.timestamp_ms))
    return rows, refusals


def at_once(body: bytes, events: list[msgspec.Raw], clock: Clock) -> tuple[Any, ...]:
    verified = verify_batch(body, events, clock)
    refusals = {n: (refusal.code, refusal.field, refusal.message) for n, refusal in verified.refusals.items()}
    return list(zip(verified.indexes, verified.ids, verified.moments_ms, strict=True)), refusals


@given(st.lists(GOOD | ANY, min_size=1, max_size=6), st.sampled_from(CLOCKS))
def test_the_verdicts_are_those_of_event_by_event(events: list[bytes], clock: Clock) -> None:
    body = b'{"events":[' + b",".join(events) + b"]}"
    try:
        raws = decode_body(body).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    assert at_once(body, raws, clock) == one_by_one(raws, clock)


@pytest.mark.parametrize("clock", CLOCKS)
def test_each_nasty_value_alone_in_a_good_batch_is_found(clock: Clock) -> None:
    good = b'{"type":"a","id":"%b","timestamp":"2026-06-15T11:59:00Z"}' % ID.encode()
    nasty = [
        *(b'{"type":"a","properties":{},"properties":{"a":%b},"properties":{}}' % value for value in NASTY),
        *(b'{"type":"a","context":{},"other":%b}' % value for value in NASTY),
        b'{"type":"a"' + b',"context":{}' * 2500 + b"}",
        b'{"type":"a",' + b" " * 33_000 + b'"user_id":"x"}',
    ]
    for event in nasty:
        body = b'{"events":[' + b",".join([good] * 20 + [event] + [good] * 20) + b"]}"
        raws = decode_body(body).events
        assert at_once(body, raws, clock) == one_by_one(raws, clock), event[:80]


def test_a_usual_body_is_settled_without_looking_at_an_event_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("looked at by itself")

    for name in ("verify_event", "checked_event", "checked_id", "checked_timestamp"):
        monkeypatch.setattr(bulk_validation, name, refuse)
    events = [
        {"type": "page_view", "id": str(uuid.uuid4()), "timestamp": "2026-06-15T11:59:00.5+00:00", "user_id": "é\n",
         "properties": {"path": "/a", "tags": {"x": 1.5}}, "context": {"ip": "10.0.0.1"}, "unknown": 5}
        for _ in range(25)
    ]  # fmt: skip
    body = json.dumps({"events": events}, ensure_ascii=False).encode()
    assert len(verify_batch(body, decode_body(body).events, Clock(NOW)).ids) == 25


@pytest.mark.parametrize(
    "other",
    [ID.upper(), ID.replace("-", ""), ID[:-1] + " ", ID[:-1] + "g", ID[:-1] + "é", ID[:-1], ID + "0",
     "{" + ID[:34] + "}", ID.replace("-", "0"), "0190b6f07e-5a-7000-8000-2f1d8f6f4a11", ID[:-2] + "  ", ""],
)  # fmt: skip
def test_ids_are_canonical_only_as_a_uuid_writes_them(other: str) -> None:
    ids = [str(uuid.uuid4()) for _ in range(4)]
    assert are_canonical(ids) and not are_canonical([other]) and not are_canonical([*ids[:2], other, *ids[2:]])
    # One that is short by a character beside one that is long by one would look right when they are joined.
    assert not are_canonical([ID[:-1], ID[-1] + ID])


def test_ids_are_packed_as_their_sixteen_bytes() -> None:
    ids = [uuid.uuid4() for _ in range(5)]
    assert packed([str(i) for i in ids]) == b"".join(i.bytes for i in ids)


def test_new_ids_are_of_version_7_and_of_their_millisecond() -> None:
    made = [uuid.UUID(text) for text in new_ids(NOW, 200)]
    assert len(set(made)) == 200 and are_canonical([str(i) for i in made])
    assert {(i.version, i.variant, i.int >> 80) for i in made} == {(7, uuid.RFC_4122, NOW)}


def test_only_ids_of_version_7_within_the_time_are_passed_over() -> None:
    inside = [str(new_event_id(NOW - n)) for n in (0, 1, 59_999)]
    outside = [str(new_event_id(NOW + 1)), str(new_event_id(NOW - 60_000)), ID, str(uuid.uuid4())]
    assert not_made_within(inside, NOW - 60_000, NOW) == []
    assert not_made_within(inside + outside, NOW - 60_000, NOW) == outside
    for one in outside:
        assert not_made_within([one], NOW - 60_000, NOW) == [one]
    assert not_made_within([], 0, NOW) == []


def test_a_record_of_columns_is_the_record_of_its_events() -> None:
    ids = [str(new_event_id(NOW)) for _ in range(3)]
    head = RawBatch(uuid.uuid4(), "k", "r", NOW, [], body=b'{"events":[]}')
    value = encode_raw_columns(head, [0, 2, 3], ids, [NOW, NOW + 1, NOW - 1])
    events = [
        AcceptedEvent(n, uuid.UUID(i), ms) for n, i, ms in zip([0, 2, 3], ids, [NOW, NOW + 1, NOW - 1], strict=True)
    ]
    whole = msgspec.structs.replace(head, accepted=events)
    assert value == encode_raw(whole) and decode_raw(value) == whole
