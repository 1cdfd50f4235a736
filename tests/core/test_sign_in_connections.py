"""Connections and identities in the database: whose they are, what the trail tells, what nobody may do with them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from core import accounts
from core.audit import Author
from core.database import Database, as_owner
from core.errors import BadInput, Conflict, NotFound, PermissionDenied, TooMany
from core.identities import confirm_session, delete_identity, list_identities, recognise, shown_email, shown_name
from core.members import Authority
from core.permissions import Role
from core.sessions import open_session
from core.settings import Settings
from core.sign_in_attempts import Attempt, Purpose, await_attempt
from core.sign_in_connections import (
    DELETE,
    MAX_CONNECTIONS,
    UPDATE,
    OidcConfig,
    SamlConfig,
    SignInConnection,
    _columns,
    connection_by_id,
    create_connection,
    delete_connection,
    list_connections,
    load_connections,
    lock_connection,
    new_connection,
    offered_connections,
    sealed,
    update_connection,
)
from core.sign_in_rules import (
    ConnectionKind,
    Preset,
    RoleRule,
    Vouched,
    checked_domains,
    checked_rules,
    role_of,
)
from core.sign_in_setup import ConnectionAsked, OidcAsked, change_of
from core.tenancy import PersonId, SessionId, Tenant, Tier
from tests.conftest import Servers
from tests.core.people_builder import as_member, make_member
from tests.web.sso_site import rows

SECRET = "the client secret itself"
ADA = Vouched("https://login.example.com", "ada-7", "ada@example.com", True, "Ada", {"groups": ("a", "b")})


def author(tenant: Tenant) -> Author:
    return Author(tenant.id, "person:admin", "request-1")


def operator(tenant: Tenant) -> Authority:
    return Authority.operator(tenant.id)


async def make(database: Database, settings: Settings, tenant: Tenant, **parts: Any) -> SignInConnection:
    config = OidcConfig("https://login.example.com", "us")
    made = new_connection(tenant, preset=Preset.OIDC, name=uuid4().hex, config=config, now=datetime.now(UTC))
    kept = sealed(SECRET, made.id, settings.master_key_bytes())
    return await create_connection(database, operator(tenant), replace(made, sealed_secret=kept, **parts))


async def come(database: Database, tenant: Tenant, connection: SignInConnection, vouched: Vouched = ADA) -> PersonId:
    async with database.as_tenant(tenant.id, is_write=True) as session:
        return await recognise(session, author(tenant), connection, vouched)


@pytest.fixture
async def other(database: Database) -> Tenant:
    return await accounts.create_tenant(database, slug=f"o-{uuid4()}", name="Other", tier=Tier.SELF_HOSTED)


async def test_a_secret_is_kept_sealed_and_is_in_no_entry_of_the_trail(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    made = await make(database, settings, tenant)
    assert made.secret(settings.master_key_bytes()) == SECRET
    again = sealed("another secret", made.id, settings.master_key_bytes())
    await update_connection(database, operator(tenant), made.id, lambda before: replace(before, sealed_secret=again))
    everything = json.dumps(
        [str(row) for table in ("sign_in_connections", "audit_log") for row in
         await rows(servers, settings, f"SELECT * FROM {table} WHERE tenant_id = $1", tenant.id)]
    )  # fmt: skip
    assert "client_secret" in everything and SECRET not in everything and "another secret" not in everything


async def test_a_secret_is_not_sent_to_another_issuer_than_the_one_that_gave_it(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    made = await make(database, settings, tenant)

    async def change(issuer: str, secret: str | None) -> SignInConnection:
        asked = ConnectionAsked(oidc=OidcAsked(issuer, None, secret))
        changed = change_of(settings, asked, OidcConfig(issuer, "us"))
        return await update_connection(database, operator(tenant), made.id, changed)

    with pytest.raises(BadInput) as refusal:
        await change("https://evil.example", None)
    assert refusal.value.field == "clientSecret"
    assert await load_connections(database, tenant.id, [made.id]) == [made]
    assert (await change(made.oidc().issuer, None)).sealed_secret == made.sealed_secret
    moved = await change("https://new.example", "the secret of the new one")
    assert moved.secret(settings.master_key_bytes()) == "the secret of the new one"
    # A change that was made ready before that: what is locked counts.
    with pytest.raises(BadInput):
        await change(made.oidc().issuer, None)


async def test_a_sealed_secret_is_good_for_its_connection_alone(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    one, two = [await make(database, settings, tenant) for _ in range(2)]
    with pytest.raises(Exception, match="another"):
        replace(two, sealed_secret=one.sealed_secret).secret(settings.master_key_bytes())


async def test_another_tenants_connection_is_answered_as_none(
    database: Database, settings: Settings, tenant: Tenant, other: Tenant
) -> None:
    theirs = await make(database, settings, other)
    assert await load_connections(database, tenant.id, [theirs.id]) == [None]
    assert await list_connections(database, tenant.id, 10, None) == []
    for attempt in (
        update_connection(database, operator(tenant), theirs.id, lambda before: before),
        delete_connection(database, operator(tenant), theirs.id),
        come(database, tenant, theirs),
        delete_identity(database, operator(tenant), uuid4()),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await connection_by_id(database, theirs.id, ConnectionKind.OIDC) == theirs
    assert await connection_by_id(database, theirs.id, ConnectionKind.SAML) is None


async def test_pages_go_through_all_connections_and_names_are_one_each(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    made = [await make(database, settings, tenant) for _ in range(5)]
    first = await list_connections(database, tenant.id, 3, None)
    rest = await list_connections(database, tenant.id, 3, (first[-1].created_at, first[-1].id))
    assert [one.id for one in first + rest] == [one.id for one in made]
    with pytest.raises(Conflict, match="already"):
        await make(database, settings, tenant, name=made[0].name)
    assert [way.name for way in await offered_connections(database, tenant.slug)] == sorted(one.name for one in made)
    for _ in range(MAX_CONNECTIONS - 5):
        await make(database, settings, tenant)
    with pytest.raises(Conflict, match="at most 20"):
        await make(database, settings, tenant)


async def test_ten_first_sign_ins_at_once_make_one_person(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    connection = await make(database, settings, tenant)
    assert len(set(await asyncio.gather(*(come(database, tenant, connection) for _ in range(10))))) == 1


async def test_what_a_provider_says_of_its_person_follows_and_the_subject_stays(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    connection = await make(database, settings, tenant)
    person = await come(database, tenant, connection)
    assert await come(database, tenant, connection, replace(ADA, name="Ada L.", email="new@example.com")) == person
    (identity,) = await list_identities(database, tenant.id, connection.id, 10, None)
    assert (identity.name, identity.email, identity.person_id) == ("Ada L.", "new@example.com", person)
    assert await come(database, tenant, connection, replace(ADA, subject="ada-8")) != person
    assert await come(database, tenant, connection, replace(ADA, issuer="https://other.example")) != person


async def test_rules_decide_at_each_sign_in_and_without_rules_nothing_does(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    rules = (RoleRule("groups", "a", Role.EDITOR), RoleRule("groups", "b", Role.ADMIN))
    connection = await make(database, settings, tenant, role_rules=rules)

    async def role() -> str:
        ((found,),) = await rows(servers, settings, "SELECT role FROM members WHERE tenant_id = $1", tenant.id)
        return str(found)

    await come(database, tenant, connection)
    assert await role() == "admin"
    await come(database, tenant, connection, replace(ADA, attributes={"groups": ("a",)}))
    assert await role() == "editor"
    await come(database, tenant, connection, replace(ADA, attributes={}))
    assert await role() == "viewer"
    await update_connection(database, operator(tenant), connection.id, lambda before: replace(before, role_rules=()))
    await come(database, tenant, connection)
    assert await role() == "viewer"


def test_a_rule_fits_by_the_whole_value_and_no_rule_gives_owner() -> None:
    rule = RoleRule("groups", "admins", Role.ADMIN)
    for values in (("Admins",), ("admins ",), ("admins,users",), ()):
        assert role_of(replace(ADA, attributes={"groups": values}), [rule], Role.VIEWER) is Role.VIEWER
    assert role_of(replace(ADA, attributes={"groups": ("x", "admins")}), [rule], Role.VIEWER) is Role.ADMIN
    # Even one that got into the database.
    assert role_of(ADA, [RoleRule("groups", "a", Role.OWNER)], Role.VIEWER) is Role.VIEWER
    with pytest.raises(BadInput):
        checked_rules([RoleRule("groups", "a", Role.OWNER)])


@pytest.mark.parametrize(
    "domain", ["", "com", "a b.com", "@example.com", "*.example.com", "example.com/", "-a.com", "1.2"]
)
def test_a_domain_that_is_none_is_refused(domain: str) -> None:
    with pytest.raises(BadInput):
        checked_domains([domain])
    assert checked_domains([" Example.COM ", "example.com"]) == ("example.com",)


async def test_only_an_owner_changes_the_provider_by_which_an_owner_comes(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    connection = await make(database, settings, tenant)
    await come(database, tenant, connection)
    await rows(servers, settings, "UPDATE members SET role = 'owner' WHERE tenant_id = $1 RETURNING 1", tenant.id)
    evil = OidcConfig("https://login.example.com", "another client")

    admin, owner = [as_member(tenant, await make_member(database, tenant, role)) for role in (Role.ADMIN, Role.OWNER)]

    async def change(authority: Authority, **parts: Any) -> SignInConnection:
        return await update_connection(database, authority, connection.id, lambda before: replace(before, **parts))

    for parts in (
        {"config": evil},
        {"sealed_secret": b"x" * 40},
        {"allowed_domains": ("evil.example",)},
        {"is_enabled": False},
    ):
        with pytest.raises(PermissionDenied):
            await change(admin, **parts)
    assert (await change(admin, name="Renamed")).name == "Renamed"
    assert (await change(owner, config=evil)).config == evil
    with pytest.raises(Conflict, match="owner"):
        await delete_connection(database, operator(tenant), connection.id)
    (identity,) = await list_identities(database, tenant.id, connection.id, 10, None)
    with pytest.raises(Conflict, match="owner"):
        await delete_identity(database, operator(tenant), identity.id)


async def test_what_somebody_is_at_the_moment_of_a_change_decides_and_not_what_the_door_knew(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    connection = await make(database, settings, tenant)
    await come(database, tenant, connection)
    (identity,) = await list_identities(database, tenant.id, connection.id, 10, None)
    made = replace(connection, id=uuid4(), name="Another")
    was_admin = as_member(tenant, admin := await make_member(database, tenant, Role.ADMIN))
    lower = "UPDATE members SET role = 'editor' WHERE person_id = $1 RETURNING 1"
    await rows(servers, settings, lower, admin.person_id)
    for attempt in (
        create_connection(database, was_admin, made),
        update_connection(database, was_admin, connection.id, lambda before: replace(before, name="Renamed")),
        delete_identity(database, was_admin, identity.id),
        delete_connection(database, was_admin, connection.id),
    ):
        with pytest.raises(PermissionDenied, match="sign_in:write"):
            await attempt
    assert await list_connections(database, tenant.id, 10, None) == [connection]
    assert await list_identities(database, tenant.id, connection.id, 10, None) == [identity]


async def test_many_who_connect_at_once_get_one_of_a_name_and_no_more_than_may_be(
    database: Database, settings: Settings, tenant: Tenant
) -> None:
    same = [make(database, settings, tenant, name="Same") for _ in range(4)]
    answers = await asyncio.gather(*same, return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [Conflict] * 3
    many = [make(database, settings, tenant) for _ in range(MAX_CONNECTIONS + 5)]
    answers = await asyncio.gather(*many, return_exceptions=True)
    assert sum(isinstance(answer, Conflict) for answer in answers) == 6
    assert len(await list_connections(database, tenant.id, 100, None)) == MAX_CONNECTIONS


async def sign_in(database: Database, settings: Settings, tenant: Tenant, person: PersonId) -> SessionId:
    opened = await open_session(
        database, settings, person_id=person, tenant_id=tenant.id, method="oidc", address="", agent="", locked=True
    )
    return opened.session_id


SAML = SamlConfig("https://idp.example", "https://idp.example/sso", ("old", "both"), True)


@pytest.mark.parametrize(
    ("preset", "before", "after", "ends"),
    [
        (Preset.OIDC, OidcConfig("https://a.example", "us"), OidcConfig("https://b.example", "us"), True),
        (Preset.OIDC, OidcConfig("https://a.example", "us"), OidcConfig("https://a.example", "others"), True),
        (Preset.SAML, SAML, msgspec.structs.replace(SAML, certificates=("both", "new")), True),
        (Preset.SAML, SAML, msgspec.structs.replace(SAML, subject_attribute="uid"), True),
        (Preset.SAML, SAML, msgspec.structs.replace(SAML, certificates=("old", "both", "new")), False),
        (Preset.SAML, SAML, msgspec.structs.replace(SAML, name_attribute="cn"), False),
    ],
)
async def test_another_provider_or_a_certificate_less_ends_sessions_and_sign_ins_under_way(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers, preset: Preset, before: Any, after: Any,
    ends: bool,
) -> None:  # fmt: skip
    connection = await make(database, settings, tenant, preset=preset, config=before)
    session_id = await sign_in(database, settings, tenant, person := await come(database, tenant, connection))
    async with database.as_tenant(tenant.id, is_write=True) as session:
        await await_attempt(session, Purpose.TICKET, "t" * 43, Attempt(connection.id, b"b" * 32, "/", person))
    await update_connection(database, operator(tenant), connection.id, lambda before: replace(before, config=after))
    found = await rows(servers, settings, "SELECT id, revoked_reason FROM sessions WHERE tenant_id = $1", tenant.id)
    assert found == [(session_id, "connection_changed" if ends else None)]
    waiting = await rows(servers, settings, "SELECT 1 FROM sign_in_attempts WHERE tenant_id = $1", tenant.id)
    assert len(waiting) == (0 if ends else 1)
    # What the old provider said and we had not noted yet.
    if ends:
        with pytest.raises(PermissionDenied) as refusal:
            await come(database, tenant, connection)
        assert refusal.value.code == "connection_changed"
    else:
        assert await come(database, tenant, connection) == person


@pytest.mark.parametrize("change", ["disabled", "deleted", "changed"])
async def test_a_session_that_is_opened_while_its_connection_ends_does_not_outlive_it(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers, change: str
) -> None:
    connection = await make(database, settings, tenant)
    person = await come(database, tenant, connection)
    async with database.as_tenant(tenant.id, is_write=True) as changing:
        # The change has ended the sessions that it saw, and is not committed when another one is.
        await lock_connection(changing, connection.id)
        session_id = await sign_in(database, settings, tenant, person)
        confirming = asyncio.create_task(confirm_session(database, author(tenant), connection, person, session_id))
        await asyncio.sleep(0.2)
        wanted = replace(connection, is_enabled=change == "changed", config=OidcConfig("https://b.example", "us"))
        await (
            changing.execute(DELETE, connection.id)
            if change == "deleted"
            else changing.fetchrow(UPDATE, *_columns(wanted))
        )
    with pytest.raises(PermissionDenied):
        await confirming
    live = "SELECT 1 FROM sessions WHERE tenant_id = $1 AND revoked_at IS NULL"
    assert await rows(servers, settings, live, tenant.id) == []


async def test_the_end_of_a_connection_ends_memberships_and_sessions_that_came_by_it_and_no_others(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    one, two = [await make(database, settings, tenant) for _ in range(2)]
    gone, stays = await come(database, tenant, one), await come(database, tenant, two)
    for person in (gone, stays):
        await open_session(
            database, settings, person_id=person, tenant_id=tenant.id, method="oidc", address="", agent="", locked=True
        )
    await delete_connection(database, operator(tenant), one.id)
    found = await rows(servers, settings, "SELECT person_id FROM members WHERE tenant_id = $1", tenant.id)
    assert found == [(stays,)]
    live = "SELECT person_id FROM sessions WHERE tenant_id = $1 AND revoked_at IS NULL"
    assert await rows(servers, settings, live, tenant.id) == [(stays,)]


async def test_a_forgotten_identity_comes_back_as_somebody_new(
    database: Database, settings: Settings, tenant: Tenant, servers: Servers
) -> None:
    connection = await make(database, settings, tenant)
    before = await come(database, tenant, connection)
    (identity,) = await list_identities(database, tenant.id, connection.id, 10, None)
    await delete_identity(database, operator(tenant), identity.id)
    assert await rows(servers, settings, "SELECT 1 FROM members WHERE tenant_id = $1", tenant.id) == []
    assert await come(database, tenant, connection) != before


async def test_a_full_tenant_takes_no_more_also_of_many_at_once(
    database: Database, settings: Settings, servers: Servers
) -> None:
    small = await accounts.create_tenant(database, slug=f"s-{uuid4()}", name="Small", tier=Tier.FREE)
    connection = await make(database, settings, small)
    coming = [come(database, small, connection, replace(ADA, subject=f"s-{n}")) for n in range(8)]
    answers = await asyncio.gather(*coming, return_exceptions=True)
    assert sum(isinstance(answer, TooMany) for answer in answers) == 5
    assert len(await rows(servers, settings, "SELECT 1 FROM members WHERE tenant_id = $1", small.id)) == 3
    assert len(await rows(servers, settings, "SELECT 1 FROM people WHERE home_tenant_id = $1", small.id)) == 3


async def test_the_end_of_a_tenant_ends_its_providers_people_and_nobody_elses(
    database: Database, settings: Settings, tenant: Tenant, other: Tenant, servers: Servers
) -> None:
    connection, theirs = await make(database, settings, tenant), await make(database, settings, other)
    await come(database, tenant, connection)
    gone = await come(database, tenant, connection, replace(ADA, subject="no member any more"))
    stays = await come(database, other, theirs)
    await rows(servers, settings, "DELETE FROM members WHERE person_id = $1 RETURNING 1", gone)
    ending = "UPDATE tenants SET ends_at = now() - interval '1 s' WHERE id = $1 RETURNING 1"
    await rows(servers, settings, ending, tenant.id)
    async with as_owner(settings.writer_url) as worker:
        assert await worker.fetchval("SELECT maintenance.begin_erasure($1, 'test', now())", tenant.id)
        assert await worker.fetchval("SELECT maintenance.finish_erasure($1)", tenant.id) == 0
        await worker.fetchval("SELECT maintenance.erase_people($1)", tenant.id)
    found = await rows(servers, settings, "SELECT id, home_tenant_id FROM people WHERE home_tenant_id = ANY($1)",
                       [tenant.id, other.id])  # fmt: skip
    assert found == [(stays, other.id)]
    removed = "SELECT people_removed FROM tenant_erasures WHERE id = $1"
    assert await rows(servers, settings, removed, tenant.id) == [(2,)]


async def test_the_database_itself_lets_no_provider_make_or_change_anybody_elses_person(
    database: Database, settings: Settings, tenant: Tenant, other: Tenant
) -> None:
    connection = await make(database, settings, other)
    theirs = await come(database, other, connection)
    async with as_owner(settings.app_url) as app:
        await app.execute("SELECT set_config('app.current_tenant', $1, false)", str(tenant.id))
        insert = "INSERT INTO people (id, name, home_tenant_id, asserted_email) VALUES ($1, 'x', $2, NULL)"
        for home in (other.id, None):
            with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.CheckViolationError)):
                await app.execute(insert, uuid4(), home)
        assert await app.execute("UPDATE people SET name = 'x' WHERE id = $1", theirs) == "UPDATE 0"
        await app.execute(insert, mine := uuid4(), tenant.id)
    async with as_owner(settings.doorkeeper_url) as doorkeeper:
        for column in ("email", "password_hash"):
            with pytest.raises(asyncpg.CheckViolationError):
                await doorkeeper.execute(f"UPDATE people SET {column} = 'a@b.example' WHERE id = $1", mine)


@pytest.mark.parametrize(
    ("email", "shown"),
    [("Ada@Example.com ", "ada@example.com"), (None, None), ("", None), ("@", None), ("a@", None), ("a b@c", None),
     ("a" * 250 + "@b.example", None), ("a@b\n.example", None)],
)  # fmt: skip
def test_an_asserted_address_is_shown_where_it_is_one(email: str | None, shown: str | None) -> None:
    assert shown_email(replace(ADA, email=email)) == shown


def test_a_name_is_shown_without_what_cannot_be_printed_and_is_never_empty() -> None:
    assert shown_name(replace(ADA, name=" A\x00d\u202ea\n ")) == "Ada"
    assert shown_name(replace(ADA, name="\x00", email=None)) == "ada-7"
    assert len(shown_name(replace(ADA, name="x" * 5000))) == 200
