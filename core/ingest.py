"""Accepting events: one verified body in, one log record out, and a result for every event. The one way in, for REST
and GraphQL alike."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from core import failpoints
from core.bulk_validation import VerifiedBatch, verify_batch
from core.contents import EventRejected
from core.database import Database, answered_within
from core.errors import CloudMetricsError, DatabaseUnavailable, InvalidRequest, LogUnavailable
from core.event_ids import new_ids, not_made_within
from core.eventlog import EventLog
from core.events import (
    MAX_BATCH_EVENTS,
    IncomingBatch,
    RawBatch,
    decode_body,
    encode_raw_columns,
    epoch_ms,
    new_event_id,
)
from core.keys import ApiKey
from core.outcomes import TAKEN_BEFORE, IngestCounts, Outcome, cell_of
from core.queries import named
from core.quota import MonthQuota
from core.retention import Retention
from core.seen import WINDOW_SECONDS, SeenIds
from core.tenancy import TenantId
from core.topics import raw_topic
from core.validation import Clock

FIND_KNOWN_IDS = named("keys", "find_known_ids")
# After a failure the ledger is not asked again this long: ingest must not wait for a database that is away.
LEDGER_PAUSE_SECONDS = 5.0
LEDGER_SECONDS = 1.0
# Likewise the cache of ids, for less: while it is away, so may be the log.
SEEN_PAUSE_SECONDS = 1.0
# The log that stands where the cache of ids does.
SEEN_BESIDE = "valkey"


class EventStatus(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event's result; `id` is a UUID's text; `code`, `field` and `message` say why it was rejected."""

    index: int
    id: str | None
    status: EventStatus
    code: str = ""
    field: str = ""
    message: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """The answer to one request."""

    request_id: str
    accepted: int
    results: list[EventResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request to ingest: a body of verified origin and what the connection told.

    `seed` and `signed_ms` make the ids of events that have none: the same signed request gives the same ids.
    """

    key: ApiKey
    month_usage: int
    body: bytes
    request_id: str
    received_ms: int
    is_dry_run: bool = False
    client_ip: str = ""
    client_user_agent: str = ""
    country: str = ""
    seed: bytes = b""
    signed_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Events:
    """Events in columns: each one's index in the body, its id, its time in epoch milliseconds."""

    indexes: Sequence[int]
    ids: Sequence[str]
    moments_ms: Sequence[int]

    def without(self, known: AbstractSet[str]) -> _Events:
        """The first event of each id that is not known; itself, when these are all."""
        if not known and len(set(self.ids)) == len(self.ids):
            return self
        first = dict(zip(reversed(self.ids), range(len(self.ids) - 1, -1, -1), strict=True))
        places = sorted(place for event_id, place in first.items() if event_id not in known)
        columns = (self.indexes, self.ids, self.moments_ms)
        indexes, ids, moments = ([column[place] for place in places] for column in columns)
        return _Events(indexes, ids, moments)  # type: ignore[arg-type]


class Ingest:
    """Verifies, tells duplicates, appends."""

    def __init__(
        self,
        database: Database,
        log: EventLog,
        seen: SeenIds,
        tenant_topics: str,
        retention: Retention,
        quota: MonthQuota,
        counts: IngestCounts | None = None,
    ) -> None:
        self._database = database
        self._retention = retention
        self._log = log
        self._seen = seen
        self._tenant_topics = tenant_topics
        self._ledger_away_until = 0.0
        self._seen_away_until = 0.0
        self._quota = quota
        self._counts = counts or IngestCounts()

    async def accept(self, delivery: Delivery) -> Receipt:
        """Takes the good events of a body.

        Raises:
            InvalidRequest: the body as a whole cannot be used.
            TooMany: the tenant's monthly quota is used up.
            DatabaseUnavailable: it is away, and so is what was set aside of that quota.
            LogUnavailable, LogFull: nothing was taken.
        """
        try:
            batch = decoded_batch(delivery.body)
            verified = verify_batch(delivery.body, batch.events, self._clock(batch, delivery))
        except CloudMetricsError as refusal:
            self._note_refused(delivery, refusal.code, 1)
            raise
        taken, given = _named(delivery, verified)
        known = await self._known_ids(delivery.key.tenant.id, given, delivery.received_ms)
        fresh = taken.without(known)
        try:
            await self._quota.take(delivery.key.tenant, delivery.month_usage, delivery.received_ms, len(fresh.ids))
            if delivery.is_dry_run:
                self._quota.give_back(delivery.key.tenant, delivery.received_ms, len(fresh.ids))
            elif fresh.ids:
                await self._append(delivery, fresh, given)
        except CloudMetricsError as refusal:
            self._note_refused(delivery, refusal.code, len(fresh.ids))
            raise
        if fresh is not taken or verified.refusals:
            self._note_results(delivery, len(taken.ids) - len(fresh.ids), verified.refusals.values())
        return Receipt(delivery.request_id, len(fresh.ids), _results(taken, fresh, verified.refusals))

    def _note_refused(self, delivery: Delivery, code: str, count: int) -> None:
        """Counts events that were refused together; of a body that was not read, one."""
        if not delivery.is_dry_run:
            key = delivery.key
            self._counts.note(cell_of(key.tenant.id, delivery.received_ms, Outcome.REJECTED, code, key.id), count)

    def _note_results(self, delivery: Delivery, duplicates: int, refusals: Iterable[EventRejected]) -> None:
        """Counts what was not taken of a body whose other events were."""
        for refusal in refusals:
            self._note_refused(delivery, refusal.code, 1)
        if duplicates and not delivery.is_dry_run:
            key = delivery.key
            cell = cell_of(key.tenant.id, delivery.received_ms, Outcome.DUPLICATES, TAKEN_BEFORE, key.id)
            self._counts.note(cell, duplicates)

    def _clock(self, batch: IncomingBatch, delivery: Delivery) -> Clock:
        received = datetime.fromtimestamp(delivery.received_ms / 1000, UTC)
        since = self._retention[delivery.key.tenant.tier].since(None, received)
        kept_since_ms = 0 if since is None else epoch_ms(since)
        try:
            return Clock.of(
                delivery.received_ms, batch.sent_at, is_historical=batch.historical, kept_since_ms=kept_since_ms
            )
        except EventRejected as refusal:
            raise InvalidRequest(refusal.message, code=refusal.code, field="sent_at", status=422) from None

    async def _append(self, delivery: Delivery, fresh: _Events, given: Sequence[str]) -> None:
        tenant = delivery.key.tenant
        record = RawBatch(
            tenant_id=tenant.id,
            key_id=delivery.key.id,
            request_id=delivery.request_id,
            received_ms=delivery.received_ms,
            accepted=[],
            retention_class=tenant.tier.value,
            client_ip=delivery.client_ip,
            client_user_agent=delivery.client_user_agent,
            country=delivery.country,
            body=delivery.body,
        )
        value = encode_raw_columns(record, fresh.indexes, fresh.ids, fresh.moments_ms)
        try:
            await self._log.append(raw_topic(tenant.id, self._tenant_topics), tenant.id.bytes, value)
        except LogUnavailable:
            self._quota.give_back(tenant, delivery.received_ms, len(fresh.ids))
            raise
        failpoints.reached("after_ack")
        if time.monotonic() >= self._seen_away_until:
            await self._seen.note(tenant.id, _both(fresh.ids, given))

    async def _known_ids(self, tenant_id: TenantId, ids: Sequence[str], received_ms: int) -> set[str]:
        """Ids already taken: the last hour's from the cache, older ones from the ledger while it answers."""
        try:
            known = await self._find_seen(tenant_id, ids)
            # A version 7 id made within the cache's window cannot be in the ledger without being in the cache.
            older = [
                i for i in not_made_within(ids, received_ms - WINDOW_SECONDS * 1000, received_ms) if i not in known
            ]
        except LogUnavailable:
            if self._log.name == SEEN_BESIDE:
                raise
            # The log has a home of its own, and can be written: what is not counted yet may be told accepted twice.
            known, older = set(), list(ids)
        if older and time.monotonic() >= self._ledger_away_until:
            try:
                known |= await answered_within(LEDGER_SECONDS, self._in_ledger(tenant_id, older))
            except DatabaseUnavailable:
                self._ledger_away_until = time.monotonic() + LEDGER_PAUSE_SECONDS
        return known

    async def _find_seen(self, tenant_id: TenantId, ids: Sequence[str]) -> set[str]:
        if time.monotonic() < self._seen_away_until:
            raise LogUnavailable(retry_after=1.0)
        try:
            return await self._seen.find(tenant_id, ids)
        except LogUnavailable:
            self._seen_away_until = time.monotonic() + SEEN_PAUSE_SECONDS
            raise

    async def _in_ledger(self, tenant_id: TenantId, ids: Sequence[str]) -> set[str]:
        async with self._database.as_tenant(tenant_id) as session:
            rows = await session.fetch(FIND_KNOWN_IDS, [UUID(i) for i in ids])
        return {str(row["event_id"]) for row in rows}


def _named(delivery: Delivery, verified: VerifiedBatch) -> tuple[_Events, Sequence[str]]:
    """The good events, each with an id; and those ids that a repeat of the request would have again."""
    given = [i for i in verified.ids if i is not None]
    if len(given) == len(verified.ids):
        ids: Sequence[str] = given
    elif delivery.seed:
        pairs = zip(verified.indexes, verified.ids, strict=True)
        ids = given = [i or _seeded_id(delivery, index) for index, i in pairs]
    else:
        made = iter(new_ids(delivery.received_ms, len(verified.ids) - len(given)))
        ids = [i or next(made) for i in verified.ids]
    return _Events(verified.indexes, ids, verified.moments_ms), given


def _seeded_id(delivery: Delivery, index: int) -> str:
    seed = hashlib.sha256(delivery.seed + index.to_bytes(2, "big")).digest()
    return str(new_event_id(delivery.signed_ms or delivery.received_ms, seed))


def _both(ids: Sequence[str], given: Sequence[str]) -> Sequence[str]:
    """Those of the ids that were given."""
    if len(ids) == len(given):
        return ids
    wanted = set(given)
    return [i for i in ids if i in wanted]


def _results(taken: _Events, fresh: _Events, refusals: Mapping[int, EventRejected]) -> list[EventResult]:
    """One an event, in the body's order."""
    if fresh is taken and not refusals:
        return [EventResult(n, i, EventStatus.ACCEPTED) for n, i in zip(taken.indexes, taken.ids, strict=True)]
    accepted = set(fresh.indexes)
    results = [
        EventResult(n, i, EventStatus.ACCEPTED if n in accepted else EventStatus.DUPLICATE)
        for n, i in zip(taken.indexes, taken.ids, strict=True)
    ]
    results += [
        EventResult(n, None, EventStatus.REJECTED, refusal.code, refusal.field or "", refusal.message)
        for n, refusal in refusals.items()
    ]
    return sorted(results, key=lambda result: result.index)


def decoded_batch(body: bytes) -> IncomingBatch:
    """The envelope of a body.

    Raises:
        InvalidRequest: not JSON, not of this shape, empty, or more than 100 events.
    """
    try:
        batch = decode_body(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f'The body must be {{"events": [...]}}: {error}.', code="invalid_body", field="events", status=400
        ) from None
    except msgspec.DecodeError as error:
        if _has_half_a_pair(str(error), body):
            message = "A text of the body has half of a surrogate pair (\\ud800 to \\udfff); send it whole, or without."
            raise InvalidRequest(message, code="invalid_unicode") from None
        raise InvalidRequest(f"The body is not JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequest("The body is nested deeper than 32 levels.", code="json_too_deep") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: {error.reason}.", code="invalid_unicode") from None
    if not batch.events:
        raise InvalidRequest("`events` is empty; send 1 to 100.", code="empty_batch", field="events", status=422)
    if len(batch.events) > MAX_BATCH_EVENTS:
        raise InvalidRequest(
            f"`events` has more than {MAX_BATCH_EVENTS} events, the most that a request may have. None was taken; send "
            "them in several.",
            code="batch_too_large",
            field="events",
            status=413,
        )
    return batch


def _has_half_a_pair(error: str, body: bytes) -> bool:
    """Whether that is what the decoder means: of a half pair near the end it says that the input is cut."""
    is_cut = "truncated" in error and body.rstrip().endswith(b"}")
    return is_cut or "surrogate" in error or "hex escape" in error
