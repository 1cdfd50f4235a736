"""Metric definitions: what a metric counts, in one place, for chart, stream, alert and export alike."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """How a metric's value follows from its parts."""

    COUNT = "COUNT"
    SUM = "SUM"
    UNIQUE = "UNIQUE"
    PERCENTILE = "PERCENTILE"
    RATIO = "RATIO"


class Part(StrEnum):
    """The part of a `Summary` that a metric is computed from."""

    COUNT = "count"
    BYTES = "bytes"
    ERRORS = "errors"
    VISITORS = "visitors"
    SESSIONS = "sessions"
    DURATIONS = "durations"


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric. `event_types` None is all; `is_of_bots` counts bots only, whatever a question says of them."""

    key: str
    kind: MetricKind
    part: Part
    unit: str
    description: str
    event_types: tuple[str, ...] | None = None
    is_of_bots: bool = False
    version: int = 1


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
    )
}  # fmt: skip
