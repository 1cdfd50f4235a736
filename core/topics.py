"""The one table of topics and channels: who writes, what one record is, what keys it. Names hold ids, never slugs."""

from __future__ import annotations

import re
from uuid import UUID

RAW_PREFIX = "events.raw"
ENRICHED = "events.enriched"
DEAD = "events.dead"
UPDATES = "metrics.updates"

# topic, writer, one record, key
TABLE = (
    (RAW_PREFIX + "[.<tenant>]", "web", "core.events.RawBatch", "tenant"),
    (ENRICHED, "enrich", "core.events.EnrichedBatch", "tenant"),
    (DEAD, "any worker", "core.eventlog.DeadLetter", "origin"),
    (UPDATES, "aggregate", "core.rollups.BucketUpdates", "tenant"),
)


RAW_TOPICS = re.compile(re.escape(RAW_PREFIX) + r"(\.[0-9a-f-]{36})?")
ENRICHED_TOPICS = re.compile(re.escape(ENRICHED))
DEAD_TOPICS = re.compile(re.escape(DEAD))
UPDATES_TOPICS = re.compile(re.escape(UPDATES))
# What each group of workers reads.
GROUPS = {
    "enrich": RAW_TOPICS,
    "aggregate": ENRICHED_TOPICS,
    "bridge": UPDATES_TOPICS,
}


def raw_topic(tenant_id: UUID, tenant_topics: str) -> str:
    """The topic of a tenant's raw events: its own (`each`) or everybody's (`shared`)."""
    return f"{RAW_PREFIX}.{tenant_id}" if tenant_topics == "each" else RAW_PREFIX


def is_raw_topic(topic: str) -> bool:
    return RAW_TOPICS.fullmatch(topic) is not None


def is_tenants_own(topic: str) -> bool:
    """Whether a topic is one tenant's alone: order within it is the tenant's, so it has one partition."""
    return topic.startswith(RAW_PREFIX + ".")


def live_channel(tenant_id: UUID) -> str:
    """The pub/sub channel on which a tenant's changed buckets are told."""
    return f"cm:{tenant_id}:live"


def tail_channel(tenant_id: UUID) -> str:
    """The pub/sub channel on which a tenant's newest events are told, while somebody listens."""
    return f"cm:{tenant_id}:tail"


# Tenants whose tail somebody listens to, by when that ends.
TAILS_KEY = "cm:tails"


def ring_key(tenant_id: UUID, epoch: str) -> str:
    """The ring of one epoch of a live stream: its frames of the last minutes."""
    return f"cm:{tenant_id}:ring:{epoch}"


def ring_base_key(tenant_id: UUID, epoch: str) -> str:
    """The whole answer at some frame of that ring."""
    return f"cm:{tenant_id}:ring-base:{epoch}"


def ticket_key(name: str) -> str:
    """What a ticket stands for, by its hash."""
    return f"cm:ticket:{name}"


def hot_key(tenant_id: UUID, event_type: str) -> str:
    """The sorted set of a tenant's one-minute buckets of one event type, last 24 hours."""
    return f"cm:{tenant_id}:hot:{event_type}"


def hot_values_key(tenant_id: UUID, event_type: str) -> str:
    """The values of that set. What a type is called stands last in both: no type's name makes another's key."""
    return f"cm:{tenant_id}:hot-values:{event_type}"


# Says whether the hot sets are whole; gone when Valkey was emptied, and they with it.
HOT_MARK_KEY = "cm:hot:mark"


def seen_key(tenant_id: UUID, slot: int) -> str:
    """The set of event ids that the log took in one slot of time; tells duplicates at the door."""
    return f"cm:{tenant_id}:seen:{slot}"


def bucket_key(key_id: str) -> str:
    """The token bucket of one API key."""
    return f"cm:limit:{key_id}"


def budget_key(name: str) -> str:
    """The bucket of one budget; its name begins with what it is of."""
    return f"cm:budget:{name}"


def idempotency_key(tenant_id: UUID, name: str) -> str:
    """The entry of one Idempotency-Key, by its hash."""
    return f"cm:{tenant_id}:idempotency:{name}"


def idempotency_bytes_key(tenant_id: UUID | None = None) -> str:
    """The bytes that such entries took by hour: a tenant's, or all."""
    return f"cm:{tenant_id}:idempotency-bytes" if tenant_id else "cm:idempotency-bytes"
