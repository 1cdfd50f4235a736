"""A range of a file is one range within it, or none; a link costs little, whoever uses it and however."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from core.errors import InvalidRequest
from core.exports import ExportLinks, Link
from core.settings import Settings
from core.tenancy import Tenant
from tests.web.serving import Serving, serving
from web import exports
from web.exports import Span, span_of

ETAG = '"abc"'


@pytest.mark.parametrize(
    "header, start, end",
    [("bytes=0-0", 0, 1), ("bytes=0-", 0, 100), ("bytes=10-19", 10, 20), ("bytes=90-1000", 90, 100),
     ("bytes=-5", 95, 100), ("bytes=-1000", 0, 100)],
)  # fmt: skip
def test_one_range_is_cut_to_the_file(header: str, start: int, end: int) -> None:
    assert span_of(header, "", ETAG, 100) == Span(start, end, is_part=True)
    assert span_of(header, ETAG, ETAG, 100) == Span(start, end, is_part=True)


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,3-4", "bytes=" + ",".join(f"{n}-{n}" for n in range(10_000)), "bytes=100-", "bytes=5-4", "bytes=-0",
     "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1 ,", "bytes=" + "9" * 30 + "-", "0-1"],
)  # fmt: skip
def test_anything_else_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        span_of(header, "", ETAG, 100)
    assert (refusal.value.answer_status, refusal.value.code) == (416, "range_not_satisfiable")


def test_without_a_range_or_of_a_file_that_has_changed_all_is_sent() -> None:
    assert span_of("", "", ETAG, 100) == Span(0, 100, is_part=False)
    assert span_of("bytes=0-1", '"other"', ETAG, 100) == Span(0, 100, is_part=False)


@dataclass
class Export:
    """A finished export of a tenant, on a running server."""

    web: Serving
    tenant_id: UUID
    job_id: UUID
    file: Path
    links: ExportLinks
    superuser_url: str

    def link(self, seconds: int = 600) -> str:
        return self.links.sign(Link(self.tenant_id, self.job_id, int(time.time()) + seconds))

    async def sql(self, text: str, *args: object) -> Any:
        connection = await asyncpg.connect(self.superuser_url)
        try:
            return await connection.fetchval(text, *args)
        finally:
            await connection.close()

    async def entries(self) -> int:
        text = "SELECT count(*) FROM audit_log WHERE action = 'export.download' AND subject = $1"
        return int(await self.sql(text, str(self.job_id)))


@pytest.fixture
async def export(settings: Settings, superuser_url: str, tenant: Tenant, tmp_path: Path) -> AsyncIterator[Export]:
    job_id = uuid4()
    file = tmp_path / str(tenant.id) / f"{job_id}.csv"
    file.parent.mkdir()
    file.write_bytes(bytes(range(100)))
    links = ExportLinks(settings.master_key_bytes())
    async with serving(replace(settings, export_folder=str(tmp_path))) as web:
        made = Export(web, tenant.id, job_id, file, links, superuser_url)
        await made.sql(
            "INSERT INTO jobs (tenant_id, id, kind, state, asked_by, expires_at, result) "
            "VALUES ($1, $2, 'export_audit_log', 'done', 'test', now() + interval '1 day', "
            "jsonb_build_object('file', $3::text, 'sha256', 'abc'))",
            tenant.id,
            job_id,
            file.name,
        )
        yield made


async def test_many_ranges_of_a_link_are_one_entry_and_another_link_is_another(export: Export) -> None:
    link, other = export.link(), export.link(500)
    async with httpx2.AsyncClient(base_url=export.web.url, timeout=60) as http:
        asked = [http.get(link, headers={"Range": f"bytes={n}-{n}"}) for n in range(8)]
        answers = await asyncio.gather(*asked)
        assert [(answer.status_code, answer.content) for answer in answers] == [(206, bytes([n])) for n in range(8)]
        assert await export.entries() == 1
        assert (await http.get(other)).content == bytes(range(100))
        assert await export.entries() == 2


async def test_a_file_is_asked_for_so_often_by_whatever_links(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "REQUESTS_PER_MINUTE", 5)
    async with httpx2.AsyncClient(base_url=export.web.url, timeout=60) as http:
        answers = [await http.get(export.link(500 + n), headers={"Range": "bytes=0-0"}) for n in range(20)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert {answer.status_code for answer in answers} == {206, 429} and len(refused) >= 10
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


async def test_a_file_that_is_gone_is_an_unknown_link_and_one_that_goes_meanwhile_is_sent(
    export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = exports.audit

    async def remove_and_write(*args: Any) -> None:
        export.file.unlink()
        await write(*args)

    monkeypatch.setattr(exports, "audit", remove_and_write)
    async with httpx2.AsyncClient(base_url=export.web.url, timeout=60) as http:
        sent = await http.get(export.link())
        assert (sent.status_code, sent.content) == (200, bytes(range(100)))
        gone = await http.get(export.link())
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_a_reader_that_takes_nothing_is_cut_off(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "SEND_SECONDS", 0.3)
    size = 256 * 1024 * 1024
    with export.file.open("r+b") as file:
        file.truncate(size)
    reader, writer = await asyncio.open_connection("127.0.0.1", export.web.port, limit=1024)
    writer.write(f"GET {export.link()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    await writer.drain()
    await asyncio.sleep(3)
    got = 0
    try:
        while chunk := await reader.read(1024 * 1024):
            got += len(chunk)
    except ConnectionError:
        pass
    assert got < size
    writer.close()
