"""What is deleted can be restored for 30 days and is gone after that, with its links; what ended goes later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.database import Database, as_owner
from core.errors import NotFound
from core.invitations import invite_member
from core.members import Authority
from core.permissions import Role
from core.questions import Questions
from core.sessions import open_session
from core.settings import Settings
from core.shares import Terms, create_link, revoke_link
from core.tenancy import Tenant
from pipeline.purge import purge_deleted
from tests.conftest import make_person
from tests.core.members import add_member
from tests.core.test_questions import draft


async def test_deleted_questions_and_ended_links_go_after_thirty_days_and_nothing_else(
    database: Database, tenant: Tenant, superuser_url: str
) -> None:
    maker = await add_member(database, tenant)
    mine = Questions(database, maker, "r")
    kept, gone = await mine.create(draft("kept"), []), await mine.create(draft("gone"), [])
    links = [
        await create_link(database, maker, "r", "question", kept.id, name="", terms=Terms(), expires_at=None)
        for _ in range(2)
    ]
    await mine.delete(gone.id)
    await revoke_link(database, maker, "r", links[0].link.id)
    now = datetime.now(UTC)
    assert await purge_deleted(database, now + timedelta(days=29)) == 0
    await mine.restore(gone.id)
    await mine.delete(gone.id)
    assert await purge_deleted(database, now + timedelta(days=30, minutes=1)) == 2
    with pytest.raises(NotFound):
        await mine.restore(gone.id)
    async with as_owner(superuser_url) as connection:
        left = await connection.fetch("SELECT id FROM questions UNION ALL SELECT id FROM share_links")
    assert {row["id"] for row in left} == {kept.id, links[1].link.id}


async def test_sessions_and_invitations_go_long_after_their_end_and_live_ones_stay(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.purge.BITE", 2)
    person = await make_person(database, tenant)
    for n in range(6):
        await open_session(
            database, settings, person_id=person.id, tenant_id=tenant.id, method="password", address="", agent="",
            locked=False,
        )  # fmt: skip
        await invite_member(database, settings, Authority.operator(tenant.id), f"n{n}@example.com", Role.VIEWER)
    async with as_owner(superuser_url) as connection:
        await connection.execute(
            "UPDATE sessions SET created_at = created_at - interval '60 days' "
            "WHERE id IN (SELECT id FROM sessions LIMIT 5)"
        )
        await connection.execute(
            "UPDATE invitations SET expires_at = now() - interval '90 days' WHERE email <> 'n5@example.com'"
        )
    now = datetime.now(UTC)
    assert await purge_deleted(database, now - timedelta(hours=1)) == 0
    assert await purge_deleted(database, now + timedelta(minutes=1)) == 10
    async with as_owner(superuser_url) as connection:
        left = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM sessions) AS sessions, (SELECT array_agg(email) FROM invitations) AS invited"
        )
    assert (left["sessions"], left["invited"]) == (1, ["n5@example.com"])
