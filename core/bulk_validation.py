"""The checks of a whole body at once: what is usual is settled by a few passes in C over all events.

`core.validation` stays the authority. Whatever is not plainly good is looked at by it, event by event, and every
refusal is its own: the two never differ (`tests/core/test_bulk_validation.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from core.contents import MAX_STRING_LENGTH, EventRejected, holds_long_number
from core.event_ids import are_canonical
from core.events import MAX_DEPTH, EventContext, IncomingEvent, decode_events
from core.validation import (
    MAX_TIMESTAMP_LENGTH,
    MIN_TIMESTAMP_LENGTH,
    Clock,
    check_type,
    checked_event,
    checked_id,
    checked_timestamp,
    verify_event,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_parse = datetime.fromisoformat
# The defaults of the decoder: the one context of events that sent none.
_NO_CONTEXT: EventContext = IncomingEvent("").context


@dataclass(frozen=True, slots=True)
class VerifiedBatch:
    """Those events of a body that may be logged, in columns, and why the others may not, by index.

    `ids` are UUIDs as their text is written, None where the sender gave none; `moments_ms` are epoch milliseconds.
    """

    indexes: Sequence[int]
    ids: Sequence[str | None]
    moments_ms: Sequence[int]
    refusals: dict[int, EventRejected] = field(default_factory=dict)


def verify_batch(body: bytes, events: Sequence[msgspec.Raw], clock: Clock) -> VerifiedBatch:
    """Checks the events of a body."""
    try:
        decoded = _plain_events(body, events) or [checked_event(raw) for raw in events]
        for name in {event.type for event in decoded}:
            _check_type(name)
        return VerifiedBatch(range(len(events)), _ids(decoded), _moments(decoded, clock))
    except EventRejected:
        return _one_by_one(events, clock)


def _one_by_one(events: Sequence[msgspec.Raw], clock: Clock) -> VerifiedBatch:
    indexes: list[int] = []
    ids: list[str | None] = []
    moments: list[int] = []
    refusals: dict[int, EventRejected] = {}
    for index, raw in enumerate(events):
        try:
            verified = verify_event(raw, clock)
        except EventRejected as refusal:
            refusals[index] = refusal
            continue
        indexes.append(index)
        ids.append(None if verified.id is None else str(verified.id))
        moments.append(verified.timestamp_ms)
    return VerifiedBatch(indexes, ids, moments, refusals)


def _plain_events(body: bytes, events: Sequence[msgspec.Raw]) -> list[IncomingEvent] | None:
    """The events decoded, when the whole body shows that none can break a rule of `core.contents`; else None."""
    # An event this short has no text that is too long, and is not too large.
    if max([len(memoryview(raw)) for raw in events]) > MAX_STRING_LENGTH:
        return None
    if (b"\\" in body and b"\\u0000" in body) or holds_long_number(body):
        return None
    try:
        decoded = decode_events(events)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded if _is_shallow(body, decoded) else None


def _is_shallow(body: bytes, events: Sequence[IncomingEvent]) -> bool:
    """Whether even all brackets that no event is known to need could not nest one of them too deep."""
    known = 2 + sum([1 + bool(event.properties) + (event.context is not _NO_CONTEXT) for event in events])
    return body.count(b"{") + body.count(b"[") - known <= MAX_DEPTH - 3


@lru_cache(maxsize=4096)
def _check_type(name: str) -> None:
    check_type(name)


def _ids(events: Sequence[IncomingEvent]) -> list[str | None]:
    """Raises EventRejected when one is no UUID."""
    texts = [event.id for event in events]
    given = [text for text in texts if text is not None]
    if not given or (len(given) == len(texts) and are_canonical(given)):
        return texts
    return [None if event_id is None else str(event_id) for event_id in map(checked_id, texts)]


def _moments(events: Sequence[IncomingEvent], clock: Clock) -> list[int]:
    """Raises EventRejected when one is no timestamp, or is not taken."""
    moments = _plain_moments(events, clock)
    if moments is not None:
        return moments
    return [
        checked_timestamp(event.timestamp, clock, is_historical=event.historical or clock.is_historical)
        for event in events
    ]


def _plain_moments(events: Sequence[IncomingEvent], clock: Clock) -> list[int] | None:
    """The same, when all or none have a timestamp and all are good; else None."""
    texts = [event.timestamp for event in events if event.timestamp is not None]
    if not texts:
        return [clock.received_ms] * len(events)
    if len(texts) < len(events) or any([event.historical for event in events]):
        return None
    lengths = set(map(len, texts))
    if min(lengths) < MIN_TIMESTAMP_LENGTH or max(lengths) > MAX_TIMESTAMP_LENGTH:
        return None
    try:
        moments = [(_parse(text) - _EPOCH) // _MILLISECOND for text in texts]
    except (ValueError, TypeError, OverflowError):
        return None
    if clock.skew_ms and not clock.is_historical:
        moments = [moment + clock.skew_ms for moment in moments]
    is_taken = clock.earliest_ms(is_historical=clock.is_historical) <= min(moments) and max(moments) <= clock.latest_ms
    return moments if is_taken else None
