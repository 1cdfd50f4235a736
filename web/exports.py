"""`GET /exports/{token}`: the file of an export, by a signed link; whole, or one range of it (RFC 9110, 14).

The link is the credential: it is good for one file for ten minutes. Its job and its tenant are asked for each time, so
that a link dies with either. Several ranges are refused: made of thousands, they cost more than the file.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from core.audit import Author, audit
from core.errors import CloudMetricsError, InvalidRequest, NotFound, Unauthenticated
from core.exports import ExportFolder, ExportLinks, Link, unknown_link
from core.jobs import Job, find_jobs
from core.tenancy import TenantId
from core.tenant_ends import is_here_to_stay
from web.auth.strangers import refuse_stranger
from web.errors import request_id_of
from web.peer import client_address
from web.services import Services

CHUNK_BYTES = 256 * 1024
MEDIA = {".zip": "application/zip", ".csv": "text/csv; charset=utf-8", ".jsonl": "application/x-ndjson"}
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))")


@dataclass(frozen=True, slots=True)
class Span:
    """What of a file is sent: from `start` to before `end`."""

    start: int
    end: int
    is_part: bool


class ExportDownloads:
    """The endpoint."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._links = ExportLinks(services.settings.master_key_bytes())
        self._folder = ExportFolder(services.settings.export_folder)

    async def get(self, request: Request) -> Response:
        """The file, or why not; HEAD is the same without it.

        Raises:
            NotFound: the link is unknown or has ended, or its file is gone; told apart nowhere.
            InvalidRequest: 416, not one range of the file.
        """
        try:
            link = self._links.read(request.path_params["token"], time.time())
            path, job = await self._file_of(link)
        except NotFound as refusal:
            raise await self._refused(request, refusal) from None
        size, etag = path.stat().st_size, f'"{job.result["sha256"]}"'
        span = span_of(request.headers.get("range", ""), request.headers.get("if-range", ""), etag, size)
        if request.method == "GET":
            author = Author(TenantId(link.tenant_id), "link", request_id_of(request.scope))
            async with self._services.database.as_tenant(author.tenant_id, is_write=True) as session:
                await audit(session, author, "export.download", str(job.id), {"bytes": [span.start, span.end]})
        headers = {
            "Content-Length": str(span.end - span.start),
            "Content-Disposition": f'attachment; filename="{path.name}"',
            "Accept-Ranges": "bytes",
            "ETag": etag,
            # Whoever finds the link in a cache or in a log of another site must not have the file by it.
            "Cache-Control": "private, no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if span.is_part:
            headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{size}"
        status, media = (206 if span.is_part else 200), MEDIA[path.suffix]
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type=media)
        return StreamingResponse(_chunks(path, span), status, headers, media)

    async def _file_of(self, link: Link) -> tuple[Path, Job]:
        database, tenant_id = self._services.database, TenantId(link.tenant_id)
        (job,) = await find_jobs(database, tenant_id, [link.job_id])
        if job is None or job.expires_at is None or job.expires_at <= datetime.now(UTC):
            raise unknown_link()
        if not await is_here_to_stay(database, tenant_id):
            raise unknown_link()
        path = self._folder.file(link.tenant_id, link.job_id, Path(str(job.result["file"])).suffix)
        if not await asyncio.to_thread(path.is_file):
            raise unknown_link()
        return path, job

    async def _refused(self, request: Request, refusal: CloudMetricsError) -> CloudMetricsError:
        """The refusal, or that this address tried too many links."""
        address = client_address(request, self._services.settings)
        allowance, answer = await refuse_stranger(self._services.limiter, address, Unauthenticated())
        request.state.headers |= allowance.headers()
        return refusal if isinstance(answer, Unauthenticated) else answer


def span_of(header: str, if_range: str, etag: str, size: int) -> Span:
    """What of a file of `size` bytes a request asks for; all of it where the file is not the one it knows.

    Raises:
        InvalidRequest: 416, several ranges, or none of the file.
    """
    if not header or (if_range and if_range.strip() != etag):
        return Span(0, size, is_part=False)
    found = _RANGE.fullmatch(header.strip())
    if found is not None and found[3] is not None:
        start, end = max(0, size - int(found[3])), size
    elif found is not None:
        start, end = int(found[1]), min(size, int(found[2]) + 1) if found[2] else size
    else:
        start, end = 0, 0
    if start >= end:
        raise InvalidRequest(
            f"Range must be one range of the file's {size} bytes, such as bytes=0-1023.",
            code="range_not_satisfiable",
            field="range",
            status=416,
        )
    return Span(start, end, is_part=True)


async def _chunks(path: Path, span: Span) -> AsyncIterator[bytes]:
    """The bytes of a span; read beside the loop, since a disk may be slow."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        await asyncio.to_thread(file.seek, span.start)
        left = span.end - span.start
        while left and (chunk := await asyncio.to_thread(file.read, min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
    finally:
        file.close()
