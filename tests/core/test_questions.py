"""Saved questions: who may change one is judged under its lock, no edit undoes another, and nothing is lost at once."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import accounts
from core.access import EVERYONE, Grant, Level
from core.api_keys import revoke_key
from core.audit import Author
from core.database import Database
from core.errors import BadInput, CloudMetricsError, Conflict, NotFound, PermissionDenied
from core.permissions import Role
from core.queries import parse_blocks
from core.questions import Draft, EditConflict, Question, Questions, Wanted
from core.settings import Settings
from core.tenancy import Principal, Tenant, Tier
from tests.conftest import make_key
from tests.core.members import add_member, remove_member, set_role

QUERY = '{"metric": "events", "range": {"last": "24h"}}'
AUDIT = parse_blocks(
    "-- entries(subject)\n-- What the trail has.\n"
    "SELECT action, actor, diff::text AS diff, request_id FROM audit_log WHERE subject = $1 ORDER BY id;",
    "test",
)["entries"]
EVERYONE_VIEWS = [Grant(EVERYONE, Level.VIEW)]


def draft(name: str = "Orders", **changes: Any) -> Draft:
    return Draft(**{"name": name, "description": "", "query": QUERY, "tags": (), **changes})


def questions(database: Database, principal: Principal) -> Questions:
    return Questions(database, principal, "request-1")


@pytest.fixture
async def maker(database: Database, tenant: Tenant) -> Principal:
    return await add_member(database, tenant)


async def made(database: Database, maker: Principal, grants: list[Grant] | None = None) -> Question:
    return await questions(database, maker).create(draft(), EVERYONE_VIEWS if grants is None else grants)


async def outcome(asking: Any) -> str:
    """What comes of a write: done, or the code of its refusal."""
    try:
        await asking
    except CloudMetricsError as refusal:
        return refusal.code
    return "done"


async def test_an_edit_makes_a_revision_and_tells_the_trail_what_changed(database: Database, maker: Principal) -> None:
    first = await made(database, maker)
    second = await questions(database, maker).update(first.id, 1, {"name": "Sales", "tags": ("eu",)})
    assert (second.revision, second.draft.name, second.draft.tags) == (2, "Sales", ("eu",))
    assert second.draft.query == first.draft.query
    async with database.as_tenant(maker.tenant.id) as session:
        rows = await session.fetch(AUDIT, f"question:{first.id}")
    assert [(row["action"], row["actor"], row["request_id"]) for row in rows] == [
        ("question.create", maker.actor, "request-1"), ("question.update", maker.actor, "request-1"),
    ]  # fmt: skip
    assert rows[1]["diff"] == '{"name": ["Orders", "Sales"], "tags": [[], ["eu"]]}'


async def test_two_edits_of_one_revision_are_one_edit_and_one_conflict_with_the_other_version(
    database: Database, maker: Principal
) -> None:
    for _ in range(10):
        first = await made(database, maker)
        names = [f"name {n}" for n in range(4)]
        found = await asyncio.gather(
            *(questions(database, maker).update(first.id, 1, {"name": name}) for name in names), return_exceptions=True
        )
        won = [answer for answer in found if isinstance(answer, Question)]
        lost = [answer for answer in found if isinstance(answer, EditConflict)]
        assert (len(won), len(lost)) == (1, 3)
        for conflict in lost:
            assert conflict.theirs.draft.name == won[0].draft.name and conflict.theirs.revision == 2
            assert conflict.changed == ("name",)


async def test_the_same_edit_sent_twice_is_made_once_and_is_no_conflict(database: Database, maker: Principal) -> None:
    first = await made(database, maker)
    reordered = '{"range": {"last": "24h"}, "metric": "events"}'
    for _ in range(2):
        again = await questions(database, maker).update(first.id, 1, {"name": "Sales", "query": reordered})
        assert (again.revision, again.draft.name) == (2, "Sales")


async def test_a_change_of_the_list_is_no_edit_and_has_a_revision_of_its_own(
    database: Database, maker: Principal
) -> None:
    first = await made(database, maker)
    opened = await questions(database, maker).set_access(first.id, 1, [Grant("role:editor", Level.EDIT)])
    assert (opened.revision, opened.access_revision) == (1, 2)
    with pytest.raises(Conflict, match="accessRevision"):
        await questions(database, maker).set_access(first.id, 1, [Grant("role:viewer", Level.EDIT)])
    # Sent again after a lost answer, it is done already.
    again = await questions(database, maker).set_access(first.id, 1, [Grant("role:editor", Level.EDIT)])
    assert again.access_revision == 2


async def test_who_may_see_and_not_edit_is_refused_and_who_may_not_see_finds_nothing(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    other = await add_member(database, tenant)
    seen, hidden = await made(database, maker), await made(database, maker, [])
    asked = questions(database, other)
    for refuse, id in ((PermissionDenied, seen.id), (NotFound, hidden.id), (NotFound, uuid4())):
        for asking in (
            asked.update(id, 1, {"name": "x"}), asked.set_access(id, 1, []), asked.delete(id),
        ):  # fmt: skip
            with pytest.raises(refuse):
                await asking
    missing = [await outcome_text(asked.delete(id)) for id in (hidden.id, uuid4())]
    assert missing[0] == missing[1]


async def outcome_text(asking: Any) -> str:
    with pytest.raises(CloudMetricsError) as refusal:
        await asking
    return refusal.value.message


async def test_an_edit_and_the_end_of_the_right_to_it_never_both_happen_in_the_wrong_order(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    """Whoever is taken off the list while its edit waits for the lock is judged by the list as it is by then."""
    for _ in range(15):
        other = await add_member(database, tenant)
        grants = [Grant(other.actor, Level.EDIT), Grant(EVERYONE, Level.VIEW)]
        first = await made(database, maker, grants)
        edit, close = await asyncio.gather(
            outcome(questions(database, other).update(first.id, 1, {"name": "late"})),
            outcome(questions(database, maker).set_access(first.id, 1, EVERYONE_VIEWS)),
        )
        assert close == "done"
        assert edit in ("done", "permission_denied")
        assert await outcome(questions(database, other).update(first.id, 2, {"name": "later"})) == "permission_denied"


async def test_what_the_door_knew_of_a_caller_is_not_what_a_write_relies_on(
    database: Database, settings: Settings, tenant: Tenant, maker: Principal
) -> None:
    """Roles and keys are known for some seconds at the door; a write looks again."""
    first = await made(database, maker)
    await set_role(database, maker, Role.VIEWER)
    for asking in (
        questions(database, maker).create(draft(), []), questions(database, maker).update(first.id, 1, {"name": "x"}),
        questions(database, maker).delete(first.id),
    ):  # fmt: skip
        with pytest.raises(PermissionDenied, match="just changed"):
            await asking
    await remove_member(database, maker)
    assert await outcome(questions(database, maker).update(first.id, 1, {"name": "x"})) == "permission_denied"
    key, _ = await make_key(database, settings, tenant)
    by_key = Principal.of_key(tenant, key.id, key.scopes)
    second = await made(database, by_key)
    await revoke_key(database, tenant.id, key.id, Author.operator(tenant.id))
    assert await outcome(questions(database, by_key).update(second.id, 1, {"name": "x"})) == "permission_denied"
    raised = await set_role(database, await add_member(database, tenant, Role.VIEWER), Role.ADMIN)
    assert await outcome(questions(database, raised).create(draft(), [])) == "done"


async def test_a_manager_cannot_lock_itself_out_but_the_owner_can_close_everything(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    helper = await add_member(database, tenant)
    first = await made(database, maker, [Grant(helper.actor, Level.MANAGE)])
    with pytest.raises(BadInput) as refusal:
        await questions(database, helper).set_access(first.id, 1, EVERYONE_VIEWS)
    assert refusal.value.code == "locks_yourself_out"
    closed = await questions(database, maker).set_access(first.id, 1, [])
    assert closed.access.grants == []
    assert await outcome(questions(database, helper).set_access(first.id, 2, [])) == "not_found"


async def test_a_list_names_members_of_this_tenant_only(database: Database, tenant: Tenant, maker: Principal) -> None:
    elsewhere = await accounts.create_tenant(database, slug=f"e-{uuid4()}", name="", tier=Tier.FREE)
    stranger = await add_member(database, elsewhere)
    first = await made(database, maker)
    for grantee in (stranger.actor, f"person:{uuid4()}"):
        with pytest.raises(BadInput) as refusal:
            await questions(database, maker).set_access(first.id, 1, [Grant(grantee, Level.VIEW)])
        assert refusal.value.code == "no_member"


async def test_a_member_who_leaves_stands_in_no_list_any_more_and_a_return_gives_nothing_back(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    other = await add_member(database, tenant)
    first = await made(database, maker, [Grant(other.actor, Level.MANAGE), Grant("role:owner", Level.VIEW)])
    assert len(await questions(database, other).page(Wanted(), 10, None)) == 1
    await remove_member(database, other)
    again = await add_member(database, tenant, Role.EDITOR, other.person_id)
    assert await questions(database, again).page(Wanted(), 10, None) == []
    kept = await questions(database, maker).page(Wanted(), 10, None)
    assert [grant.grantee for grant in kept[0].access.grants] == ["role:owner"]
    assert kept[0].id == first.id


async def test_members_who_leave_while_they_are_named_make_no_deadlock(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    for _ in range(10):
        other = await add_member(database, tenant)
        first = await made(database, maker, [Grant(other.actor, Level.VIEW)])
        await asyncio.gather(
            outcome(questions(database, maker).set_access(first.id, 1, [Grant(other.actor, Level.EDIT)])),
            remove_member(database, other),
        )
        found = (await questions(database, maker).page(Wanted(), 1, None))[0]
        assert other.actor not in [grant.grantee for grant in found.access.grants]


async def test_what_is_deleted_is_in_no_list_and_comes_back_whole(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    first = await made(database, maker)
    mine = questions(database, maker)
    assert (await mine.delete(first.id)).deleted_at is not None
    assert await mine.page(Wanted(), 10, None) == []
    assert [q.id for q in await mine.page(Wanted(is_deleted=True), 10, None)] == [first.id]
    for asking in (mine.update(first.id, 1, {"name": "x"}), mine.delete(first.id)):
        with pytest.raises(NotFound):
            await asking
    other = questions(database, await add_member(database, tenant))
    assert await other.page(Wanted(is_deleted=True), 10, None) == []
    assert await outcome(other.restore(first.id)) == "not_found"
    assert await mine.restore(first.id) == first
    assert await outcome(mine.restore(first.id)) == "not_found"


async def test_pages_meet_every_visible_question_once_while_most_are_hidden_and_new_ones_come(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    reader = questions(database, await add_member(database, tenant, Role.VIEWER))
    visible = []
    for n in range(23):
        question = await made(database, maker, EVERYONE_VIEWS if n % 3 == 0 else [])
        visible += [question.id] if n % 3 == 0 else []
    seen: list[UUID] = []
    after: tuple[datetime, UUID] | None = None
    while page := await reader.page(Wanted(), 3, after):
        seen += [question.id for question in page]
        after = (page[-1].created_at, page[-1].id)
        await made(database, maker)
        assert len(page) == 3 or len(seen) == len(visible)
    assert seen == visible[::-1]


async def test_a_list_is_searched_by_text_whatever_its_case_and_filtered_by_tag(
    database: Database, tenant: Tenant, maker: Principal
) -> None:
    mine = questions(database, maker)
    for name, description, tags in (("Orders 100%", "", ("eu",)), ("x", "All ORDERS", ()), ("y", "", ("eu", "us"))):
        await mine.create(draft(name, description=description, tags=tags), [])

    async def names(wanted: Wanted) -> list[str]:
        found = [question.draft.name for question in await mine.page(wanted, 10, None)]
        assert await mine.count(wanted) == len(found)
        return found

    assert await names(Wanted(search="oRdErS")) == ["x", "Orders 100%"]
    assert await names(Wanted(search="%")) == ["Orders 100%"]
    assert await names(Wanted(search="_")) == []
    assert await names(Wanted(tag="eu")) == ["y", "Orders 100%"]
    assert await names(Wanted(search="orders", tag="eu")) == ["Orders 100%"]
    other = questions(database, await add_member(database, tenant))
    assert await other.count(Wanted()) == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"), ({"name": "  "}, "name"), ({"name": "x" * 201}, "name"), ({"name": "a\0"}, "name"),
        ({"name": "\ud800"}, "name"), ({"name": "a\nb"}, "name"), ({"description": "x" * 2001}, "description"),
        ({"description": "\0"}, "description"), ({"description": "\udfff"}, "description"),
        ({"tags": tuple(map(str, range(21)))}, "tags"), ({"tags": ("a", "a")}, "tags"), ({"tags": ("",)}, "tags"),
        ({"tags": ("x" * 51,)}, "tags"), ({"tags": ("\0",)}, "tags"),
    ],
)  # fmt: skip
async def test_texts_that_cannot_be_kept_are_refused_by_name(
    database: Database, maker: Principal, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadInput) as refusal:
        await questions(database, maker).create(draft(**changes), [])
    assert refusal.value.field == field
    first = await made(database, maker)
    with pytest.raises(BadInput):
        await questions(database, maker).update(first.id, 1, changes)
