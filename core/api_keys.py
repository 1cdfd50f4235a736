"""API keys as they are made and changed, by the operator and by a tenant's administrator alike. A secret is in the
answer that made it, and nowhere else: not in the audit trail, not in a log, not in an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from core.audit import Author, audit
from core.database import Database, Session
from core.errors import BadInput, Conflict, NotFound, TooMany
from core.key_requests import UNCHANGED, Grantor, KeyChange, KeyRequest, check_key_request
from core.keys import hash_secret, new_key_id, new_secret, seal
from core.members import END_INVITATIONS, lock_members
from core.permissions import Scope
from core.queries import named
from core.standing import require_author
from core.tenancy import KeyId, KeyKind, TenantId

INSERT_KEY = named("api_keys", "insert_key")
INSERT_SECRET = named("api_keys", "insert_secret")
LOCK_KEY = named("api_keys", "lock_key")
END_OLD_SECRETS = named("api_keys", "end_old_secrets")
EXPIRE_SECRETS = named("api_keys", "expire_secrets")
UPDATE_KEY = named("api_keys", "update_key")
REVOKE_KEY = named("api_keys", "revoke_key")
LIST_KEYS = named("api_keys", "list_keys")
COUNT_KEYS = named("api_keys", "count_keys")
COUNT_MADE = named("api_keys", "count_made")
FIND_KEYS = named("api_keys", "find_keys")
LIST_LIVE_SECRETS = named("api_keys", "list_live_secrets")

DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=7)
# Each key has buckets of its own, so as many keys as one likes would be as many requests. The operator is not bound.
MAX_LIVE_KEYS = 100
MAX_KEYS_A_DAY = 200
DAY_RETRY_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key as its tenant sees it."""

    key_id: KeyId
    kind: KeyKind
    name: str
    scopes: frozenset[Scope]
    origins: tuple[str, ...]
    is_unsigned: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def is_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class LiveSecret:
    """When a secret was made, and when it ends: None while no other has taken its place."""

    created_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A key and its new secret, at the only moment at which that is known. `previous_ends_at`: of the secret before."""

    record: KeyRecord
    secret: str
    previous_ends_at: datetime | None = None

    @property
    def key_id(self) -> KeyId:
        return self.record.key_id


async def create_key(
    database: Database, tenant_id: TenantId, asked: KeyRequest, grantor: Grantor, *, master_key: bytes
) -> CreatedKey:
    """A new key with one secret, which only the answer holds.

    Raises:
        BadInput: what was asked for does not go together; see `check_key_request`.
        PermissionDenied: it is more than the asker has, or it has nothing any more.
        Conflict, TooMany: the tenant has, or made today, as many as it may.
    """
    check_key_request(asked)
    grantor.check(asked.scopes, asked.expires_at)
    key_id = new_key_id()
    async with database.as_tenant(tenant_id, is_write=True) as session:
        await lock_members(session)
        await require_author(session, grantor.author)
        if grantor.author.principal is not None:
            await _require_room(session)
        await session.execute(
            INSERT_KEY,
            tenant_id,
            key_id,
            asked.kind.value,
            asked.name,
            sorted(asked.scopes),
            list(asked.origins),
            asked.is_unsigned,
            asked.expires_at,
        )
        secret = await _add_secret(session, tenant_id, key_id, asked.kind, master_key)
        await audit(session, grantor.author, "key.create", key_id, _diff_of(asked))
        (row,) = await session.fetch(FIND_KEYS, [key_id])
    return CreatedKey(record_of(row), secret)


async def rotate_key(
    database: Database,
    tenant_id: TenantId,
    key_id: str,
    grantor: Grantor,
    *,
    master_key: bytes,
    overlap: timedelta = DEFAULT_OVERLAP,
) -> CreatedKey:
    """A second live secret. The one before it ends after the overlap; one that was ending already ends at once.

    Raises:
        BadInput: the overlap is not 0 to 7 days.
        NotFound: the tenant has no key with that id.
        Conflict: it was revoked, or has expired.
        PermissionDenied: the key has more than the asker, who would learn its secret; or the asker may no more.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise BadInput("overlapHours must be 0 (the secret before ends at once) to 168 (7 days).", field="overlapHours")
    async with database.as_tenant(tenant_id, is_write=True) as session:
        await lock_members(session)
        await require_author(session, grantor.author)
        record = await _locked(session, tenant_id, key_id)
        if record.is_expired(datetime.now(UTC)):
            raise Conflict(f"The key {key_id} has expired; give it a later expiresAt first.", code="key_expired")
        grantor.check(record.scopes, record.expires_at)
        ends_at = datetime.now(UTC) + overlap
        await session.execute(END_OLD_SECRETS, tenant_id, key_id, overlap == timedelta(0))
        await session.execute(EXPIRE_SECRETS, tenant_id, key_id, ends_at)
        secret = await _add_secret(session, tenant_id, record.key_id, record.kind, master_key)
        await audit(session, grantor.author, "key.rotate", key_id, {"previous_ends_at": ends_at.isoformat()})
    return CreatedKey(record, secret, ends_at)


async def update_key(
    database: Database, tenant_id: TenantId, key_id: str, change: KeyChange, grantor: Grantor
) -> KeyRecord:
    """A key with another name, other origins or another end.

    Raises:
        BadInput: see `check_key_request`.
        NotFound, Conflict, PermissionDenied: as for `rotate_key`.
    """
    async with database.as_tenant(tenant_id, is_write=True) as session:
        await lock_members(session)
        await require_author(session, grantor.author)
        old = await _locked(session, tenant_id, key_id)
        new = replace(
            old,
            name=old.name if change.name is None else change.name,
            origins=old.origins if change.origins is None else change.origins,
            expires_at=old.expires_at if change.expires_at is UNCHANGED else change.expires_at,
        )
        is_renewed = new.expires_at != old.expires_at
        check_key_request(
            KeyRequest(
                kind=new.kind, name=new.name, scopes=new.scopes, origins=new.origins, is_unsigned=new.is_unsigned,
                expires_at=new.expires_at if is_renewed else None,
            )
        )  # fmt: skip
        if is_renewed:
            grantor.check(new.scopes, new.expires_at)
        diff = {name: [_plain(getattr(old, name)), _plain(getattr(new, name))]
                for name in ("name", "origins", "expires_at") if getattr(old, name) != getattr(new, name)}  # fmt: skip
        if diff:
            await session.execute(UPDATE_KEY, tenant_id, key_id, new.name, list(new.origins), new.expires_at)
            await audit(session, grantor.author, "key.update", key_id, diff)
    return new


async def revoke_key(database: Database, tenant_id: TenantId, key_id: str, author: Author) -> KeyRecord:
    """Ends a key, and the invitations that it made and nobody has accepted; the doors refuse it within 5 seconds.

    Raises:
        NotFound: the tenant has no key with that id.
        Conflict: it is revoked already.
        PermissionDenied: the author may no more.
    """
    async with database.as_tenant(tenant_id, is_write=True) as session:
        # Before the key, as whoever invites takes them: an invitation is ended here, or its maker finds the key ended.
        await lock_members(session)
        await require_author(session, author)
        record = await _locked(session, tenant_id, key_id)
        await session.execute(END_INVITATIONS, key_id)
        row = await session.fetchrow(REVOKE_KEY, tenant_id, key_id)
        await audit(session, author, "key.revoke", key_id, {})
    return replace(record, revoked_at=row["revoked_at"] if row else None)


async def list_keys(
    database: Database, tenant_id: TenantId, most: int | None = None, after: tuple[datetime, str] | None = None
) -> list[KeyRecord]:
    """A tenant's keys, newest first, behind a place or from the newest on; those that ended too."""
    async with database.as_tenant(tenant_id) as session:
        return [record_of(row) for row in await session.fetch(LIST_KEYS, most, *(after or (None, None)))]


async def count_keys(database: Database, tenant_id: TenantId) -> int:
    async with database.as_tenant(tenant_id) as session:
        row = await session.fetchrow(COUNT_KEYS)
    return int(row["count"]) if row else 0


async def load_keys(database: Database, tenant_id: TenantId, key_ids: Sequence[str]) -> list[KeyRecord | None]:
    """Keys in the order of these ids; None where the tenant has none."""
    async with database.as_tenant(tenant_id) as session:
        found = {row["id"]: record_of(row) for row in await session.fetch(FIND_KEYS, list(key_ids))}
    return [found.get(key_id) for key_id in key_ids]


async def load_live_secrets(database: Database, tenant_id: TenantId, key_ids: Sequence[str]) -> list[list[LiveSecret]]:
    """The live secrets of each of these keys, newest first; none for a key that ended."""
    found: dict[str, list[LiveSecret]] = {}
    async with database.as_tenant(tenant_id) as session:
        for row in await session.fetch(LIST_LIVE_SECRETS, list(key_ids)):
            found.setdefault(row["key_id"], []).append(LiveSecret(row["created_at"], row["expires_at"]))
    return [found.get(key_id, []) for key_id in key_ids]


def record_of(row: Any) -> KeyRecord:
    """A key from a row of the queries of this topic."""
    return KeyRecord(
        KeyId(row["id"]),
        KeyKind(row["kind"]),
        row["name"],
        frozenset(Scope(scope) for scope in row["scopes"]),
        tuple(row["origins"]),
        row["is_unsigned"],
        row["created_at"],
        row["expires_at"],
        row["revoked_at"],
        row["last_used_at"],
    )


async def _locked(session: Session, tenant_id: TenantId, key_id: str) -> KeyRecord:
    row = await session.fetchrow(LOCK_KEY, tenant_id, key_id)
    if row is None:
        raise NotFound("There is no ApiKey with that id.", field="id")
    record = record_of(row)
    if record.revoked_at is not None:
        raise Conflict(f"The key {key_id} was revoked; make another.", code="key_revoked")
    return record


async def _require_room(session: Session) -> None:
    """That the tenant may have another key; asked while its members are locked, so that none comes in between.

    Raises:
        Conflict, TooMany.
    """
    row = await session.fetchrow(COUNT_MADE)
    if row is not None and row["live"] >= MAX_LIVE_KEYS:
        raise Conflict(
            f"A tenant has at most {MAX_LIVE_KEYS} live keys; revoke one that is not used.", code="too_many_keys"
        )
    if row is not None and row["made"] >= MAX_KEYS_A_DAY:
        raise TooMany(
            f"A tenant makes at most {MAX_KEYS_A_DAY} keys in 24 hours; rotate a key instead, or come back later.",
            retry_after=DAY_RETRY_SECONDS,
            code="too_many_keys_a_day",
        )


async def _add_secret(session: Session, tenant_id: TenantId, key_id: str, kind: KeyKind, master_key: bytes) -> str:
    secret = new_secret(kind)
    sealed = seal(secret, key_id=key_id, master_key=master_key) if kind is KeyKind.SECRET else None
    await session.execute(INSERT_SECRET, tenant_id, key_id, hash_secret(secret), sealed)
    return secret


def _diff_of(asked: KeyRequest) -> Mapping[str, object]:
    fields = ("kind", "name", "scopes", "origins", "is_unsigned", "expires_at")
    return {name: _plain(getattr(asked, name)) for name in fields}


def _plain(value: object) -> object:
    """A field's value as the audit trail keeps it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(cast("frozenset[str]", value)) if isinstance(value, frozenset) else value
