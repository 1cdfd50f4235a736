"""Leases of tokens: exact in sum over all who hold some, given back, and told truly."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from core import ratelimit
from core.ratelimit import Allowance, RateLimiter
from core.settings import Settings
from tests.conftest import free_port

Spent = list[tuple[float, float]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine no call goes unanswered: what is asked here is how answered ones add up."""
    monkeypatch.setattr(ratelimit, "LIMITER_SECONDS", 10.0)


@pytest.fixture
async def limiters(settings: Settings) -> AsyncIterator[list[RateLimiter]]:
    made = [RateLimiter(settings.redis_url) for _ in range(4)]
    yield made
    for limiter in made:
        await limiter.close()


def kill(limiter: RateLimiter) -> None:
    """It holds what it holds, and says nothing more."""
    if limiter._sweeper is not None:
        limiter._sweeper.cancel()
    limiter._leases.clear()


async def take(limiter: RateLimiter, key: str, per_minute: int, spent: Spent) -> Allowance:
    before = time.monotonic()
    allowance = await limiter.take(key, per_minute)
    if allowance.is_allowed:
        spent.append((before, time.monotonic()))
    return allowance


def check_every_window(spent: Spent, per_minute: int) -> None:
    """No stretch of time had more than a full bucket and what came in meanwhile."""
    before, after = sorted(b for b, _ in spent), sorted(a for _, a in spent)
    for first in range(0, len(before), 7):
        for last in range(first, len(after), 7):
            seconds = after[last] - before[first]
            assert last - first + 1 <= per_minute + per_minute / 60 * max(0.0, seconds) + 1


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    end = time.monotonic() + 30
    while not await is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("per_minute", [60, 120, 600, 6_000])
async def test_many_holders_spend_no_more_than_the_bucket_and_its_refill(
    limiters: list[RateLimiter], per_minute: int
) -> None:
    key, spent = str(uuid4()), Spent()

    async def hammer(limiter: RateLimiter) -> None:
        for _ in range(per_minute // 8 + 50):
            await take(limiter, key, per_minute, spent)

    await asyncio.gather(*(hammer(limiter) for limiter in limiters for _ in range(5)))
    check_every_window(spent, per_minute)
    # All that is there can be had, but for what is in the others' hands.
    assert len(spent) >= per_minute - 4 * max(1, per_minute // 60)


STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["burst", "burst", "one", "wait", "kill", "close"])), max_size=25
)


@given(steps=STEPS, per_minute=st.sampled_from([60, 120, 300]), seed=st.integers(0, 2**32))
@examples(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_to_holders_no_window_has_too_many(
    settings: Settings, steps: list[tuple[int, str]], per_minute: int, seed: int
) -> None:
    dice, key, spent = random.Random(seed), str(uuid4()), Spent()

    async def play() -> None:
        limiters = [RateLimiter(settings.redis_url) for _ in range(4)]
        for n, step in steps:
            if step in ("burst", "one"):
                times = dice.randint(2, 120) if step == "burst" else 1
                await asyncio.gather(*(take(limiters[n], key, per_minute, spent) for _ in range(times)))
            elif step == "wait":
                await asyncio.sleep(dice.choice([0.01, 0.1, 0.8]))
            else:
                if step == "kill":
                    kill(limiters[n])
                await limiters[n].close()
                limiters[n] = RateLimiter(settings.redis_url)
        for limiter in limiters:
            await limiter.close()

    asyncio.run(play())
    check_every_window(spent, per_minute)


async def test_a_bucket_does_not_refill_what_is_leased(limiters: list[RateLimiter]) -> None:
    """Its holder sleeps over it while all else comes back; then it is spent, and all else too, at one time."""
    per_minute, key, spent = 6_000, str(uuid4()), Spent()
    for _ in range(3):
        await limiters[0].take(key, per_minute)
    sweeper, lease = limiters[0]._sweeper, limiters[0]._leases[key]
    assert sweeper is not None and lease.left > 90
    sweeper.cancel()
    await asyncio.sleep(1.2)
    for _ in range(lease.left):
        await take(limiters[0], key, per_minute, spent)
    for _ in range(per_minute):
        await take(limiters[1], key, per_minute, spent)
    assert len(spent) > per_minute - 200
    check_every_window(spent, per_minute)


async def test_tokens_of_a_killed_holder_come_back(limiters: list[RateLimiter]) -> None:
    killed, other, key = limiters[0], limiters[1], str(uuid4())
    for _ in range(5):
        await killed.take(key, 600)
    assert killed._leases[key].left > 0
    kill(killed)

    async def is_nearly_full() -> bool:
        await asyncio.sleep(0.6)
        return (await other.take(key, 600)).remaining >= 600 - 2

    await until(is_nearly_full)


@pytest.mark.parametrize("way", ["idle", "closed"])
async def test_what_is_left_of_a_lease_is_given_back(limiters: list[RateLimiter], way: str) -> None:
    holder, other, key, per_minute = limiters[0], limiters[1], str(uuid4()), 6_000
    for _ in range(3):
        await holder.take(key, per_minute)
    assert (await other.take(key, per_minute)).remaining <= per_minute - 100
    if way == "closed":
        await holder.close()
    else:
        await asyncio.sleep(ratelimit.BUSY_SECONDS)

    async def is_back() -> bool:
        return (await limiters[2]._call(key, per_minute, most=0))[1] >= per_minute - 5

    await until(is_back)
    assert key not in holder._leases


async def test_a_holder_spends_nothing_after_its_lease_has_ended(
    limiters: list[RateLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, key = limiters[0], str(uuid4())
    for _ in range(3):
        await holder.take(key, 6_000)
    lease = holder._leases[key]
    left, lease.expires_at = lease.left, time.monotonic() - 1
    name = lease.name
    await holder.take(key, 6_000)
    assert left > 0 and lease.name != name


async def test_what_headers_say_is_what_is_left(limiters: list[RateLimiter]) -> None:
    holder, key, per_minute = limiters[0], str(uuid4()), 6_000
    began = time.monotonic()
    for n in range(1, 301):
        allowance = await holder.take(key, per_minute)
        refill = (time.monotonic() - began) * per_minute / 60
        assert per_minute - n - 1 <= allowance.remaining <= per_minute - n + refill + 1
        assert 0 <= allowance.reset_seconds <= 60 and allowance.limit == per_minute
    await holder.close()
    truly = (await limiters[1]._call(key, per_minute, most=0))[1]
    assert abs(truly - allowance.remaining) <= (time.monotonic() - began) * per_minute / 60 + 1


async def test_a_refusal_says_when_to_come_back_and_is_not_asked_for_again_before(
    limiters: list[RateLimiter],
) -> None:
    key = str(uuid4())
    answers = [await limiters[0].take(key, 120) for _ in range(200)]
    refused = [answer for answer in answers if not answer.is_allowed]
    assert refused and all(0 < answer.retry_after <= 0.5 and answer.remaining == 0 for answer in refused)


async def test_a_tier_that_goes_down_holds_at_once(limiters: list[RateLimiter]) -> None:
    key = str(uuid4())
    for _ in range(3):
        await limiters[0].take(key, 60_000)
    spent = Spent()
    for _ in range(400):
        await take(limiters[0], key, 120, spent)
    check_every_window(spent, 120)


async def test_a_waiter_that_goes_away_leaves_the_call_to_the_others(limiters: list[RateLimiter]) -> None:
    key = str(uuid4())
    await limiters[0].take(key, 6_000)
    first, second = (asyncio.create_task(limiters[0].take(key, 6_000)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).is_allowed
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_away_each_process_has_its_part_and_answers_at_once(settings: Settings) -> None:
    away = dataclasses.replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    limiter = RateLimiter(away.redis_url, processes=4)
    answers = [await limiter.take("k", 1_200) for _ in range(500)]
    await limiter.close()
    assert 300 <= sum(answer.is_allowed for answer in answers) < 400
    assert all(answer.limit == 1_200 for answer in answers)


async def test_a_flushed_server_refills_a_bucket_once_and_leases_go_on(
    limiters: list[RateLimiter], settings: Settings
) -> None:
    key, spent = str(uuid4()), Spent()
    for n in range(900):
        if n == 300:
            await limiters[0]._client.flushall()
        await take(limiters[n % 4], key, 600, spent)
    assert 600 < len(spent) <= 1200 + (spent[-1][1] - spent[0][0]) * 10 + 40
