"""Enriched events as rows of `events`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import msgspec

from core.events import EnrichedBatch, EnrichedEvent
from core.queries import named
from pipeline import copying

COLUMNS = named("aggregate", "event_columns")
EVENT_COLUMNS = tuple(COLUMNS.text.replace("\n", " ").split(", "))
# `place` is a row's number within its batch: by it the database names those that it had already.
STAGED_COLUMNS = (*EVENT_COLUMNS, "place")

# One of many rows: an event, and its batch.
Pair = tuple[EnrichedBatch, EnrichedEvent]


class _Context(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What of an event's context has no column of its own; what is not known is left out."""

    page_url: str = ""
    referrer: str = ""
    region: str = ""
    city: str = ""
    ip: str = ""
    user_agent: str = ""
    locale: str = ""
    campaign: dict[str, str] = {}


_encode = msgspec.json.Encoder().encode
_START = copying.row_start(len(STAGED_COLUMNS))
_ID_LENGTH = b"\0\0\0\x10"


def staged_rows(pairs: Sequence[Pair], revisions: Mapping[UUID, int]) -> Iterator[bytes]:
    """Rows of `STAGED_COLUMNS` for a binary COPY, numbered from 0; `revisions`: the metrics revisions of tenants that
    have one."""
    text, moment, bigint, integer = copying.text, copying.moment, copying.bigint, copying.integer
    last: EnrichedBatch | None = None
    start = received = key = revision = b""
    for place, (batch, event) in enumerate(pairs):
        if batch is not last:
            last = batch
            start = _START + copying.data(batch.tenant_id.bytes) + text(batch.retention_class)
            received, key = moment(batch.received_ms), text(batch.key_id)
            revision = integer(revisions.get(batch.tenant_id, 0))
        yield b"".join(
            (
                start, moment(event.timestamp_ms), _ID_LENGTH, event.id, received, text(event.type), key,
                bigint(event.visitor), bigint(event.session), text(event.session_id), text(event.user_id),
                text(event.anonymous_id), text(event.page_path), text(event.referrer_host), text(event.country),
                text(event.device), text(event.browser), text(event.os), text(event.method), integer(event.status),
                copying.double(event.duration_ms), bigint(event.bytes),
                copying.TRUE if event.is_bot else copying.FALSE, copying.jsonb(details_of(event)), revision,
                integer(place),
            )
        )  # fmt: skip


def details_of(event: EnrichedEvent) -> bytes:
    """The one JSONB of an event: its properties as they were sent, and the context that has no column."""
    context = _Context(
        event.page_url, event.referrer, event.region, event.city, event.ip, event.user_agent, event.locale,
        event.campaign,
    )  # fmt: skip
    errors = b',"enrichment_errors":' + _encode(event.enrichment_errors) if event.enrichment_errors else b""
    return b'{"properties":%b,"context":%b%b,"enrichment_version":%d}' % (
        event.properties,
        _encode(context),
        errors,
        event.enrichment_version,
    )
