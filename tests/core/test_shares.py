"""Share links: what ends one, who makes one, and that a link is worth no more than its maker."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from core import accounts
from core.access import EVERYONE, Grant, Level, grantees_of
from core.api_keys import revoke_key
from core.audit import Author
from core.database import Database, as_owner
from core.errors import BadInput, NotFound, PermissionDenied
from core.permissions import Permission, Role
from core.queries import parse_blocks
from core.questions import Questions
from core.settings import Settings
from core.shares import (
    MAX_LIVE,
    MadeLink,
    Terms,
    create_link,
    find_grant,
    find_links,
    is_well_formed,
    links_of_objects,
    revoke_link,
)
from core.tenancy import Principal, PrincipalKind, Tenant, Tier
from tests.conftest import make_key
from tests.core.members import add_member, remove_member, set_role
from tests.core.test_questions import draft

SQL = parse_blocks(
    """-- token_columns(id)
-- Everything that is stored of a link, as text.
SELECT row_to_json(l)::text AS text FROM share_links l WHERE id = $1;

-- trail()
-- Everything that the trail has, as text.
SELECT string_agg(row_to_json(a)::text, '') AS text FROM audit_log a;

-- expire(id)
-- As the owner of the table alone could.
UPDATE share_links SET expires_at = now() - interval '1 second' WHERE id = $1;

-- rewrite(id)
-- Terms are never changed by the application.
UPDATE share_links SET locked_filters = '[]', expires_at = now() + interval '10 years' WHERE id = $1;
""",
    "links of tests",
)


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> Principal:
    return await add_member(database, tenant)


async def question(database: Database, maker: Principal, grants: list[Grant] | None = None) -> UUID:
    return (await Questions(database, maker, "r").create(draft(), grants or [])).id


async def link(database: Database, maker: Principal, object_id: UUID, **asked: Any) -> MadeLink:
    wanted: dict[str, Any] = {"name": "", "terms": Terms(), "expires_at": None, **asked}
    return await create_link(database, maker, "r", "question", object_id, **wanted)


async def is_good(database: Database, made: MadeLink) -> bool:
    return await find_grant(database, made.token) is not None


async def test_a_token_is_random_well_formed_and_stored_nowhere(database: Database, maker: Principal) -> None:
    id = await question(database, maker)
    made, again = await link(database, maker, id), await link(database, maker, id)
    assert made.token != again.token and is_well_formed(made.token)
    async with database.as_tenant(maker.tenant.id, grantees=grantees_of(maker)) as session:
        stored = await session.fetchrow(SQL["token_columns"], made.link.id)
        trail = await session.fetchrow(SQL["trail"])
    assert stored and trail and str(made.link.id) in trail["text"]
    assert made.token not in stored["text"] + trail["text"]
    assert made.token[6:] not in stored["text"] + trail["text"]


async def test_a_links_principal_may_see_what_is_shared_and_nothing_else(database: Database, maker: Principal) -> None:
    id = await question(database, maker)
    grant = await find_grant(database, (await link(database, maker, id)).token)
    assert grant is not None
    principal = grant.principal()
    assert principal.kind is PrincipalKind.SHARE_LINK and principal.tenant.id == maker.tenant.id
    assert principal.permissions == {Permission.IDENTITY_READ, Permission.SHARED_READ}
    assert grantees_of(principal) == (f"question:{id}",)


async def test_what_ends_a_link(database: Database, maker: Principal) -> None:
    id = await question(database, maker)
    revoked, left = await link(database, maker, id), await link(database, maker, id)
    assert await is_good(database, revoked)
    ended = await revoke_link(database, maker, "r", revoked.link.id)
    assert ended.revoked_at is not None and not ended.is_live
    # Once more, as after a lost answer, changes nothing.
    assert await revoke_link(database, maker, "r", revoked.link.id) == ended
    assert not await is_good(database, revoked) and await is_good(database, left)
    soon = await link(database, maker, id, expires_at=datetime.now(UTC) + timedelta(seconds=0.2))
    assert await is_good(database, soon)
    await asyncio.sleep(0.3)
    assert not await is_good(database, soon)
    await Questions(database, maker, "r").delete(id)
    assert not await is_good(database, left)
    await Questions(database, maker, "r").restore(id)
    assert await is_good(database, left)


async def test_a_link_is_worth_no_more_than_its_maker(database: Database, tenant: Tenant, maker: Principal) -> None:
    helper = await add_member(database, tenant)
    id = await question(database, maker, [Grant(helper.actor, Level.MANAGE), Grant(EVERYONE, Level.VIEW)])
    made = await link(database, helper, id)
    owned = Questions(database, maker, "r")

    await set_role(database, helper, Role.VIEWER)
    assert not await is_good(database, made)
    await set_role(database, helper, Role.EDITOR)
    assert await is_good(database, made)
    await owned.set_access(id, 1, [Grant(helper.actor, Level.EDIT)])
    assert not await is_good(database, made)
    await owned.set_access(id, 2, [Grant(helper.actor, Level.MANAGE)])
    assert await is_good(database, made)
    async with database.as_doorkeeper(is_write=True) as session:
        disable = parse_blocks("-- a(id)\n-- b\nUPDATE people SET disabled_at = now() WHERE id = $1;", "test")["a"]
        await session.execute(disable, helper.person_id)
    assert not await is_good(database, made)
    await remove_member(database, helper)
    assert not await is_good(database, made)


async def test_the_links_of_a_member_that_was_removed_stay_ended_when_it_is_invited_again(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    helper = await add_member(database, tenant)
    id, own = await question(database, maker), await question(database, helper)
    left, made = await link(database, maker, id), await link(database, helper, own)
    assert await is_good(database, left) and await is_good(database, made)
    await remove_member(database, helper)
    await add_member(database, tenant, Role.OWNER, helper.person_id)
    assert not await is_good(database, made) and await is_good(database, left)
    assert (await find_links(database, tenant.id, grantees_of(helper), [made.link.id]))[made.link.id].revoked_at
    assert await is_good(database, await link(database, helper, own))


async def test_a_link_ends_with_the_key_that_made_it(database: Database, settings: Settings, tenant: Tenant) -> None:
    key, _ = await make_key(database, settings, tenant)
    maker = Principal.of_key(tenant, key.id, key.scopes)
    made = await link(database, maker, await question(database, maker))
    assert await is_good(database, made)
    await revoke_key(database, tenant.id, key.id, Author.operator(tenant.id))
    assert not await is_good(database, made)


async def test_a_link_of_a_tenant_that_is_to_be_deleted_shows_nothing_until_the_tenant_is_restored(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    key, _ = await make_key(database, settings, tenant)
    maker = Principal.of_key(tenant, key.id, key.scopes)
    made = await link(database, maker, await question(database, maker))
    async with as_owner(superuser_url) as connection:
        for ends, is_shown in (("now() + interval '7 days'", False), ("NULL", True)):
            await connection.execute(f"UPDATE tenants SET ends_at = {ends} WHERE id = $1", tenant.id)
            assert await is_good(database, made) is is_shown


async def test_only_who_manages_an_object_makes_sees_and_ends_its_links(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    editor, viewer = await add_member(database, tenant), await add_member(database, tenant)
    id = await question(database, maker, [Grant(editor.actor, Level.EDIT), Grant(viewer.actor, Level.VIEW)])
    hidden = await question(database, maker)
    made = await link(database, maker, id)
    for other in (editor, viewer):
        with pytest.raises(PermissionDenied):
            await link(database, other, id)
        with pytest.raises(NotFound):
            await link(database, other, hidden)
        with pytest.raises(NotFound):
            await revoke_link(database, other, "r", made.link.id)
        assert await links_of_objects(database, tenant.id, grantees_of(other), "question", [id]) == {}
        assert await find_links(database, tenant.id, grantees_of(other), [made.link.id]) == {}
    owner = await add_member(database, tenant, Role.OWNER)
    found = await links_of_objects(database, tenant.id, grantees_of(owner), "question", [id, hidden])
    assert [[one.id for one in links] for links in found.values()] == [[made.link.id]]
    assert not (await revoke_link(database, owner, "r", made.link.id)).is_live


async def test_another_tenants_objects_and_links_are_not_there(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    elsewhere = await accounts.create_tenant(database, slug=f"e-{uuid4()}", name="", tier=Tier.FREE)
    stranger = await add_member(database, elsewhere, Role.OWNER)
    id = await question(database, maker, [Grant(EVERYONE, Level.MANAGE)])
    made = await link(database, maker, id)
    for asking in (link(database, stranger, id), revoke_link(database, stranger, "r", made.link.id)):
        with pytest.raises(NotFound):
            await asking
    assert await find_links(database, elsewhere.id, grantees_of(stranger), [made.link.id]) == {}
    grant = await find_grant(database, made.token)
    assert grant is not None and grant.tenant.id == tenant.id


async def test_terms_are_never_changed_by_the_application(database: Database, maker: Principal) -> None:
    made = await link(database, maker, await question(database, maker))
    for statement in ("rewrite", "expire"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.as_tenant(maker.tenant.id, is_write=True, grantees=grantees_of(maker)) as session:
                await session.execute(SQL[statement], made.link.id)


async def test_an_object_has_so_many_live_links_however_many_are_made_at_once(
    database: Database, maker: Principal
) -> None:
    id = await question(database, maker)
    first = [await link(database, maker, id) for _ in range(MAX_LIVE - 3)]
    found = await asyncio.gather(*(link(database, maker, id) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, MadeLink) for answer in found) == 3
    assert all(isinstance(answer, (MadeLink, BadInput)) for answer in found)
    await revoke_link(database, maker, "r", first[0].link.id)
    assert (await link(database, maker, id)).link.is_live


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"expires_at": datetime.now(UTC) - timedelta(seconds=1)}, "expiresAt"),
        ({"expires_at": datetime.now(UTC) + timedelta(days=366)}, "expiresAt"),
        ({"expires_at": datetime(2030, 1, 1)}, "expiresAt"),
        ({"name": "x" * 201}, "name"),
        ({"terms": Terms(cost_per_minute=99)}, "costPerMinute"),
        ({"terms": Terms(cost_per_minute=100_001)}, "costPerMinute"),
        ({"terms": Terms(rows_per_hour=0)}, "rowsPerHour"),
        ({"terms": Terms(rows_per_hour=-1)}, "rowsPerHour"),
    ],
)
async def test_an_end_or_a_budget_out_of_bounds_is_refused_by_name(
    database: Database, maker: Principal, asked: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        await link(database, maker, uuid4(), **asked)
    assert refusal.value.field == field


@pytest.mark.parametrize("token", ["", "cm_sl_", "cm_sl_" + "a" * 42, "cm_sl_" + "a" * 44, "cm_sl_" + "é" * 43])
def test_what_cannot_be_a_token_is_never_looked_up(token: str) -> None:
    assert not is_well_formed(token)
