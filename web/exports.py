"""`GET /exports/{token}`: the file of an export, by a signed link; whole, or one range of it (RFC 9110, 14).

The link is the credential: it is good for one file for ten minutes. Its job and its tenant are asked for each time, so
that a link dies with either. Several ranges are refused: made of thousands, they cost more than the file.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from core.audit import Author, audit
from core.errors import CloudMetricsError, InvalidRequest, NotFound, TooMany, Unauthenticated
from core.exports import ExportFolder, ExportLinks, Link, saved_name, unknown_link
from core.jobs import Job, find_jobs
from core.networks import network_of
from core.queries import named
from core.tenancy import TenantId
from core.tenant_ends import is_here_to_stay
from web.auth.strangers import refuse_stranger
from web.crowd import Crowd
from web.errors import request_id_of
from web.http_protocol import abort_of, until_gone
from web.peer import client_address
from web.services import Services
from web.sockets import SEND_SECONDS

CHUNK_BYTES = 256 * 1024
# Of one file, by whatever links.
REQUESTS_PER_MINUTE = 60
MAX_TOLD = 10_000
FIND_DOWNLOAD = named("audit", "find_download")
LOCK_DOWNLOADS = named("audit", "lock_downloads")
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
        self._crowd = Crowd(what="downloads", remedy="wait until one has ended")
        # Links whose entry is written; one that is forgotten here costs a look into the trail.
        self._told: OrderedDict[Link, None] = OrderedDict()

    async def get(self, request: Request) -> Response:
        """The file, or why not; HEAD is the same without it.

        Raises:
            NotFound: the link is unknown or has ended, or its file is gone; told apart nowhere.
            InvalidRequest: 416, not one range of the file.
            TooMany: requests for one file, or downloads at once.
        """
        places = ExitStack()
        try:
            places.enter_context(self._crowd.arrived(network_of(client_address(request, self._services.settings))))
            return await self._answer(request, places)
        except BaseException:
            places.close()
            raise

    async def _answer(self, request: Request, places: ExitStack) -> Response:
        try:
            link = self._links.read(request.path_params["token"], time.time())
            await self._take(request, link)
            file, job = await self._file_of(link, places)
        except NotFound as refusal:
            raise await self._refused(request, refusal) from None
        places.enter_context(self._crowd.known(TenantId(link.tenant_id)))
        path, size, etag = Path(file.name), os.fstat(file.fileno()).st_size, f'"{job.result["sha256"]}"'
        span = span_of(request.headers.get("range", ""), request.headers.get("if-range", ""), etag, size)
        headers = {
            "Content-Length": str(span.end - span.start),
            "Content-Disposition": f'attachment; filename="{saved_name(link.job_id, path.name)}"',
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
            places.close()
            return Response(status_code=status, headers=headers, media_type=media)
        await self._tell(link, request_id_of(request.scope))
        return Download(file, span, places, status_code=status, headers=headers, media_type=media)

    async def _take(self, request: Request, link: Link) -> None:
        """One token of the file's bucket: each request costs the database what any costs. Raises TooMany."""
        allowance = await self._services.limiter.take(f"export:{link.job_id}", REQUESTS_PER_MINUTE)
        request.state.headers |= allowance.headers()
        if not allowance.is_allowed:
            raise TooMany(
                f"More than {allowance.limit} requests a minute for this file; wait {allowance.retry_after:.1f} s, and "
                "ask for larger ranges.",
                retry_after=allowance.retry_after,
            )

    async def _tell(self, link: Link, request_id: str) -> None:
        """The one entry of a link in the trail, before the first byte of its file is sent."""
        if link in self._told:
            return
        author, subject = Author(TenantId(link.tenant_id), "link", request_id), str(link.job_id)
        async with self._services.database.as_tenant(author.tenant_id, is_write=True) as session:
            # Who asks for many ranges asks for them at once, and of several processes.
            await session.execute(LOCK_DOWNLOADS, subject)
            if await session.fetchrow(FIND_DOWNLOAD, subject, link.ends_at) is None:
                await audit(session, author, "export.download", subject, {"link_ends_at": link.ends_at})
        self._told[link] = None
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)

    async def _file_of(self, link: Link, places: ExitStack) -> tuple[BufferedReader, Job]:
        """A link's file, opened, and closed with the places."""
        database, tenant_id = self._services.database, TenantId(link.tenant_id)
        (job,) = await find_jobs(database, tenant_id, [link.job_id])
        if job is None or job.expires_at is None or job.expires_at <= datetime.now(UTC):
            raise unknown_link()
        if not await is_here_to_stay(database, tenant_id):
            raise unknown_link()
        path = self._folder.finished(link.tenant_id, link.job_id, str(job.result["file"]))
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except (FileNotFoundError, IsADirectoryError):
            raise unknown_link() from None
        places.callback(file.close)
        return file, job

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


class Download(Response):
    """A span of an open file. Whatever ends it, the file is closed and the places are given back."""

    def __init__(
        self, file: BufferedReader, span: Span, places: ExitStack, *, status_code: int, headers: dict[str, str],
        media_type: str,
    ) -> None:  # fmt: skip
        super().__init__(None, status_code, headers, media_type)
        self._file = file
        self._span = span
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._places:
            pump = asyncio.create_task(self._pump(scope, send))
            gone = asyncio.create_task(until_gone(receive))
            try:
                await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                pump.cancel()
                gone.cancel()
                await asyncio.gather(pump, gone, return_exceptions=True)
            if not pump.cancelled() and (error := pump.exception()) is not None:
                raise error

    async def _pump(self, scope: Scope, send: Send) -> None:
        """Read beside the loop, since a disk may be slow; a reader that takes nothing is cut off."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await asyncio.to_thread(self._file.seek, self._span.start)
            left = self._span.end - self._span.start
            while left and (chunk := await asyncio.to_thread(self._file.read, min(CHUNK_BYTES, left))):
                left -= len(chunk)
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            abort_of(scope)()
            # The server hears of it in the loop's next turn.
            await asyncio.sleep(0)
