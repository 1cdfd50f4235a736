"""Where a tenant's API keys come from, and what its administrator does with them."""

from __future__ import annotations

from datetime import datetime, timedelta

from core.api_keys import (
    CreatedKey,
    KeyRecord,
    LiveSecret,
    count_keys,
    create_key,
    list_keys,
    load_live_secrets,
    revoke_key,
    rotate_key,
    update_key,
)
from core.key_requests import Grantor, KeyChange, KeyRequest
from core.keys import is_key_id
from resolvers.context import Context
from resolvers.global_ids import missing, parse_global_id
from resolvers.pages import Page, asked

KIND = "ApiKey"
# Beyond what any overlap may be, so that a number of hours is always a length of time.
MAX_HOURS = 100_000


async def list_api_keys(context: Context, first: int | None, after: str | None) -> Page[KeyRecord]:
    """A page of keys, newest first.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, KIND, first, after)
    start = _start(page.place) if page.place is not None else None
    database, tenant_id = context.backends.database, context.principal.tenant.id
    keys = await list_keys(database, tenant_id, page.rows, start)
    return page.page(
        keys, lambda key: f"{key.created_at.isoformat()}|{key.key_id}", lambda: count_keys(database, tenant_id)
    )


async def live_secrets(context: Context, key_id: str) -> list[LiveSecret]:
    """When a key's live secrets were made and end."""
    return await context.loaders.of(load_live_secrets).load(key_id) or []


async def create_api_key(context: Context, request: KeyRequest) -> CreatedKey:
    """A new key and its secret.

    Raises:
        BadInput, PermissionDenied: as `core.api_keys.create_key`; so for the others.
    """
    return await create_key(
        context.backends.database,
        context.principal.tenant.id,
        request,
        grantor_of(context),
        master_key=context.backends.settings.master_key_bytes(),
    )


async def rotate_api_key(context: Context, id: str, overlap_hours: int) -> CreatedKey:
    """A second secret of a key."""
    return await rotate_key(
        context.backends.database,
        context.principal.tenant.id,
        local_id(id),
        grantor_of(context),
        master_key=context.backends.settings.master_key_bytes(),
        overlap=timedelta(hours=min(max(overlap_hours, -1), MAX_HOURS)),
    )


async def update_api_key(context: Context, id: str, change: KeyChange) -> KeyRecord:
    """A key as it is after a change."""
    tenant_id = context.principal.tenant.id
    return await update_key(context.backends.database, tenant_id, local_id(id), change, grantor_of(context))


async def revoke_api_key(context: Context, id: str) -> KeyRecord:
    """A key that has ended."""
    tenant_id = context.principal.tenant.id
    return await revoke_key(context.backends.database, tenant_id, local_id(id), context.author)


def grantor_of(context: Context) -> Grantor:
    """What the caller has to give."""
    until = context.key.expires_at if context.key is not None else None
    return Grantor.of(context.principal, context.author, until)


def key_id_of(local: str) -> str:
    """A local id, read by `resolvers.nodes`.

    Raises:
        ValueError: it is none of a key.
    """
    if not is_key_id(local):
        raise ValueError(local)
    return local


def local_id(id: str) -> str:
    """The key id that a global id names.

    Raises:
        NotFound: it names none.
    """
    kind, local = parse_global_id(id)
    if kind != KIND or not is_key_id(local):
        raise missing(KIND)
    return local


def _start(place: str) -> tuple[datetime, str]:
    stamp, _, key_id = place.partition("|")
    return datetime.fromisoformat(stamp), key_id
