"""Where funnels come from."""

from __future__ import annotations

from query.funnel import FunnelQuestion
from query.funnel_answer import FunnelAnswer
from query.funnel_answer import answer_funnel as answer_question
from resolvers.context import Context


async def answer_funnel(context: Context, question: FunnelQuestion) -> FunnelAnswer:
    """A funnel of the caller's tenant.

    Raises:
        BadInput, DatabaseUnavailable: as `query.funnel_answer.answer_funnel`.
    """
    return await answer_question(context.backends.raw, context.principal.tenant, question)
