"""Peer of P2: a worker as it is usually written. json.loads, a user agent parsed anew for every event, one
INSERT ... ON CONFLICT an event by executemany for 100 at a time. No rollups, no ledger, no quarantine.

Started by the runner as `python -m bench.peers.naive_worker`. It reads records of 100 events, so that it does not pay
for a record an event, writes the product's own table, past row security, and commits its offsets to Kafka.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import maxminddb
import ua_parser
import uvloop
from aiokafka import AIOKafkaConsumer

TOPIC = "peer.batches"
INSERT = """
INSERT INTO events (tenant_id, retention_class, ts, id, received_at, type, key_id, visitor, session_id, user_id,
    anonymous_id, page_path, referrer_host, country, device, browser, os, method, status, duration_ms, bytes, is_bot,
    details)
VALUES ($1, 'self_hosted', $2, $3, now(), $4, 'peer', $5, $6, $7, '', $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
    false, $18)
ON CONFLICT DO NOTHING
"""


def row_of(event: dict[str, Any], tenant_id: UUID, geo: maxminddb.Reader) -> tuple[Any, ...]:
    context, properties = event["context"], event["properties"]
    agent = ua_parser.parse(context["user_agent"])
    place: Any = geo.get(context["ip"]) or {}
    return (
        tenant_id, datetime.fromisoformat(event["timestamp"]).astimezone(UTC), UUID(event["id"]), event["type"],
        hash(event["user_id"]), event["session_id"], event["user_id"], urlsplit(context["page_url"]).path,
        urlsplit(context["referrer"]).hostname or "", place.get("country", {}).get("iso_code", ""),
        agent.device.family if agent.device else "", agent.user_agent.family if agent.user_agent else "",
        agent.os.family if agent.os else "", properties.get("method", ""), properties.get("status"),
        properties.get("duration_ms"), properties.get("bytes"), json.dumps(event),
    )  # fmt: skip


async def main() -> None:
    geo = maxminddb.open_database(os.environ["CLOUDMETRICS_GEO_DATABASE"])
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE"])
    tenant_id = UUID(os.environ["BENCH_TENANT"])
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=os.environ["CLOUDMETRICS_KAFKA_BROKERS"], group_id="peer", enable_auto_commit=False,
        auto_offset_reset="earliest",
    )  # fmt: skip
    await consumer.start()
    while True:
        for messages in (await consumer.getmany(timeout_ms=500, max_records=50)).values():
            for message in messages:
                events = json.loads(message.value)["events"]
                await connection.executemany(INSERT, [row_of(event, tenant_id, geo) for event in events])
            await consumer.commit()


if __name__ == "__main__":
    uvloop.run(main())
