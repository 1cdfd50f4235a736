"""What each tier keeps, and since when."""

from __future__ import annotations

from datetime import UTC, datetime

from core.retention import Retention
from core.rollups import Resolution
from core.settings import Settings
from core.tenancy import Tier

NOW = datetime(2026, 6, 15, 17, 30, tzinfo=UTC)


def test_a_tier_keeps_what_it_says_in_whole_days() -> None:
    free = Retention.of(Settings())[Tier.FREE]
    assert free.since(None, NOW) == datetime(2026, 5, 16, tzinfo=UTC)
    assert free.since(Resolution.MINUTE, NOW) == datetime(2026, 3, 17, tzinfo=UTC)
    assert free.since(Resolution.HOUR, NOW) == datetime(2025, 6, 15, tzinfo=UTC)


def test_what_is_refused_today_is_dropped_tomorrow() -> None:
    free = Retention.of(Settings())[Tier.FREE]
    assert free.dropped_before(None, NOW) == datetime(2026, 5, 15, tzinfo=UTC)


def test_self_hosted_tenants_keep_all_until_the_operator_says() -> None:
    kept = Retention.of(Settings())[Tier.SELF_HOSTED]
    assert [kept.since(r, NOW) for r in (None, *Resolution)] == [None] * 4
    told = Settings(retention_days=10, rollup_retention_days=20, hourly_retention_days=30)
    kept = Retention.of(told)[Tier.SELF_HOSTED]
    days = [(NOW - since).days for r in (None, *Resolution) if (since := kept.since(r, NOW)) is not None]
    assert days == [10, 20, 20, 30]
