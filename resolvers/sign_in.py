"""Where a tenant's identity providers come from, and what its administrator does with them."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from core.identities import SignInIdentity, count_identities, delete_identity, list_identities
from core.sign_in_connections import (
    SignInConnection,
    count_connections,
    create_connection,
    delete_connection,
    list_connections,
    load_connections,
    new_connection,
    update_connection,
)
from core.sign_in_rules import Preset
from core.sign_in_setup import ConnectionAsked, change_of, config_of
from resolvers.context import Context
from resolvers.global_ids import missing, uuid_of
from resolvers.members import authority_of
from resolvers.pages import Page, asked

KIND = "SignInConnection"
IDENTITY = "SignInIdentity"


async def list_sign_in_connections(context: Context, first: int | None, after: str | None) -> Page[SignInConnection]:
    """A page of connections, oldest first.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page, tenant_id, database = (
        asked(context, KIND, first, after),
        context.principal.tenant.id,
        context.backends.database,
    )
    rows = await list_connections(database, tenant_id, page.rows, _place(page.place))
    return page.page(rows, _place_of, lambda: count_connections(database, tenant_id))


async def list_sign_in_identities(
    context: Context, connection: SignInConnection, first: int | None, after: str | None
) -> Page[SignInIdentity]:
    """A page of those who came by a connection, oldest first; same errors."""
    page, database = asked(context, f"{IDENTITY}:{connection.id}", first, after), context.backends.database
    rows = await list_identities(database, connection.tenant_id, connection.id, page.rows, _place(page.place))
    return page.page(rows, _place_of, lambda: count_identities(database, connection.tenant_id, connection.id))


async def create_sign_in_connection(context: Context, preset: Preset, asked: ConnectionAsked) -> SignInConnection:
    """A new connection; what it needs of its provider is asked for before it is kept.

    Raises:
        BadInput: a part is missing, not fit, or not allowed. Unavailable: the provider does not answer.
        Conflict: the name is taken, or there are too many.
    """
    config = await config_of(context.backends.settings, preset, asked, None)
    made = new_connection(
        context.principal.tenant, preset=preset, name=asked.name or "", config=config, now=datetime.now(UTC)
    )
    change = change_of(context.backends.settings, asked, config)
    return await create_connection(context.backends.database, authority_of(context), change(made))


async def update_sign_in_connection(context: Context, id: str, asked: ConnectionAsked) -> SignInConnection:
    """Changes what is given.

    Raises:
        NotFound, and the errors of `create_sign_in_connection`.
    """
    key = uuid_of(id, KIND)
    before = await find_sign_in_connection(context, key)
    config = await config_of(context.backends.settings, before.preset, asked, before)
    change = change_of(context.backends.settings, asked, config)
    return await update_connection(context.backends.database, authority_of(context), key, change)


async def delete_sign_in_connection(context: Context, id: str) -> None:
    """Ends a connection and the memberships that came by it.

    Raises:
        NotFound, Conflict.
    """
    await delete_connection(context.backends.database, authority_of(context), uuid_of(id, KIND))


async def delete_sign_in_identity(context: Context, id: str) -> None:
    """Forgets an identity.

    Raises:
        NotFound, Conflict.
    """
    await delete_identity(context.backends.database, authority_of(context), uuid_of(id, IDENTITY))


async def find_sign_in_connection(context: Context, key: UUID) -> SignInConnection:
    """One of the tenant's.

    Raises:
        NotFound: it has none with that id.
    """
    found: SignInConnection | None = await context.loaders.of(load_connections).load(key)
    if found is None:
        raise missing(KIND)
    return found


def _place_of(row: SignInConnection | SignInIdentity) -> str:
    return f"{row.created_at.isoformat()}|{row.id}"


def _place(text: str | None) -> tuple[datetime, UUID] | None:
    if text is None:
        return None
    at, _, id = text.partition("|")
    return datetime.fromisoformat(at), UUID(id)
