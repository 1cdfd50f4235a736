"""Signing in and changing a password at the same time: a session of a password that was changed does not outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from core.attempts import Attempts
from core.database import Database, Session
from core.errors import BadInput, CloudMetricsError, Conflict, DatabaseUnavailable, Unauthenticated
from core.own_sessions import Own, list_sessions
from core.passwords import Passwords, Verified
from core.ratelimit import RateLimiter
from core.sessions import Origin
from core.settings import Settings
from core.sign_in import SignIn
from core.tenancy import Tenant
from tests.conftest import PASSWORD, make_person

FRESH = "seven purple anchors drift"


class Waiting(Passwords):
    """Verifies as usual, and then lets others go first until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.verified_some = asyncio.Event()

    async def verified(self, password: str, password_hash: str | None) -> Verified:
        found = await super().verified(password, password_hash)
        self.verified_some.set()
        await self.go_on.wait()
        return found


@pytest.fixture
async def passwords() -> AsyncIterator[Waiting]:
    made = Waiting()
    yield made
    await made.close()


@pytest.fixture
async def sign_in(database: Database, settings: Settings, passwords: Waiting) -> AsyncIterator[SignIn]:
    limiter = RateLimiter(settings.redis_url)
    yield SignIn(database, settings, passwords, Attempts(limiter))
    await limiter.close()


async def test_who_was_verified_before_a_change_does_not_get_in_after_it(
    sign_in: SignIn, passwords: Waiting, database: Database, settings: Settings, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    passwords.go_on.clear()
    slow = asyncio.create_task(sign_in.by_password(person.email, PASSWORD, None, Origin("192.0.2.5", "x")))
    await passwords.verified_some.wait()
    others = Passwords()
    limiter = RateLimiter(settings.redis_url)
    elsewhere = SignIn(database, settings, others, Attempts(limiter))
    try:
        asked = {"current": PASSWORD, "new": FRESH, "keep": None, "request_id": "request-1"}
        await elsewhere.change_password(person.id, tenant.id, **asked)  # type: ignore[arg-type]
    finally:
        await others.close()
        await limiter.close()
    passwords.go_on.set()
    with pytest.raises(Unauthenticated):
        await slow
    assert await list_sessions(database, Own(person.id), 10) == []


class AwayAfterAWrite(Database):
    """A database that goes away as soon as it has committed something."""

    is_away = False

    @asynccontextmanager
    async def as_doorkeeper(self, *, is_write: bool = False) -> AsyncIterator[Session]:
        if self.is_away:
            raise DatabaseUnavailable(retry_after=2.0)
        async with super().as_doorkeeper(is_write=is_write) as session:
            yield session
        self.is_away = is_write


async def test_a_database_that_goes_away_after_a_rotation_costs_nobody_its_session(
    sign_in: SignIn, passwords: Waiting, settings: Settings, database: Database, tenant: Tenant
) -> None:
    """The new tokens are answered: who got a refusal and asked again later would be taken for a thief."""
    person = await make_person(database, tenant)
    first = await sign_in.by_password(person.email, PASSWORD, None, Origin("192.0.2.5", "x"))
    failing = AwayAfterAWrite(settings, pool_size=2)
    limiter = RateLimiter(settings.redis_url)
    try:
        again = SignIn(failing, settings, passwords, Attempts(limiter))
        second = await again.refreshed(first.session.refresh_token, Origin("192.0.2.5", "x"))
    finally:
        await failing.close()
        await limiter.close()
    assert failing.is_away and second.membership.tenant == tenant
    assert second.session.refresh_token != first.session.refresh_token


async def test_of_changes_at_once_one_counts(sign_in: SignIn, database: Database, tenant: Tenant) -> None:
    person = await make_person(database, tenant)
    fresh = [f"{FRESH} {n}" for n in range(4)]

    async def change(new: str) -> str | CloudMetricsError:
        try:
            await sign_in.change_password(
                person.id, tenant.id, current=PASSWORD, new=new, keep=None, request_id="request-1"
            )
            return new
        except CloudMetricsError as refusal:
            return refusal

    done = await asyncio.gather(*(change(new) for new in fresh))
    (new,) = (one for one in done if isinstance(one, str))
    assert all(isinstance(one, str | Conflict | BadInput) for one in done)
    assert (await sign_in.by_password(person.email, new, None, Origin("192.0.2.5", "x"))).membership.tenant == tenant


async def test_sign_ins_at_once_with_a_hash_of_lesser_cost_all_succeed(
    sign_in: SignIn, database: Database, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    signed_in = await asyncio.gather(
        *(sign_in.by_password(person.email, PASSWORD, None, Origin("192.0.2.5", "x")) for _ in range(4))
    )
    assert len({one.session.session_id for one in signed_in}) == 4
