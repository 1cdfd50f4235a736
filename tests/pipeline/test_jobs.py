"""Jobs are done once, whoever begins them and whoever is killed: exports hold all there is, deletions leave nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from core.audit import Author
from core.audit_trail import verify
from core.database import Database, as_owner
from core.errors import Conflict, LogUnavailable, NotFound, TooMany
from core.eventlog import EventLog, Offset, Partition
from core.exports import ExportFolder
from core.jobs import MAX_FILES, Job, JobKind, JobState, ask_export, cancel, find_jobs
from core.log import open_log
from core.queries import named, parse_blocks
from core.settings import Settings
from core.tenancy import Tenant
from core.tenant_ends import ask_deletion, list_erasures, restore
from core.tenant_keys import TenantKeys
from core.topics import raw_topic
from core.valkey_log import ValkeyLog
from pipeline.__main__ import HANDLERS
from pipeline.jobs.lease import Lease, LeaseLost
from pipeline.jobs.runner import MAX_ATTEMPTS, Handler, JobFailed, JobParts, JobRunner
from pipeline.jobs.upkeep import remove_old_files, sweep_erased
from pipeline.prepared import prepare
from pipeline.store import Store
from tests.conftest import ROOT, Servers
from tests.pipeline.builders import batch_of, enriched
from tests.pipeline.filled import Everything, filled

ON_BOTH_STORES = True
SECONDS = 60.0
BEGIN_ERASURE = named("tenant_ends", "begin_erasure")
STATEMENTS = parse_blocks(
    """-- end_leases()
-- As if every worker had been away for long.
UPDATE jobs SET leased_until = now() - interval '1 second' WHERE state = 'running';

-- age_files()
-- As if all files were past their time.
UPDATE jobs SET expires_at = now() - interval '1 second' WHERE expires_at IS NOT NULL;
""",
    "test",
)


@pytest.fixture
def everything(servers_of_store: Servers, settings: Settings) -> Everything:
    return Everything.of(servers_of_store, settings)


@pytest.fixture
async def parts(settings: Settings, database: Database, log: ValkeyLog, tmp_path: Path) -> AsyncIterator[JobParts]:
    keys = TenantKeys(settings.redis_url)
    settings = replace(settings, export_folder=str(tmp_path / "exports"))
    yield JobParts(settings, database, log, keys, ExportFolder(settings.export_folder))
    await keys.close()


@pytest.fixture
async def tenant(database: Database, settings: Settings, log: ValkeyLog, everything: Everything) -> Tenant:
    return await filled(database, settings, log, everything)


@asynccontextmanager
async def working(
    parts: JobParts, workers: int = 1, handlers: Mapping[JobKind, Handler] = HANDLERS
) -> AsyncIterator[None]:
    """Workers of jobs in this process."""
    stop = asyncio.Event()
    tasks = [asyncio.create_task(JobRunner(parts, handlers).run(stop)) for _ in range(workers)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def ended(database: Database, job: Job) -> Job:
    """The job, once it has ended."""
    async with asyncio.timeout(SECONDS):
        while True:
            (now,) = await find_jobs(database, job.tenant_id, [job.id])
            assert now is not None
            if not now.is_open:
                return now
            await asyncio.sleep(0.1)


async def proof_of(database: Database, tenant: Tenant) -> Any:
    async with asyncio.timeout(SECONDS):
        while True:
            for erasure in await list_erasures(database, tenant.slug):
                if erasure.ended_at is not None and "valkey_keys_left" in erasure.others:
                    return erasure
            await asyncio.sleep(0.1)


async def export(database: Database, tenant: Tenant, **arguments: object) -> Job:
    return await ask_export(database, Author.operator(tenant.id), JobKind.EXPORT_TENANT, arguments)


async def delete(database: Database, tenant: Tenant, grace: timedelta = timedelta(0)) -> Job:
    author = Author.operator(tenant.id)
    return await ask_deletion(database, tenant, author, typed=tenant.slug, grace=grace, doors=timedelta(0))


@pytest.fixture
def process(parts: JobParts) -> Iterator[Any]:
    """Starts `python -m pipeline jobs` as users do, with a fail point if one is named."""
    running: list[subprocess.Popen[bytes]] = []

    def start(fail_point: str = "") -> subprocess.Popen[bytes]:
        environ = {**os.environ, **replace(parts.settings, fail_point=fail_point).to_env()}
        running.append(subprocess.Popen([sys.executable, "-m", "pipeline", "jobs"], cwd=ROOT, env=environ))
        return running[-1]

    yield start
    for each in running:
        if each.poll() is None:
            each.kill()
        each.wait()


async def killed(process: subprocess.Popen[bytes]) -> None:
    """Waits until a process killed itself, and ends its lease as time would."""
    code = await asyncio.to_thread(process.wait, SECONDS)
    assert code == -signal.SIGKILL


def contents(file: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The manifest of an archive, and its rows by table; every file is what the manifest says."""
    rows: dict[str, list[dict[str, Any]]] = {}
    with zipfile.ZipFile(file) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        named = {part["name"]: part for part in manifest["files"] if part["rows"]}
        assert set(archive.namelist()) == {"manifest.json", *named}
        for name, part in named.items():
            packed = archive.read(name)
            assert hashlib.sha256(packed).hexdigest() == part["sha256"] and len(packed) == part["bytes"]
            lines = gzip.decompress(packed).decode().splitlines()
            assert len(lines) == part["rows"]
            rows.setdefault(part["table"], []).extend(json.loads(line) for line in lines)
    assert {name: count for name, count in manifest["rows"].items() if count} == {n: len(r) for n, r in rows.items()}
    return manifest, rows


async def test_an_export_holds_all_there_is_of_its_tenant_and_no_secret(
    parts: JobParts, database: Database, log: ValkeyLog, everything: Everything, tenant: Tenant
) -> None:
    await filled(database, parts.settings, log, everything)
    async with working(parts):
        job = await ended(database, await export(database, tenant))
    assert (job.state, job.error, job.progress) == (JobState.DONE, None, 1.0)
    file = parts.folder.of_tenant(tenant.id) / job.result["file"]
    assert hashlib.sha256(file.read_bytes()).hexdigest() == job.result["sha256"]
    assert job.expires_at is not None and job.expires_at > datetime.now(UTC) + timedelta(days=6, hours=23)
    manifest, rows = contents(file)
    there = await everything.rows(tenant.id)
    expected = {
        name: count for name, count in there.items()
        if count and name not in ("event_ids", "api_key_secrets", "audit_log", "jobs", "audit_heads")
    }  # fmt: skip
    assert {name: len(found) for name, found in rows.items() if name in expected} == expected
    assert set(rows) - set(expected) == {"audit_log", "jobs", "audit_heads", "people"}
    assert {row["tenant_id"] for name in expected if name != "tenants" for row in rows[name]} == {str(tenant.id)}
    assert [row["name"] for row in rows["people"]] == ["Ada"]
    assert len({row["id"] for row in rows["events"]}) == 50 and "properties" in rows["events"][0]["details"]
    text = json.dumps(rows)
    assert "argon2-secret" not in text and "cm_sk_" not in text and "sealed" not in text
    assert {"event_ids", "api_key_secrets"} <= set(manifest["left_out"])
    assert all(row["hash"] and row["previous_hash"] for row in rows["audit_log"])


async def test_an_export_without_events_has_none(parts: JobParts, database: Database, tenant: Tenant) -> None:
    async with working(parts):
        job = await ended(database, await export(database, tenant, include_events=False))
    manifest, rows = contents(parts.folder.of_tenant(tenant.id) / job.result["file"])
    assert "events" not in rows and manifest["left_out"]["events"] == "not asked for" and rows["rollup_1h"]


@pytest.mark.slow
async def test_an_export_whose_worker_is_killed_is_taken_up_where_it_was(
    parts: JobParts, database: Database, tenant: Tenant, process: Any
) -> None:
    """Killed behind the first of two parts of the events: the second worker writes none of the first again."""
    batch = batch_of(tenant.id, *(enriched(visitor=n) for n in range(20_500)))
    store = Store(database, f"more-{tenant.slug}")
    await store.ensure_partitions([batch])
    await store.transact(Partition("t2"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b""))
    job = await export(database, tenant)
    await killed(process("export_part:6"))
    (halted,) = await find_jobs(database, tenant.id, [job.id])
    assert halted is not None and halted.state is JobState.RUNNING and halted.place["written"][0][1] == 6
    (part,) = parts.folder.work(tenant.id, job.id).glob("000006.*.jsonl.gz")
    written = part.stat().st_mtime_ns
    second = process()
    while not (done := await asyncio.wait_for(ended(database, job), SECONDS)):
        pass
    assert done.state is JobState.DONE and second.poll() is None
    _, rows = contents(parts.folder.of_tenant(tenant.id) / done.result["file"])
    assert len(rows["events"]) == len({row["id"] for row in rows["events"]}) == 20_550
    assert written and not part.exists()


@pytest.mark.slow
@pytest.mark.parametrize("fail_point", ["erase_bite:1", "erase_bite:5", "before_erased", "after_erased"])
async def test_a_deletion_whose_worker_is_killed_goes_on_and_leaves_nothing(
    parts: JobParts, database: Database, log: ValkeyLog, everything: Everything, process: Any, fail_point: str
) -> None:
    tenant = await filled(database, parts.settings, log, everything)
    neighbour = await filled(database, parts.settings, log, everything)
    before, their_keys = await everything.rows(tenant.id), await everything.keys(neighbour.id)
    theirs = await everything.rows(neighbour.id)
    await delete(database, tenant)
    await killed(process(fail_point))
    process()
    if fail_point == "after_erased":
        # The job is gone with the tenant: what it left is swept up, once a minute and when a worker starts.
        pass
    proof = await proof_of(database, tenant)
    assert set((await everything.rows(tenant.id)).values()) == {0}
    assert await everything.rows(neighbour.id) == theirs
    assert await everything.keys(tenant.id) == [] and await everything.keys(neighbour.id) == their_keys
    # Counted in the transactions that removed them: as many as there were, and the entries and the job of the end.
    removed = {name: found.removed for name, found in proof.tables.items()}
    assert {name: removed[name] for name in before if name not in ("audit_log", "jobs")} == {
        name: count for name, count in before.items() if name not in ("audit_log", "jobs")
    }
    assert all(found.left == 0 for found in proof.tables.values())


async def test_a_deletion_leaves_nothing_anywhere_and_a_proof_that_says_so(
    parts: JobParts, database: Database, log: ValkeyLog, everything: Everything, tenant: Tenant
) -> None:
    neighbour = await filled(database, parts.settings, log, everything)
    shared = await everything.join(tenant, neighbour)
    await everything.come_home(tenant)
    async with working(parts):
        await ended(database, await export(database, tenant))
        await everything.fill_the_rest(tenant.id)
        theirs, their_keys = await everything.rows(neighbour.id), await everything.keys(neighbour.id)
        people = await everything.people()
        before = await everything.rows(tenant.id)
        assert min(before.values()) >= 1
        assert len(await everything.keys(tenant.id)) >= 2 and parts.folder.files(tenant.id) == 1
        await delete(database, tenant)
        end = (await verify(database, tenant.id)).head
        proof = await proof_of(database, tenant)
    assert len(before) >= 20 and set((await everything.rows(tenant.id)).values()) == {0}
    assert {name for name, count in before.items() if count} <= {n for n, f in proof.tables.items() if f.removed}
    assert {found.left for found in proof.tables.values()} == {0}
    assert await everything.keys(tenant.id) == [] and parts.folder.files(tenant.id) == 0
    assert (proof.others["export_files"], proof.others["topics"]) == (1, 1) and proof.others["valkey_keys"] >= 1
    assert [proof.others[f"{what}_left"] for what in ("valkey_keys", "export_files")] == [0, 0]
    assert end is not None and (proof.audit_sequence, proof.audit_hash) == (end.sequence, end.hash.hex())
    # One person was of this tenant alone, another made by its identity provider; the third is of both.
    assert (proof.people_removed, await everything.people()) == (2, people - 2)
    assert (await everything.rows(neighbour.id)) == theirs and await everything.keys(neighbour.id) == their_keys
    assert shared and (await verify(database, neighbour.id)).findings == []


async def test_people_go_though_another_tenant_knew_them_once_and_who_cannot_go_yet_is_tried_again(
    parts: JobParts, database: Database, log: ValkeyLog, everything: Everything, tenant: Tenant
) -> None:
    neighbour = await filled(database, parts.settings, log, everything)
    known, held = await everything.join(tenant), await everything.join(tenant)
    both = await everything.join(tenant, neighbour)
    async with as_owner(everything.superuser) as connection:
        await connection.execute(KNOWN_ELSEWHERE.format(tenant=neighbour.id, person=known))
        await connection.execute("CREATE SCHEMA elsewhere")
        await connection.execute("CREATE TABLE elsewhere.held (tenant_id uuid, person_id uuid REFERENCES people)")
        await connection.execute("INSERT INTO elsewhere.held VALUES (NULL, $1)", held)

        async def left() -> set[UUID]:
            rows = await connection.fetch("SELECT id FROM people WHERE id = ANY($1::uuid[])", [known, held, both])
            return {UUID(int=row["id"].int) for row in rows}

        async with working(parts):
            await delete(database, tenant)
            await proof_of(database, tenant)
        assert await left() == {held, both}
        invitation = await connection.fetchrow("SELECT * FROM invitations WHERE tenant_id = $1", neighbour.id)
        assert invitation["accepted_at"] is not None and invitation["accepted_by"] is None
        kept = await connection.fetchval("SELECT person_ids FROM tenant_erasures WHERE id = $1", tenant.id)
        assert [UUID(int=person.int) for person in kept] == [held]
        await connection.execute("DROP SCHEMA elsewhere CASCADE")
        await sweep_erased(parts)
        assert await left() == {both}
        assert await connection.fetchval("SELECT person_ids FROM tenant_erasures WHERE id = $1", tenant.id) is None


# A person that was a member of a tenant once: it accepted an invitation there, and has a session that has ended.
KNOWN_ELSEWHERE = """
INSERT INTO invitations (tenant_id, id, email, role, token_hash, invited_by, message_id, expires_at, accepted_at,
    accepted_by)
VALUES ('{tenant}', gen_random_uuid(), 'a@x.test', 'viewer', sha256('{person}'), 'operator', gen_random_uuid(), now(),
    now(), '{person}');
INSERT INTO sessions (id, tenant_id, person_id, method, address, agent, family_hash, token_hash, expires_at, revoked_at)
VALUES (gen_random_uuid(), '{tenant}', '{person}', 'password', '', '', sha256('{person}'), '', now(), now());
"""


async def told(log: EventLog, topics: re.Pattern[str]) -> dict[Partition, int]:
    """What the log has; a broker that has just started answers after a moment."""
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(LogUnavailable):
                return await log.lag("nobody", topics)
            await asyncio.sleep(0.5)


@pytest.mark.slow
async def test_with_kafka_as_the_log_the_tenants_topic_goes_and_the_proof_says_when_the_rest_does(
    parts: JobParts, database: Database, everything: Everything, kafka_brokers: str
) -> None:
    settings = replace(parts.settings, kafka_brokers=kafka_brokers)
    kafka = open_log(settings)
    try:
        tenant = await filled(database, settings, kafka, everything)
        mine = re.compile(re.escape(raw_topic(tenant.id, "each")))
        assert sum((await told(kafka, mine)).values()) >= 1
        async with working(replace(parts, settings=settings, log=kafka)):
            await delete(database, tenant)
            proof = await proof_of(database, tenant)
        assert set((await everything.rows(tenant.id)).values()) == {0} and await everything.keys(tenant.id) == []
        assert await told(kafka, mine) == {} and proof.others["topics"] == 1
        gone_by = datetime.fromisoformat(proof.others["log_records_gone_by"])
        assert proof.others["log_records_left"] is None
        assert timedelta(hours=71) < gone_by - datetime.now(UTC) < timedelta(hours=73)
    finally:
        await kafka.close()


async def test_what_comes_late_for_a_deleted_tenant_is_dropped_or_swept_up(
    parts: JobParts, database: Database, everything: Everything, tenant: Tenant
) -> None:
    async with working(parts):
        await delete(database, tenant)
        await proof_of(database, tenant)
    store, batch = Store(database, f"late-{tenant.slug}"), batch_of(tenant.id, enriched(), enriched())
    await store.ensure_partitions([batch])
    counted = await store.transact(
        Partition("t3"), await prepare([batch]), Offset("1-0"), lambda counted: (Offset("2-0"), b"")
    )
    assert counted.new_events == {} and set((await everything.rows(tenant.id)).values()) == {0}
    # Whoever does not ask, such as a process of an older version, is cleaned up after.
    async with database.as_writer() as session:
        await session.execute(LATE["late_usage"], tenant.id)
    assert (await everything.rows(tenant.id))["daily_usage"] == 1
    assert await sweep_erased(parts) == 1
    assert set((await everything.rows(tenant.id)).values()) == {0}
    (proof,) = await list_erasures(database, tenant.slug)
    assert proof.late_rows == 1


LATE = parse_blocks(
    """-- late_usage(tenant_id)
-- A row of nobody.
INSERT INTO daily_usage (tenant_id, day, key_id) VALUES ($1, '2026-01-01', 'key');
""",
    "test",
)


async def test_a_deletion_waits_for_its_grace_and_is_taken_back_within_it(
    parts: JobParts, database: Database, everything: Everything, tenant: Tenant
) -> None:
    author = Author.operator(tenant.id)
    before = await everything.rows(tenant.id)
    job = await delete(database, tenant, timedelta(days=7))
    with pytest.raises(Conflict):
        await delete(database, tenant)
    async with working(parts):
        await asyncio.sleep(1.5)
        (now,) = await find_jobs(database, tenant.id, [job.id])
        assert now is not None and now.state is JobState.WAITING
        with pytest.raises(Conflict, match="restoreTenant"):
            await cancel(database, author, job.id)
        await restore(database, tenant, author, typed=tenant.slug)
        with pytest.raises(Conflict, match="nothing to take back"):
            await restore(database, tenant, author, typed=tenant.slug)
    (now,) = await find_jobs(database, tenant.id, [job.id])
    assert now is not None and now.state is JobState.CANCELLED
    after = await everything.rows(tenant.id)
    assert after == {**before, "audit_log": before["audit_log"] + 2, "jobs": before["jobs"] + 1}


async def test_an_export_of_a_tenant_that_is_to_be_deleted_is_refused_and_leaves_no_file(
    parts: JobParts, database: Database, tenant: Tenant
) -> None:
    job = await export(database, tenant)
    await delete(database, tenant, timedelta(days=7))
    async with working(parts):
        failed = await ended(database, job)
    assert failed.state is JobState.FAILED and failed.error is not None and "restore it first" in failed.error
    assert parts.folder.files(tenant.id) == 0


async def test_a_job_is_run_by_one_worker_at_a_time_and_a_frozen_one_finds_it_gone(
    parts: JobParts, database: Database, tenant: Tenant
) -> None:
    job = await export(database, tenant)
    claims = await asyncio.gather(*(Lease.claim(database) for _ in range(4)))
    (first,) = [lease for lease in claims if lease is not None]
    assert first.job.id == job.id
    async with database.as_writer() as session:
        await session.execute(STATEMENTS["end_leases"])
    second = await Lease.claim(database)
    assert second is not None and second.job.id == job.id
    with pytest.raises(LeaseLost):
        await first.note(0.5, "late", {})
    async with database.as_writer() as session:
        assert not await first.end(session, JobState.DONE, result={})
    await second.note(0.5, "going on", {"rows": 1})
    async with database.as_writer() as session:
        assert await second.end(session, JobState.DONE, result={"rows": {}})


@pytest.mark.parametrize("kind", [JobKind.EXPORT_TENANT, JobKind.EXPORT_AUDIT_LOG])
async def test_a_worker_that_thaws_spoils_nothing_of_its_successors_file(
    parts: JobParts, database: Database, tenant: Tenant, kind: JobKind
) -> None:
    """Both write all of it, one beside the other; what the successor tells of its file is so."""
    arguments = {"format": "json_lines"} if kind is JobKind.EXPORT_AUDIT_LOG else {}
    await ask_export(database, Author.operator(tenant.id), kind, arguments)
    first = await Lease.claim(database)
    async with database.as_writer() as session:
        await session.execute(STATEMENTS["end_leases"])
    second = await Lease.claim(database)
    assert first is not None and second is not None

    async def thawed(*_: object) -> None:
        """Its notes are refused, and come too late to keep it from writing."""

    first.note = thawed  # type: ignore[method-assign]
    result, _ = await asyncio.gather(HANDLERS[kind](second, parts), HANDLERS[kind](first, parts))
    async with database.as_writer() as session:
        assert await second.end(session, JobState.DONE, result=result)
    assert result is not None
    file = parts.folder.finished(tenant.id, second.job.id, result["file"])
    assert hashlib.sha256(file.read_bytes()).hexdigest() == result["sha256"]
    if kind is JobKind.EXPORT_TENANT:
        contents(file)


async def test_a_job_that_never_gets_further_is_given_up(parts: JobParts, database: Database, tenant: Tenant) -> None:
    job = await export(database, tenant)
    for _ in range(6):
        lease = await Lease.claim(database)
        assert lease is not None
        await lease.note(0.1, "as far as the one before", {})
        async with database.as_writer() as session:
            await session.execute(STATEMENTS["end_leases"])
    async with working(parts):
        failed = await ended(database, job)
    assert failed.state is JobState.FAILED and failed.error is not None and "given up" in failed.error


def breaking_off(error: Exception, times: int, kind: JobKind) -> Mapping[JobKind, Handler]:
    """Handlers of which one does its work, and breaks off at the end of it so many times."""
    left = [error] * times

    async def handler(lease: Lease, parts: JobParts) -> Mapping[str, Any] | None:
        if not left:
            return await HANDLERS[kind](lease, parts)
        if kind is JobKind.DELETE_TENANT:
            async with parts.database.as_writer() as session:
                await session.fetchrow(BEGIN_ERASURE, lease.job.tenant_id, lease.job.asked_by, lease.job.asked_at)
        raise left.pop()

    return {**HANDLERS, kind: handler}


async def test_a_part_that_is_away_for_long_costs_a_job_none_of_its_attempts(
    parts: JobParts, database: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.jobs.runner.RETRY_SECONDS", 0.0)
    handlers = breaking_off(LogUnavailable("away", retry_after=1.0), MAX_ATTEMPTS + 3, JobKind.EXPORT_TENANT)
    job = await export(database, tenant)
    async with working(parts, handlers=handlers):
        done = await ended(database, job)
    assert (done.state, done.error) == (JobState.DONE, None)


@pytest.mark.parametrize("error", [JobFailed("rows stand in the way"), RuntimeError("nobody knows")])
async def test_a_deletion_that_has_begun_is_never_given_up_and_every_failure_is_logged(
    parts: JobParts,
    database: Database,
    everything: Everything,
    tenant: Tenant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    monkeypatch.setattr("pipeline.jobs.runner.RETRY_SECONDS", 0.0)
    await delete(database, tenant)
    async with working(parts, handlers=breaking_off(error, MAX_ATTEMPTS + 3, JobKind.DELETE_TENANT)):
        await proof_of(database, tenant)
    assert set((await everything.rows(tenant.id)).values()) == {0}
    assert sum(record.levelname == "ERROR" for record in caplog.records) == MAX_ATTEMPTS + 3


async def test_a_waiting_job_is_cancelled_at_once_and_only_by_its_tenant(
    parts: JobParts, database: Database, log: ValkeyLog, everything: Everything, tenant: Tenant
) -> None:
    other = await filled(database, parts.settings, log, everything)
    job = await export(database, tenant)
    with pytest.raises(Conflict, match="under way"):
        await export(database, tenant)
    with pytest.raises(NotFound):
        await cancel(database, Author.operator(other.id), job.id)
    assert (await cancel(database, Author.operator(tenant.id), job.id)).state is JobState.CANCELLED
    with pytest.raises(Conflict, match="cancelled"):
        await cancel(database, Author.operator(tenant.id), job.id)
    # A running one ends at its next step, and leaves no file.
    job = await export(database, tenant)
    lease = await Lease.claim(database)
    assert lease is not None
    await cancel(database, Author.operator(tenant.id), job.id)
    await lease.give_back(datetime.now(UTC), is_counted=False)
    async with working(parts):
        assert (await ended(database, job)).state is JobState.CANCELLED
    assert parts.folder.files(tenant.id) == 0


async def test_files_go_when_their_time_is_up_and_so_do_those_of_no_job(
    parts: JobParts, database: Database, tenant: Tenant
) -> None:
    async with working(parts):
        await ended(database, await export(database, tenant))
        kept = await ended(database, await audit_export(database, tenant, format="csv"))
    stray = parts.folder.file(uuid4(), uuid4(), ".zip")
    stray.parent.mkdir()
    stray.touch()
    assert await remove_old_files(parts) == 1 and not stray.exists()
    assert parts.folder.files(tenant.id) == 2
    async with database.as_writer() as session:
        await session.execute(STATEMENTS["age_files"])
    assert await remove_old_files(parts) >= 2 and parts.folder.files(tenant.id) == 0
    (now,) = await find_jobs(database, tenant.id, [kept.id])
    assert now is not None and now.state is JobState.DONE and now.expires_at is None


async def test_a_tenant_keeps_so_many_files_and_no_more(parts: JobParts, database: Database, tenant: Tenant) -> None:
    async with working(parts):
        for _ in range(MAX_FILES):
            await ended(database, await audit_export(database, tenant, format="csv"))
    with pytest.raises(TooMany, match="are kept for this tenant already"):
        await export(database, tenant)


async def audit_export(database: Database, tenant: Tenant, **arguments: object) -> Job:
    return await ask_export(database, Author.operator(tenant.id), JobKind.EXPORT_AUDIT_LOG, arguments)


async def test_the_audit_trail_is_exported_as_lines_and_as_cells_that_no_spreadsheet_works_out(
    parts: JobParts, database: Database, tenant: Tenant
) -> None:
    async with working(parts):
        lines = await ended(database, await audit_export(database, tenant, format="json_lines", action="key."))
        cells = await ended(database, await audit_export(database, tenant, format="csv"))
    folder = parts.folder.of_tenant(tenant.id)
    rows = [json.loads(line) for line in (folder / lines.result["file"]).read_text().splitlines()]
    assert [row["action"] for row in rows] == ["key.create"] and lines.result["rows"] == {"audit_log": 1}
    assert UUID(rows[0]["id"]) and rows[0]["diff"]["kind"] == "secret"
    text = (folder / cells.result["file"]).read_bytes().decode()
    assert text.startswith('"sequence","id","at","actor",') and text.endswith("\r\n")
    assert len(text.splitlines()) == 1 + cells.result["rows"]["audit_log"]
