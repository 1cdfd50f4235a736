"""`export_audit_log`: a tenant's audit trail as lines of JSON or CSV, in the order of the chain.

An entry bears its hash and the one before it; `docs/audit.md` says how a reader checks them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from core import failpoints
from core.audit_chain import ChainedEntry
from core.audit_trail import AuditFilter, in_order
from core.csv_cells import csv_lines
from pipeline.jobs.lease import Lease
from pipeline.jobs.runner import JobParts
from pipeline.jobs.tenant_export import check_room, finished, require_tenant

CSV, JSON_LINES = "csv", "json_lines"
SUFFIXES = {CSV: ".csv", JSON_LINES: ".jsonl"}
COLUMNS = ("sequence", "id", "at", "actor", "action", "subject", "diff", "request_id", "previous_hash", "hash")
BEFORE_ALL = -(2**63)


class Place(msgspec.Struct, frozen=True):
    """Where an export is: behind which entry, in whose file (each worker has its own), and how long that was then."""

    sequence: int = BEFORE_ALL
    id: UUID = UUID(int=0)
    bytes: int = 0
    rows: int = 0
    holder: str = ""


async def export_audit_log(lease: Lease, parts: JobParts) -> Mapping[str, Any]:
    """Does the job.

    Raises:
        JobFailed: the tenant is to be deleted, or there is no room.
    """
    job, place = lease.job, msgspec.convert(lease.job.place, Place)
    await require_tenant(parts, job)
    form, wanted = job.arguments["format"], filter_of(job.arguments)
    folder = parts.folder.work(job.tenant_id, job.id)
    work = folder / f"entries.{lease.holder}"
    await asyncio.to_thread(_begin, work, folder / f"entries.{place.holder}", place.bytes, form)
    async for bite in in_order(parts.database, job.tenant_id, (place.sequence, place.id)):
        check_room(work.parent, place.bytes)
        kept = [entry for entry in bite if wanted.matches(entry)]
        size = await asyncio.to_thread(_append, work, kept, form)
        place = Place(bite[-1].sequence, bite[-1].id, size, place.rows + len(kept), lease.holder)
        await lease.note(0.5, f"{place.rows} entries", msgspec.to_builtins(place))
        failpoints.reached("export_part")
    await require_tenant(parts, job)
    target = parts.folder.file(job.tenant_id, job.id, f".{lease.holder}{SUFFIXES[form]}")
    return await asyncio.to_thread(finished, work, target, {"audit_log": place.rows})


def filter_of(arguments: Mapping[str, Any]) -> AuditFilter:
    """The filter that the job was asked with."""
    moments = {
        name: datetime.fromisoformat(arguments[key]) if arguments.get(key) else None
        for name, key in (("from_", "from"), ("to", "to"))
    }
    return AuditFilter(arguments.get("actor"), arguments.get("action"), arguments.get("subject"), **moments)


def _begin(path: Path, former: Path, size: int, form: str) -> None:
    """A file of this worker's with what the former one had when the place was noted; what it wrote after that comes
    again."""
    if size:
        shutil.copyfile(former, path)
    with open(path, "ab") as file:
        file.truncate(size)
        if size == 0 and form == CSV:
            file.write(csv_lines([COLUMNS]).encode())


def _append(path: Path, entries: Sequence[ChainedEntry], form: str) -> int:
    with open(path, "ab") as file:
        file.write(text_of(entries, form).encode())
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def text_of(entries: Sequence[ChainedEntry], form: str) -> str:
    """Entries as lines of a form."""
    rows = [_cells(entry) for entry in entries]
    if form == CSV:
        return csv_lines(rows)
    lines = (dict(zip(COLUMNS, row, strict=True)) | {"diff": msgspec.Raw(str(row[6]).encode())} for row in rows)
    return "".join(f"{msgspec.json.encode(line).decode()}\n" for line in lines)


def _cells(entry: ChainedEntry) -> tuple[object, ...]:
    return (
        entry.sequence, str(entry.id), entry.at.isoformat(), entry.actor, entry.action, entry.subject, entry.diff,
        entry.request_id, entry.previous_hash.hex(), entry.hash.hex(),
    )  # fmt: skip
