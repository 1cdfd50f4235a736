"""Where a tenant's fields come from."""

from __future__ import annotations

from core.accounts import rename_tenant
from core.tenancy import Tenant
from resolvers.context import Context


async def update_tenant(context: Context, name: str) -> Tenant:
    """The tenant under another name.

    Raises:
        BadInput: nobody could read it.
    """
    return await rename_tenant(context.backends.database, context.principal.tenant, name, context.author)
