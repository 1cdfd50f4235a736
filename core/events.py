"""Events: what an SDK sends, what the log carries, and their encoding. Decode once, encode once.

`IncomingEvent` is one event as sent (JSON). `RawBatch` is one accepted request, the value of a record of
`events.raw*`: a small header and the verified body, byte for byte. `EnrichedEvent` is what enrichment makes of
one event; `EnrichedBatch` is the value of a record of `events.enriched`. `LoggedEvent` is one event as enrichment
reads it out of a verified body.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NewType
from uuid import UUID

import msgspec

from core.tenancy import TenantId

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

EventId = NewType("EventId", UUID)

MAX_BATCH_EVENTS = 100
MAX_BODY_BYTES = 1024 * 1024
MAX_DECODED_BYTES = 4 * 1024 * 1024
MAX_EVENT_BYTES = 32 * 1024
MAX_DEPTH = 32
MAX_AHEAD_SECONDS = 5 * 60
MAX_BEHIND_SECONDS = 5 * 24 * 3600
MAX_TYPE_LENGTH = 200
HASHES_KEPT = 50_000


# Structs without cycles are none of the collector's business: `gc=False` saves it a look at each.
class EventContext(msgspec.Struct, frozen=True, gc=False):
    """Where an event happened, as the SDK saw it; `ip` and `user_agent` default to the request's own."""

    ip: str | None = None
    user_agent: str | None = None
    locale: str | None = None
    page_url: str | None = None
    referrer: str | None = None


class IncomingEvent(msgspec.Struct, frozen=True, gc=False):
    """One event as sent. `id` is a UUID, made by the server when absent; `timestamp` is RFC 3339 with a zone.

    JSON makes no cycles, so the collector need not know of it.
    """

    type: str
    id: str | None = None
    timestamp: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: dict[str, Any] = {}
    context: EventContext = EventContext()
    historical: bool = False


class IncomingBatch(msgspec.Struct, frozen=True):
    """The body of `POST /v1/events`: events left undecoded, so that a bad one never takes the others down. Of more
    than 100 events the first 101 are here: enough to be refused, and two million cost no more than a hundred."""

    events: list[msgspec.Raw]
    sent_at: str | None = None
    historical: bool = False


class LoggedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of a body that the door verified; its properties stay the JSON that they were sent as."""

    type: str
    session_id: str | None = None
    user_id: str | None = None
    anonymous_id: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"{}")
    context: EventContext = EventContext()


class AcceptedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Which event of a body was taken: its index, its id and its corrected time in epoch milliseconds."""

    index: int
    id: UUID
    timestamp_ms: int


class RawBatch(msgspec.Struct, frozen=True):
    """One accepted request on its way through the log."""

    tenant_id: UUID
    key_id: str
    request_id: str
    received_ms: int
    accepted: list[AcceptedEvent]
    retention_class: str = "self_hosted"
    client_ip: str = ""
    client_user_agent: str = ""
    country: str = ""
    body: bytes = b""


# `bytes` is a field below, so the type needs other names: an id's 16 bytes, and a JSON text.
IdBytes = bytes
Json = bytes


class EnrichedEvent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event with everything that metrics, filters and search ask of it. Text that is not known is ''.

    In the log an event is its values alone, in this order, and a new field goes to the end: names would take as much
    room as what they name. `id` is the 16 bytes of a UUID; `properties` is a JSON object, as it was sent. `visitor` and
    `session` are 64-bit hashes (signed, as PostgreSQL's bigint) of what uniques count: `user_id`, else `anonymous_id`,
    else a keyed hash of tenant, address and agent; and `session_id`, None when absent.
    """

    id: IdBytes
    type: str
    timestamp_ms: int
    received_ms: int
    visitor: int
    session: int | None = None
    session_id: str = ""
    user_id: str = ""
    anonymous_id: str = ""
    page_url: str = ""
    page_path: str = ""
    referrer: str = ""
    referrer_host: str = ""
    country: str = ""
    region: str = ""
    city: str = ""
    device: str = ""
    browser: str = ""
    os: str = ""
    status: int | None = None
    method: str = ""
    duration_ms: float | None = None
    bytes: int | None = None
    ip: str = ""
    user_agent: str = ""
    locale: str = ""
    campaign: dict[str, str] = {}
    is_bot: bool = False
    properties: Json = b"{}"
    enrichment_version: int = 0
    enrichment_errors: list[str] = []


class EnrichedBatch(msgspec.Struct, frozen=True, array_like=True):
    """One accepted request after enrichment."""

    tenant_id: UUID
    retention_class: str
    key_id: str
    request_id: str
    received_ms: int
    events: list[EnrichedEvent]


_ABSENT = msgspec.Raw(b"")
# An array as a struct: what is beyond its fields is passed over without an object for each.
_FirstEvents = msgspec.defstruct(
    "_FirstEvents", [(f"event_{n}", msgspec.Raw, _ABSENT) for n in range(MAX_BATCH_EVENTS + 1)], array_like=True
)


class _Envelope(msgspec.Struct, frozen=True):
    events: _FirstEvents  # type: ignore[valid-type]
    sent_at: str | None = None
    historical: bool = False


class _LoggedBody(msgspec.Struct, frozen=True, gc=False):
    events: list[LoggedEvent]


_BODY_LENGTH = struct.Struct(">I")
_header_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(RawBatch)
_enriched_encoder = msgspec.msgpack.Encoder()
_enriched_decoder = msgspec.msgpack.Decoder(EnrichedBatch)
_body_decoder = msgspec.json.Decoder(_Envelope)
_event_decoder = msgspec.json.Decoder(IncomingEvent)
_logged_body_decoder = msgspec.json.Decoder(_LoggedBody)
_logged_event_decoder = msgspec.json.Decoder(LoggedEvent)


def encode_raw(batch: RawBatch) -> bytes:
    """The value of a log record: body length, body as sent, header."""
    header = _header_encoder.encode(msgspec.structs.replace(batch, body=b""))
    return b"".join((_BODY_LENGTH.pack(len(batch.body)), batch.body, header))


def encode_raw_columns(batch: RawBatch, indexes: Iterable[int], ids: Iterable[str], moments_ms: Iterable[int]) -> bytes:
    """The same record, of accepted events that are columns; an id is a UUID as its text is written."""
    header = msgspec.structs.replace(batch, body=b"", accepted=list(zip(indexes, ids, moments_ms, strict=True)))
    return b"".join((_BODY_LENGTH.pack(len(batch.body)), batch.body, _header_encoder.encode(header)))


def decode_raw(value: bytes) -> RawBatch:
    """The batch of a log record.

    Raises:
        ValueError: the bytes are not such a record (msgspec's errors are ValueErrors).
    """
    if len(value) < _BODY_LENGTH.size:
        raise ValueError("record is shorter than its length prefix")
    end = _BODY_LENGTH.size + _BODY_LENGTH.unpack_from(value)[0]
    if end >= len(value):
        raise ValueError("record ends inside its body")
    header = _header_decoder.decode(value[end:])
    return msgspec.structs.replace(header, body=value[_BODY_LENGTH.size : end])


def encode_enriched(batch: EnrichedBatch) -> bytes:
    return _enriched_encoder.encode(batch)


def decode_enriched(value: bytes) -> EnrichedBatch:
    """The batch of a log record.

    Raises:
        ValueError: the bytes are not such a record.
    """
    return _enriched_decoder.decode(value)


def decode_body(body: bytes) -> IncomingBatch:
    """The envelope of an ingest body; its events stay undecoded.

    Raises:
        msgspec.DecodeError, msgspec.ValidationError: not JSON, or not of this shape.
    """
    envelope = _body_decoder.decode(body)
    events = [event for event in msgspec.structs.astuple(envelope.events) if event is not _ABSENT]
    return IncomingBatch(events, envelope.sent_at, envelope.historical)


def decode_event(raw: msgspec.Raw | bytes) -> IncomingEvent:
    """One event of a body.

    Raises:
        msgspec.DecodeError, msgspec.ValidationError: not JSON, or not of this shape; names the field.
    """
    return _event_decoder.decode(raw)


def decode_logged(body: bytes, accepted: Sequence[AcceptedEvent]) -> list[LoggedEvent]:
    """The accepted events of a body, in their order.

    Raises:
        ValueError, LookupError, RecursionError: the body is not the one that the door verified.
    """
    try:
        events = _logged_body_decoder.decode(body).events
    except ValueError:
        # One that was refused beside them has another shape: those that were taken are read one by one.
        raw = decode_body(body).events
        return [_logged_event_decoder.decode(raw[event.index]) for event in accepted]
    return [events[event.index] for event in accepted]


def decode_events(events: Iterable[msgspec.Raw]) -> list[IncomingEvent]:
    """All of them; raises what the first that is not good raises."""
    return list(map(_event_decoder.decode, events))


def new_event_id(epoch_ms: int, seed: bytes | None = None) -> EventId:
    """A UUID version 7 (RFC 9562, 5.7) for that millisecond; the same seed gives the same id."""
    tail = int.from_bytes(blake2b(seed, digest_size=10).digest() if seed else os.urandom(10), "big")
    value = (epoch_ms & (2**48 - 1)) << 80 | tail
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return EventId(UUID(int=value))


@lru_cache(maxsize=HASHES_KEPT)
def hash64(kind: str, text: str, key: bytes) -> int:
    """A signed 64-bit keyed hash (BLAKE2b) of a text of some kind; what uniques count. Visitors come again: cached."""
    data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "big", signed=True)


def visitor_hash(tenant_id: TenantId, *, user_id: str, anonymous_id: str, ip: str, user_agent: str, key: bytes) -> int:
    """What `visitors` counts: `user_id`, else `anonymous_id`, else a keyed hash of tenant, address and agent."""
    if user_id:
        return hash64("user", user_id, key)
    if anonymous_id:
        return hash64("anonymous", anonymous_id, key)
    return hash64("address", f"{tenant_id}\0{ip}\0{user_agent}", key)


def epoch_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def from_epoch_ms(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
