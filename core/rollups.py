"""Rollups: which cells are kept, and the record that tells of changed ones.

A cell is a slot (tenant, bucket, type, is_bot) and a value of a dimension. Every event counts in nine: the total of its
type (dimension '') and one for each dimension alone, at each of three resolutions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from core.summary import SummaryRow

# `type` is in every cell; these are the other dimensions of all metrics, as columns of `events`.
DIMENSIONS = ("page_path", "referrer_host", "country", "device", "browser", "os", "status", "method")
TOTAL = ""
HOT_SECONDS = 24 * 3600


class Resolution(StrEnum):
    """The three bucket lengths that are stored."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    HOUR = "1h"

    @property
    def seconds(self) -> int:
        return {"1m": 60, "5m": 300, "1h": 3600}[self.value]


class Slot(NamedTuple):
    """What the cells of one event have in common; `bucket` is its start in epoch seconds."""

    tenant_id: UUID
    bucket: int
    type: str
    is_bot: bool


class ChangedBucket(msgspec.Struct, frozen=True, array_like=True):
    """One minute of one event type that has a new absolute value; without one when older than the hot set."""

    type: str
    is_bot: bool
    bucket: int
    summary: SummaryRow | None = None


class BucketUpdates(msgspec.Struct, frozen=True):
    """A record of `metrics.updates`: what one transaction of one writer changed for one tenant.

    `offset` orders the updates of a shard; `events` are how many were new; `metrics` are versions of the tenant's own
    metrics, each with its first and last minute that changed, in epoch seconds.
    """

    tenant_id: UUID
    shard: int
    offset: str
    committed_ms: int
    events: int
    changed: list[ChangedBucket]
    metrics: list[tuple[str, int, int]] = []


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(BucketUpdates)
_list_decoder = msgspec.msgpack.Decoder(list[BucketUpdates])


def encode_updates(updates: BucketUpdates) -> bytes:
    return _encoder.encode(updates)


def decode_updates(value: bytes) -> BucketUpdates:
    """The updates of a record.

    Raises:
        ValueError: the bytes are not such a record.
    """
    return _decoder.decode(value)


def encode_update_list(updates: list[BucketUpdates]) -> bytes:
    return _encoder.encode(updates)


def decode_update_list(value: bytes) -> list[BucketUpdates]:
    return _list_decoder.decode(value)


class LiveNotice(msgspec.Struct, frozen=True):
    """What the live channel carries: absolute counts of the changed minutes that are hot, and the span of all.

    `spans` is (type, first changed minute, last changed minute) in epoch seconds; `values` is
    (type, is_bot, minute, count, errors, bytes), as one shard counted them: a spread tenant has several, and a minute
    of it is their sum. `is_of_ingest`: no event changed, only counts of what the doors did not take. `metrics`:
    versions of the tenant's own metrics, each with its first and last minute that changed.
    """

    committed_ms: int
    events: int
    spans: list[tuple[str, int, int]]
    values: list[tuple[str, bool, int, int, int, int]]
    shard: int = 0
    is_of_ingest: bool = False
    metrics: list[tuple[str, int, int]] = []


_notice_encoder = msgspec.json.Encoder()
_notice_decoder = msgspec.json.Decoder(LiveNotice)


def encode_notice(notice: LiveNotice) -> str:
    return _notice_encoder.encode(notice).decode()


def decode_notice(text: str) -> LiveNotice:
    return _notice_decoder.decode(text)
