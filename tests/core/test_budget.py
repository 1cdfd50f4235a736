"""Budgets: never more is spent than there is, by however many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import pytest

from core.budget import Budget, Budgets
from core.errors import CloudMetricsError, InvalidRequest, TooMany
from core.settings import Settings


@pytest.fixture
async def budgets(settings: Settings) -> AsyncIterator[Budgets]:
    made = Budgets(settings.redis_url)
    yield made
    await made.close()


@pytest.fixture
def budget() -> Budget:
    # So slow that a run of these tests refills nothing.
    return Budget(f"test:{uuid4()}", "points", 1000, 1_000_000)


async def spent(budgets: Budgets, budget: Budget, amount: int) -> int:
    try:
        await budgets.spend(budget, amount)
    except TooMany as refusal:
        assert refusal.code == "budget_spent" and refusal.retry_after > 0
        return 0
    return amount


async def test_many_processes_at_once_spend_exactly_what_there_is(settings: Settings, budget: Budget) -> None:
    several = [Budgets(settings.redis_url) for _ in range(3)]

    async def spend_all(budgets: Budgets) -> int:
        return sum([await spent(budgets, budget, 30) for _ in range(12)])

    try:
        found = await asyncio.gather(*(spend_all(several[n % 3]) for n in range(12)))
    finally:
        for made in several:
            await made.close()
    assert sum(found) == 990


async def test_what_was_read_is_owed_and_nothing_more_is_given_until_it_is_paid(
    budgets: Budgets, budget: Budget
) -> None:
    await budgets.require(budget)
    await budgets.owe(budget, 5_000)
    with pytest.raises(TooMany) as refusal:
        await budgets.require(budget)
    # 4,001 points at one in a thousand seconds.
    assert 3_990_000 < refusal.value.retry_after <= 4_001_000


async def test_a_budget_refills_with_time(budgets: Budgets, budget: Budget) -> None:
    quick = replace(budget, seconds=1)
    assert await spent(budgets, quick, 1000) == 1000
    assert await spent(budgets, quick, 1000) == 0
    async with asyncio.timeout(20):
        while not await spent(budgets, quick, 200):
            await asyncio.sleep(0.05)


async def test_more_than_the_whole_budget_is_never_worth_waiting_for(budgets: Budgets, budget: Budget) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await budgets.spend(budget, 1001)
    assert refusal.value.code == "over_budget"
    assert await spent(budgets, budget, 1000) == 1000


async def test_without_valkey_a_process_spends_its_share(budget: Budget) -> None:
    budgets = Budgets("redis://127.0.0.1:1/0", processes=4)
    try:
        assert [await spent(budgets, budget, 100) for _ in range(4)] == [100, 100, 0, 0]
        with pytest.raises(CloudMetricsError):
            await budgets.owe(budget, 100)
            await budgets.require(budget)
    finally:
        await budgets.close()


async def test_budgets_of_two_links_are_two(budgets: Budgets, budget: Budget) -> None:
    other = replace(budget, name=f"test:{uuid4()}")
    assert await spent(budgets, budget, 1000) == 1000
    assert await spent(budgets, other, 1000) == 1000
