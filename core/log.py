"""Which event log a process uses: Kafka where brokers are set, else Valkey Streams."""

from __future__ import annotations

from core.eventlog import EventLog
from core.kafka.log import KafkaLog
from core.settings import Settings
from core.valkey_log import ValkeyLog


def open_log(settings: Settings) -> EventLog:
    """The log; it needs no server to be there yet."""
    if settings.kafka_brokers:
        return KafkaLog(
            settings.kafka_brokers,
            partitions=settings.log_partitions,
            replication=settings.kafka_replication,
            retention_hours=settings.log_retention_hours,
        )
    return ValkeyLog(
        settings.redis_url,
        max_bytes=settings.log_max_bytes,
        retention_hours=settings.log_retention_hours,
        partitions=settings.log_partitions,
    )
