"""Accepting events: one verified body in, one log record out, and a result for every event. The one way in, for REST
and GraphQL alike."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from core import failpoints
from core.contents import EventRejected
from core.database import Database, answered_within
from core.errors import DatabaseUnavailable, InvalidRequest, LogUnavailable
from core.eventlog import EventLog
from core.events import (
    MAX_BATCH_EVENTS,
    AcceptedEvent,
    IncomingBatch,
    RawBatch,
    decode_body,
    encode_raw,
    epoch_ms,
    new_event_id,
)
from core.keys import ApiKey
from core.queries import named
from core.quota import MonthQuota
from core.retention import Retention
from core.seen import WINDOW_SECONDS, SeenIds
from core.tenancy import TenantId
from core.topics import raw_topic
from core.validation import Clock, verify_event

FIND_KNOWN_IDS = named("keys", "find_known_ids")
# After a failure the ledger is not asked again this long: ingest must not wait for a database that is away.
LEDGER_PAUSE_SECONDS = 5.0
LEDGER_SECONDS = 1.0


class EventStatus(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class EventResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event's result; `code`, `field` and `message` say why it was rejected."""

    index: int
    id: UUID | None
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
    ) -> None:
        self._database = database
        self._retention = retention
        self._log = log
        self._seen = seen
        self._tenant_topics = tenant_topics
        self._ledger_away_until = 0.0
        self._quota = quota

    async def accept(self, delivery: Delivery) -> Receipt:
        """Takes the good events of a body.

        Raises:
            InvalidRequest: the body as a whole cannot be used.
            TooMany: the tenant's monthly quota is used up.
            DatabaseUnavailable: it is away, and so is what was set aside of that quota.
            LogUnavailable, LogFull: nothing was taken.
        """
        batch = decoded_batch(delivery.body)
        clock = self._clock(batch, delivery)
        results: dict[int, EventResult] = {}
        taken: list[AcceptedEvent] = []
        given: list[UUID] = []
        for index, raw in enumerate(batch.events):
            try:
                verified = verify_event(raw, clock)
            except EventRejected as refusal:
                results[index] = EventResult(
                    index, None, EventStatus.REJECTED, refusal.code, refusal.field or "", refusal.message
                )
                continue
            event_id = verified.id or _made_id(delivery, index)
            if verified.id is not None or delivery.seed:
                given.append(event_id)
            taken.append(AcceptedEvent(index, event_id, verified.timestamp_ms))
        fresh = await self._without_duplicates(delivery, taken, given, results)
        await self._quota.take(delivery.key.tenant, delivery.month_usage, delivery.received_ms, len(fresh))
        if delivery.is_dry_run:
            self._quota.give_back(delivery.key.tenant, delivery.received_ms, len(fresh))
        if fresh and not delivery.is_dry_run:
            await self._append(delivery, fresh, set(given))
        return Receipt(delivery.request_id, len(fresh), [results[index] for index in sorted(results)])

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

    async def _without_duplicates(
        self, delivery: Delivery, taken: list[AcceptedEvent], given: list[UUID], results: dict[int, EventResult]
    ) -> list[AcceptedEvent]:
        known = await self._known_ids(delivery.key.tenant.id, given, delivery.received_ms)
        fresh = []
        for event in taken:
            is_known = event.id in known
            known.add(event.id)
            status = EventStatus.DUPLICATE if is_known else EventStatus.ACCEPTED
            results[event.index] = EventResult(event.index, event.id, status)
            if not is_known:
                fresh.append(event)
        return fresh

    async def _append(self, delivery: Delivery, fresh: list[AcceptedEvent], given: set[UUID]) -> None:
        tenant = delivery.key.tenant
        record = RawBatch(
            tenant_id=tenant.id,
            key_id=delivery.key.id,
            request_id=delivery.request_id,
            received_ms=delivery.received_ms,
            accepted=fresh,
            retention_class=tenant.tier.value,
            client_ip=delivery.client_ip,
            client_user_agent=delivery.client_user_agent,
            country=delivery.country,
            body=delivery.body,
        )
        try:
            await self._log.append(raw_topic(tenant.id, self._tenant_topics), tenant.id.bytes, encode_raw(record))
        except LogUnavailable:
            self._quota.give_back(tenant, delivery.received_ms, len(fresh))
            raise
        failpoints.reached("after_ack")
        await self._seen.note(tenant.id, [event.id for event in fresh if event.id in given])

    async def _known_ids(self, tenant_id: TenantId, ids: list[UUID], received_ms: int) -> set[UUID]:
        """Ids already taken: the last hour's from the cache, older ones from the ledger while it answers."""
        known = await self._seen.find(tenant_id, ids)
        oldest = received_ms - WINDOW_SECONDS * 1000
        # A version 7 id made within the cache's window cannot be in the ledger without being in the cache.
        older = [i for i in ids if i not in known and not (i.version == 7 and oldest < i.int >> 80 <= received_ms)]
        if older and time.monotonic() >= self._ledger_away_until:
            try:
                known |= await answered_within(LEDGER_SECONDS, self._in_ledger(tenant_id, older))
            except DatabaseUnavailable:
                self._ledger_away_until = time.monotonic() + LEDGER_PAUSE_SECONDS
        return known

    async def _in_ledger(self, tenant_id: TenantId, ids: list[UUID]) -> set[UUID]:
        async with self._database.as_tenant(tenant_id) as session:
            rows = await session.fetch(FIND_KNOWN_IDS, ids)
        return {UUID(int=row["event_id"].int) for row in rows}


def _made_id(delivery: Delivery, index: int) -> UUID:
    seed = delivery.seed + index.to_bytes(2, "big") if delivery.seed else None
    return new_event_id(delivery.signed_ms or delivery.received_ms, hashlib.sha256(seed).digest() if seed else None)


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
