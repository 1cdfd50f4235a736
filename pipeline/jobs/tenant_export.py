"""`export_tenant`: everything of a tenant as compressed lines of JSON in one archive; a manifest has counts and sums.

Parts are written one after the other; each is on the disk before the job's place moves behind it, so that whoever goes
on after a kill begins with the part that was under way. The parts lie beside each other until all are there.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from core import failpoints
from core.audit_trail import read_head
from core.jobs import Job
from core.tenant_ends import is_here_to_stay
from pipeline.jobs.lease import Lease
from pipeline.jobs.runner import JobFailed, JobParts
from pipeline.jobs.tables import LEFT_OUT, Table, tables_of

SUFFIX = ".zip"
PART_ROWS = 20_000
PART_BYTES = 32 * 1024 * 1024
# Free space that an export leaves to others.
SPARE_BYTES = 512 * 1024 * 1024
# What one export may take; more is fetched by the API, in pieces.
MAX_BYTES = 64 * 1024**3
COPY_BYTES = 1024 * 1024
FORMAT = "cloudmetrics-export-1"


class Place(msgspec.Struct, frozen=True):
    """Where an export is: so many tables are done, and of the next one the rows up to `after`. `written`: which worker
    wrote the parts up to which number; each has files of its own."""

    tables: int = 0
    after: list[str] | None = None
    written: list[tuple[str, int]] = []
    rows: int = 0
    bytes: int = 0

    @property
    def parts(self) -> int:
        """How many there are."""
        return self.written[-1][1] if self.written else 0

    def with_part(self, holder: str) -> list[tuple[str, int]]:
        """Who has written what, once this worker has written one more."""
        former = self.written[:-1] if self.written and self.written[-1][0] == holder else self.written
        return [*former, (holder, self.parts + 1)]

    def names(self) -> list[str]:
        """The names of all parts, in their order, without an ending."""
        numbers = range(1, self.parts + 1)
        return [
            part_name(number, next(holder for holder, last in self.written if number <= last)) for number in numbers
        ]


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the archive: lines of one table."""

    table: str
    name: str
    rows: int
    bytes: int
    sha256: str


def part_name(number: int, holder: str) -> str:
    return f"{number:06}.{holder}"


async def export_tenant(lease: Lease, parts: JobParts) -> Mapping[str, Any]:
    """Does the job.

    Raises:
        JobFailed: the tenant is to be deleted, or there is no room.
    """
    job = lease.job
    await require_tenant(parts, job)
    unwanted = set() if job.arguments.get("include_events", True) else {"events"}
    tables = [table for table in await tables_of(parts.database, job.tenant_id) if table.name not in unwanted]
    place = msgspec.convert(job.place, Place)
    folder = parts.folder.work(job.tenant_id, job.id)
    while place.tables < len(tables):
        check_room(folder, place.bytes)
        place = await _write_part(lease, parts, tables, place, folder)
        failpoints.reached("export_part")
    await lease.note(0.95, "packing the archive", msgspec.to_builtins(place))
    secrets = {table.name: ", ".join(table.left_out) for table in tables if table.left_out}
    head = await read_head(parts.database, job.tenant_id)
    manifest = {
        "format": FORMAT,
        "tenant": {"id": str(job.tenant_id)},
        "made_at": datetime.now(UTC).isoformat(),
        "audit_head": {"sequence": head.sequence, "hash": head.hash.hex()} if head else None,
        "left_out": LEFT_OUT | dict.fromkeys(unwanted, "not asked for") | secrets,
    }
    target = parts.folder.file(job.tenant_id, job.id, f".{lease.holder}{SUFFIX}")
    names = [table.name for table in tables]
    result = await asyncio.to_thread(_pack, folder, place.names(), manifest, names, target)
    # It may have been asked to end while the archive was packed: then there is nothing to hand out.
    await require_tenant(parts, job)
    return result


async def require_tenant(parts: JobParts, job: Job) -> None:
    """Asked at the start and at the end of every export."""
    if not await is_here_to_stay(parts.database, job.tenant_id):
        raise JobFailed("The tenant is to be deleted; restore it first.")


def check_room(folder: Path, taken: int) -> None:
    """Refuses to fill the disk, or to go on without end."""
    if taken > MAX_BYTES:
        raise JobFailed(f"The export is larger than {MAX_BYTES // 1024**3} GiB; read events by the API, in ranges.")
    # The archive is a second copy of what is there.
    if shutil.disk_usage(folder).free < SPARE_BYTES + taken:
        raise JobFailed("There is no room on the disk of the exports; tell the operator, and ask again.")


async def _write_part(lease: Lease, parts: JobParts, tables: list[Table], place: Place, folder: Path) -> Place:
    """The next part of the table whose turn it is; where the export stands then."""
    table, after = tables[place.tables], place.after
    name, size, rows = part_name(place.parts + 1, lease.holder), 0, 0
    path = folder / f"{name}.jsonl.gz"
    with open(path, "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
        while True:
            found = await table.read(parts.database, lease.job.tenant_id, after)
            after = found.place
            text = "".join(f"{line}\n" for line in found.lines).encode()
            rows += len(found.lines)
            size += len(text)
            await asyncio.to_thread(packed.write, text)
            if after is None or rows >= PART_ROWS or size >= PART_BYTES:
                break
    part = await asyncio.to_thread(_finish_part, path, table.name, rows)
    (folder / f"{name}.json").write_bytes(msgspec.json.encode(part))
    done = place.tables + (after is None)
    moved = Place(done, after, place.with_part(lease.holder), place.rows + rows, place.bytes + part.bytes)
    share = (done + (0.5 if after else 0.0)) / len(tables)
    await lease.note(0.9 * share, f"{moved.rows} rows, at {table.name}", msgspec.to_builtins(moved))
    return moved


def _finish_part(path: Path, table: str, rows: int) -> Part:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    return Part(table, f"{table}/{path.name.partition('.')[0]}.jsonl.gz", rows, size, digest)


def _pack(folder: Path, names: list[str], manifest: dict[str, Any], tables: list[str], target: Path) -> dict[str, Any]:
    """Packs parts and manifest, whole or not at all; what the job's result says."""
    found = [msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Part) for name in names]
    rows = dict.fromkeys(tables, 0)
    for part in found:
        rows[part.table] += part.rows
    text = msgspec.json.format(msgspec.json.encode({**manifest, "rows": rows, "files": found}), indent=1)
    fresh = target.with_suffix(".new")
    with zipfile.ZipFile(fresh, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("manifest.json", text)
        for name, part in zip(names, found, strict=True):
            if part.rows:
                archive.write(folder / f"{name}.jsonl.gz", part.name)
    return finished(fresh, target, rows)


def finished(fresh: Path, target: Path, rows: Mapping[str, int]) -> dict[str, Any]:
    """A file put in its place, and what is told of it."""
    with open(fresh, "rb+") as file:
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    os.chmod(fresh, 0o600)
    os.replace(fresh, target)
    return {"file": target.name, "bytes": size, "sha256": digest, "rows": dict(rows)}
