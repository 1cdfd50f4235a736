"""What the shop goes through: a daily and weekly wave of visitors, a release each Tuesday, an incident each Thursday.

All of it follows from the moment alone, so that traffic of the past and of now fit together. Times are UTC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_SECONDS = 86_400
WEEK_SECONDS = 7 * DAY_SECONDS
# 1970-01-01 was a Thursday; Monday came four days later.
MONDAY_OFFSET = 4 * DAY_SECONDS
RELEASE_AT = 1 * DAY_SECONDS + 14 * 3600
INCIDENT_AT = 3 * DAY_SECONDS + 18 * 3600 + 20 * 60
INCIDENT_SECONDS = 45 * 60
BUSIEST_SECOND = 19.5 * 3600
WEEKEND_SHARE = 1.25


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the shop runs: the release that serves, its durations' factor, and the share of requests that fail."""

    release: str
    slowness: float
    checkout_slowness: float
    error_share: float
    checkout_error_share: float


def load_at(second: int) -> float:
    """Visitors relative to the week's average."""
    in_day = second % DAY_SECONDS
    angle = 2 * math.pi * (in_day - BUSIEST_SECOND) / DAY_SECONDS
    daily = 1 + 0.62 * math.cos(angle) + 0.16 * math.cos(2 * angle)
    is_weekend = _in_week(second) >= 5 * DAY_SECONDS
    return max(0.08, daily) * (WEEKEND_SHARE if is_weekend else (7 - 2 * WEEKEND_SHARE) / 5)


def conditions_at(second: int) -> Conditions:
    """A release serves from Tuesday 14:00, slow for ten minutes while its caches warm; on Thursday at 18:20 the
    database stalls for 45 minutes, and the checkout with it."""
    in_week = _in_week(second)
    is_released = in_week >= RELEASE_AT
    week = (second - MONDAY_OFFSET) // WEEK_SECONDS + (0 if is_released else -1)
    since_release = (in_week - RELEASE_AT) % WEEK_SECONDS
    warming = 1.6 if since_release < 600 else 1.0
    is_incident = INCIDENT_AT <= in_week < INCIDENT_AT + INCIDENT_SECONDS
    return Conditions(
        release=f"2.{week % 100}.0",
        slowness=warming * (1.9 if is_incident else 1.0) * (1.0 - 0.08 * (week % 3)),
        checkout_slowness=6.0 if is_incident else 1.0,
        error_share=0.09 if is_incident else 0.002,
        checkout_error_share=0.6 if is_incident else 0.004,
    )


def is_release_minute(minute: int) -> bool:
    return _in_week(minute * 60) // 60 == RELEASE_AT // 60


def _in_week(second: int) -> int:
    return (second - MONDAY_OFFSET) % WEEK_SECONDS
