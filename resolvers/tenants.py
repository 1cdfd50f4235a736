"""Where a tenant's fields come from."""

from __future__ import annotations

from core.accounts import rename_tenant
from core.metrics import BUILT_IN, MetricDefinition
from core.tenancy import Tenant
from resolvers.context import Context
from resolvers.pages import MAX_PAGE, Page, asked


async def update_tenant(context: Context, name: str) -> Tenant:
    """The tenant under another name.

    Raises:
        BadInput: nobody could read it.
    """
    return await rename_tenant(context.backends.database, context.principal.tenant, name, context.author)


def list_metrics(context: Context, first: int | None, after: str | None, search: str | None) -> Page[MetricDefinition]:
    """A tenant's metrics by key, all of them unless `first` says less.

    Raises:
        BadInput: `first` or `after` cannot be used.
    """
    page = asked(context, "Metric", MAX_PAGE if first is None else first, after)
    wanted = (search or "").lower()
    found = [m for key, m in sorted(BUILT_IN.items()) if wanted in key or wanted in m.description.lower()]
    rest = [m for m in found if page.place is None or m.key > page.place]

    async def count() -> int:
        return len(found)

    return page.page(rest[: page.rows], lambda metric: metric.key, count)
