"""A door knows a role for some seconds; what an administrator writes is judged by what it is at that very moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import uuid4

import pytest

from core import api_keys
from core.accounts import find_tenant, rename_tenant
from core.api_keys import MAX_KEYS_A_DAY, MAX_LIVE_KEYS, list_keys
from core.audit import Author
from core.database import Database
from core.errors import Conflict, PermissionDenied, TooMany
from core.jobs import JobKind, ask_export, cancel
from core.key_requests import Grantor, KeyChange, KeyRequest
from core.own_letters import drop_own, list_own, replay_own
from core.permissions import Role, Scope
from core.queries import parse_blocks
from core.sessions import open_session, revoke_sessions
from core.settings import Settings
from core.tenancy import KeyKind, Principal, Tenant
from core.tenant_ends import ask_deletion, restore
from core.valkey_log import ValkeyLog
from tests.conftest import make_key
from tests.core.members import add_member, remove_member, set_role
from tests.core.test_own_letters import keep

DISABLE = parse_blocks("-- a(id)\n-- b\nUPDATE people SET disabled_at = now() WHERE id = $1;", "test")["a"]
REQUEST = KeyRequest(kind=KeyKind.SECRET, name="backdoor", scopes=frozenset({Scope.ADMIN}))


@dataclass(frozen=True, slots=True)
class Writes:
    """All that an administrator writes with what the door knew of it, by name."""

    database: Database
    log: ValkeyLog
    settings: Settings
    principal: Principal

    @property
    def author(self) -> Author:
        return Author.of(self.principal, "request")

    @property
    def grantor(self) -> Grantor:
        return Grantor.of(self.principal, self.author, None)

    async def create_key(self) -> object:
        return await api_keys.create_key(
            self.database, self.principal.tenant.id, REQUEST, self.grantor, master_key=self.settings.master_key_bytes()
        )

    async def all(self) -> dict[str, Callable[[], Awaitable[object]]]:
        database, tenant, author = self.database, self.principal.tenant, self.author
        key, _ = await make_key(database, self.settings, tenant)
        place = await keep(database, tenant.id, f"{uuid4().int % 10**9}-0")
        master_key = self.settings.master_key_bytes()
        return {
            "create_key": self.create_key,
            "rotate_key": lambda: api_keys.rotate_key(database, tenant.id, key.id, self.grantor, master_key=master_key),
            "update_key": lambda: api_keys.update_key(
                database, tenant.id, key.id, KeyChange(name="mine"), self.grantor
            ),
            "revoke_key": lambda: api_keys.revoke_key(database, tenant.id, key.id, author),
            "ask_export": lambda: ask_export(database, author, JobKind.EXPORT_TENANT, {}),
            "cancel": lambda: cancel(database, author, uuid4()),
            "rename": lambda: rename_tenant(database, tenant, "Mine", author),
            "replay": lambda: replay_own(database, self.log, self.principal, place, "request"),
            "drop": lambda: drop_own(database, self.principal, place, "request"),
            "delete": lambda: ask_deletion(database, tenant, author, typed=tenant.slug, grace=timedelta(days=7)),
            "restore": lambda: restore(database, tenant, author, typed=tenant.slug),
        }


@pytest.fixture
async def writes(database: Database, log: ValkeyLog, settings: Settings, tenant: Tenant) -> Writes:
    member = await add_member(database, tenant, Role.OWNER)
    assert member.person_id is not None
    opened = await open_session(
        database, settings, person_id=member.person_id, tenant_id=tenant.id, method="password", address="", agent="",
        locked=False,
    )  # fmt: skip
    return Writes(database, log, settings, replace(member, session_id=opened.session_id))


async def remove(writes: Writes) -> None:
    await remove_member(writes.database, writes.principal)


async def lower(writes: Writes) -> None:
    await set_role(writes.database, writes.principal, Role.VIEWER)


async def disable(writes: Writes) -> None:
    async with writes.database.as_doorkeeper(is_write=True) as session:
        await session.execute(DISABLE, writes.principal.person_id)


async def end_session(writes: Writes) -> None:
    assert writes.principal.person_id is not None
    async with writes.database.as_doorkeeper(is_write=True) as session:
        await revoke_sessions(
            session,
            person_id=writes.principal.person_id,
            session_id=writes.principal.session_id,
            reason="signed_out",
        )


@pytest.mark.parametrize("end", [remove, lower, disable, end_session])
async def test_who_has_just_lost_its_role_or_session_writes_nothing_more(
    writes: Writes, end: Callable[[Writes], Awaitable[None]]
) -> None:
    database, tenant = writes.database, writes.principal.tenant
    asked = await writes.all()
    await writes.create_key()
    before = await list_keys(database, tenant.id)
    await end(writes)
    written = await asyncio.gather(*(write() for write in asked.values()), return_exceptions=True)
    told = dict(zip(asked, map(type, written), strict=True))
    assert told == dict.fromkeys(asked, PermissionDenied)
    assert await list_keys(database, tenant.id) == before
    assert len(await list_own(database, tenant.id, 5, None)) == 1
    now = await find_tenant(database, tenant.slug)
    assert (now.name, now.ends_at) == (tenant.name, None)


async def test_a_revoked_key_makes_no_other(writes: Writes) -> None:
    tenant = writes.principal.tenant
    key, _ = await make_key(writes.database, writes.settings, tenant)
    of_key = replace(writes, principal=Principal.of_key(tenant, key.id, key.scopes))
    await of_key.create_key()
    await api_keys.revoke_key(writes.database, tenant.id, key.id, writes.author)
    with pytest.raises(PermissionDenied):
        await of_key.create_key()


async def test_a_tenant_has_so_many_live_keys_and_makes_so_many_a_day(
    writes: Writes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (MAX_LIVE_KEYS, MAX_KEYS_A_DAY) == (100, 200)
    monkeypatch.setattr(api_keys, "MAX_LIVE_KEYS", 3)
    monkeypatch.setattr(api_keys, "MAX_KEYS_A_DAY", 5)
    tenant = writes.principal.tenant
    for _ in range(3):
        await writes.create_key()
    with pytest.raises(Conflict, match="at most 3 live keys") as refusal:
        await writes.create_key()
    assert refusal.value.code == "too_many_keys"
    for _ in range(2):
        newest = (await list_keys(writes.database, tenant.id))[0]
        await api_keys.revoke_key(writes.database, tenant.id, newest.key_id, writes.author)
        await writes.create_key()
    newest = (await list_keys(writes.database, tenant.id))[0]
    await api_keys.revoke_key(writes.database, tenant.id, newest.key_id, writes.author)
    with pytest.raises(TooMany, match="at most 5 keys in 24 hours"):
        await writes.create_key()
    # The operator's own are not held up by what a tenant made.
    await make_key(writes.database, writes.settings, tenant)
