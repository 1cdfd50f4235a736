"""Each program of the benchmarks starts and does what it says, at a tiny size; no figure is looked at."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import pytest

from bench.__main__ import CASES, keep
from bench.case import Case, Result, Sample, Size
from bench.cases import pipeline
from bench.load import send_all
from bench.payload import BATCH, Sender, Traffic
from bench.peers import topics
from bench.processes import Running, family
from bench.reports import freshness, growth, journeys, month, whole_way
from bench.reports.paced import Bodies
from bench.reports.report import Length, Report, percentile
from bench.reports.site import Site, site_on
from bench.rounds import lines_of, record_of
from bench.servers import Servers, open_servers, until_listening
from cloudmetrics.embedded.kafka_server import fetch_jars, free_port
from core.errors import Misconfigured
from core.validation import Clock, verify_event

pytestmark = pytest.mark.slow

TINY = Size(seconds=0.2, events=300)


@pytest.fixture(scope="module")
async def servers() -> AsyncIterator[Servers]:
    try:
        fetch_jars()
    except Misconfigured as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    async with open_servers() as servers:
        await topics.create(servers.settings.kafka_brokers)
        yield servers


async def door(servers: Servers, module: str) -> tuple[int, Sender, Running]:
    _, sender = await servers.tenant()
    port = free_port()
    arguments = [] if module == "web" else [str(port)]
    environ = {"CLOUDMETRICS_PORT": str(port)} if module == "web" else {"BENCH_SECRET": sender.secret}
    running = servers.start(f"door-{port}", module, *arguments, **environ)
    await until_listening(port)
    return port, sender, running


@pytest.mark.parametrize("module", ["web", "bench.peers.stock_ingest", "bench.limits.validate_only"])
@pytest.mark.asyncio(loop_scope="module")
async def test_each_door_takes_what_is_signed_and_refuses_what_is_not(servers: Servers, module: str) -> None:
    port, sender, running = await door(servers, module)
    bodies = Traffic().batches(5)
    good = await send_all(port, sender.requests(bodies), seconds=20, connections=2)
    forged = Sender(sender.key_id, "cm_sk_another").requests(bodies)
    bad = await send_all(port, forged, seconds=20, connections=2)
    running.stop()
    assert (dict(good.statuses), dict(bad.statuses)) == ({202: 5}, {401: 5})
    with pytest.raises(RuntimeError, match="not only 202"):
        bad.checked()


@pytest.mark.asyncio(loop_scope="module")
async def test_ours_counts_what_the_log_was_filled_with(servers: Servers) -> None:
    async with pipeline.open_ours(servers, TINY, tenants=2) as line:
        before = await line.counted()
        sample = await line.measure()
        assert await line.counted() - before == TINY.events
        assert sample.rate > 0 and set(sample.cpu_us) == {"pipeline", "postgres", "valkey", "kafka"}
        line.worker.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_naive_worker_writes_every_event_with_what_it_looked_up(servers: Servers) -> None:
    async with pipeline.open_peer(servers, TINY) as line:
        await line.measure()
        connection = await asyncpg.connect(servers.database_url)
        found = await connection.fetchrow(
            "SELECT count(*) AS rows, count(*) FILTER (WHERE country <> '' AND browser <> '' AND page_path <> '') "
            "AS full FROM events WHERE key_id = 'peer'"
        )
        await connection.close()
        line.worker.stop()
    assert found["rows"] == found["full"] == pipeline.WARM_EVENTS + TINY.events


@pytest.mark.asyncio(loop_scope="module")
async def test_the_copy_limit_writes_new_rows_at_every_word(servers: Servers) -> None:
    limit = await pipeline.open_limit(servers, TINY)
    connection = await asyncpg.connect(servers.database_url)
    for round_ in (1, 2):
        await limit.measure()
        found = await connection.fetchval("SELECT count(*) FROM events WHERE key_id = 'key'")
        assert found == TINY.events * round_
    await connection.close()
    limit.running.stop()


def test_every_event_sent_has_an_id_of_its_own() -> None:
    bodies = Traffic().batches(120)
    ids = [event["id"] for body in bodies for event in json.loads(body)["events"]]
    assert len(set(ids)) == len(ids) == 120 * BATCH


def test_the_score_is_the_median_of_paired_ratios_with_best_and_worst(tmp_path: Path) -> None:
    case = Case("X1", "a title", 3.0, 2.5, CASES["I1"].open)
    pairs = [(Sample(rate, {"a": 1.0}), Sample(other, {"b": 2.0})) for rate, other in ((10, 10), (40, 20), (90, 10))]
    record = record_of(Result(case, pairs))
    assert (record["median"], record["best"], record["worst"], record["goal"], record["floor"]) == (2, 9, 1, 3.0, 2.5)
    assert "MISSES ITS FLOOR" in "\n".join(lines_of(Result(case, pairs)))
    path = tmp_path / "results.json"
    keep([record, {**record, "id": "X2"}], {"cpu": "one"}, path)
    keep([{**record, "median": 5}], {"cpu": "two"}, path)
    kept = json.loads(path.read_text())["results"]
    assert [(entry["id"], entry["median"], entry["machine"]["cpu"]) for entry in kept] == [
        ("X1", 5, "two"), ("X2", 2, "one"),
    ]  # fmt: skip


def test_cpu_time_and_memory_are_those_of_a_process_and_its_children() -> None:
    burn = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))']); input()"
    process = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE)
    running = Running("burn", process)
    while running.cpu_seconds() < 0.05 and process.poll() is None:
        pass
    assert running.memory_bytes() > 2**20 and process.pid in family(process.pid)
    running.stop()


def test_an_unknown_id_is_refused_with_the_known_ones() -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "Z9"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "unknown Z9" in done.stderr and "I1, I2, P1, P2" in done.stderr


def test_bodies_of_a_paced_load_are_good_and_no_id_comes_twice() -> None:
    bodies = Bodies(variants=3)
    events = [event for _ in range(40) for event in json.loads(bodies.next())["events"]]
    assert len({UUID(event["id"]) for event in events}) == len(events) == 40 * BATCH
    assert all(UUID(event["id"]).version == 7 for event in events)
    clock = Clock.of(int(time.time() * 1000), None, is_historical=False)
    assert all(verify_event(msgspec.Raw(json.dumps(event).encode()), clock) for event in events)


@pytest.mark.parametrize(("values", "share", "expected"), [([], 0.5, 0), ([3, 1, 2], 0.5, 2), ([1, 2, 3, 4], 0.99, 4)])
def test_percentiles_are_values_that_were_seen(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@pytest.fixture(scope="module")
async def site(servers: Servers) -> AsyncIterator[Site]:
    async with site_on(servers, 2) as site:
        yield site


@pytest.mark.asyncio(loop_scope="module")
async def test_the_whole_way_is_told_step_by_step_and_to_its_end(site: Site) -> None:
    said: list[str] = []
    found = await whole_way.measure(site, Length(minutes=0.05, step_seconds=1.5), said.append)
    assert found["accepted"] > 0 and len(found["steps"]) == 2 and len(said) == 5
    assert await site.counted() == found["accepted"] and json.dumps(found)


@pytest.mark.asyncio(loop_scope="module")
async def test_how_fresh_a_rollup_and_a_frame_are_is_told(site: Site) -> None:
    said: list[str] = []
    found = await freshness.measure(site, Length(minutes=0.02), said.append)
    assert 0 < found["rollup"]["p50"] <= found["rollup"]["p99"] and found["frame"]["p50"] > 0 and len(said) == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_growth_is_measured_beside_stored_events(servers: Servers) -> None:
    said: list[str] = []
    found = await growth.by_stored(servers, Length(stored_events=10_000, counted_events=300), said.append)
    assert [line["stored"] for line in found] == [10_000] and len(said) == 1


@pytest.mark.parametrize("id", ["Q1", "Q1-node", "Q2", "Q3"])
@pytest.mark.asyncio(loop_scope="module")
async def test_each_side_answers_screens(id: str) -> None:
    async with CASES[id].open(Size(seconds=0.5)) as sides:
        assert (await sides.ours()).rate > 0
        assert (await sides.other()).rate > 0


@pytest.mark.parametrize("report", [month.Q4, journeys.Q5])
@pytest.mark.asyncio(loop_scope="module")
async def test_what_stands_beside_counts_the_same_over_stored_events(report: Report) -> None:
    said: list[str] = []
    found = await report.run(Length(stored_events=20_000), said.append)
    assert found["events"] == 20_000 and said
