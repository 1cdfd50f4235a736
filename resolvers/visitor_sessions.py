"""Where sessions of visitors come from: what they amount to, and pages of them."""

from __future__ import annotations

from datetime import datetime

from query.visitor_sessions import Sessions, SessionsQuestion, VisitorSession, list_sessions, sum_sessions
from resolvers.context import Context
from resolvers.pages import Page, asked


async def answer_sessions(context: Context, question: SessionsQuestion) -> Sessions:
    """What the sessions of the caller's tenant amount to.

    Raises:
        BadInput, DatabaseUnavailable: as `sum_sessions`.
    """
    return await sum_sessions(context.backends.raw, context.principal.tenant, question)


async def list_visitor_sessions(
    context: Context, question: SessionsQuestion, first: int | None, after: str | None
) -> Page[VisitorSession]:
    """A page of them, the last to begin first.

    Raises:
        BadInput: the question is not one, or `first` or `after` cannot be used.
        DatabaseUnavailable: the store does not answer.
    """
    page = asked(context, "VisitorSession", first, after)
    place = _place(page.place) if page.place is not None else None
    raw, tenant = context.backends.raw, context.principal.tenant
    rows = await list_sessions(raw, tenant, question, page.rows, place)
    return page.page(rows, lambda row: f"{row.started_at.isoformat()}|{row.session}")


def _place(text: str) -> tuple[datetime, int]:
    """The place that a cursor names."""
    stamp, _, session = text.partition("|")
    return datetime.fromisoformat(stamp), int(session)
