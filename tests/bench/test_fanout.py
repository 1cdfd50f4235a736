"""The programs of the fan-out's benchmarks deliver every frame to every client, ours, peers and limit alike, at a tiny
size; no figure is looked at."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bench.case import Case, Result, Sample
from bench.cases import fanout, relay
from bench.cases.relay import ages_of
from bench.readers import open_readers
from bench.rounds import record_of
from bench.servers import Servers, open_servers

pytestmark = [
    pytest.mark.slow,
    # In CI a part that cannot be made is a failure, not a skip.
    pytest.mark.skipif(
        shutil.which("cc") is None and not os.environ.get("CI"),
        reason="the load of the fan-out is compiled, and there is no cc",
    ),
]
CLIENTS = 20


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Servers]:
    async with open_servers(with_kafka=False) as servers:
        yield servers


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "CLIENTS", CLIENTS)
    monkeypatch.setattr(fanout, "TENANTS", 2)


@pytest.mark.parametrize("open_side", [fanout.open_ours, fanout.open_strawberry, fanout.open_node, fanout.open_limit])
@pytest.mark.asyncio(loop_scope="module")
async def test_each_client_gets_each_frame_once(servers: Servers, open_side: Any) -> None:
    async with AsyncExitStack() as stack:
        side = await open_side(servers, stack)
        # A third of a second apart, so that whoever is slow here is not late.
        side.tell("rate 3")
        async with asyncio.timeout(30):
            while not (await side.readers.measure(0.5)).messages:
                pass
        reading, records = await side.readers.record(2.0, servers.folder / "frames")
        side.tell("rate 0")
        sent = {total for total, _ in records}
        assert len(sent) >= 2 and reading.messages == len(records)
        # The first and the last may have been under way when it began and ended.
        torn = [total for total in sorted(sent)[1:-1] if sum(found == total for found, _ in records) != CLIENTS]
        assert not torn, (torn, len(records))
        side.server.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_relay_sends_on_what_is_published(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CLIENTS", CLIENTS)
    async with AsyncExitStack() as stack:
        side = await relay._open_relay(servers, stack)
        sample = await side.measure(2.0)
        assert sample.rate > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_readers_that_stop_are_no_readers(servers: Servers) -> None:
    async with AsyncExitStack() as stack:
        side = await fanout.open_limit(servers, stack)
        stalled = await open_readers(servers.folder, side.port, 0, [], stalled=3, block=9)
        stack.callback(stalled.running.stop)
        side.tell("rate 5")
        assert (await stalled.measure(1.0)).messages == 0
        assert (await side.readers.measure(1.0)).messages >= CLIENTS


def test_the_age_of_an_event_is_that_of_the_first_frame_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CLIENTS", 2)
    acknowledged = {1: 1_000, 2: 2_000, 3: 3_000}
    # The second event is shown together with the third; a later frame of the same total is of no event.
    records = [(1, 5_000), (1, 6_000), (3, 9_000), (3, 10_000), (3, 99_000)]
    assert ages_of(acknowledged, records) == [4.0, 5.0, 7.0, 8.0, 6.0, 7.0]
    with pytest.raises(RuntimeError, match="no frame"):
        ages_of(acknowledged, [])


def test_of_a_time_less_is_better() -> None:
    case = Case("X", "t", 1.5, 3.0, fanout.F3.open, unit=" us", is_lower_better=True)
    pairs = [(Sample(rate, {}), Sample(100.0, {})) for rate in (100.0, 200.0, 400.0)]
    record = record_of(Result(case, pairs))
    assert (record["median"], record["best"], record["worst"]) == (2.0, 1.0, 4.0)
    assert case.reaches(1.5, case.goal) and not case.reaches(1.6, case.goal) and case.reaches(3.0, case.floor)
