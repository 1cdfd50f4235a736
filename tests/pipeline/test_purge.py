"""What is deleted can be restored for 30 days and is gone after that, with its links."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.database import Database, as_owner
from core.errors import NotFound
from core.questions import Questions
from core.shares import Terms, create_link, revoke_link
from core.tenancy import Tenant
from pipeline.purge import purge_deleted
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
