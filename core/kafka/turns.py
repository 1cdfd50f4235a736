"""Taking fairly from what Kafka's client has fetched: it hands out the first partition's records until they are used
up, which may be a thousand requests of one tenant."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

# A poll is shared by so many partitions, if so many have something; whoever is alone gets all of it.
SHARES = 5


class Turns:
    """Whose turn it is: nobody is served twice while somebody waits."""

    def __init__(self) -> None:
        self._served: set[TopicPartition] = set()

    async def take(
        self, consumer: AIOKafkaConsumer, *, most: int, wait_seconds: float
    ) -> dict[TopicPartition, list[Any]]:
        """At most so many messages, in order within each partition; {} when none came in time."""
        taken: dict[TopicPartition, list[Any]] = {}
        share, room = max(1, most // SHARES), most
        while room:
            waiting = [place for place in consumer.assignment() if place not in self._served]
            found = await consumer.getmany(*waiting, timeout_ms=0, max_records=min(share, room)) if waiting else {}
            if not found and self._served:
                # Nobody else has anything: a new round.
                self._served.clear()
                continue
            if not found and not taken:
                found = await consumer.getmany(timeout_ms=int(wait_seconds * 1000), max_records=min(share, room))
            if not found:
                break
            for place, messages in found.items():
                taken.setdefault(place, []).extend(messages)
                room -= len(messages)
                self._served.add(place)
        return taken
