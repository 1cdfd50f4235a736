"""Whatever the owner of the tables does to the audit trail, `verify` names the place; who only writes cannot do it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from core import accounts
from core.audit import Author, audit
from core.audit_chain import Head, Wrong, digest_of
from core.audit_trail import AuditFilter, count_entries, find_entries, in_order, list_entries, verify
from core.database import Database, as_owner
from core.queries import parse_blocks
from core.settings import Settings
from core.tenancy import Tenant, Tier

ENTRIES = 5
SAMPLES = parse_blocks(
    """-- change_all()
-- As the application would, if it could.
UPDATE audit_log SET actor = 'x';

-- drop_all()
-- Likewise.
DELETE FROM audit_log;

-- move_head()
-- Likewise.
UPDATE audit_heads SET sequence = 0;
""",
    "test",
)


async def write(database: Database, tenant: Tenant, count: int = 1, actor: str = "key_a") -> None:
    for n in range(count):
        async with database.as_tenant(tenant.id, is_write=True) as session:
            await audit(session, Author(tenant.id, actor, f"request-{n}"), "key.create", f"key_{n}", {"n": [None, n]})


async def as_tamperer(settings: Settings, tenant: Tenant, text: str, *args: object) -> str:
    """Runs a statement as the tables' owner, whom neither row security nor the trigger holds any more."""
    async with as_owner(settings.owner_url) as connection:
        async with connection.transaction():
            for table in ("audit_log", "audit_heads"):
                await connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
            await connection.execute("ALTER TABLE audit_log DISABLE TRIGGER chain")
            status: str = await connection.execute(text.replace("TENANT", f"'{tenant.id}'"), *args)
            await connection.execute("ALTER TABLE audit_log ENABLE TRIGGER chain")
            for table in ("audit_log", "audit_heads"):
                await connection.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
    return status


@pytest.fixture
async def trail(database: Database, tenant: Tenant) -> Tenant:
    """A tenant of which 5 entries are there: the first is of its making."""
    await write(database, tenant, ENTRIES - 1)
    return tenant


async def places(database: Database, tenant: Tenant, anchor: Head | None = None) -> list[tuple[Wrong, int, int]]:
    verdict = await verify(database, tenant.id, anchor)
    return [(finding.wrong, finding.first, finding.last) for finding in verdict.findings]


async def test_a_trail_that_nobody_touched_is_whole(database: Database, trail: Tenant) -> None:
    verdict = await verify(database, trail.id)
    assert (verdict.findings, verdict.entries) == ([], ENTRIES)
    assert verdict.head is not None and verdict.head.sequence == ENTRIES
    entries = [entry async for bite in in_order(database, trail.id) for entry in bite]
    assert [entry.sequence for entry in entries] == [1, 2, 3, 4, 5]
    assert all(digest_of(entry) == entry.hash for entry in entries)
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)


@pytest.mark.parametrize(
    "change",
    ["actor = 'mallory'", "action = 'key.revoke'", "subject = 'key_x'", "request_id = 'other'", "diff = '{}'",
     "at = at + interval '1 microsecond'", "id = uuidv7()", "hash = sha256('x')", "previous_hash = sha256('x')"],
)  # fmt: skip
@pytest.mark.parametrize("place", [1, 3, ENTRIES])
async def test_a_changed_column_is_found_at_its_entry(
    settings: Settings, database: Database, trail: Tenant, change: str, place: int
) -> None:
    statement = f"UPDATE audit_log SET {change} WHERE tenant_id = TENANT AND sequence = {place}"
    assert await as_tamperer(settings, trail, statement) == "UPDATE 1"
    assert await places(database, trail) == [(Wrong.CHANGED, place, place)]


@pytest.mark.parametrize("first, last", [(1, 1), (3, 3), (2, 4), (ENTRIES, ENTRIES), (4, ENTRIES), (1, ENTRIES)])
async def test_deleted_entries_are_missed_wherever_they_stood(
    settings: Settings, database: Database, trail: Tenant, first: int, last: int
) -> None:
    await as_tamperer(
        settings, trail, f"DELETE FROM audit_log WHERE tenant_id = TENANT AND sequence BETWEEN {first} AND {last}"
    )
    assert await places(database, trail) == [(Wrong.MISSING, first, last)]


async def test_two_that_changed_places_are_both_found(settings: Settings, database: Database, trail: Tenant) -> None:
    await as_tamperer(
        settings, trail, "ALTER TABLE audit_log DROP CONSTRAINT audit_log_tenant_id_sequence_key;"
        "UPDATE audit_log SET sequence = 6 - sequence WHERE tenant_id = TENANT AND sequence IN (2, 4);"
        "ALTER TABLE audit_log ADD UNIQUE (tenant_id, sequence)",
    )  # fmt: skip
    assert await places(database, trail) == [(Wrong.CHANGED, 2, 2), (Wrong.CHANGED, 4, 4)]


COLUMNS = "tenant_id, id, at, actor, action, subject, diff, request_id, sequence, previous_hash, hash"
REHASH = "UPDATE audit_log a SET hash = maintenance.audit_hash(a) WHERE tenant_id = TENANT AND sequence = {place}"


@pytest.mark.parametrize("place", [0, ENTRIES + 1])
async def test_an_entry_put_in_at_either_end_is_found(
    settings: Settings, database: Database, trail: Tenant, place: int
) -> None:
    """One that fits: with the hash of the last entry before it, and a good hash of its own."""
    neighbour = max(1, place - 1)
    await as_tamperer(
        settings, trail, f"INSERT INTO audit_log ({COLUMNS}) SELECT tenant_id, uuidv7(), at, 'mallory', action, "
        f"subject, diff, request_id, {place}, hash, hash FROM audit_log "
        f"WHERE tenant_id = TENANT AND sequence = {neighbour};" + REHASH.format(place=place),
    )  # fmt: skip
    assert await places(database, trail) == [(Wrong.PUT_IN, place, place)]


async def test_of_two_at_one_place_the_one_that_was_put_in_is_named(
    settings: Settings, database: Database, trail: Tenant
) -> None:
    intruder = uuid4()
    await as_tamperer(
        settings, trail, "ALTER TABLE audit_log DROP CONSTRAINT audit_log_tenant_id_sequence_key;"
        f"INSERT INTO audit_log ({COLUMNS}) SELECT tenant_id, '{intruder}', at, 'mallory', action, subject, diff, "
        "request_id, sequence, sha256('x'), hash FROM audit_log WHERE tenant_id = TENANT AND sequence = 3",
    )  # fmt: skip
    verdict = await verify(database, trail.id)
    assert [(f.wrong, f.first, f.entry_id) for f in verdict.findings] == [(Wrong.PUT_IN, 3, intruder)]
    await as_tamperer(
        settings, trail, f"DELETE FROM audit_log WHERE id = '{intruder}';"
        "ALTER TABLE audit_log ADD UNIQUE (tenant_id, sequence)",
    )  # fmt: skip


@pytest.mark.parametrize("place", [1, 3, ENTRIES])
async def test_an_entry_that_was_rewritten_with_a_good_hash_of_its_own_is_found(
    settings: Settings, database: Database, trail: Tenant, place: int
) -> None:
    await as_tamperer(
        settings, trail, f"UPDATE audit_log SET actor = 'x' WHERE tenant_id = TENANT AND sequence = {place};"
        + REHASH.format(place=place),
    )  # fmt: skip
    assert await places(database, trail) == [(Wrong.CHANGED, place, place)]


async def test_a_head_that_is_gone_or_moved_is_found(settings: Settings, database: Database, trail: Tenant) -> None:
    await as_tamperer(settings, trail, "UPDATE audit_heads SET sequence = 3 WHERE tenant_id = TENANT")
    assert await places(database, trail) == [(Wrong.PUT_IN, 4, 5)]
    await as_tamperer(settings, trail, "DELETE FROM audit_heads WHERE tenant_id = TENANT")
    assert await places(database, trail) == [(Wrong.HEAD, 5, 5)]


async def test_what_was_noted_elsewhere_finds_a_trail_that_was_rewritten_whole(
    settings: Settings, database: Database, trail: Tenant
) -> None:
    anchor = (await verify(database, trail.id)).head
    assert anchor is not None and await places(database, trail, anchor) == []
    await write(database, trail, 2)
    assert await places(database, trail, anchor) == []
    # The last entries go, and the head with them: the chain alone is whole again.
    await as_tamperer(
        settings, trail, "DELETE FROM audit_log WHERE tenant_id = TENANT AND sequence > 4;"
        "UPDATE audit_heads SET sequence = 4, hash = (SELECT hash FROM audit_log WHERE tenant_id = TENANT AND "
        "sequence = 4) WHERE tenant_id = TENANT",
    )  # fmt: skip
    assert await places(database, trail) == []
    assert await places(database, trail, anchor) == [(Wrong.MISSING, 5, 5)]
    await write(database, trail, 2)
    assert await places(database, trail, anchor) == [(Wrong.CHANGED, 5, 5)]


@pytest.mark.parametrize("name", sorted(SAMPLES))
async def test_the_application_can_neither_change_nor_end_an_entry(
    database: Database, trail: Tenant, name: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.as_tenant(trail.id, is_write=True) as session:
            await session.execute(SAMPLES[name])
    assert await places(database, trail) == []


async def test_a_place_in_the_chain_cannot_be_chosen_and_a_failed_write_leaves_no_hole(
    database: Database, trail: Tenant
) -> None:
    with pytest.raises(RuntimeError):
        async with database.as_tenant(trail.id, is_write=True) as session:
            await audit(session, Author.operator(trail.id), "key.create", "key", {})
            raise RuntimeError
    await write(database, trail)
    verdict = await verify(database, trail.id)
    assert (verdict.findings, verdict.entries) == ([], ENTRIES + 1)


async def test_writers_of_one_tenant_queue_and_those_of_others_do_not_wait_for_them(
    database: Database, tenant: Tenant
) -> None:
    other = await accounts.create_tenant(database, slug=f"o-{uuid4()}", name="", tier=Tier.SELF_HOSTED)
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await audit(session, Author.operator(tenant.id), "key.create", "first", {})
        waiting = asyncio.create_task(write(database, tenant, actor="second"))
        await write(database, other, actor="elsewhere")
        await asyncio.sleep(0.1)
        assert not waiting.done()
    await waiting
    await asyncio.gather(*(write(database, tenant, 10, actor=f"writer-{n}") for n in range(4)))
    verdict = await verify(database, tenant.id)
    assert (verdict.findings, verdict.entries) == ([], 1 + 2 + 40)


async def test_pages_and_filters_find_the_tenants_own_entries_alone(database: Database, tenant: Tenant) -> None:
    other = await accounts.create_tenant(database, slug=f"o-{uuid4()}", name="", tier=Tier.SELF_HOSTED)
    await write(database, tenant, 3, actor="a")
    await write(database, tenant, 2, actor="b")
    await write(database, other, 4, actor="a")
    every = await list_entries(database, tenant.id, AuditFilter(), 100, None)
    assert [entry.sequence for entry in every] == [6, 5, 4, 3, 2, 1]
    moments = {"from_": every[3].at, "to": every[1].at + timedelta(0)}
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({"actor": "a"}, [4, 3, 2]),
        ({"action": "key."}, [6, 5, 4, 3, 2]),
        ({"action": "key.create", "subject": "key_1"}, [6, 3]),
        ({"action": "%"}, []),
        (moments, [4, 3]),
    ]
    for conditions, expected in cases:
        wanted = AuditFilter(**conditions)
        found = await list_entries(database, tenant.id, wanted, 100, None)
        assert [entry.sequence for entry in found] == expected
        assert [entry.sequence for entry in every if wanted.matches(entry)] == expected
        assert await count_entries(database, tenant.id, wanted) == len(expected)
    page = await list_entries(database, tenant.id, AuditFilter(actor="a"), 2, 4)
    assert [entry.sequence for entry in page] == [3, 2]
    theirs = (await list_entries(database, other.id, AuditFilter(), 1, None))[0]
    assert await find_entries(database, tenant.id, [theirs.id, every[0].id]) == [None, every[0]]
