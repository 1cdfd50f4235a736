"""Who may do how much with one object: the decision in Python and the database's policies agree in every case."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg
import pytest

from core import accounts
from core.access import (
    EVERYONE,
    OF_OWNERS,
    AccessList,
    Grant,
    Level,
    grantees_of,
    level_of,
    object_name,
    setting_of,
)
from core.database import Database
from core.errors import BadInput, TenantNotSet
from core.permissions import Role, Scope
from core.queries import parse_blocks
from core.settings import Settings
from core.tenancy import KeyId, PersonId, Principal, Tenant, Tier

TENANT_TEXT = """-- insert(id, owner, viewers, editors, managers)
-- An object, by whoever speaks for its owner.
INSERT INTO questions (tenant_id, id, name, description, query, tags, owner, viewers, editors, managers, created_by,
    updated_by)
VALUES (current_setting('app.current_tenant')::uuid, $1, 'n', '', '{}', '{}', $2, $3, $4, $5, $2, $2);

-- see(id)
-- Without any condition on who asks.
SELECT name FROM questions WHERE id = $1;

-- see_all()
-- Likewise.
SELECT id FROM questions;

-- edit(id)
-- Likewise.
UPDATE questions SET name = 'edited' WHERE id = $1 RETURNING id;

-- open_to_all(id)
-- Likewise.
UPDATE questions SET managers = ARRAY['everyone'] WHERE id = $1 RETURNING id;

-- take_away(id)
-- Likewise.
UPDATE questions SET deleted_at = now() WHERE id = $1 RETURNING id;

-- share(object_id)
-- Likewise.
INSERT INTO share_links (tenant_id, id, object_kind, object_id, name, token_hash, locked_filters, ranges,
    cost_per_minute, rows_per_hour, created_by, expires_at)
VALUES (current_setting('app.current_tenant')::uuid, gen_random_uuid(), 'question', $1, '',
    sha256(gen_random_uuid()::text::bytea), '[]', '{}', 100, 1000, 'x', now() + interval '1 day') RETURNING id;

-- see_links(object_id)
-- Likewise.
SELECT id FROM share_links WHERE object_id = $1;

-- take_over(id)
-- Whose an object is cannot be changed by anybody.
UPDATE questions SET owner = 'key_thief' WHERE id = $1 RETURNING id;

-- remove(id)
-- The application deletes nothing for good.
DELETE FROM questions WHERE id = $1 RETURNING id;
"""
SQL = parse_blocks(TENANT_TEXT, "access of tests")
MAKER = "key_maker"
# What each statement needs: the level, by which it returns a row; below it there is none, or an error.
OPERATIONS = {
    "see": Level.VIEW, "edit": Level.EDIT, "open_to_all": Level.MANAGE, "take_away": Level.MANAGE,
    "share": Level.MANAGE, "see_links": Level.MANAGE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """An object's list and who comes to it."""

    name: str
    grants: tuple[Grant, ...]
    principal: Principal


def principals(tenant: Tenant) -> dict[str, Principal]:
    """One of each kind of caller; `ada` is a viewer who is named in lists."""
    ada = PersonId(UUID(int=1))
    people = {role.value: Principal.of_person(tenant, PersonId(uuid4()), role, None) for role in Role}
    return {
        **people,
        "ada": Principal.of_person(tenant, ada, Role.VIEWER, None),
        "maker": Principal.of_key(tenant, KeyId(MAKER), frozenset({Scope.ADMIN})),
        "admin key": Principal.of_key(tenant, KeyId("key_a"), frozenset({Scope.ADMIN})),
        "reading key": Principal.of_key(tenant, KeyId("key_b"), frozenset({Scope.METRICS_READ})),
    }


GRANTEES = [EVERYONE, *(f"role:{role.value}" for role in Role), f"person:{UUID(int=1)}"]
# What is expected is written out by other means than the code's: a rank for each caller, and a look at the grantee.
RANKS = {"viewer": 0, "editor": 1, "admin": 2, "owner": 3, "ada": 0, "maker": 2, "admin key": 2, "reading key": 0}


def expected(caller: str, grantee: str, level: Level) -> Level | None:
    if caller in ("maker", "owner"):
        return Level.MANAGE
    kind, _, name = grantee.partition(":")
    reached = {
        "everyone": True,
        "role": kind == "role" and RANKS[caller] >= RANKS.get(name, 9),
        "person": caller == "ada",
    }[kind]
    return level if reached else None


WALK = list(itertools.product(RANKS, GRANTEES, Level))


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> AsyncIterator[Principal]:
    yield Principal.of_key(tenant, KeyId(MAKER), frozenset({Scope.ADMIN}))


async def put(database: Database, maker: Principal, access: AccessList) -> UUID:
    id = uuid4()
    async with database.as_tenant(maker.tenant.id, is_write=True, grantees=grantees_of(maker)) as session:
        lists = (list(access.viewers), list(access.editors), list(access.managers))
        await session.execute(SQL["insert"], id, access.owner, *lists)
    return id


async def may(database: Database, principal: Principal, operation: str, id: UUID) -> bool:
    """Whether a statement of nobody's asking does anything; it is taken back."""

    class Undo(Exception):
        found = False

    try:
        async with database.as_tenant(principal.tenant.id, is_write=True, grantees=grantees_of(principal)) as session:
            undo = Undo()
            undo.found = await session.fetchrow(SQL[operation], id) is not None
            raise undo
    except Undo as undone:
        return undone.found
    except asyncpg.InsufficientPrivilegeError:
        return False


async def test_every_caller_grant_and_operation_is_decided_alike_in_code_and_in_the_database(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    """The whole walk, on rows that no resolver asks about: 144 lists and callers, six operations each."""
    callers = principals(tenant)
    walked = 0
    for grantee, level in itertools.product(GRANTEES, Level):
        access = AccessList.of(MAKER, [Grant(grantee, level)])
        id = await put(database, maker, access)
        # So that there is a link to see.
        async with database.as_tenant(tenant.id, is_write=True, grantees=grantees_of(maker)) as session:
            await session.execute(SQL["share"], id)
        for name, principal in callers.items():
            wanted = expected(name, grantee, level)
            assert level_of(grantees_of(principal), access) is wanted, (name, grantee, level)
            for operation, needed in OPERATIONS.items():
                is_allowed = wanted is not None and wanted.rank >= needed.rank
                assert await may(database, principal, operation, id) is is_allowed, (name, grantee, level, operation)
                walked += 1
    assert walked == len(WALK) * len(OPERATIONS) == 8 * 6 * 3 * 6


async def test_nobody_takes_an_object_over_or_deletes_it_for_good(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    id = await put(database, maker, AccessList(MAKER, managers=(EVERYONE,)))
    for principal in principals(tenant).values():
        for operation in ("take_over", "remove"):
            assert not await may(database, principal, operation, id)


async def test_what_is_deleted_is_there_for_managers_alone(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    id = await put(database, maker, AccessList(MAKER, viewers=("role:viewer",), editors=("role:editor",)))
    async with database.as_tenant(tenant.id, is_write=True, grantees=grantees_of(maker)) as session:
        assert await session.fetchrow(SQL["take_away"], id)
    seen = {name: await may(database, p, "see", id) for name, p in principals(tenant).items()}
    assert {name for name, is_seen in seen.items() if is_seen} == {"maker", "owner"}
    assert not await may(database, principals(tenant)["editor"], "edit", id)


async def test_a_new_object_is_its_makers_own(database: Database, tenant: Tenant, maker: Principal) -> None:
    for name, principal in principals(tenant).items():
        if name != "maker":
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await put(database, principal, AccessList(MAKER))


async def test_a_share_link_sees_its_one_object_and_changes_none(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    shown = await put(database, maker, AccessList(MAKER))
    hidden = await put(database, maker, AccessList(MAKER, viewers=(EVERYONE,)))
    link = Principal.of_share_link(tenant, uuid4(), object_name("question", shown))
    found = {operation: await may(database, link, operation, shown) for operation in OPERATIONS}
    assert {operation for operation, is_allowed in found.items() if is_allowed} == {"see"}
    assert not await may(database, link, "see", hidden)
    assert level_of(grantees_of(link), AccessList(MAKER), object_name("question", shown)) is Level.VIEW
    assert level_of(grantees_of(link), AccessList(MAKER), object_name("question", hidden)) is None


async def test_another_tenants_callers_see_nothing_whatever_they_are(
    database: Database, settings: Settings, tenant: Tenant, maker: Principal
) -> None:
    other = await accounts.create_tenant(database, slug=f"o-{uuid4()}", name="", tier=Tier.FREE)
    id = await put(database, maker, AccessList(MAKER, managers=(EVERYONE,)))
    link = Principal.of_share_link(other, uuid4(), object_name("question", id))
    for principal in [*principals(other).values(), link]:
        for operation in [*OPERATIONS, "take_over", "remove"]:
            assert not await may(database, principal, operation, id), (principal.actor, operation)


async def test_without_grantees_the_database_answers_with_an_error_and_not_with_nothing(
    settings: Settings, database: Database, tenant: Tenant, maker: Principal
) -> None:
    await put(database, maker, AccessList(MAKER, viewers=(EVERYONE,)))
    fresh = Database(settings, pool_size=1)
    try:
        with pytest.raises(TenantNotSet):
            async with fresh.as_tenant(tenant.id) as session:
                await session.fetch(SQL["see_all"])
        # On a connection that has had them the setting is empty, which is no list of anybody either.
        async with fresh.as_tenant(tenant.id, grantees=OF_OWNERS) as session:
            assert len(await session.fetch(SQL["see_all"])) == 1
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            async with fresh.as_tenant(tenant.id) as session:
                await session.fetch(SQL["see_all"])
    finally:
        await fresh.close()


@pytest.mark.parametrize("grantee", ["", "x'; DROP TABLE questions; --", "everyone,role:owner", "role:owner}", "a b"])
def test_a_grantee_of_no_known_form_never_reaches_the_database(grantee: str) -> None:
    with pytest.raises(ValueError, match="no grantee"):
        setting_of([EVERYONE, grantee])


def test_a_list_is_bounded_and_names_nobody_twice() -> None:
    twice = [Grant(EVERYONE, Level.VIEW), Grant(EVERYONE, Level.EDIT)]
    many = [Grant(f"person:{uuid4()}", Level.VIEW) for _ in range(101)]
    for grants in (twice, many):
        with pytest.raises(BadInput):
            AccessList.of(MAKER, grants)
