"""A tenant's dead letters are its own, and show no more than they should."""

from __future__ import annotations

import asyncio
import re
from uuid import UUID, uuid4

import pytest

from core import accounts
from core.database import Database, as_owner
from core.dead_letters import Place, find_letter
from core.errors import NotFound
from core.own_letters import PREVIEW_CHARACTERS, drop_own, find_own, list_own, preview_of, replay_own
from core.permissions import Scope
from core.queries import named, parse_blocks
from core.settings import Settings
from core.tenancy import Principal, Tenant, Tier
from core.valkey_log import ValkeyLog
from tests.conftest import make_key

KEEP = named("aggregate", "keep_dead_letter")
TABLE = parse_blocks(
    """-- all_letters()
-- Without any condition: row-level security alone decides.
SELECT tenant_id, worker FROM dead_letters;

-- drop_all()
-- Likewise.
DELETE FROM dead_letters;
""",
    "test",
)


async def keep(database: Database, tenant_id: UUID, offset: str, value: bytes = b"bytes") -> Place:
    place = Place("enrich", f"events.raw.{tenant_id}", 0, offset)
    async with database.as_writer() as session:
        await session.execute(
            KEEP, tenant_id, place.topic, place.partition, place.offset, place.worker, "bad body", value
        )
    return place


@pytest.fixture
async def admin(database: Database, settings: Settings, tenant: Tenant) -> Principal:
    key, _ = await make_key(database, settings, tenant, scopes=frozenset({Scope.ADMIN}))
    return Principal.of_key(tenant, key.id, key.scopes)


@pytest.fixture
async def other(database: Database) -> Tenant:
    return await accounts.create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)


async def test_pages_go_through_all_of_them_newest_first_and_meet_no_others(
    database: Database, tenant: Tenant, other: Tenant
) -> None:
    places = [await keep(database, tenant.id, f"{n}-0") for n in range(7)]
    await keep(database, other.id, "9-0")
    found, after = [], None
    while page := await list_own(database, tenant.id, 3, after):
        found += page
        after = (page[-1].created_at, page[-1].place)
    assert [letter.place for letter in found] == places[::-1]
    assert {(letter.reason, letter.size, letter.preview) for letter in found} == {("bad body", 5, "bytes")}


async def test_letters_of_one_moment_are_on_one_page_each(database: Database, tenant: Tenant) -> None:
    topic = f"events.raw.{tenant.id}"
    async with database.as_writer() as session:
        for n in range(5):
            await session.execute(KEEP, tenant.id, topic, 0, f"{n}-0", "enrich", "r", b"")
    found, after = [], None
    while page := await list_own(database, tenant.id, 2, after):
        found += [letter.place.offset for letter in page]
        after = (page[-1].created_at, page[-1].place)
    assert found == ["4-0", "3-0", "2-0", "1-0", "0-0"]


async def test_another_tenants_letter_can_neither_be_found_nor_ended(
    database: Database, log: ValkeyLog, tenant: Tenant, other: Tenant, admin: Principal
) -> None:
    place = await keep(database, other.id, "1-0")
    assert await find_own(database, tenant.id, [place]) == [None]
    with pytest.raises(NotFound):
        await drop_own(database, admin, place, "r")
    with pytest.raises(NotFound):
        await replay_own(database, log, admin, place, "r")
    assert (await find_letter(database, place)).tenant_id == other.id


async def test_row_security_itself_shows_and_ends_only_the_tenants_own(
    database: Database, tenant: Tenant, other: Tenant
) -> None:
    mine, theirs = await keep(database, tenant.id, "1-0"), await keep(database, other.id, "1-0")
    async with database.as_tenant(tenant.id, is_write=True) as session:
        assert {row["tenant_id"] for row in await session.fetch(TABLE["all_letters"])} == {tenant.id}
        await session.execute(TABLE["drop_all"])
    assert await find_own(database, tenant.id, [mine]) == [None]
    assert (await find_letter(database, theirs)).tenant_id == other.id


async def test_a_replayed_letter_is_in_the_log_and_gone_and_audited(
    database: Database, log: ValkeyLog, tenant: Tenant, admin: Principal
) -> None:
    place = await keep(database, tenant.id, "1-0", b"once more")
    await replay_own(database, log, admin, place, "request-7")
    consumer = log.consume(f"g-{uuid4()}", re.compile(re.escape(place.topic)))
    async with asyncio.timeout(10):
        while not (records := await consumer.poll(max_records=5, wait_seconds=0.2)):
            pass
    await consumer.close()
    assert [(record.key, record.value) for record in records] == [(tenant.id.bytes, b"once more")]
    assert await list_own(database, tenant.id, 5, None) == []
    audit = parse_blocks("-- audit()\n-- What was noted.\nSELECT actor, action, request_id FROM audit_log;", "test")
    async with database.as_tenant(tenant.id) as session:
        rows = [tuple(row) for row in await session.fetch(audit["audit"])]
    assert (admin.actor, "dead_letter.replay", "request-7") in rows
    with pytest.raises(NotFound):
        await replay_own(database, log, admin, place, "request-8")


@pytest.mark.parametrize(
    ("beginning", "shown"),
    [
        (b'\x00\x00\x00\x07{"a": 1}\n', '....{"a": 1}.'),
        (b"key cm_sk_abcDEF-12_3 and cm_pk_x", "key cm_sk_… and cm_pk_…"),
        (b'"ip":"203.0.113.77"', '"ip":"203.0.113.0"'),
        (b"2001:db8:85a3::8a2e:370:7334 at 10:20:30", "2001:db8:85a3:: at 10:20:30"),
        ("größe".encode() + b"\xff", "größe."),
        (b"x" * 2048, "x" * PREVIEW_CHARACTERS),
    ],
)
def test_a_preview_is_short_printable_and_shows_no_key_and_no_whole_address(beginning: bytes, shown: str) -> None:
    assert preview_of(beginning) == shown


async def test_the_preview_reads_the_beginning_only(database: Database, settings: Settings, tenant: Tenant) -> None:
    await keep(database, tenant.id, "1-0", b"y" * 5_000_000)
    (letter,) = await list_own(database, tenant.id, 5, None)
    assert letter.size == 5_000_000 and letter.preview == "y" * PREVIEW_CHARACTERS
    async with as_owner(settings.app_url) as connection:
        with pytest.raises(Exception, match=r"app\.current_tenant"):
            await connection.fetch("SELECT * FROM dead_letters")
