"""Keys as they are made, rotated, changed and ended; nothing of a secret stays but its hash and its seal."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from core import api_keys
from core.accounts import find_key
from core.api_keys import CreatedKey, KeyRecord
from core.audit import Author
from core.database import Database, as_owner
from core.errors import BadInput, Conflict, NotFound, PermissionDenied
from core.key_requests import MAX_ORIGINS, Grantor, KeyChange, KeyRequest
from core.keys import unseal
from core.permissions import Role, Scope
from core.settings import Settings
from core.tenancy import KeyId, KeyKind, PersonId, Principal, Tenant, TenantId
from tests.conftest import Servers
from tests.pipeline.stored import Stored

DAY = timedelta(days=1)


class Keys:
    """What a tenant does with its keys."""

    def __init__(self, database: Database, settings: Settings, tenant: Tenant) -> None:
        self.database, self.tenant, self.master_key = database, tenant, settings.master_key_bytes()
        self.operator = Grantor.operator(tenant.id)

    async def create(self, by: Grantor | None = None, **asked: Any) -> CreatedKey:
        wanted = {"kind": KeyKind.SECRET, "name": "k", "scopes": frozenset({Scope.METRICS_READ}), **asked}
        request = KeyRequest(**wanted)
        return await api_keys.create_key(
            self.database, self.tenant.id, request, by or self.operator, master_key=self.master_key
        )

    async def rotate(self, key_id: str, by: Grantor | None = None, overlap: timedelta = DAY) -> CreatedKey:
        return await api_keys.rotate_key(
            self.database, self.tenant.id, key_id, by or self.operator, master_key=self.master_key, overlap=overlap
        )

    async def update(self, key_id: str, by: Grantor | None = None, **change: Any) -> KeyRecord:
        return await api_keys.update_key(
            self.database, self.tenant.id, key_id, KeyChange(**change), by or self.operator
        )

    async def live(self, *made: CreatedKey) -> list[bool]:
        """Which of these secrets a door takes."""
        return [await find_key(self.database, secret=one.secret) is not None for one in made]

    async def ends(self, key_id: str) -> list[datetime | None]:
        (secrets,) = await api_keys.load_live_secrets(self.database, self.tenant.id, [key_id])
        return [secret.ends_at for secret in secrets]


@pytest.fixture
def stored(servers: Servers, settings: Settings) -> Stored:
    name = urlsplit(settings.owner_url).path.removeprefix("/")
    return Stored(servers.folder.database_url("superuser", name))


@pytest.fixture
def keys(database: Database, settings: Settings, tenant: Tenant) -> Keys:
    return Keys(database, settings, tenant)


def of_key(tenant: Tenant, *scopes: Scope, until: datetime | None = None) -> Grantor:
    principal = Principal.of_key(tenant, KeyId("key_asking"), frozenset(scopes))
    return Grantor.of(principal, Author(tenant.id, "key_asking", "request"), until)


async def test_two_secrets_live_during_rotation_and_a_third_rotation_ends_the_oldest(keys: Keys) -> None:
    first = await keys.create()
    second = await keys.rotate(first.key_id, overlap=2 * DAY)
    assert await keys.live(first, second) == [True, True]
    newest, older = await keys.ends(first.key_id)
    assert newest is None and older == second.previous_ends_at
    assert older is not None and abs(older - datetime.now(UTC) - 2 * DAY) < timedelta(minutes=1)
    third = await keys.rotate(first.key_id)
    assert await keys.live(first, second, third) == [False, True, True]
    key = await find_key(keys.database, key_id=first.key_id)
    assert key is not None
    signing = [unseal(sealed, key_id=key.id, master_key=keys.master_key) for sealed in key.sealed]
    assert signing == [third.secret, second.secret]


async def test_a_rotation_without_overlap_ends_every_other_secret_at_once(keys: Keys) -> None:
    first = await keys.create()
    second = await keys.rotate(first.key_id)
    third = await keys.rotate(first.key_id, overlap=timedelta(0))
    assert await keys.live(first, second, third) == [False, False, True]
    assert await keys.ends(first.key_id) == [None]


@pytest.mark.parametrize("hours", [-1, 169, 100_000])
async def test_an_overlap_is_at_most_seven_days(keys: Keys, hours: int) -> None:
    made = await keys.create()
    with pytest.raises(BadInput, match="168"):
        await keys.rotate(made.key_id, overlap=timedelta(hours=hours))
    assert await keys.ends(made.key_id) == [None]


async def test_rotations_at_once_leave_two_live_secrets(keys: Keys) -> None:
    first = await keys.create()
    made = await asyncio.gather(*(keys.rotate(first.key_id) for _ in range(6)))
    assert sum(await keys.live(first, *made)) == 2
    assert sorted(end is None for end in await keys.ends(first.key_id)) == [False, True]


async def test_a_revoked_or_expired_key_is_neither_taken_nor_rotated(keys: Keys) -> None:
    revoked, ending = await keys.create(), await keys.create(expires_at=datetime.now(UTC) + timedelta(seconds=0.3))
    record = await api_keys.revoke_key(keys.database, keys.tenant.id, revoked.key_id, keys.operator.author)
    assert record.revoked_at is not None
    await asyncio.sleep(0.4)
    assert await keys.live(revoked, ending) == [False, False]
    for made, code in ((revoked, "key_revoked"), (ending, "key_expired")):
        with pytest.raises(Conflict) as refusal:
            await keys.rotate(made.key_id)
        assert refusal.value.code == code
        assert await keys.ends(made.key_id) == []
    with pytest.raises(Conflict):
        await api_keys.revoke_key(keys.database, keys.tenant.id, revoked.key_id, keys.operator.author)
    await keys.update(ending.key_id, expires_at=None)
    assert await keys.live(ending) == [True]


async def test_what_of_a_key_changes_is_what_was_asked_and_is_told_old_and_new(keys: Keys, stored: Stored) -> None:
    made = await keys.create(kind=KeyKind.PUBLISHABLE, scopes=frozenset({Scope.EVENTS_WRITE}), origins=("*",))
    await keys.update(made.key_id, name="shop")
    new = await keys.update(made.key_id, origins=("https://shop.example",))
    assert (new.name, new.origins, new.expires_at) == ("shop", ("https://shop.example",), None)
    await keys.update(made.key_id)
    assert await keys.update(made.key_id, origins=()) == await find(keys, made.key_id)
    diffs = [(action, diff) for action, diff in await trail(stored, keys.tenant) if action == "key.update"]
    assert diffs == [
        ("key.update", '{"name": ["k", "shop"]}'),
        ("key.update", '{"origins": [["*"], ["https://shop.example"]]}'),
        ("key.update", '{"origins": [["https://shop.example"], []]}'),
    ]


async def find(keys: Keys, key_id: str) -> KeyRecord | None:
    return (await api_keys.load_keys(keys.database, keys.tenant.id, [key_id]))[0]


async def trail(stored: Stored, tenant: Tenant) -> list[tuple[str, str]]:
    async with as_owner(stored.url) as connection:
        text = "SELECT action, diff::text FROM audit_log WHERE tenant_id = $1 ORDER BY at, id"
        return [tuple(row) for row in await connection.fetch(text, tenant.id)]


PUBLISHABLE: dict[str, Any] = {"kind": KeyKind.PUBLISHABLE, "scopes": frozenset({Scope.EVENTS_WRITE})}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"scopes": frozenset()}, "scopes"),
        ({"kind": KeyKind.PUBLISHABLE}, "scopes"),
        ({"origins": ("https://shop.example",)}, "origins"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"expires_at": datetime.now(UTC) - DAY}, "expiresAt"),
        ({"expires_at": datetime(2027, 1, 1)}, "expiresAt"),
        ({"expires_at": datetime(9999, 1, 1, tzinfo=UTC)}, "expiresAt"),
        (PUBLISHABLE | {"origins": ("*",) * (MAX_ORIGINS + 1)}, "origins"),
        (PUBLISHABLE | {"origins": ("https://" + "a" * 300 + ".example",)}, "origins"),
        (PUBLISHABLE | {"origins": ("https://a/b",)}, "origins"),
        (PUBLISHABLE | {"is_unsigned": True}, "unsigned"),
    ],
)  # fmt: skip
async def test_a_key_that_could_not_do_what_is_asked_is_refused_by_field(
    keys: Keys, asked: dict[str, Any], field: str
) -> None:
    before = await api_keys.count_keys(keys.database, keys.tenant.id)
    with pytest.raises(BadInput) as refusal:
        await keys.create(**asked)
    assert refusal.value.field == field
    assert await api_keys.count_keys(keys.database, keys.tenant.id) == before


async def test_no_key_gives_more_than_it_has(keys: Keys) -> None:
    reader = of_key(keys.tenant, Scope.METRICS_READ)
    for scope in (Scope.ADMIN, Scope.EVENTS_WRITE):
        with pytest.raises(PermissionDenied, match="more than you may"):
            await keys.create(reader, scopes=frozenset({scope}))
    admin = await keys.create(scopes=frozenset({Scope.ADMIN}))
    with pytest.raises(PermissionDenied):
        # Its secret would be the reader's.
        await keys.rotate(admin.key_id, reader)
    assert await keys.ends(admin.key_id) == [None]
    await keys.create(of_key(keys.tenant, Scope.ADMIN), scopes=frozenset(Scope))


async def test_a_key_that_ends_gives_no_other_more_time(keys: Keys) -> None:
    until = datetime.now(UTC) + DAY
    ending = of_key(keys.tenant, Scope.ADMIN, until=until)
    for_ever = await keys.create()
    short = await keys.create(ending, expires_at=until - timedelta(hours=1))
    for refused in (
        keys.create(ending),
        keys.create(ending, expires_at=until + timedelta(hours=1)),
        keys.rotate(for_ever.key_id, ending),
        keys.update(short.key_id, ending, expires_at=None),
        keys.update(short.key_id, ending, expires_at=until + timedelta(hours=1)),
    ):
        with pytest.raises(PermissionDenied, match="more time"):
            await refused
    await keys.update(short.key_id, ending, expires_at=until)
    await keys.update(for_ever.key_id, ending, name="renamed")


async def test_an_administrator_makes_keys_that_send_though_no_person_may(keys: Keys) -> None:
    person = Principal.of_person(keys.tenant, PersonId(keys.tenant.id), Role.ADMIN, None)
    grantor = Grantor.of(person, Author(keys.tenant.id, person.actor, "request"), None)
    await keys.create(grantor, scopes=frozenset({Scope.EVENTS_WRITE}))
    await keys.create(grantor, scopes=frozenset(Scope))
    viewer = Principal.of_person(keys.tenant, PersonId(keys.tenant.id), Role.VIEWER, None)
    with pytest.raises(PermissionDenied):
        await keys.create(Grantor.of(viewer, grantor.author, None), scopes=frozenset({Scope.ADMIN}))


async def test_another_tenants_key_is_answered_as_a_missing_one(
    keys: Keys, database: Database, settings: Settings
) -> None:
    made = await keys.create()
    nobody = replace(keys.tenant, id=TenantId(uuid4()))
    other = Keys(database, settings, nobody)
    told = []
    for key_id in (made.key_id, "key_" + "a" * 20):
        for attempt in (other.rotate(key_id), other.update(key_id, name="x")):
            with pytest.raises(NotFound) as refusal:
                await attempt
            told.append(refusal.value.message)
    assert len(set(told)) == 1
    assert await api_keys.load_keys(database, other.tenant.id, [made.key_id]) == [None]
    assert await keys.ends(made.key_id) == [None]


async def test_no_secret_is_in_any_table_log_or_error(
    keys: Keys, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        made = await keys.create(scopes=frozenset(Scope))
        again = await keys.rotate(made.key_id)
    async with as_owner(stored.url) as connection:
        tables = await connection.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        )
        rows = [
            row[0]
            for (name,) in tables
            for row in await connection.fetch(f"SELECT t::text FROM {name} t WHERE tenant_id = $1", keys.tenant.id)
        ]
    assert len(rows) >= 4
    for secret in (made.secret, again.secret):
        hexed = secret.encode().hex()
        assert not [row for row in rows if secret in row or secret[10:] in row or hexed in row]
        assert secret[10:] not in caplog.text
