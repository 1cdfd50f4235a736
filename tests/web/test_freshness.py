"""What is said to be counted is counted."""

from __future__ import annotations

import asyncio
import re

import pytest

from web.freshness import CACHE_SECONDS, Freshness


class TwoGroups:
    """A log of which the test says how far each group has come."""

    def __init__(self) -> None:
        self.enriched = self.counted = 0

    async def done_until(self, group: str, topics: re.Pattern[str]) -> int:
        return self.enriched if group == "enrich" else self.counted


@pytest.fixture
def groups() -> TwoGroups:
    return TwoGroups()


async def ask(freshness: Freshness) -> float:
    await asyncio.sleep(CACHE_SECONDS * 1.1)
    return (await freshness.fresh_until()).timestamp() * 1000


async def test_what_was_handed_over_late_is_not_counted_before_it_is(groups: TwoGroups) -> None:
    """Enrichment was away: the second group has done everything handed over so far, and that is old."""
    freshness = Freshness(groups)  # type: ignore[arg-type]
    groups.enriched, groups.counted = 1_000, 2**50
    assert await ask(freshness) == 1_000
    # It is back, and hands over at once what it had; the second group stands before that.
    groups.enriched, groups.counted = 60_000, 0
    assert await ask(freshness) == 1_000
    groups.counted = 2**50
    assert await ask(freshness) == 60_000


async def test_it_never_goes_back(groups: TwoGroups) -> None:
    freshness = Freshness(groups)  # type: ignore[arg-type]
    groups.enriched, groups.counted = 5_000, 2**50
    assert await ask(freshness) == 5_000
    groups.enriched = 2_000
    assert await ask(freshness) == 5_000
