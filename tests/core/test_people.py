"""E-mails and names as they are kept, and where a person was last."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.accounts import create_tenant
from core.database import Database, as_owner
from core.errors import BadInput, Conflict
from core.people import (
    checked_email,
    checked_person_name,
    find_person_by_email,
    insert_member,
    insert_person,
    list_memberships,
)
from core.permissions import Role
from core.sessions import open_session
from core.settings import Settings
from core.tenancy import Tenant, Tier
from tests.conftest import make_person


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("ada@shop.example", "ada@shop.example"),
        ("  Ada.Lovelace+news@Shop.EXAMPLE \n", "ada.lovelace+news@shop.example"),
        ("o'neil_-!#$%&*/?=^`{|}~@a.b-c.xn--p1ai", "o'neil_-!#$%&*/?=^`{|}~@a.b-c.xn--p1ai"),
        (f"{'a' * 64}@b.example", f"{'a' * 64}@b.example"),
    ],
)
def test_an_email_is_kept_in_lower_case(text: str, kept: str) -> None:
    assert checked_email(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "", "@", "a@", "@b.example", "a@b", "a b@c.example", "a@b..example", ".a@b.example", "a.@b.example",
        "a..b@c.example", "a@-b.example", "a@b-.example", "a@b_c.example", "a@[127.0.0.1]", '"a b"@c.example',
        "a@b.example>", "<a@b.example>", "a@b.example\r\nBcc: c@d.example", "a\x00@b.example", "a@b@c.example",
        f"{'a' * 65}@b.example", f"a@{'b' * 64}.example", f"a@{'b.' * 130}example", "a@b.example," * 200,
        "аda@shop.example", "ada@ѕhop.example", "ada@shop\u3002example", "ad\u0130@shop.example",
        "=?utf-8?q??=@corp.com", "a=?utf-8?q?b?=@corp.com",
    ],
)  # fmt: skip
def test_what_is_no_email_of_the_plain_kind_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        checked_email(text)
    assert (refusal.value.code, refusal.value.field) == ("bad_email", "email")


@given(st.text(max_size=80))
def test_whatever_is_accepted_is_one_word_of_ascii_in_lower_case(text: str) -> None:
    try:
        kept = checked_email(text + "@shop.example")
    except BadInput:
        return
    assert kept.isascii() and kept == kept.lower() and kept.isprintable() and " " not in kept
    assert checked_email(kept) == kept


@pytest.mark.parametrize("name", ["", " ", "\t", "x" * 201, "a\nb", "a\x00", "a\u202eb", "=?utf-8?q?a=0D=0ABcc:?="])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput):
        checked_person_name(name)


async def test_an_email_is_one_persons(database: Database, tenant: Tenant) -> None:
    person = await make_person(database, tenant)
    with pytest.raises(Conflict):
        async with database.as_doorkeeper(is_write=True) as session:
            await insert_person(session, email=person.email, name="Another", password_hash=None)
    with pytest.raises(Conflict):
        async with database.as_tenant(tenant.id, is_write=True) as session:
            await insert_member(session, tenant.id, person.id, Role.OWNER)
    found = await find_person_by_email(database, person.email)
    assert found == person
    assert await find_person_by_email(database, "nobody@people.example") is None


async def test_tenants_are_listed_where_the_person_was_last_first_and_locked_sessions_do_not_count(
    database: Database, settings: Settings, tenant: Tenant, superuser_url: str
) -> None:
    others = [await create_tenant(database, slug=f"o-{uuid4().hex[:8]}", name="", tier=Tier.FREE) for _ in range(2)]
    person = await make_person(database, tenant, *others)

    async def order() -> list[str]:
        return [membership.tenant.slug for membership in await list_memberships(database, person.id)]

    async def visit(where: Tenant, *, locked: bool) -> None:
        async with as_owner(superuser_url) as connection:
            # Everything of before was a minute ago.
            await connection.execute("UPDATE sessions SET last_used_at = last_used_at - $1::interval", timedelta(0, 60))
        await open_session(
            database, settings, person_id=person.id, tenant_id=where.id, method="x", address="", agent="", locked=locked
        )

    first, second = others
    assert await order() == [tenant.slug, first.slug, second.slug]
    await visit(second, locked=False)
    assert await order() == [second.slug, tenant.slug, first.slug]
    await visit(first, locked=False)
    assert await order() == [first.slug, second.slug, tenant.slug]
    await visit(tenant, locked=True)
    assert await order() == [first.slug, second.slug, tenant.slug]
