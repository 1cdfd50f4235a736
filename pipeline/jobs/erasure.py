"""`delete_tenant`: everything of a tenant goes, and a proof stays that says what went and that nothing is left.

Every step may be done twice, and each counts what it removed in the transaction that removed it: whoever goes on after
a kill begins at the first step, and finds little to do.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from core import failpoints
from core.database import Database
from core.queries import named
from core.rollups import decode_update_list, encode_update_list
from core.topics import DEAD_TOPICS, ENRICHED_TOPICS, RAW_PREFIX, UPDATES_TOPICS, raw_topic
from pipeline.jobs.lease import Lease
from pipeline.jobs.runner import JobFailed, JobParts

log = logging.getLogger("pipeline")

BEGIN = named("tenant_ends", "begin_erasure")
LAST_TRANSACTION = named("tenant_ends", "last_transaction")
OLDEST_TRANSACTION = named("tenant_ends", "oldest_transaction")
LIST_TABLES = named("tenant_ends", "list_tables")
ERASE_ROWS = named("tenant_ends", "erase_rows")
FINISH = named("tenant_ends", "finish_erasure")
ERASE_PEOPLE = named("tenant_ends", "erase_people")
LIST_KEYS = named("tenant_ends", "list_keys")
LIST_UPDATES = named("tenant_ends", "list_updates")
REPLACE_UPDATE = named("tenant_ends", "replace_update")
FIND_OTHERS = named("tenant_ends", "find_others")
NOTE_OTHERS = named("tenant_ends", "note_others")

BITE = 10_000
# With these the last step ends: the job's own row, and the head that the proof is closed with.
LAST_TABLES = {"jobs", "audit_heads"}
SHARED_TOPICS = re.compile("|".join(p.pattern for p in (DEAD_TOPICS, ENRICHED_TOPICS, UPDATES_TOPICS)))
SHARED_AND_RAW = re.compile(f"{SHARED_TOPICS.pattern}|{re.escape(RAW_PREFIX)}")
# Transactions are bounded; one of somebody else's that is not is left to the sweep.
OLD_TRANSACTIONS_SECONDS = 45.0


async def delete_tenant(lease: Lease, parts: JobParts) -> None:
    """Does the job. It has no result: its own row goes with the rest.

    Raises:
        JobFailed: rows of another table stand in the way.
    """
    job, database = lease.job, parts.database
    async with database.as_writer() as session:
        await session.fetchrow(BEGIN, job.tenant_id, job.asked_by, job.asked_at)
    await lease.note(0.02, "waiting for transactions that are under way", {})
    await _until_older_ended(database)
    others = Counter({"export_files": await asyncio.to_thread(parts.folder.remove_tenant, job.tenant_id)})
    others["topics"] += int(await parts.log.delete_topic(raw_topic(job.tenant_id, "each")))
    await _erase_all_rows(lease, database)
    async with database.as_tenant(job.tenant_id) as session:
        api_keys = [row["id"] for row in await session.fetch(LIST_KEYS)]
    await lease.note(0.9, "removing what is in Valkey and in the log", {})
    others["valkey_keys"] += await parts.keys.remove([job.tenant_id], api_keys)
    others["worker_updates"] += await erase_updates(database, {job.tenant_id})
    await _note(parts, job.tenant_id, others)
    await _erase_api_keys(lease, database)
    failpoints.reached("before_erased")
    async with database.as_writer() as session:
        await session.fetchrow(FINISH, job.tenant_id)
    failpoints.reached("after_erased")
    await after_the_end(parts, job.tenant_id)
    log.info("tenant deleted", extra={"action": "delete_tenant", "tenant": str(job.tenant_id)})


async def after_the_end(parts: JobParts, tenant_id: UUID) -> None:
    """What goes once the rows are gone; what breaks off here is done by the sweep."""
    async with parts.database.as_writer() as session:
        await session.fetchrow(ERASE_PEOPLE, tenant_id)
    others = Counter({"topics": int(await parts.log.delete_topic(raw_topic(tenant_id, "each")))})
    forgotten = await parts.log.forget(SHARED_AND_RAW, tenant_id.bytes)
    others["log_records"] += forgotten.dropped
    others["valkey_keys"] += await parts.keys.remove([tenant_id])
    kept_until = datetime.now(UTC) + timedelta(hours=parts.settings.log_retention_hours)
    left = {
        "export_files_left": parts.folder.files(tenant_id),
        "valkey_keys_left": await parts.keys.count(tenant_id),
        "log_records_left": forgotten.remaining,
        "log_records_gone_by": None if forgotten.remaining == 0 else kept_until.isoformat(timespec="seconds"),
    }
    await _note(parts, tenant_id, others, left)


async def _until_older_ended(database: Database) -> None:
    """A transaction that began before the tenant was marked as going may count events of it still; none that begins
    later does."""
    async with database.as_writer() as session:
        row = await session.fetchrow(LAST_TRANSACTION)
    last, end = int(row["number"]) if row else 0, time.monotonic() + OLD_TRANSACTIONS_SECONDS
    while time.monotonic() < end:
        async with database.as_writer() as session:
            row = await session.fetchrow(OLDEST_TRANSACTION)
        if row is not None and row["number"] >= last:
            return
        await asyncio.sleep(0.2)


async def _erase_all_rows(lease: Lease, database: Database) -> None:
    """Bite by bite, tables that refer to others before these; one that is still referred to comes again."""
    async with database.as_writer() as session:
        names = [row["name"] for row in await session.fetch(LIST_TABLES)]
    # Keys are asked for once more; see `_erase_api_keys`.
    waiting = [name for name in names if name not in LAST_TABLES | {"api_keys"}]
    total, rows = len(waiting), 0
    while waiting:
        blocked = []
        for name in waiting:
            if (removed := await _erase_table(lease, database, name, 0.05 + 0.8 * (1 - len(waiting) / total))) is None:
                blocked.append(name)
            rows += removed or 0
        if len(blocked) == len(waiting):
            raise JobFailed(f"rows of {', '.join(blocked)} are referred to by rows that are not the tenant's")
        waiting = blocked


async def _erase_table(lease: Lease, database: Database, name: str, progress: float) -> int | None:
    """How many rows went; None while others refer to them."""
    total = 0
    while True:
        async with database.as_writer() as session:
            row = await session.fetchrow(ERASE_ROWS, lease.job.tenant_id, name, BITE)
        removed = int(row["removed"]) if row else 0
        if removed < 0:
            return None
        total += removed
        await lease.note(progress, f"{total} rows of {name}", {})
        if removed:
            failpoints.reached("erase_bite")
        if removed < BITE:
            return total


async def _erase_api_keys(lease: Lease, database: Database) -> None:
    """Last of the rows: from them it is known which buckets in Valkey are the tenant's."""
    if await _erase_table(lease, database, "api_keys", 0.93) is None:
        raise JobFailed("rows of api_keys are referred to by rows that are not the tenant's")


async def erase_updates(database: Database, tenant_ids: set[UUID]) -> int:
    """Takes tenants out of what the aggregate workers said last; of how many partitions."""
    changed = 0
    async with database.as_writer() as session:
        for row in await session.fetch(LIST_UPDATES):
            updates = decode_update_list(row["last_update"])
            kept = [update for update in updates if update.tenant_id not in tenant_ids]
            if len(kept) < len(updates):
                place = (row["consumer"], row["topic"], row["partition"])
                await session.execute(REPLACE_UPDATE, *place, encode_update_list(kept))
                changed += 1
    return changed


async def _note(
    parts: JobParts, tenant_id: UUID, removed: Mapping[str, int], left: Mapping[str, Any] | None = None
) -> None:
    """Adds to what the proof says was removed beside rows."""
    async with parts.database.as_writer() as session:
        row = await session.fetchrow(FIND_OTHERS, tenant_id)
        others = msgspec.json.decode(row["others"]) if row else {}
        added = {name: others.get(name, 0) + count for name, count in removed.items()}
        text = msgspec.json.encode({**others, **added, **(left or {})}).decode()
        await session.execute(NOTE_OTHERS, tenant_id, text)
