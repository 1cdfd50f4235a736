"""One key, one answer: kept, bounded, and never given to another body."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from core import idempotency
from core.errors import CloudMetricsError, Conflict, InProgress, InvalidRequest, LogUnavailable, Unavailable
from core.idempotency import Answer, Attempt, Idempotency, checked_key
from core.settings import Settings
from core.topics import idempotency_bytes_key
from tests.conftest import free_port

TENANT = uuid4()
FIRST = Attempt(b"", 1_000)


class Worker:
    """Counts its work, and says with which attempt it was done."""

    def __init__(self, answer: bytes = b"", fails: CloudMetricsError | None = None) -> None:
        self.attempts: list[Attempt] = []
        self._answer = answer
        self._fails = fails

    async def __call__(self, attempt: Attempt) -> bytes:
        self.attempts.append(attempt)
        await asyncio.sleep(0.05)
        if self._fails is not None:
            raise self._fails
        return self._answer or b"answer %d" % len(self.attempts)


@pytest.fixture
async def entries(settings: Settings) -> AsyncIterator[Idempotency]:
    entries = Idempotency(settings.redis_url, settings.log_max_bytes)
    yield entries
    await entries.close()


async def test_a_repeat_gets_the_first_answer_and_does_no_work(entries: Idempotency) -> None:
    worker, key = Worker(), str(uuid4())
    assert await entries.once(TENANT, key, b"body", FIRST, worker) == Answer(b"answer 1", False)
    assert await entries.once(TENANT, key, b"body", FIRST, worker) == Answer(b"answer 1", True)
    assert len(worker.attempts) == 1
    ttl = await entries._client.ttl(idempotency.idempotency_key(TENANT, _name(key)))
    assert ttl >= 24 * 3600


async def test_another_body_with_the_key_is_refused_with_the_remedy(entries: Idempotency) -> None:
    key = str(uuid4())
    await entries.once(TENANT, key, b"body", FIRST, Worker())
    with pytest.raises(Conflict, match="Send a new key with a new body") as refusal:
        await entries.once(TENANT, key, b"other", FIRST, Worker())
    assert refusal.value.code == "idempotency_conflict" and refusal.value.status == 409


async def test_tenants_with_the_same_key_know_nothing_of_each_other(entries: Idempotency) -> None:
    key, worker = str(uuid4()), Worker()
    await entries.once(TENANT, key, b"body", FIRST, worker)
    assert not (await entries.once(uuid4(), key, b"other", FIRST, worker)).is_replayed
    assert worker.attempts[0].seed != worker.attempts[1].seed


async def test_while_the_first_is_under_way_others_come_back(entries: Idempotency) -> None:
    key, worker = str(uuid4()), Worker()
    asked = [entries.once(TENANT, key, b"body", FIRST, worker) for _ in range(20)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert len(worker.attempts) == 1
    assert sum(isinstance(outcome, Answer) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, InProgress)]
    assert len(refused) == 19 and refused[0].retry_after > 0


async def test_after_a_death_the_work_is_done_again_with_the_first_seed(
    entries: Idempotency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "LOCK_SECONDS", 0)
    key, worker = str(uuid4()), Worker()
    begun = asyncio.Event()

    async def hang(attempt: Attempt) -> bytes:
        worker.attempts.append(attempt)
        begun.set()
        await asyncio.Event().wait()
        return b""

    dying = asyncio.create_task(entries.once(TENANT, key, b"body", Attempt(b"signature", 5), hang))
    await begun.wait()
    dying.cancel()
    answer = await entries.once(TENANT, key, b"body", Attempt(b"another signature", 9_000), worker)
    assert not answer.is_replayed and worker.attempts == [Attempt(b"signature", 5)] * 2
    assert (await entries.once(TENANT, key, b"body", FIRST, worker)).is_replayed


@pytest.mark.parametrize(
    ("failure", "is_free"),
    [(InvalidRequest("no"), True), (LogUnavailable("away"), False), (CloudMetricsError(), False)],
)
async def test_a_key_whose_request_was_refused_is_free_and_one_of_unknown_outcome_is_not(
    entries: Idempotency, failure: CloudMetricsError, is_free: bool
) -> None:
    key, worker, tenant = str(uuid4()), Worker(), uuid4()
    with pytest.raises(type(failure)):
        await entries.once(tenant, key, b"body", FIRST, Worker(fails=failure))
    used = [int(value) for value in await entries._client.hvals(idempotency_bytes_key(tenant))]
    assert sum(used) == (0 if is_free else idempotency.ENTRY_BYTES)
    if is_free:
        await entries.once(tenant, key, b"mended", FIRST, worker)
        return
    with pytest.raises(Conflict):
        await entries.once(tenant, key, b"mended", FIRST, worker)
    assert not (await entries.once(tenant, key, b"body", Attempt(b"", 9_000), worker)).is_replayed
    assert worker.attempts[0].first_ms == FIRST.first_ms


async def test_beyond_its_budget_a_tenant_keeps_no_answers_and_then_no_keys(settings: Settings) -> None:
    log_bytes = 40 * idempotency.ENTRY_BYTES * idempotency.SHARE_OF_LOG * idempotency.SHARE_OF_TENANT
    entries, tenant = Idempotency(settings.redis_url, log_bytes), uuid4()
    worker = Worker(b"x" * 10)
    with pytest.raises(Unavailable) as refusal:
        for n in range(50):
            await entries.once(tenant, f"key {n}", b"body", FIRST, worker)
    assert refusal.value.code == "idempotency_full" and 30 < len(worker.attempts) <= 40
    assert (await entries.once(tenant, "key 0", b"body", FIRST, worker)).is_replayed
    done = len(worker.attempts)
    # Its key is kept and its answer not: done again, the same way.
    assert not (await entries.once(tenant, f"key {done - 1}", b"body", Attempt(b"", 7), worker)).is_replayed
    assert worker.attempts[-1] == worker.attempts[done - 1]
    await entries.once(uuid4(), "key", b"body", FIRST, worker)
    await entries.close()


async def test_valkey_away_is_said_and_nothing_is_done(settings: Settings) -> None:
    away = dataclasses.replace(settings, redis_url=f"redis://127.0.0.1:{free_port()}/0")
    entries, worker = Idempotency(away.redis_url, 2**30), Worker()
    with pytest.raises(Unavailable) as refusal:
        await entries.once(TENANT, "key", b"body", FIRST, worker)
    assert refusal.value.code == "idempotency_unavailable" and refusal.value.retry_after > 0
    assert worker.attempts == []
    await entries.close()


@pytest.mark.parametrize("values", [[], ["a", "b"], [""], ["a b"], ["x" * 256], ["é"], ["tab\t"], ["nul\0"]])
def test_a_key_that_cannot_be_one_is_refused_by_name(values: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable ASCII") as refusal:
        checked_key(values)
    assert refusal.value.field == "idempotency-key"


def test_keys_in_use_elsewhere_are_taken_as_they_are() -> None:
    for key in ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "K" * 255, "order:17/retry"):
        assert checked_key([key]) == key


def _name(key: str) -> str:
    return idempotency.sha256(key.encode()).hexdigest()[:32]


def test_a_tenants_id_is_in_every_key() -> None:
    assert str(UUID(int=5)) in idempotency.idempotency_key(UUID(int=5), "n")
