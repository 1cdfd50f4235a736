"""Where paths come from."""

from __future__ import annotations

from query.paths import Paths, PathsQuestion, find_paths
from resolvers.context import Context


async def answer_paths(context: Context, question: PathsQuestion) -> Paths:
    """The paths of the caller's tenant.

    Raises:
        BadInput, DatabaseUnavailable: as `find_paths`.
    """
    return await find_paths(context.backends.raw, context.principal.tenant, question)
