"""Requests that no key vouches for are counted by address."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from core.errors import InvalidRequest, TooMany, Unauthenticated
from core.ratelimit import RateLimiter
from core.settings import Settings
from web.auth.strangers import STRANGER_REQUESTS_PER_MINUTE, refuse_stranger


@pytest.fixture
async def limiter(settings: Settings) -> AsyncIterator[RateLimiter]:
    limiter = RateLimiter(settings.redis_url)
    yield limiter
    await limiter.close()


async def test_guessing_keys_ends_in_too_many_and_other_addresses_do_not_notice(limiter: RateLimiter) -> None:
    refusal = Unauthenticated()
    for _ in range(STRANGER_REQUESTS_PER_MINUTE):
        assert (await refuse_stranger(limiter, "203.0.113.5", refusal))[1] is refusal
    answers = [(await refuse_stranger(limiter, "203.0.113.5", refusal))[1] for _ in range(30)]
    assert any(isinstance(answer, TooMany) and answer.retry_after > 0 for answer in answers)
    assert (await refuse_stranger(limiter, "203.0.113.6", refusal))[1] is refusal


async def test_a_refusal_of_the_body_stays_what_it_is(limiter: RateLimiter) -> None:
    refusal = InvalidRequest(status=413)
    for _ in range(STRANGER_REQUESTS_PER_MINUTE + 20):
        assert (await refuse_stranger(limiter, "203.0.113.7", refusal))[1] is refusal


async def test_addresses_of_one_ipv6_network_share_a_bucket(limiter: RateLimiter) -> None:
    first, _ = await refuse_stranger(limiter, "2001:db8::1", Unauthenticated())
    second, _ = await refuse_stranger(limiter, "2001:db8::ffff:1", Unauthenticated())
    other, _ = await refuse_stranger(limiter, "2001:db8:0:1::1", Unauthenticated())
    assert second.remaining < first.remaining == other.remaining
