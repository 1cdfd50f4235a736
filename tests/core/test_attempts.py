"""Attempts are counted by address, by account, and apart for where an account's person works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from core.attempts import ACCOUNT_A_MINUTE, ADDRESS_A_MINUTE, Attempts
from core.errors import TooMany
from core.ratelimit import Allowance, RateLimiter
from core.settings import Settings


@pytest.fixture
async def attempts(settings: Settings) -> AsyncIterator[Attempts]:
    limiter = RateLimiter(settings.redis_url)
    yield Attempts(limiter)
    await limiter.close()


async def until_refused(attempt: Callable[[], Awaitable[Allowance]], most: int) -> TooMany:
    """The refusal after as many attempts as there may be, or a few more on a slow machine."""
    for _ in range(2 * most):
        try:
            await attempt()
        except TooMany as refusal:
            return refusal
    raise AssertionError("nothing was refused")


async def test_an_account_is_tried_so_often_however_many_addresses_try(attempts: Attempts) -> None:
    addresses = iter(f"198.51.100.{n}" for n in range(1, 255))
    refusal = await until_refused(lambda: attempts.on_account("ada@a.example", next(addresses), ()), ACCOUNT_A_MINUTE)
    assert refusal.code == "too_many_attempts" and refusal.retry_after > 0
    await attempts.on_account("grace@a.example", "198.51.100.1", ())


async def test_who_empties_an_accounts_bucket_keeps_nobody_out_from_where_it_works(attempts: Attempts) -> None:
    known = ["203.0.113.9", "2001:db8::1", ""]
    await until_refused(lambda: attempts.on_account("b@a.example", "198.51.100.7", known), ACCOUNT_A_MINUTE)
    await attempts.on_account("b@a.example", "203.0.113.9", known)
    await attempts.on_account("b@a.example", "2001:db8::ffff", known)
    # And there it is counted too.
    await until_refused(lambda: attempts.on_account("b@a.example", "203.0.113.9", known), ACCOUNT_A_MINUTE)


async def test_an_address_tries_so_many_accounts_and_a_network_of_ipv6_is_one(attempts: Attempts) -> None:
    addresses = iter(f"2001:db8:1::{n:x}" for n in range(1, 255))
    await until_refused(lambda: attempts.from_address(next(addresses)), ADDRESS_A_MINUTE)
    await attempts.from_address("2001:db8:2::1")


async def test_a_person_tries_its_own_password_so_often(attempts: Attempts) -> None:
    await until_refused(lambda: attempts.of_person("1"), ACCOUNT_A_MINUTE)
    await attempts.of_person("2")
