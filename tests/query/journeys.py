"""Random journeys of visitors over pages, and how they are stored for a test."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from core import accounts
from core.database import Database
from core.eventlog import Offset, Partition
from core.events import EnrichedEvent
from core.filters import EventFilter
from core.retention import Retention
from core.settings import Settings
from core.tenancy import Tenant, Tier
from pipeline.prepared import prepare
from pipeline.store import Store
from query.raw import RawEvents
from tests.pipeline.builders import batch_of, enriched

START = datetime(2026, 3, 2, tzinfo=UTC)
PAGES = ["/", "/a", "/b", "/c", "/pricing", "/ä", "__other__", ""]
TYPES = ["page_view", "page_view", "page_view", "click", "signup"]


def make_journeys(seed: int, *, sessions: int = 120, days: int = 4) -> list[EnrichedEvent]:
    """Events of some sessions of fewer visitors: some at the same moment, some of bots, some of no session, and some
    sessions that go on a day later."""
    chance = random.Random(seed)
    events = []
    for number in range(sessions):
        at = START + timedelta(seconds=chance.random() * days * 86_400)
        if chance.random() < 0.3:
            # On the hour: at the ends of ranges, and several at once.
            at = at.replace(minute=0, second=0, microsecond=0)
        has_session, visitor = chance.random() < 0.9, chance.randrange(sessions // 3)
        is_bot = chance.random() < 0.08
        for _ in range(min(40, int(chance.expovariate(0.25)) + 1)):
            page = chance.choice(PAGES)
            events.append(
                enriched(
                    id=uuid4().bytes,
                    type=chance.choice(TYPES),
                    timestamp_ms=round(at.timestamp() * 1000),
                    visitor=visitor,
                    session=number * 7919 - 400_000 if has_session else None,
                    session_id=f"s{number}" if has_session else "",
                    user_id=f"u{visitor}",
                    page_path=page,
                    country=chance.choice(["", "DE", "NL"]),
                    is_bot=is_bot,
                    properties=json.dumps({"screen": page.strip("/"), "n": chance.randrange(5)}).encode(),
                )  # fmt: skip
            )
            gap = 90_000 if chance.random() < 0.02 else chance.choice([0, 0, 3, 40, 600])
            at += timedelta(seconds=gap)
    return events


async def stored(settings: Settings, slug: str, events: Sequence[EnrichedEvent]) -> Tenant:
    """A new tenant that has these events."""
    database = Database(settings, pool_size=2)
    tenant = await accounts.create_tenant(database, slug=slug, name=slug, tier=Tier.SELF_HOSTED)
    store = Store(database, slug)
    for n in range(0, len(events), 500):
        batch = batch_of(tenant.id, *events[n : n + 500])
        await store.ensure_partitions([batch])
        after = Offset(f"{n + 500}-0")
        await store.transact(
            Partition("t"), await prepare([batch]), Offset(f"{n}-0"), lambda _, after=after: (after, b"")
        )
    await database.close()
    return tenant


def raw_of(settings: Settings, database: Database) -> RawEvents:
    async def fresh_until() -> datetime:
        return START + timedelta(days=2)

    return RawEvents(database, Retention.of(settings), fresh_until)


def moment_of(event: EnrichedEvent) -> datetime:
    return datetime.fromtimestamp(event.timestamp_ms / 1000, UTC)


def in_order(events: Iterable[EnrichedEvent]) -> list[EnrichedEvent]:
    """By time, and at one moment by id."""
    return sorted(events, key=lambda event: (event.timestamp_ms, event.id))


def passes(event: EnrichedEvent, filter: EventFilter) -> bool:
    """Whether an event is of the types, and has every value that is wanted (of EQ alone)."""
    texts = {"type": event.type, "page_path": event.page_path, "country": event.country}
    return (filter.types is None or event.type in filter.types) and all(
        texts[condition.dimension] == condition.values[0] for condition in filter.conditions
    )
