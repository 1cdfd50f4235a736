"""Limit of Q3: the rows of the screen in one fetch, an array_agg for each chart, encoded as JSON. No door, no plan, no
totals. Started by the runner as `python -m bench.limits.array_agg`: says `ready`, and for each line it reads, a number
of screens, says how many seconds they took and how many of the processor's.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec
import uvloop

from bench.dashboard import POINTS, WIDGETS

TYPES = {"pageviews": ["page_view"], "requests": ["http_request"], "bytes_sent": ["http_request"]}
VALUES = {"bytes_sent": "sum(bytes)::bigint", "error_rate": "sum(errors)::float8 / sum(count)"}
CHART = """
(SELECT array_agg(v ORDER BY bucket) FROM (
    SELECT bucket, {value} AS v FROM rollup_1m
    WHERE tenant_id = $1 AND dimension = '{dimension}' AND bucket >= $2 AND bucket < $3 {conditions}
    GROUP BY bucket) AS chart)
"""


def chart(metric: str, where: tuple[str, str] | None) -> str:
    types = ["http_request"] if metric == "error_rate" else TYPES.get(metric)
    conditions = f"AND is_bot = {'true' if metric == 'bot_events' else 'false'}"
    if types:
        conditions += f" AND type = '{types[0]}'"
    if where:
        conditions += f" AND value = '{where[1]}'"
    value = VALUES.get(metric, "sum(count)::bigint")
    return CHART.format(value=value, dimension=where[0] if where else "", conditions=conditions)


SCREEN = "SELECT " + ", ".join(chart(metric, where) for _, metric, where in WIDGETS)


async def main() -> None:
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    tenant_id, encoder, number = UUID(os.environ["BENCH_TENANT"]), msgspec.json.Encoder(), 0
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        started, cpu = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            number += 1
            end = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5 + number % 1440)
            start = end - timedelta(minutes=POINTS)
            stamps = [int(start.timestamp() * 1000) + n * 60_000 for n in range(POINTS)]
            (row,) = await connection.fetch(SCREEN, tenant_id, start, end)
            body = encoder.encode([{"timestamps": stamps, "values": values} for values in row])
            assert len(row[0]) == POINTS and len(body) > 10_000
        print(time.perf_counter() - started, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    uvloop.run(main())
