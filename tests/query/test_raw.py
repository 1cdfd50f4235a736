"""Raw events are read within a deadline, and an answer says what it is of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core import accounts
from core.database import Database, as_owner
from core.errors import BadInput
from core.queries import parse_blocks
from core.settings import Settings
from core.tenancy import Tenant, Tier
from query import raw
from tests.query.journeys import START, raw_of

SLOW = parse_blocks("-- slow()\n-- Takes its time.\nSELECT pg_sleep(60);", "test")["slow"]
SLEEPING = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"


async def test_a_question_that_takes_too_long_is_told_what_to_narrow_and_runs_no_longer(
    settings: Settings, database: Database, tenant: Tenant, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw, "ANSWER_SECONDS", 0.5)
    with pytest.raises(BadInput, match="shorter range") as refused:
        await raw_of(settings, database).fetch(tenant, SLOW)
    assert refused.value.code == "query_too_slow"
    async with as_owner(superuser_url) as connection:
        assert await connection.fetchval(SLEEPING + " AND state = 'active'") == 0


async def test_what_is_past_its_time_is_told(settings: Settings, database: Database) -> None:
    free = await accounts.create_tenant(database, slug="raw-free", name="Free", tier=Tier.FREE)
    now = datetime.now(UTC)
    origin = await raw_of(settings, database).origin(free, now - timedelta(days=60), now)
    assert [warning.code for warning in origin.warnings] == ["beyond_retention"]
    assert not origin.is_complete
    origin = await raw_of(settings, database).origin(free, now - timedelta(days=1), now)
    assert not origin.warnings and not origin.is_complete


async def test_a_range_that_is_over_and_counted_is_complete(
    settings: Settings, database: Database, tenant: Tenant
) -> None:
    origin = await raw_of(settings, database).origin(tenant, START, START + timedelta(days=2))
    assert origin.is_complete and not origin.warnings
    origin = await raw_of(settings, database).origin(tenant, START, START + timedelta(days=2, seconds=1))
    assert not origin.is_complete
