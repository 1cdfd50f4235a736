"""Metric definitions: what a metric counts, in one place, for chart, stream, alert and export alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from core.metric_definitions import DefinedMetric
from core.outcomes import Outcome
from core.rollups import DIMENSIONS


class MetricKind(StrEnum):
    """How a metric's value follows from its parts."""

    COUNT = "COUNT"
    SUM = "SUM"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"
    UNIQUE = "UNIQUE"
    PERCENTILE = "PERCENTILE"
    RATE = "RATE"
    RATIO = "RATIO"
    FORMULA = "FORMULA"


class Part(StrEnum):
    """The part of a `Summary` that a built-in metric is computed from; a tenant's own has cells of its own."""

    COUNT = "count"
    BYTES = "bytes"
    ERRORS = "errors"
    VISITORS = "visitors"
    SESSIONS = "sessions"
    DURATIONS = "durations"
    DEFINED = "defined"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric. `event_types` None is all; `is_of_bots` counts bots only, whatever a question says of them. With an
    `outcome` it counts what became of events instead, by the minute of their receipt; `defined` is what a tenant's own
    metric counts."""

    key: str
    kind: MetricKind
    part: Part
    unit: str
    description: str
    event_types: tuple[str, ...] | None = None
    is_of_bots: bool = False
    version: int = 1
    outcome: Outcome | None = None
    defined: DefinedMetric | None = None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What it may be grouped and filtered by; of a formula, what its metrics have in common."""
        if self.defined is not None:
            aggregate = self.defined.aggregate
            return self.defined.common_dimensions if aggregate is None else aggregate.dimensions
        return EVENT_DIMENSIONS if self.outcome is None else INGEST_DIMENSIONS


EVENT_DIMENSIONS = ("type", *DIMENSIONS)
INGEST_DIMENSIONS = ("reason", "key")
HTTP = ("http_request",)

BUILT_IN: dict[str, MetricDefinition] = {
    metric.key: metric
    for metric in (
        MetricDefinition("events", MetricKind.COUNT, Part.COUNT, "events", "All events that are not marked as bots."),
        MetricDefinition(
            "pageviews", MetricKind.COUNT, Part.COUNT, "views", "Events of type page_view.", ("page_view",)
        ),
        MetricDefinition(
            "visitors", MetricKind.UNIQUE, Part.VISITORS, "visitors",
            "Distinct visitors: user_id, else anonymous_id, else a keyed hash of address and agent.",
        ),
        MetricDefinition("sessions", MetricKind.UNIQUE, Part.SESSIONS, "sessions", "Distinct values of session_id."),
        MetricDefinition(
            "requests", MetricKind.COUNT, Part.COUNT, "requests", "Events of type http_request.", HTTP
        ),
        MetricDefinition(
            "request_duration", MetricKind.PERCENTILE, Part.DURATIONS, "ms",
            "Percentiles of properties.duration_ms of http_request.", HTTP,
        ),
        MetricDefinition(
            "bytes_sent", MetricKind.SUM, Part.BYTES, "bytes", "Sum of properties.bytes of http_request.", HTTP
        ),
        MetricDefinition(
            "error_rate", MetricKind.RATIO, Part.ERRORS, "ratio",
            "http_request with properties.status of 500 or more, over all http_request.", HTTP,
        ),
        MetricDefinition(
            "bot_events", MetricKind.COUNT, Part.COUNT, "events", "Events marked as bots.", is_of_bots=True
        ),
        MetricDefinition(
            "ingest_accepted", MetricKind.COUNT, Part.COUNT, "events",
            "Events counted, bots too, by the minute of their receipt.", outcome=Outcome.ACCEPTED,
        ),
        MetricDefinition(
            "ingest_duplicates", MetricKind.COUNT, Part.COUNT, "events",
            "Events that came again and were not counted once more: taken_before says the door, counted_before a "
            "worker.",
            outcome=Outcome.DUPLICATES,
        ),
        MetricDefinition(
            "ingest_rejected", MetricKind.COUNT, Part.COUNT, "events",
            "Events refused, by the code that was answered; of a request that was refused unread, one. Counted at most "
            "once: a web process that is killed forgets a few seconds.", outcome=Outcome.REJECTED,
        ),
        MetricDefinition(
            "ingest_late", MetricKind.COUNT, Part.COUNT, "events",
            "Events counted more than 5 minutes after their time, by how late they were.", outcome=Outcome.LATE,
        ),
        MetricDefinition(
            "ingest_dead", MetricKind.COUNT, Part.COUNT, "records",
            "Records that no worker could process and that were put aside; one is a request's events.",
            outcome=Outcome.DEAD,
        ),
        MetricDefinition(
            "ingest_overflow", MetricKind.COUNT, Part.COUNT, "events",
            "Events whose value of a dimension came after the 1,000 that an hour has room for: they count under "
            "__other__ there, and fully in totals. The reason is the dimension, after the metric's key and a slash "
            "where the metric is one of the tenant's own.",
            outcome=Outcome.OVERFLOW,
        ),
    )
}  # fmt: skip
