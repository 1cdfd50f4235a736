"""Appending many records: together, since each waits for the log's disk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from core.eventlog import EventLog

# A log refuses more than it can hold in flight, and others append as well.
AT_ONCE = 100


async def append_all(log: EventLog, records: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Appends records (topic, key, value), begun in their order; returns when all are stored.

    Raises:
        LogUnavailable, LogFull: some are not known to be stored; which, nobody can say.
    """
    for at in range(0, len(records), AT_ONCE):
        appends = [log.append(*record) for record in records[at : at + AT_ONCE]]
        for outcome in await asyncio.gather(*appends, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
