"""Where entries of the audit trail come from."""

from __future__ import annotations

from uuid import UUID

from core.audit_chain import ChainedEntry
from core.audit_trail import AuditFilter, count_entries, list_entries
from core.errors import BadInput
from core.jobs import Job, JobKind, ask_export
from resolvers.context import Context
from resolvers.events import MAX_TEXT_LENGTH, is_storable
from resolvers.pages import Page, asked

KIND = "AuditEntry"


async def list_audit(context: Context, wanted: AuditFilter, first: int | None, after: str | None) -> Page[ChainedEntry]:
    """A page of entries, newest first.

    Raises:
        BadInput: the filter, `first` or `after` cannot be used.
    """
    check_filter(wanted)
    page = asked(context, KIND, first, after)
    before = int(page.place) if page.place is not None else None
    database, tenant_id = context.backends.database, context.principal.tenant.id
    entries = await list_entries(database, tenant_id, wanted, page.rows, before)

    async def count() -> int:
        return await count_entries(database, tenant_id, wanted)

    return page.page(entries, lambda entry: str(entry.sequence), count)


async def ask_audit_export(context: Context, form: str, wanted: AuditFilter) -> Job:
    """Asks for a file of entries.

    Raises:
        BadInput: the filter cannot be used.
        Conflict, TooMany: see `core.jobs.ask_export`.
    """
    check_filter(wanted)
    conditions = {
        "actor": wanted.actor,
        "action": wanted.action,
        "subject": wanted.subject,
        "from": wanted.from_.isoformat() if wanted.from_ else None,
        "to": wanted.to.isoformat() if wanted.to else None,
    }
    arguments = {"format": form, **{name: value for name, value in conditions.items() if value is not None}}
    return await ask_export(context.backends.database, context.author, JobKind.EXPORT_AUDIT_LOG, arguments)


def check_filter(wanted: AuditFilter) -> None:
    """Refuses what the database could not compare.

    Raises:
        BadInput: names the field, the limit and the remedy.
    """
    for name, moment in (("from", wanted.from_), ("to", wanted.to)):
        if moment is not None and (moment.tzinfo is None or not 2000 <= moment.year <= 2200):
            raise BadInput(
                f"filter.{name} must have a zone and lie in 2000 to 2200.", code="bad_range", field=f"filter.{name}"
            )
    for name, text in (("actor", wanted.actor), ("action", wanted.action), ("subject", wanted.subject)):
        if text is not None and not is_storable(text):
            raise BadInput(
                f"filter.{name} takes a text of up to {MAX_TEXT_LENGTH} characters without NUL.",
                code="bad_filter",
                field=f"filter.{name}",
            )


def entry_key(local: str) -> UUID:
    """What `find_entries` takes. Raises ValueError for what is no entry's local id."""
    return UUID(local)
