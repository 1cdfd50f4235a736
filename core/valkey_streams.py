"""Streams as the log uses them: their names, their entries' ids, and what a failing server looks like."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import OutOfMemoryError, ResponseError

from core.errors import LogFull, LogUnavailable
from core.eventlog import Offset, Partition, Record
from core.valkey import VALKEY_AWAY

PREFIX = "cm:log:"
# The name of every partition there is.
TOPICS = "cm:log-topics"
# Told of each new topic: consumers wait on it beside their streams, so that a topic's first record waits for nobody.
TOPIC_NEWS = "cm:log-topics:news"
NEWS_LENGTH = 100
START = "0-0"


def name_of(partition: Partition) -> str:
    """A partition as its stream and its lease are called; the first one as its topic."""
    return f"{partition.topic}#{partition.number}" if partition.number else partition.topic


def partition_named(name: str) -> Partition:
    topic, _, number = name.partition("#")
    return Partition(topic, int(number or 0))


def stream_of(partition: Partition) -> str:
    return PREFIX + name_of(partition)


def before(entry: str) -> str:
    """The entry id just below this one."""
    milliseconds, sequence = entry.split("-")
    if int(sequence) > 0:
        return f"{milliseconds}-{int(sequence) - 1}"
    return f"{max(int(milliseconds) - 1, 0)}-{2**64 - 1 if int(milliseconds) else 0}"


def after(entry: str) -> str:
    """The entry id just above this one."""
    milliseconds, sequence = entry_key(entry)
    return f"{milliseconds}-{sequence + 1}"


def entry_key(entry: str) -> tuple[int, int]:
    """An entry id as something that compares."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


def records_of(answer: Any) -> tuple[list[Record], str | None]:
    """The records of an answer to XREAD, in either form that redis-py gives it; and the last word of new topics."""
    streams = answer.items() if isinstance(answer, dict) else (answer or [])
    records: list[Record] = []
    news = None
    for stream, batches in streams:
        entries = batches[0] if batches and isinstance(batches[0], list) else batches
        name = stream.decode()
        if name == TOPIC_NEWS:
            news = entries[-1][0].decode()
            continue
        partition = partition_named(name.removeprefix(PREFIX))
        for entry, fields in entries:
            offset = entry.decode()
            records.append(Record(partition, Offset(offset), Offset(after(offset)), fields[b"k"], fields[b"v"]))
    return records, news


async def groups_of(client: Any, stream: str) -> dict[str, dict[str, Any]]:
    """What the server knows of each group of a stream; none for a stream that is not there."""
    try:
        return {info["name"].decode(): info for info in await client.xinfo_groups(stream)}
    except ResponseError:
        return {}


async def partitions_of(client: Any, topics: re.Pattern[str] | None = None) -> list[Partition]:
    """The partitions of all topics, or of those that match."""
    known = sorted(partition_named(member.decode()) for member in await client.smembers(TOPICS))
    return [partition for partition in known if topics is None or topics.fullmatch(partition.topic)]


@asynccontextmanager
async def log_errors() -> AsyncIterator[None]:
    """Turns what the client raises into errors of the log."""
    try:
        yield
    except OutOfMemoryError as error:
        raise LogFull(retry_after=5.0) from error
    except VALKEY_AWAY as error:
        raise LogUnavailable(retry_after=1.0) from error
