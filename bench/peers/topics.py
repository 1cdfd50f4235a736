"""The topics that the peers use, made as their operators would make them."""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

EVENTS = "peer.events"
BATCHES = "peer.batches"
PARTITIONS = 4


async def create(brokers: str) -> None:
    """Both topics; once a broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(EVENTS, PARTITIONS, 1), NewTopic(BATCHES, 1, 1)])
    finally:
        await admin.close()
