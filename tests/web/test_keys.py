"""What made-up keys cost, and how long a key is good that nobody can confirm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.database import Database, Session
from core.errors import DatabaseUnavailable, TooMany, Unauthenticated
from core.keys import SECRET_PREFIX
from core.ratelimit import RateLimiter
from core.settings import Settings
from core.tenancy import Tenant
from tests.conftest import make_key
from web.auth import keys as ring_module
from web.auth import look_ups, strangers
from web.auth.keys import KeyRing
from web.auth.shares import LinkRing

FEW = 20


class Watched(Database):
    """A database that counts what the doorkeeper is asked, and can be away."""

    is_away = False
    asked = 0

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        self.asked += 1
        if self.is_away:
            raise DatabaseUnavailable(retry_after=2.0)
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session


@pytest.fixture
async def watched(settings: Settings) -> AsyncIterator[Watched]:
    database = Watched(settings, pool_size=2)
    yield database
    await database.close()


@pytest.fixture
async def limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(settings.redis_url)
    yield limiter
    await limiter.close()


async def test_made_up_keys_of_one_address_ask_the_database_so_often_and_no_more(
    watched: Watched, limiter: RateLimiter, settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "STRANGER_REQUESTS_PER_MINUTE", FEW)
    monkeypatch.setattr(ring_module, "FRESH_SECONDS", 0.0)
    ring = KeyRing(watched, settings.master_key_bytes(), limiter)
    key, secret = await make_key(watched, settings, tenant, is_unsigned=True)
    here, elsewhere = "203.0.113.20", "203.0.113.21"
    await ring.by_bearer(secret, here)
    watched.asked = 0
    refusals = []
    for number in range(10 * FEW):
        made_up = f"{secret[:-6]}{number:06d}"
        with pytest.raises((Unauthenticated, TooMany)) as refusal:
            await ring.by_bearer(made_up, here)
        refusals.append(refusal.value)
    assert watched.asked <= FEW + 5 < sum(isinstance(refusal, TooMany) for refusal in refusals)
    # Who was good before is looked up still, and made-up ids of signing keys are counted with them.
    assert (await ring.by_bearer(secret, here)).key.id == key.id
    with pytest.raises(TooMany):
        await ring.by_id(key.id, here)
    assert (await ring.by_id(key.id, elsewhere)).key.id == key.id


async def test_made_up_share_links_are_counted_with_made_up_keys(
    watched: Watched, limiter: RateLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strangers, "STRANGER_REQUESTS_PER_MINUTE", FEW)
    monkeypatch.setattr("web.auth.shares.is_well_formed", lambda token: True)
    ring = LinkRing(watched, limiter)
    for number in range(10 * FEW):
        with pytest.raises((Unauthenticated, TooMany)):
            await ring.caller(f"cm_sl_{number}", "203.0.113.22")
    assert 0 < watched.asked <= 2 * FEW


async def test_a_key_that_nobody_confirms_writes_events_and_nothing_else(
    watched: Watched, limiter: RateLimiter, settings: Settings, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "FRESH_SECONDS", 0.0)
    ring = KeyRing(watched, settings.master_key_bytes(), limiter)
    key, secret = await make_key(watched, settings, tenant, is_unsigned=True)
    assert secret.startswith(SECRET_PREFIX)
    await ring.by_bearer(secret, "203.0.113.23")
    watched.is_away = True
    assert (await ring.by_bearer(secret, "203.0.113.23")).key.id == key.id
    monkeypatch.setattr(look_ups, "UNCONFIRMED_SECONDS", 0.0)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            await ring.by_bearer(secret, "203.0.113.23")
    assert (await ring.by_bearer(secret, "203.0.113.23", is_for_events=True)).key.id == key.id
    watched.is_away = False
    monkeypatch.setattr(look_ups, "UNCONFIRMED_SECONDS", 30.0)
    assert (await ring.by_bearer(secret, "203.0.113.23")).key.id == key.id
