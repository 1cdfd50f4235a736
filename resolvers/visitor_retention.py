"""Where retention comes from."""

from __future__ import annotations

from query.visitor_retention import Retention, RetentionQuestion, find_retention
from resolvers.context import Context


async def answer_retention(context: Context, question: RetentionQuestion) -> Retention:
    """The retention of the caller's tenant.

    Raises:
        BadInput, DatabaseUnavailable: as `find_retention`.
    """
    return await find_retention(context.backends.raw, context.principal.tenant, question)
