"""Sessions and their refresh tokens, over a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from core.accounts import create_tenant
from core.database import Database, as_owner
from core.errors import CloudMetricsError, NotFound, PermissionDenied, Unauthenticated
from core.own_sessions import Own, count_sessions, list_sessions
from core.refresh_tokens import RefreshToken
from core.sessions import (
    MOST_OF_PERSON,
    EndedSession,
    OpenedSession,
    Origin,
    close_session,
    open_session,
    refresh_session,
    revoke_sessions,
    switch_session,
)
from core.settings import Settings
from core.tenancy import PersonId, Tenant, Tier
from tests.conftest import make_person

ORIGIN = Origin("192.0.2.7", "curl/8", "request-1")


async def signed_in(database: Database, settings: Settings, tenant: Tenant, **given: Any) -> OpenedSession:
    person_id = given.pop("person_id", None) or (await make_person(database, tenant)).id
    asked: dict[str, Any] = {"method": "password", "address": "192.0.2.7", "agent": "curl/8", "locked": False, **given}
    return await open_session(database, settings, person_id=person_id, tenant_id=tenant.id, **asked)


async def refreshed(database: Database, settings: Settings, token: str) -> str:
    return (await refresh_session(database, settings, token, ORIGIN)).refresh_token


async def refusal(database: Database, settings: Settings, token: str) -> str:
    with pytest.raises(Unauthenticated) as refused:
        await refresh_session(database, settings, token, ORIGIN)
    return refused.value.code


async def later(superuser_url: str, opened: OpenedSession, **columns: timedelta) -> None:
    """Puts a session's times back by so much."""
    async with as_owner(superuser_url) as connection:
        for column, by in columns.items():
            await connection.execute(
                f"UPDATE sessions SET {column} = {column} - $2::interval WHERE id = $1", opened.session_id, by
            )


async def trail(superuser_url: str, subject: object) -> list[tuple[str, str]]:
    """Actions and diffs on a subject, oldest first."""
    async with as_owner(superuser_url) as connection:
        rows = await connection.fetch("SELECT action, diff FROM audit_log WHERE subject = $1 ORDER BY at", str(subject))
    return [(row["action"], row["diff"]) for row in rows]


async def test_a_refresh_token_is_good_once_and_gives_the_next(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    second = await refreshed(database, settings, opened.refresh_token)
    third = await refreshed(database, settings, second)
    assert len({opened.refresh_token, second, third}) == 3
    assert await trail(superuser_url, opened.session_id) == [
        ("session.open", '{"locked": false, "method": "password", "address": "192.0.2.7"}')
    ]


@pytest.mark.parametrize("times", [2, 10])
async def test_tokens_used_at_once_all_get_the_same_successor(
    database: Database, settings: Settings, tenant: Tenant, times: int
) -> None:
    opened = await signed_in(database, settings, tenant)
    found = await asyncio.gather(*(refreshed(database, settings, opened.refresh_token) for _ in range(times)))
    assert len(set(found)) == 1
    assert await refreshed(database, settings, found[0]) not in (found[0], opened.refresh_token)


async def test_a_token_used_again_after_the_grace_ends_the_session_and_says_so_in_the_trail(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    second = await refreshed(database, settings, opened.refresh_token)
    await later(superuser_url, opened, rotated_at=timedelta(seconds=6))
    assert await refusal(database, settings, opened.refresh_token) == "session_revoked"
    assert await refusal(database, settings, second) == "session_revoked"
    assert [action for action, _ in await trail(superuser_url, opened.session_id)] == ["session.open", "session.revoke"]
    assert "token_reused" in (await trail(superuser_url, opened.session_id))[-1][1]


async def test_a_grandparent_within_the_grace_is_a_reuse(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    opened = await signed_in(database, settings, tenant)
    third = await refreshed(database, settings, await refreshed(database, settings, opened.refresh_token))
    assert await refusal(database, settings, opened.refresh_token) == "session_revoked"
    assert await refusal(database, settings, third) == "session_revoked"


async def test_what_is_no_token_of_ours_ends_nobodys_session(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    opened = await signed_in(database, settings, tenant)
    foreign = RefreshToken.new()
    for text in ("", "x", foreign.text, opened.access_token, opened.refresh_token + "A", "cm_rt_" + "é" * 64, "\x00"):
        assert await refusal(database, settings, text) == "invalid_token"
    await refreshed(database, settings, opened.refresh_token)


@pytest.mark.parametrize("column, by", [("expires_at", timedelta(days=30)), ("last_used_at", timedelta(days=14))])
async def test_a_session_ends_by_its_age_and_by_idleness(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str, column: str, by: timedelta
) -> None:
    opened = await signed_in(database, settings, tenant)
    await later(superuser_url, opened, **{column: by - timedelta(minutes=1)})
    token = await refreshed(database, settings, opened.refresh_token)
    if column == "last_used_at":
        await later(superuser_url, opened, last_used_at=by + timedelta(minutes=1))
    else:
        await later(superuser_url, opened, expires_at=timedelta(minutes=1))
    assert await refusal(database, settings, token) == "session_expired"


async def test_refreshing_does_not_lengthen_the_thirty_days(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    opened = await signed_in(database, settings, tenant)
    again = await refresh_session(database, settings, opened.refresh_token, ORIGIN)
    assert again.expires_at == opened.expires_at


async def test_signing_out_ends_the_session_whichever_token_it_is_told_by(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    token = await refreshed(database, settings, opened.refresh_token)
    await close_session(database, token, ORIGIN)
    await close_session(database, token, ORIGIN)
    await close_session(database, "no token", ORIGIN)
    assert await refusal(database, settings, token) == "session_revoked"
    assert [action for action, _ in await trail(superuser_url, opened.session_id)] == ["session.open", "session.close"]


async def test_a_person_who_is_no_member_any_more_gets_no_new_token(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    async with as_owner(superuser_url) as connection:
        await connection.execute("DELETE FROM members WHERE person_id = $1", opened.person_id)
    assert await refusal(database, settings, opened.refresh_token) == "session_revoked"
    assert await refusal(database, settings, opened.refresh_token) == "session_revoked"


async def test_nobody_signs_in_to_a_tenant_it_is_no_member_of(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, other)
    with pytest.raises(PermissionDenied):
        await signed_in(database, settings, tenant, person_id=person.id)


async def test_a_disabled_person_neither_signs_in_nor_refreshes(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    async with as_owner(superuser_url) as connection:
        await connection.execute("UPDATE people SET disabled_at = now() WHERE id = $1", opened.person_id)
    assert await refusal(database, settings, opened.refresh_token) == "session_revoked"
    with pytest.raises(PermissionDenied):
        await signed_in(database, settings, tenant, person_id=opened.person_id)


async def test_sessions_are_revoked_by_person_by_tenant_and_one_by_one(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    here = [await signed_in(database, settings, tenant, person_id=person.id) for _ in range(3)]
    there = await signed_in(database, settings, other, person_id=person.id)

    async def ended(**which: Any) -> set[object]:
        async with database.as_doorkeeper(is_write=True) as session:
            ended = await revoke_sessions(session, person_id=person.id, reason="test", **which)
        return {one.id for one in ended}

    assert await ended(session_id=here[0].session_id) == {here[0].session_id}
    assert await ended(tenant_id=tenant.id, keep=here[1].session_id) == {here[2].session_id}
    assert await ended() == {here[1].session_id, there.session_id}
    assert await ended() == set()


async def test_a_tenants_own_transaction_ends_what_is_in_it_and_sees_no_hash(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    """As when a member is removed: in the same moment, and never beyond the tenant."""
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    here = await signed_in(database, settings, tenant, person_id=person.id)
    there = await signed_in(database, settings, other, person_id=person.id)
    async with database.as_tenant(tenant.id, is_write=True) as session:
        ended = await revoke_sessions(session, person_id=person.id, reason="removed")
    assert ended == [EndedSession(here.session_id, tenant.id)]
    await refreshed(database, settings, there.refresh_token)
    async with as_owner(settings.app_url) as connection:
        await connection.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        assert await connection.fetchval("SELECT count(*) FROM (SELECT id FROM sessions) s") >= 1
        for column in ("token_hash", "family_hash", "sealed_token"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT {column} FROM sessions")


async def test_a_person_has_so_many_sessions_and_the_oldest_goes(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    person = await make_person(database, tenant)
    opened = [await signed_in(database, settings, tenant, person_id=person.id) for _ in range(MOST_OF_PERSON + 2)]
    live = await list_sessions(database, Own(person.id), 100)
    assert [row.id for row in live] == [one.session_id for one in reversed(opened[2:])]
    assert await count_sessions(database, Own(person.id)) == MOST_OF_PERSON
    assert await refusal(database, settings, opened[0].refresh_token) == "session_revoked"


async def test_a_session_moves_between_its_persons_tenants_alone_unless_it_is_locked(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="Other", tier=Tier.FREE)
    strange = await create_tenant(database, slug=f"strange-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    free = await signed_in(database, settings, tenant, person_id=person.id)
    locked = await signed_in(database, settings, tenant, person_id=person.id, locked=True)

    _, membership = await switch_session(database, settings, free.session_id, other.slug, "request-9")
    assert membership.tenant == other
    moved = await refresh_session(database, settings, free.refresh_token, ORIGIN)
    assert moved.tenant_id == other.id
    told = [action for action, _ in await trail(superuser_url, free.session_id)]
    assert told[0] == "session.open" and set(told[1:]) == {"session.leave", "session.enter"} and len(told) == 3

    for slug in (strange.slug, "no-such-tenant"):
        with pytest.raises(NotFound) as refused:
            await switch_session(database, settings, free.session_id, slug, "request-9")
        assert slug not in refused.value.message
    # A locked one does not even learn which tenants its person has.
    for slug in (other.slug, strange.slug, tenant.slug):
        with pytest.raises(PermissionDenied) as locked_up:
            await switch_session(database, settings, locked.session_id, slug, "request-9")
        assert locked_up.value.code == "session_locked"
    assert (await refresh_session(database, settings, locked.refresh_token, ORIGIN)).tenant_id == tenant.id


async def test_nothing_of_a_token_is_kept_in_the_clear(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    opened = await signed_in(database, settings, tenant)
    second = await refreshed(database, settings, opened.refresh_token)
    tokens = [RefreshToken.parse(text) for text in (opened.refresh_token, second)]
    async with as_owner(superuser_url) as connection:
        row = await connection.fetchrow("SELECT * FROM sessions WHERE id = $1", opened.session_id)
    kept = b"".join(value for value in row.values() if isinstance(value, bytes))
    for token in tokens:
        assert token.own not in kept and token.family not in kept


async def test_an_unknown_person_is_refused_as_one_who_is_no_member(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    with pytest.raises(CloudMetricsError) as refused:
        await signed_in(database, settings, tenant, person_id=PersonId(uuid4()))
    assert refused.value.code == "not_a_member"


async def test_sessions_that_move_in_opposite_directions_at_once_do_not_wait_for_ever(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    other = await create_tenant(database, slug=f"other-{uuid4().hex[:8]}", name="", tier=Tier.FREE)
    person = await make_person(database, tenant, other)
    here = [await signed_in(database, settings, tenant, person_id=person.id) for _ in range(6)]
    there = [await signed_in(database, settings, other, person_id=person.id) for _ in range(6)]
    moves = [(one, other) for one in here] + [(one, tenant) for one in there]
    moved = await asyncio.gather(
        *(switch_session(database, settings, one.session_id, to.slug, "request-9") for one, to in moves)
    )
    assert [membership.tenant for _, membership in moved] == [to for _, to in moves]
